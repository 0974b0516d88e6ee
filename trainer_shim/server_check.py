"""Whether the daemon that listens on a socket is this user's or root's: asked before anything is sent.

Covers: the socket's folder, and the kernel's word on who listens.
Does not cover: connecting for good. ZeroMQ tells who is at the other end only with a received
message, so a connection of its own asks first; reconnects rest on the folder, which nobody
else may write.
"""

from __future__ import annotations

import os
import struct

# The public `socket` module builds its enums at import: a tenth of what `status` may take.
from _socket import AF_UNIX, SO_PEERCRED, SO_SNDTIMEO, SOCK_STREAM, SOL_SOCKET
from _socket import socket as unix_socket
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from trainer_shim.safe_files import Unsafe, check_folder, is_renamed_user

__all__ = ["CONTROL_SOCKET", "SOCKET_FOLDER", "SYSTEM_RUN_DIR", "Server", "folder_id", "users_run_dir"]

#: The variable by which the daemon tells its jobs in which folder its sockets lie.
SOCKET_FOLDER = "TRAINING_SUPERVISOR_SOCKET_FOLDER"

_HINT = "do not use it; start a daemon of your own, or choose another place with --home"

#: Where sockets lie: of the system's daemon, whose name is that of each user's folder too, and in a folder.
SYSTEM_RUN_DIR = Path("/run/training-supervisor")
CONTROL_SOCKET = "control.sock"

#: A socket that listens takes a connection at once; one that is busy is there as well.
_LOOK_S = 0.1

#: struct ucred and struct timeval (unix(7), socket(7)).
_CREDENTIALS = struct.Struct("3i")
_TIME = struct.Struct("@ll")


def users_run_dir(env: Mapping[str, str]) -> Path:
    """Return the folder of the sockets of this user's own daemon, where it was told no other."""
    run, name = env.get("XDG_RUNTIME_DIR"), SYSTEM_RUN_DIR.name
    # Anybody may make the second one: check_folder looks at it.
    return Path(run, name) if run else Path(f"/tmp/{name}-{os.geteuid()}")  # noqa: S108


def folder_id(folder: Path) -> str:
    """Return what no other folder has at the same time; "" where there is none."""
    try:
        found = folder.stat()
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"


class Server(NamedTuple):
    """Where a daemon listens."""

    #: ZeroMQ address.
    endpoint: str
    #: What the daemon itself said of its folder (SOCKET_FOLDER), or "".
    known_folder: str = ""

    def check(self, *, limit_s: float) -> None:
        """Return when who listens is this user or root, in a folder that only they may write.

        Raises Unsafe where not, OSError as connect(2) where nobody listens; BlockingIOError where
        nobody takes the connection within `limit_s`.
        """
        path = Path(self.endpoint.removeprefix("ipc://"))
        if self.endpoint == str(path) or not path.is_absolute():
            raise Unsafe(f"`{self.endpoint}` is not a socket in a folder", hint="it begins with `ipc:///`")
        trusted = {0, os.geteuid()}
        # A user namespace may hide whose a folder is; then it has to be the one that the daemon looked at.
        if is_renamed_user() and self.known_folder and self.known_folder == folder_id(path.parent):
            trusted.add(path.parent.stat().st_uid)
        else:
            check_folder(path.parent)
        uid = _listening_user(path, limit_s)
        if uid not in trusted:
            raise Unsafe(f"user id {uid} listens on `{path}`", hint=_HINT)

    def listens(self) -> bool:
        """Say whether there is one whom `check` trusts; who made a folder in its place is none."""
        try:
            self.check(limit_s=_LOOK_S)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True


def _listening_user(path: Path, limit_s: float) -> int:
    probe = unix_socket(AF_UNIX, SOCK_STREAM)
    try:
        # The kernel waits, and only while the queue of those who want to connect is full.
        limit_us = max(1, int(limit_s * 1e6))  # 0 would be for ever.
        probe.setsockopt(SOL_SOCKET, SO_SNDTIMEO, _TIME.pack(*divmod(limit_us, 1_000_000)))
        probe.connect(os.fspath(path))
        _, uid, _ = _CREDENTIALS.unpack(probe.getsockopt(SOL_SOCKET, SO_PEERCRED, _CREDENTIALS.size))
    finally:
        probe.close()
    return int(uid)
