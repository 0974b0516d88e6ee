"""Acting as another user for a moment: what the kernel then writes down as the owner is really another.

Covers: folders, files and listening sockets of somebody else. Needs root.
Does not cover: processes of another user, who could not even read our Python.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

__all__ = ["OTHER", "Listener", "acting_as", "needs_root"]

#: Has neither a name nor a group on any machine.
OTHER = 4_000_321

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")


@contextlib.contextmanager
def acting_as(uid: int = OTHER) -> Iterator[None]:
    """Be another user, as far as the kernel is asked about files and sockets."""
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


class Listener:
    """A socket of another user that takes every connection; what was sent to it waits to be counted."""

    def __init__(self, path: Path, *, uid: int = OTHER, backlog: int = 16) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.setblocking(False)
        # The kernel hands over who called listen().
        with acting_as(uid):
            self._socket.bind(str(path))
            path.chmod(0o777)
            self._socket.listen(backlog)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def num_bytes(self) -> int:
        """Return how much all who connected so far have sent."""
        total = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                peer, _ = self._socket.accept()
                with peer, contextlib.suppress(BlockingIOError):
                    peer.setblocking(False)
                    while some := peer.recv(1 << 16):
                        total += len(some)
        return total
