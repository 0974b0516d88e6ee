"""One file's chunks, worked on by a few threads.

Covers: buffers that a disk can take as they are, handing out chunks, ending
all threads when one fails.
Does not cover: what is done with a chunk (directwrite.py, directread.py).

Threads help because everything expensive gives the interpreter away: copying
through ctypes, digests, reading and writing. (Assigning to a slice of a
memoryview does not: measured, other threads stand still for as long as it takes.)
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import NamedTuple

from trainer_shim.checkpoint.digest import CHUNK_BYTES

__all__ = ["PAGE_BYTES", "Chunk", "copy", "each_chunk", "padded", "set_direct", "unless_direct"]

#: What every disk accepts as the unit of unbuffered access: place in the file, length, place in memory.
PAGE_BYTES = 4096
#: Two keep a fast disk busy; the others copy and digest meanwhile. Each has one buffer of a chunk.
_NUM_THREADS = 4
#: Below this a call through ctypes takes longer than the copy.
_SMALL_BYTES = 16 << 10

#: Buffers between two files, kept because fresh memory is the slowest part of a small save. Never
#: more than were in use at once.
_FREE: list[memoryview] = []


class Chunk(NamedTuple):
    """Bytes `begin` to `end` of a file; all chunks but the last are of one size."""

    number: int
    begin: int
    end: int


def each_chunk(size_bytes: int, work: Callable[[Chunk, memoryview], None]) -> None:
    """Return when `work` is done with every chunk; each call has a buffer of a chunk to itself.

    The first error ends the work of all threads and is raised here, and so is
    a Ctrl-C; no thread is left when this returns.
    """
    hand_out = _HandOut(size_bytes)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            with _buffer() as buffer:
                while (chunk := hand_out.next()) is not None:
                    work(chunk, buffer)
        except BaseException as error:
            hand_out.stop()
            errors.append(error)
            raise

    num_helpers = min(_NUM_THREADS, hand_out.num_chunks) - 1
    if num_helpers < 1:
        run()
        return
    with ThreadPoolExecutor(num_helpers, "trainer_shim.disk") as pool:
        helpers = _submitted(pool, run, num_helpers)
        try:
            run()  # This thread helps, and does all where no more threads can be had.
        finally:
            _wait(helpers, hand_out)
    if errors:
        raise errors[0]


def copy(target: memoryview, source: memoryview) -> None:
    """Copy as many bytes as both have; other threads go on meanwhile."""
    if source.nbytes < _SMALL_BYTES or source.readonly:
        target[:] = source
        return
    to, of = ctypes.c_char.from_buffer(target), ctypes.c_char.from_buffer(source)
    ctypes.memmove(ctypes.addressof(to), ctypes.addressof(of), source.nbytes)


def padded(size_bytes: int) -> int:
    """The size in whole pages."""
    return -(-size_bytes // PAGE_BYTES) * PAGE_BYTES


def set_direct(descriptor: int, *, is_on: bool) -> bool:
    """Read or write past the kernel's cache from now on, or no longer; return whether that is so."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL) & ~os.O_DIRECT
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | (os.O_DIRECT if is_on else 0))
    except OSError as error:
        if error.errno != errno.EINVAL:  # What a file system without it says.
            raise
        return False
    return is_on


def unless_direct(descriptor: int, transfer: Callable[[], int]) -> int:
    """What `transfer` returns; asked again through the cache where the file system refuses to go past it."""
    try:
        return transfer()
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    # The descriptor's other threads only become slower.
    set_direct(descriptor, is_on=False)
    return transfer()


class _HandOut:
    """Gives each chunk to one thread, in order."""

    def __init__(self, size_bytes: int) -> None:
        self.num_chunks = -(-size_bytes // CHUNK_BYTES)
        self._size_bytes = size_bytes
        self._next = 0
        self._lock = threading.Lock()

    def next(self) -> Chunk | None:
        """The next chunk, None when there is none left."""
        with self._lock:
            index = self._next
            if index >= self.num_chunks:
                return None
            self._next += 1
        return Chunk(index, index * CHUNK_BYTES, min((index + 1) * CHUNK_BYTES, self._size_bytes))

    def stop(self) -> None:
        """Give out no more."""
        with self._lock:
            self._next = self.num_chunks


def _submitted(pool: ThreadPoolExecutor, run: Callable[[], None], num_helpers: int) -> list[Future[None]]:
    """Up to so many helpers; fewer where the system or an ending interpreter has no threads to give."""
    helpers: list[Future[None]] = []
    with suppress(RuntimeError):
        for _ in range(num_helpers):
            helpers.append(pool.submit(run))  # noqa: PERF401  # Those before an error count.
    return helpers


def _wait(helpers: list[Future[None]], hand_out: _HandOut) -> None:
    """Return when all have ended, whatever interrupts: they must not write to what is being removed."""
    try:
        wait(helpers)
    except BaseException:
        hand_out.stop()
        _wait(helpers, hand_out)
        raise


@contextmanager
def _buffer() -> Iterator[memoryview]:
    """A chunk's worth of whole pages."""
    try:
        buffer = _FREE.pop()
    except IndexError:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
        buffer = memoryview(mmap.mmap(-1, CHUNK_BYTES, flags=flags))
    try:
        yield buffer
    finally:
        _FREE.append(buffer)
