"""The command `prove`: a run without and with pauses, compared bit for bit."""
