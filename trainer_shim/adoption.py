"""A process that no daemon started: whether one listens that may take it up, and what it is told.

Covers: where daemons listen, `TRAINING_SUPERVISOR_ADOPT`, the words beside a Hello.
Does not cover: talking to it (link.py); what the daemon makes of it.

Where nobody listens this costs a look at two or three names of files, and nothing is said.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from trainer_shim.protocol import as_utf8
from trainer_shim.server_check import CONTROL_SOCKET, SYSTEM_RUN_DIR, Server, users_run_dir

__all__ = ["ByHand", "check_restart", "find_server"]

#: A name on the wire is no longer.
_MAX_NAME: Final = 256


class ByHand(NamedTuple):
    """What the daemon is told of a process that it did not start."""

    #: The command that starts it again; empty: nobody said.
    restart: tuple[str, ...] = ()

    def words(self, script: str, checkpoints: Path) -> dict[str, Any]:
        """Return what a Hello says beside the rest."""
        folder = os.path.abspath(checkpoints)  # noqa: PTH100  # Links stay as the script named them.
        return {
            "script": as_utf8(script)[:_MAX_NAME],
            "checkpoints": as_utf8(folder),
            "restart": tuple(map(as_utf8, self.restart)),
        }


def check_restart(restart: Sequence[str]) -> tuple[str, ...]:
    """Return the words of a command; raises TypeError for what is none."""
    if isinstance(restart, str) or not all(isinstance(word, str) for word in restart):
        raise TypeError(
            f"cannot start it again by restart={restart!r}: give the words of the command one by one, as in "
            "[sys.executable, *sys.argv]"
        )
    return tuple(restart)


def find_server(env: Mapping[str, str]) -> Server | None:
    """Return the daemon that a person means who named none: his own if it listens, else the system's."""
    if env.get("TRAINING_SUPERVISOR_ADOPT", "1") == "0":
        return None
    for folder in _folders(env):
        server = Server(f"ipc://{folder / CONTROL_SOCKET}")
        if (folder / CONTROL_SOCKET).is_socket() and server.listens():
            return server
    return None


def _folders(env: Mapping[str, str]) -> Iterator[Path]:
    # A home that is named is the only one that is meant.
    if home := env.get("TRAINING_SUPERVISOR_HOME"):
        yield Path(os.path.abspath(os.path.expanduser(home)), "run")  # noqa: PTH100, PTH111
        return
    if os.geteuid() != 0:
        yield users_run_dir(env)
    yield SYSTEM_RUN_DIR
