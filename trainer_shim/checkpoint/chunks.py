"""One file's chunks, worked on by a few threads.

Covers: buffers that a disk can take as they are, handing out chunks, ending
all threads when one fails.
Does not cover: what is done with a chunk (directwrite.py, directread.py).

Threads help because everything expensive gives the interpreter away: copying
through ctypes, digests, reading and writing. (Assigning to a slice of a
memoryview does not: measured, other threads stand still for as long as it takes.)
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from trainer_shim.checkpoint.digest import CHUNK_BYTES
from trainer_shim.checkpoint.pages import take

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = [
    "Chunk",
    "chunks_of",
    "copy",
    "each",
    "each_chunk",
    "num_processors",
    "set_direct",
    "unless_direct",
]

#: Two keep a fast disk busy; the others copy and digest meanwhile. Each has one buffer of a chunk.
_NUM_WRITERS = 4
#: Measured: in larger steps a copy of more than the cache holds takes up to a fifth longer on one processor,
#: and as long on another.
_STEP_BYTES = 512 << 10
#: Below this a call through ctypes takes longer than the copy.
_SMALL_BYTES = 16 << 10

Item = TypeVar("Item")

#: Buffers between two files, kept because fresh memory is the slowest part of a small save. Never
#: more than were in use at once.
_FREE: list[memoryview] = []


class Chunk(NamedTuple):
    """Bytes `begin` to `end` of a file; all chunks but the last are of one size."""

    number: int
    begin: int
    end: int


def chunks_of(size_bytes: int) -> list[Chunk]:
    """All chunks of a file, in order."""
    begins = range(0, size_bytes, CHUNK_BYTES)
    return [Chunk(number, begin, min(begin + CHUNK_BYTES, size_bytes)) for number, begin in enumerate(begins)]


def each_chunk(size_bytes: int, work: Callable[[Chunk, memoryview], None]) -> None:
    """Return when `work` is done with every chunk; each call has a buffer of a chunk to itself."""

    def with_buffer(chunk: Chunk) -> None:
        with _buffer() as buffer:
            work(chunk, buffer)

    each(chunks_of(size_bytes), with_buffer, _NUM_WRITERS)


def each(items: Sequence[Item], work: Callable[[Item], object], num_threads: int) -> None:
    """Return when `work` is done with every item, by up to so many threads.

    The first error ends the work of all threads and is raised here, and so is
    a Ctrl-C; no thread is left when this returns.
    """
    hand_out = _HandOut(items)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            for item in hand_out:
                work(item)
        except BaseException as error:
            hand_out.stop()
            errors.append(error)
            raise

    num_helpers = min(num_threads, len(items)) - 1
    if num_helpers < 1:
        run()
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(num_helpers, "trainer_shim.disk") as pool:
        helpers = _submitted(pool, run, num_helpers)
        try:
            run()  # This thread helps, and does all where no more threads can be had.
        finally:
            _wait(helpers, hand_out)
    if errors:
        try:
            raise errors[0]
        finally:
            # An error knows this call and all that it worked on: none may be kept by its own list.
            errors.clear()


def num_processors() -> int:
    """How many threads can copy and digest side by side; more than four rarely copy faster."""
    return min(4, len(os.sched_getaffinity(0)))


def copy(target: memoryview, source: memoryview, *, step_bytes: int = _STEP_BYTES) -> None:
    """Copy the bytes of one to the other of the same size; other threads go on meanwhile."""
    if source.nbytes < _SMALL_BYTES or source.readonly:
        target[:] = source
        return
    import ctypes

    to = ctypes.addressof(ctypes.c_char.from_buffer(target))
    of = ctypes.addressof(ctypes.c_char.from_buffer(source))
    for at in range(0, source.nbytes, step_bytes):
        ctypes.memmove(to + at, of + at, min(step_bytes, source.nbytes - at))


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


class _HandOut(Generic[Item]):
    """Gives each item to one thread, in order."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        with self._lock:
            return next(self._items)

    def stop(self) -> None:
        """Give out no more."""
        with self._lock:
            self._items = iter(())


def _submitted(pool: ThreadPoolExecutor, run: Callable[[], None], num_helpers: int) -> list[Future[None]]:
    """Up to so many helpers; fewer where the system or an ending interpreter has no threads to give."""
    helpers: list[Future[None]] = []
    with suppress(RuntimeError):
        for _ in range(num_helpers):
            helpers.append(pool.submit(run))  # noqa: PERF401  # Those before an error count.
    return helpers


#: An interruption may swallow the word that a helper ended; it is looked again then.
_LOST_WAKE_S = 0.1


def _wait(helpers: list[Future[None]], hand_out: _HandOut[Item]) -> None:
    """Return when all have ended, whatever interrupts: they must not write to what is being removed."""
    ended: set[Future[None]] = set()
    wake: SimpleQueue[None] = SimpleQueue()

    def note(helper: Future[None]) -> None:
        ended.add(helper)
        wake.put(None)

    try:
        for helper in helpers:
            helper.add_done_callback(note)
        # Not by concurrent.futures.wait(): interrupted between its locks it leaves one of them taken, and
        # then nobody ever hears that a helper has ended.
        while not ended.issuperset(helpers):
            with suppress(Empty):
                wake.get(timeout=_LOST_WAKE_S)
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
        buffer = take(CHUNK_BYTES)
    try:
        yield buffer
    finally:
        _FREE.append(buffer)
