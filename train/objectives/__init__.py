"""What the model learns: a loss a file."""
