"""Which part of the picture each word used: captured, reduced, tested."""
