"""Plain values: telling in two processes whether they are the same, copies, and small forms of long ones.

Covers: Python's own values and containers, arrays of NumPy, tensors on the CPU.
Does not cover: whose values they are (carried.py).

Bounded: of what is very long or large only places are looked at, which are enough to notice a shuffle.
"""

from __future__ import annotations

import copy
import sys
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from itertools import chain, islice
from pathlib import PurePath
from types import FunctionType
from typing import Any

import msgspec

from trainer_shim.reach import ATOMS, glimpse
from trainer_shim.script_code import Globals, is_a

__all__ = [
    "assign",
    "copied",
    "glimpsed",
    "identity",
    "is_container",
    "is_numbers",
    "is_short",
    "packed",
    "printed",
    "printed_batch",
    "unpacked",
]

#: Longer containers are looked at in places, and kept as bytes.
_LONG = 4096
#: Up to this length each item counts, in longer ones only every so-manieth.
_MAX_WHOLE, _MAX_WHOLE_BYTES = 100_000, 16 << 20
#: What is larger is noticed when it changes, and not kept.
_MAX_ITEMS = 10_000_000
_MAX_BYTES = 64 << 20
#: What workers send home with each batch stays small.
_SMALL = 64
_MAX_DEPTH = 6

#: Exact types only: a subclass may carry more, and no checkpoint would hold it.
_CONTAINERS = (dict, OrderedDict, Counter, defaultdict, list, tuple, deque, set, frozenset)
_FACTORIES = (None, bool, int, float, str, bytes, list, dict, set, tuple)
_KINDS = (*_CONTAINERS, str, bytes, bytearray)
_SEQUENCES = {kind.__name__: kind for kind in (list, tuple, deque)}
#: What MessagePack brings back as it was.
_PACKABLE: frozenset[type] = frozenset({int, float, str, bytes, bool, type(None)})


def printed(value: Any, *, is_small: bool = False) -> str | None:
    """A text that tells a plain value from others; None for what is not plain."""
    if type(value) in ATOMS and not is_a(value, str | bytes | bytearray):
        return f"{type(value).__name__} {value!r}"
    if is_small and (not is_a(value, _KINDS) or len(value) > _SMALL):
        return None
    import xxhash

    digest = xxhash.xxh3_64()
    return f"{type(value).__name__} {digest.hexdigest()}" if _feed(digest, value, 0) else None


def identity(value: Any) -> Any:
    """What a value that is not plain is by the objects in it; None where nothing can be told."""
    if type(value) in _CONTAINERS:
        return glimpse(value, _LONG)
    if hasattr(type(value), "__next__") or is_a(value, type):
        return None  # Iterators are made anew all the time.
    return id(value)


