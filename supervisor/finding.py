"""Which daemon a command talks to, where it was not said: one's own if it runs, else the system's.

Covers: asking who listens. Does not cover: where each lies (paths.py), talking to it (client.py).
"""

from __future__ import annotations

import os
from pathlib import Path

from supervisor.paths import Paths
from trainer_shim.server_check import Server

__all__ = ["find_daemon"]


def find_daemon(home: str | None, *, system: bool | None, at_system: Paths | None = None) -> Paths:
    """Return where the daemon lies that a user means; `system` is what he said of it, None: nothing.

    `at_system` is where the system's daemon would be.
    """
    chosen = Paths.find(home, system=system)
    if chosen.home is not None or system is not None or os.geteuid() == 0:
        return chosen
    theirs = at_system or Paths.find(system=True)
    is_there = os.path.lexists(_socket(theirs))
    return theirs if is_there and not Server(chosen.control_endpoint).listens() else chosen


def _socket(paths: Paths) -> Path:
    return Path(paths.control_endpoint.removeprefix("ipc://"))
