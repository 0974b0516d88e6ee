"""Files that people write: read, checked, and taken over by the running daemon."""
