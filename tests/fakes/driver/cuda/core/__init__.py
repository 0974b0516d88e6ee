"""See checkpoint.py."""
