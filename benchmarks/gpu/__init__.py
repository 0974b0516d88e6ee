"""One command for a machine with a GPU: a table of what only such a machine can show.

`make gpu` runs it (benchmarks/GPU.md). Each row is a process of its own.
"""
