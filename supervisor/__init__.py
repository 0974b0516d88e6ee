"""The daemon that makes training runs yield, and the command line that talks to it."""

__version__ = "0.1.0"
