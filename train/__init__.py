"""Fine-tuning and evaluation on the user's own pictures."""
