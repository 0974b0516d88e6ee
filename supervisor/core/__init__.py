"""The pure core: what jobs are, what can happen to them, what follows. No clock, no log, no I/O."""
