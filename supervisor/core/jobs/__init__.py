"""The life of a job: its states, what can happen to it, what follows from that."""
