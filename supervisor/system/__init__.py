"""What the operating system says and keeps for us: processes, users, control groups, locks, logs, streams."""
