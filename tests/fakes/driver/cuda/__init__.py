"""Stands for the package cuda-core in the path of a daemon that is tested without a driver."""
