"""The daemon's locks: each is taken where something else may lie in its place.

Covers: making way for the file, telling so, and whose process holds it.
Does not cover: the lock itself (trainer_shim/lock_file.py), what is said where another daemon has it.
"""

from __future__ import annotations

import os
from pathlib import Path

import structlog

from supervisor.set_aside import make_way
from trainer_shim import lock_file

__all__ = ["clear_way", "take_lock"]


def take_lock(path: Path) -> int:
    """Return a descriptor that holds the lock, in whose file this process stands; raises Held and OSError."""
    clear_way(path)
    return lock_file.take_lock(path, f"{os.getpid()}\n")


def clear_way(path: Path) -> None:
    """Keep aside what is no file where one of ours is to be, and say so in the log."""
    if (odd := make_way(path, links=True)) is not None:
        structlog.get_logger("daemon").warning("kept-aside", problem=str(odd))