def glimpsed(value: Any) -> Any:
    """What a long or large value is by a quick look: equal ones are taken to be the same. None for others.

    Of containers some items by identity, of tensors the count of writes to them, of arrays some bytes.
    """
    if type(value) in _CONTAINERS:
        return glimpse(value, _LONG) if len(value) > _MAX_WHOLE else None
    if not _is_array(value):
        return None
    torch = sys.modules.get("torch")
    if torch is not None and is_a(value, torch.Tensor):
        # Tensors made for inference count nothing.
        return None if value.is_inference() else (id(value), value.data_ptr(), value._version)  # noqa: SLF001
    if value.nbytes <= _MAX_WHOLE_BYTES:
        return None
    return id(value), value.shape, value.flat[:: max(1, value.size // _LONG)].tobytes()


def is_container(value: Any) -> bool:
    """Whether this holds many values: not a set, whose order is another in each process."""
    return is_a(value, dict | list | tuple | deque) or _is_array(value)


def is_numbers(value: Any) -> bool:
    """Whether this is a tensor, an array or a number of NumPy's, on whatever device."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    return (torch is not None and is_a(value, torch.Tensor)) or (
        numpy is not None and is_a(value, numpy.ndarray | numpy.generic)
    )


def is_short(value: Any) -> bool:
    """Whether a copy of a plain value costs next to nothing."""
    return not _is_array(value) and (not is_a(value, _KINDS) or len(value) <= _SMALL)


def _feed(digest: Any, value: Any, depth: int) -> bool:
    """Add a value to a digest; False if it is not plain."""
    if type(value) in ATOMS or _is_small_of_library(value):
        digest.update(f"{type(value).__name__}:{value!r};".encode("utf-8", "surrogatepass"))
        return True
    memory = _bytes_of(value)
    if memory is not None:
        digest.update(memory)
        return True
    if depth > _MAX_DEPTH or type(value) not in _CONTAINERS or not _can_be_stored(value):
        return False
    digest.update(f"{type(value).__name__}{len(value)}(".encode())
    if _LONG < len(value) <= _MAX_WHOLE and (data := _encoded(value)) is not None:
        digest.update(data)
        return True
    if is_a(value, dict):
        return _feed_items(digest, value.keys(), depth) and _feed_items(digest, value.values(), depth)
    if type(value) in (set, frozenset):
        # The order of a set is another in each process.
        return _are_flat(value, ATOMS) and _feed_items(digest, sorted(value, key=repr), depth)
    return _feed_items(digest, value, depth)


def _feed_items(digest: Any, items: Any, depth: int) -> bool:
    if len(items) > _LONG:
        # Whether all are plain is asked of their types; what they are, of the first and of every so-manieth.
        if not _are_flat(items, ATOMS):
            return False
        items = chain(islice(items, 64), islice(items, 0, None, max(1, len(items) // _LONG)))
    return all(_feed(digest, item, depth + 1) for item in items)


def _can_be_stored(value: Any) -> bool:
    return type(value) is not defaultdict or value.default_factory in _FACTORIES


def _is_small_of_library(value: Any) -> bool:
    """Whether this is a path, a number of NumPy's or the like, whose text tells all."""
    kind = type(value)
    if kind.__module__.partition(".")[0] == "pathlib":  # `pathlib._local` since Python 3.13.
        return is_a(value, PurePath)
    if kind.__module__ in ("datetime", "decimal", "fractions", "uuid"):
        return True
    numpy = sys.modules.get("numpy")
    return numpy is not None and is_a(value, numpy.generic) and not value.dtype.hasobject


def _are_flat(items: Any, allowed: frozenset[type]) -> bool:
    """Whether a long container holds atoms, or tuples and lists of atoms."""
    kinds = set(map(type, items))
    if kinds and kinds <= {tuple, list}:
        kinds = set(map(type, islice(chain.from_iterable(items), _MAX_ITEMS)))
    return kinds <= allowed


def _is_array(value: Any) -> bool:
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is None:
        return False
    if torch is not None and type(value) is torch.Tensor:
        return bool(value.device.type == "cpu" and value.layout == torch.strided and not value.is_quantized)
    return type(value) is numpy.ndarray and not value.dtype.hasobject


def _bytes_of(value: Any) -> bytes | None:
    """The bytes of an array or a tensor, or of places in a large one; None for anything else."""
    if not _is_array(value):
        return None
    torch = sys.modules.get("torch")
    head = f"{value.dtype}{tuple(value.shape)}".encode()
    if torch is not None and is_a(value, torch.Tensor):
        # NumPy does not know all of torch's types, but bytes.
        value = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    if value.nbytes > _MAX_BYTES:
        value = value.flat[:: max(1, value.size // _LONG)]
    return head + bytes(value.tobytes())


def printed_batch(batch: Any) -> str | None:
    """A text that tells a batch from others, by the beginnings of its tensors; None where that costs."""
    import xxhash

    torch = sys.modules.get("torch")
    digest, waiting, num_tensors = xxhash.xxh3_64(), deque([batch]), 0
    while waiting and num_tensors < 8:
        thing = waiting.popleft()
        if torch is not None and type(thing) is torch.Tensor:
            num_tensors += 1
            if thing.device.type != "cpu" or thing.layout != torch.strided:
                return None  # A device would have to be waited for.
            digest.update(rng_bytes(thing.detach().reshape(-1)[:64]))
        elif type(thing) in ATOMS:
            digest.update(f"{thing!r:.200}".encode("utf-8", "surrogatepass"))
        elif is_a(thing, list | tuple):
            waiting.extend(thing[:64])
        elif is_a(thing, dict):
            waiting.extend(islice(thing.values(), 64))
    return digest.hexdigest()


def rng_bytes(flat: Any) -> bytes:
    """The bytes of a short flat tensor."""
    import ctypes

    flat = flat.contiguous()
    return ctypes.string_at(flat.data_ptr(), flat.nbytes)


def packed(value: Any) -> Any:
    """A copy of a plain value in a form that a checkpoint holds well; None for what is too large."""
    if _is_array(value):
        return None if value.nbytes > _MAX_BYTES else {"value": copied(value)}
    if not is_a(value, _KINDS) or len(value) <= _LONG:
        return {"value": copied(value)}
    if len(value) > _MAX_ITEMS:
        return None
    if (data := _encoded(value)) is not None:
        return {"kind": type(value).__name__, "has_tuples": tuple in set(map(type, value)), "data": data}
    return {"value": copied(value)} if len(value) <= 10 * _LONG else None


def _encoded(value: Any) -> bytes | None:
    """A long container as MessagePack, which is fast; None if it would not come back as it was."""
    if type(value) is dict:
        is_plain = all(set(map(type, part)) <= _PACKABLE for part in (value.keys(), value.values()))
    else:
        is_plain = type(value) in _SEQUENCES.values() and _are_flat(value, _PACKABLE)
        is_plain = is_plain and not {tuple, list} <= set(map(type, value))
    if not is_plain:
        return None
    try:
        return msgspec.msgpack.encode(value if is_a(value, dict) else list(value))
    except (OverflowError, UnicodeEncodeError):  # An integer of more than 64 bits, half a surrogate pair.
        return None


def unpacked(form: Any) -> Any:
    """The value behind a form of `packed`."""
    if "value" in form:
        return copied(form["value"])
    value = msgspec.msgpack.decode(form["data"], strict=False)
    if form["kind"] == "dict":
        return value
    return _SEQUENCES[form["kind"]](map(tuple, value) if form["has_tuples"] else value)


def copied(value: Any) -> Any:
    """A copy that later changes do not reach."""
    torch = sys.modules.get("torch")
    if torch is not None and is_a(value, torch.Tensor):
        return value.detach().clone()
    return copy.deepcopy(value)


def assign(thing: Any, name: str, present: Any, value: Any) -> None:
    """Set an attribute; a container that others may hold too stays the object that it is."""
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if type(present) is type(value):
        if type(value) is list:
            present[:] = value
            return
        if type(value) in (dict, set, deque):
            present.clear()
            (present.extend if type(value) is deque else present.update)(value)
            return
        if numpy is not None and type(value) is numpy.ndarray and present.shape == value.shape:
            present[...] = value
            return
        if torch is not None and type(value) is torch.Tensor and present.shape == value.shape:
            present.detach().copy_(value)
            return
    if is_a(thing, FunctionType) and name.startswith("<"):
        cells = dict(zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=False))
        cells[name[1:-1]].cell_contents = value
    elif is_a(thing, Globals):
        thing.space[name] = value
    elif is_a(thing, type):
        type.__setattr__(thing, name, value)
    else:
        # Frozen dataclasses have another one, and one for each thread is no ordinary object.
        kind = threading.local if is_a(thing, threading.local) else object
        kind.__setattr__(thing, name, value)
