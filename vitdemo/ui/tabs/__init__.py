"""The tabs that take a picture: one file each."""
