"""Acting as another user for a moment: what the kernel then writes down as the owner is really another.

Covers: folders, files and sockets of somebody else, and calls in a child that is really his. Needs root.
Does not cover: commands of another user, who may not even be able to read our Python.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

__all__ = ["OTHER", "THIRD", "Listener", "acting_as", "needs_root", "run_as"]

#: Have neither a name nor a group on any machine.
OTHER, THIRD = 4_000_321, 4_000_322

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


def run_as(uid: int, call: Callable[[], Any], *, groups: tuple[int, ...] = ()) -> Any:
    """Return what a call returns in a child that is another user; what it raises is an AssertionError.

    What it needs is imported before: the other user may not be able to read it.
    """
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reads)
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            try:
                said = (True, call())
            except BaseException:  # noqa: BLE001  # The parent is told, whatever it is.
                said = (False, traceback.format_exc())
            with os.fdopen(writes, "wb") as pipe:
                pickle.dump(said, pipe)
            code = 0
        finally:
            os._exit(code)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    is_well, answer = pickle.loads(told)  # Our own child's.
    assert is_well, answer
    return answer


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
