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

from trainer_shim.server_check import Server

__all__ = ["ByHand", "check_restart", "find_server"]

_NAME: Final = "training-supervisor"
_SOCKET: Final = "control.sock"
_SYSTEM: Final = Path("/run", _NAME)

#: A socket that listens takes a connection at once; one that is busy is there as well.
_LOOK_S: Final = 0.1

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
            "script": _utf8(script)[:_MAX_NAME],
            "checkpoints": _utf8(folder),
            "restart": tuple(map(_utf8, self.restart)),
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
        server = Server(f"ipc://{folder / _SOCKET}")
        if (folder / _SOCKET).is_socket() and _listens(server):
            return server
    return None


def _folders(env: Mapping[str, str]) -> Iterator[Path]:
    # A home that is named is the only one that is meant.
    if home := env.get("TRAINING_SUPERVISOR_HOME"):
        yield Path(os.path.abspath(os.path.expanduser(home)), "run")  # noqa: PTH100, PTH111
        return
    if os.geteuid() != 0:
        run = env.get("XDG_RUNTIME_DIR")
        yield Path(run, _NAME) if run else Path(f"/tmp/{_NAME}-{os.geteuid()}")  # noqa: S108  # `Server` looks at it.
    yield _SYSTEM


def _listens(server: Server) -> bool:
    try:
        server.check(limit_s=_LOOK_S)
    except BlockingIOError:
        return True
    except OSError:
        # Nobody is there, or somebody whom we do not trust (Unsafe is an OSError): no daemon of ours.
        return False
    return True


def _utf8(text: str) -> str:
    # A name that is not UTF-8 has no place on the wire.
    return text.encode("utf-8", "replace").decode()
