"""What stands somewhere and is no plain value: counters, iterators, files, numbers in shared memory.

Covers: where such a thing stands, and making another one stand there; whether an iterator went on whose
place nobody can tell.
Does not cover: where they lie (reach.py), when they are asked (carried.py).

Asks only Python's own classes, whose answers change nothing.
"""

from __future__ import annotations

import ast
import gc
import io
import itertools
import operator
import sys
from collections import deque
from contextlib import suppress
from types import GeneratorType
from typing import Any

from trainer_shim.reach import ATOMS, frame_variables, is_of_loaders, is_open
from trainer_shim.script_code import is_a

__all__ = ["go", "is_file", "is_shared", "may_stand", "place", "stands", "trace"]

#: Iterators over what does not change, which tell how much is left of it.
_TELLING = frozenset(
    map(type, (iter([]), iter(()), iter(range(0)), iter(range(1 << 70)), iter(""), iter("\xe9"), iter(b"")))
) | frozenset(map(type, (iter({}), iter(set()), iter(deque()), reversed([]), reversed(range(0)))))
_FILES = (io.BufferedReader, io.TextIOWrapper)
#: Memory that processes share; of more than that it is data.
_MAX_SHARED_BYTES = 1 << 20
#: Further than that nobody goes step by step.
_MAX_STEPS = 20_000_000


def stands(thing: Any) -> bool:
    """Whether this is such a thing."""
    kind = type(thing)
    if kind in _FILES:
        return _is_for_reading(thing)
    if hasattr(kind, "__next__"):
        # What a user's class keeps lies in its attributes; a loader's iterator is another in each pass.
        return not is_open(thing) and not is_of_loaders(kind)
    return _shared(thing) is not None


def may_stand(kind: type) -> bool:
    """Whether objects of a class may be such things, generators among them."""
    is_shared = kind.__module__ in ("multiprocessing.sharedctypes", "ctypes")
    return is_shared or kind in _FILES or hasattr(kind, "__next__")


def is_shared(thing: Any) -> bool:
    """Whether processes that were forked from this one move it too."""
    return type(thing) in _FILES or not hasattr(type(thing), "__next__")


def is_file(thing: Any) -> bool:
    """Whether this is an open file."""
    return type(thing) in _FILES


def place(thing: Any) -> Any:
    """Where it stands, as a plain value; None where it does not tell."""
    kind = type(thing)
    if kind is itertools.count:
        return repr(thing)
    if kind in _TELLING:
        return operator.length_hint(thing)
    if kind in _FILES:
        # A text file that is read by next() does not tell, nor does one that was closed.
        with suppress(OSError, ValueError):
            return thing.tell()
        return None
    shared = _shared(thing)
    return None if shared is None else bytes(_memory(shared))


def go(thing: Any, where: Any) -> bool:
    """Make it stand there; False where it cannot."""
    if where == place(thing):
        return True
    kind = type(thing)
    if kind in _FILES:
        with suppress(OSError, ValueError, TypeError):
            thing.seek(where)
        return bool(where == place(thing))
    shared = _shared(thing)
    if shared is not None:
        memory = _memory(shared)
        if isinstance(where, bytes) and len(where) == memory.nbytes:
            memory[:] = where
        return bool(where == place(thing))
    steps = _steps(thing, where)
    if 0 < steps <= _MAX_STEPS:
        deque(itertools.islice(thing, steps), maxlen=0)
    return bool(where == place(thing))


def trace(thing: Any, depth: int = 0) -> Any:
    """What is another as soon as an iterator went on, as far as it shows; None where nothing does."""
    if is_a(thing, GeneratorType):
        frame = thing.gi_frame
        if frame is None:
            return "over"
        plain = [(name, value) for name, value in frame_variables(frame) if type(value) in ATOMS]
        return frame.f_lasti, plain
    if type(thing) is list:
        return len(thing)
    if (told := place(thing)) is not None or depth > 3 or not hasattr(type(thing), "__next__"):
        return told
    inside = [trace(one, depth + 1) for one in gc.get_referents(thing)]
    return None if all(one is None for one in inside) else inside


def _steps(thing: Any, where: Any) -> int:
    """How often next() brings it there; 0 where it does not."""
    if type(thing) in _TELLING and type(where) is int:
        return operator.length_hint(thing) - where
    if type(thing) is itertools.count and isinstance(where, str):
        with suppress(ValueError, SyntaxError, TypeError, ZeroDivisionError):
            (now, step), (then, _) = _numbers(repr(thing)), _numbers(where)
            steps: int = round((then - now) / step)
            return steps
    return 0


def _numbers(text: str) -> tuple[Any, Any]:
    """The number and the step in the text of a counter: `count(3)`, `count(0.5, 2)`."""
    both = ast.literal_eval(text.removeprefix("count"))
    return both if isinstance(both, tuple) else (both, 1)


def _is_for_reading(file: Any) -> bool:
    with suppress(OSError, ValueError):  # Closed, or no file at all.
        return file.fileno() > 2 and file.readable() and not file.writable() and file.seekable()
    return False


def _shared(thing: Any) -> Any:
    """The memory behind a `multiprocessing.Value` or `Array`, locked or not; None for anything else."""
    if "multiprocessing.sharedctypes" not in sys.modules:
        return None
    if type(thing).__module__ == "multiprocessing.sharedctypes":
        thing = getattr(thing, "_obj", None)
    import ctypes  # It is there by then.

    if is_a(thing, ctypes._SimpleCData | ctypes.Array):  # noqa: SLF001
        return thing if 0 < ctypes.sizeof(thing) <= _MAX_SHARED_BYTES else None
    return None


def _memory(shared: Any) -> memoryview:
    """The bytes of an object of ctypes."""
    return memoryview(shared).cast("B")
