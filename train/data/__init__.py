"""What a step is drawn from: rows, features, pixels, and what is asked of them."""
