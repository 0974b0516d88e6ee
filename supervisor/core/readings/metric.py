"""What makes up a metric: all that rules, forecasts and people have to know of one number.

Covers: the record, what can be short, how a pause or a return of a job changes a number.
Does not cover: which metrics there are, and how each is read (metrics.py); thresholds (core/policy/).

No field has a default: a metric that leaves something open cannot be written down, and whoever
asks finds the answer in the record and needs no table of names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, NamedTuple

from supervisor.core.readings.sample import Missing, Reading, Sample

__all__ = ["GIB", "UNFORESEEN", "Addition", "Change", "Metric", "Place", "Resource", "bounds", "places"]

GIB: Final = float(1 << 30)

Place = Literal["host", "gpu", "job"]

#: A level can lie between its thresholds. A mean is one over `Sample.cpu_over_s`, and at most 100.
#: A circumstance is 1 or 0: so, or not so.
Kind = Literal["level", "mean", "circumstance"]

#: What the kernel's memory alarm says of a number: nothing; that memory is short, and that is what the
#: number is about; or more than the number can say yet, as the alarm fires before a mean moves.
MemoryAlarm = Literal["none", "concerns", "precedes"]


class Resource(StrEnum):
    """What a rule can be short of."""

    COMPUTE = "compute"
    DISK = "disk"
    GPU_MEMORY = "GPU memory"
    MEMORY = "memory"


class Addition(NamedTuple):
    """What comes on top of a sample with one more job; 0: nobody knows."""

    cpu_pct: float
    memory_bytes: float
    #: Memory that others have been let in for, and have not taken yet.
    promised_bytes: float
    gpu_bytes: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Change:
    """How pauses and returns of jobs change a number."""

    #: How much of its resource so many of its units are, counted up; None: not to be said.
    amount: Callable[[float, Sample], float | None]
    #: The reading at a place with one more job; missing where that cannot be foretold.
    with_one_more: Callable[[Sample, str, Addition], Reading]
    #: What a job lacks, in the words of room.py, when its return would cross a threshold.
    lacks: frozenset[str]
    #: It is of the processes of a job: without one it is clear, and not unknown.
    ends_with_process: bool


#: Nobody can say by how much.
UNFORESEEN: Final = Change(
    amount=lambda _gap, _sample: None,
    with_one_more=lambda _sample, _place, _more: Missing("no forecast"),
    lacks=frozenset(),
    ends_with_process=False,
)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number; `read` gives it for a place that `places` named."""

    name: str
    place: Place
    unit: str
    about: str
    kind: Kind
    #: What is short where it is beyond its threshold.
    resource: Resource
    memory_alarm: MemoryAlarm
    change: Change
    read: Callable[[Sample, str], Reading]


def places(metric: Metric, sample: Sample) -> list[str]:
    """Return where this metric can be read in this sample; the host is always there."""
    if metric.place == "host":
        return [""]
    if metric.place == "job":
        return sorted(sample.jobs)
    return [gpu.uuid for gpu in sample.gpus] if not isinstance(sample.gpus, Missing) else []


def bounds(metric: Metric) -> tuple[float, float]:
    """Return the least and the most that it can read."""
    if metric.kind == "circumstance":
        return 0.0, 1.0
    if metric.unit == "C":
        return -math.inf, math.inf
    return 0.0, 100.0 if metric.unit == "%" else math.inf
