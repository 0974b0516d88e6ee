"""The order of one pass over a map-style dataset: which indices were used, and which come next.

Covers: skipping what was used without loading it, and the indices that workers
were given ahead of use.
Does not cover: the generators that the sampler draws from (loader_strategies.py).

Imports nothing of torch: a sampler is anything that can be iterated.
"""

from __future__ import annotations

import itertools
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["Order", "draws_at_once"]


class Order:
    """The index sampler of one pass: skips what was used, and remembers what was handed out ahead of use."""

    def __init__(self, sampler: Any) -> None:
        self.is_silent = False
        self._sampler = sampler
        self._walk: Iterator[Any] = iter(())
        self._ahead: deque[Any] = deque()
        self._again: deque[Any] = deque()
        self._last: Any = None
        self._num_used = 0

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[Any]:
        self._walk = iter(self._sampler)
        return self

    def __next__(self) -> Any:
        if self.is_silent:
            raise StopIteration
        index = self._again.popleft() if self._again else next(self._walk)
        self._ahead.append(index)
        return index

    def use(self) -> None:
        """The oldest index handed out has become a batch."""
        if self._ahead:
            self._last = self._ahead.popleft()
            self._num_used += 1

    def save(self) -> dict[str, Any]:
        """How many were used, which was the last, and what the workers hold."""
        ahead = list(self._ahead)
        # A sampler that draws as it goes may share a generator with the training; drawn again without it,
        # what the workers already hold would come out differently. Torch's own do not draw that way.
        is_kept = _is_plain(ahead) and not draws_at_once(self._sampler)
        return {"used": self._num_used, "last": _digest(self._last), "ahead": ahead if is_kept else None}

    def skip(self, saved: Mapping[str, Any]) -> bool:
        """Go where the saved order was; False when the sampler does not repeat itself."""
        num_used, ahead = saved["used"], saved["ahead"] or []
        # One at a time: all that a long pass used, as a list, would be gigabytes.
        used = deque(itertools.islice(self._walk, num_used), maxlen=1)
        deque(itertools.islice(self._walk, len(ahead)), maxlen=0)
        self._again.extend(ahead)
        self._num_used = num_used
        self._last = used[0] if used else None
        return bool(saved["last"] == _digest(self._last))


def draws_at_once(sampler: Any) -> bool:
    """Whether this is a sampler of torch: they draw at the start, or from a generator of their own."""
    if not str(type(sampler).__module__).startswith(("torch.utils.data", "torchdata")):
        return False
    inner = getattr(sampler, "sampler", None)
    return inner is None or draws_at_once(inner)


def _is_plain(value: Any) -> bool:
    if type(value) in (list, tuple):
        return all(_is_plain(one) for one in value)
    return type(value) in {int, str, float, bool} or _is_number(value)


def _is_number(value: Any) -> bool:
    """Whether this is an integer of NumPy's or torch's, as samplers give them."""
    return hasattr(value, "__index__") and getattr(value, "ndim", None) == 0


def _plain(value: Any) -> Any:
    if type(value) in (list, tuple):
        return [_plain(one) for one in value]
    return int(value) if _is_number(value) else value


def _digest(index: Any) -> int | None:
    return zlib.crc32(repr(_plain(index)).encode()) if _is_plain(index) else None
