"""Readings of the machine: what is used, by whom."""
