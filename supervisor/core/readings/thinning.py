"""Many samples to fewer: what is kept of readings when they grow old.

Covers: which of several values stands for all. Does not cover: when that is
done, and where samples are kept (store/samples.py).

A mean says best what a minute was like; but where a rule looks for the worst,
the worst is kept. A value that was missing in half of them or more stays
missing: a mean of the few that could be read would look like knowledge.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

import msgspec

from supervisor.core.readings.sample import Gpu, GpuProcess, JobUse, Missing, Sample

__all__ = ["fold", "thinned"]

_LEAST: Final = frozenset({"memory_available_bytes", "free_bytes", "battery_pct"})
_MOST: Final = frozenset(
    {
        "memory_used_bytes",
        "memory_some_pct",
        "memory_full_pct",
        "swap_used_bytes",
        "rss_bytes",
        "temperature_c",
        "num_processes",
        "is_urgent",
    }
)
#: Those say when, so the first one stands.
_FIRST: Final = frozenset({"at", "wall", "weekday", "second_of_day"})


def thinned(samples: Sequence[Sample], every_s: float) -> list[Sample]:
    """Return one sample for each span of that length; they come in the order of time."""
    spans = groupby(samples, key=lambda sample: sample.wall // every_s)
    return [fold(list(span)) for _, span in spans]


def fold(samples: Sequence[Sample]) -> Sample:
    """Return the one sample that stands for several."""
    folded: Sample = _struct(samples)
    return folded


def _struct(items: Sequence[Any]) -> Any:
    kind = type(items[0])
    return kind(
        **{name: _value(name, [getattr(item, name) for item in items]) for name in kind.__struct_fields__}
    )


def _value(name: str, values: list[Any]) -> Any:
    first = values[0]
    if name in _FIRST or all(value == first for value in values):
        return first
    known = [value for value in values if not isinstance(value, Missing)]
    if 2 * len(known) <= len(values):
        return next(value for value in reversed(values) if isinstance(value, Missing))
    if name == "gpus":
        return _by(known, Gpu, "uuid")
    if name == "processes":
        return _by(known, GpuProcess, "pid")
    if name == "programs":
        return tuple(dict.fromkeys(program for programs in known for program in programs))
    if name == "jobs":
        return _jobs(known)
    if isinstance(known[-1], dict):
        return {key: value for table in known for key, value in table.items()}
    if isinstance(known[-1], msgspec.Struct):
        return _struct(known)
    if isinstance(known[-1], str):
        return known[-1]
    return _number(name, known)


def _number(name: str, known: list[float]) -> float:
    if name in _LEAST:
        return min(known)
    if name in _MOST:
        return max(known)
    mean = sum(known) / len(known)
    # As many digits as a person can tell apart; the rest would only take room.
    return float(f"{mean:.6g}")


def _by(known: list[tuple[Any, ...]], kind: type, key: str) -> tuple[Any, ...]:
    """Fold what is named by a key in each tuple; what was there once counts as having been there."""
    groups: dict[object, list[Any]] = {}
    for items in known:
        for item in items:
            groups.setdefault(getattr(item, key), []).append(item)
    folded = [_struct(items) if kind is Gpu else items[-1] for items in groups.values()]
    return tuple(folded)


def _jobs(known: list[dict[str, JobUse]]) -> dict[str, JobUse]:
    names = dict.fromkeys(name for jobs in known for name in jobs)
    return {name: _struct([jobs[name] for jobs in known if name in jobs]) for name in names}
