"""What is short when a rule fires, which depth gives it back, and how much of it a job would free.

Covers: the resource behind a rule, depths, amounts.
Does not cover: the resource behind a metric (core/readings/metrics.py), the choice among jobs (victims.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from supervisor.core.jobs.states import Depth
from supervisor.core.policy.conditions import ConditionLook, is_circumstance, metric_of, thresholds
from supervisor.core.policy.memory import Footprint
from supervisor.core.policy.rules import Rule
from supervisor.core.readings.metric import Resource
from supervisor.core.readings.sample import JobUse, Missing, Sample
from supervisor.core.units import format_bytes

__all__ = [
    "DEPTHS",
    "Freed",
    "depth_for",
    "freed",
    "gives_back",
    "resource",
    "shortfall",
]

DEPTHS: Final = tuple(Depth)


R = Resource

#: The cheapest depth that gives it back. A job that holds writes no more to the disk.
#: Of several conditions the one that stands last here says what is short: it takes the deepest pause.
_GIVEN_BACK_AT: Final = MappingProxyType(
    {R.COMPUTE: Depth.HOLD, R.DISK: Depth.HOLD, R.GPU_MEMORY: Depth.OFFLOAD, R.MEMORY: Depth.EXIT}
)


class Freed(NamedTuple):
    """What a pause would give back of what is short; None: nobody can tell how much."""

    amount: float | None
    text: str


def resource(rule: Rule) -> Resource:
    """Return what this rule is short of; a window of time or a program wants compute."""
    short = {metric.resource for metric in map(metric_of, rule.when) if metric is not None}
    return max(short or {R.COMPUTE}, key=tuple(_GIVEN_BACK_AT).index)


def depth_for(rule: Rule, able: Sequence[Depth]) -> Depth | None:
    """Return the cheapest depth that does what the rule wants, or the nearest that still helps."""
    gives = _GIVEN_BACK_AT[resource(rule)]
    wanted = gives if rule.depth == "auto" else Depth(rule.depth)
    at_least = min(gives, wanted, key=DEPTHS.index)
    deep_enough = [depth for depth in DEPTHS if depth in able and _is_as_deep(depth, wanted)]
    if deep_enough:
        return deep_enough[0]
    helping = [depth for depth in DEPTHS if depth in able and _is_as_deep(depth, at_least)]
    return helping[-1] if helping else None


def gives_back(short: Resource, depth: Depth) -> bool:
    """Say whether a job paused at this depth has given it back."""
    return _is_as_deep(depth, _GIVEN_BACK_AT[short])


def freed(rule: Rule, place: str, use: JobUse | None, known: Footprint, sample: Sample) -> Freed:
    """Return what a job gives back of what the rule is short of."""
    short = resource(rule)
    if short is R.MEMORY:
        rss_bytes = use.rss_bytes if use is not None else Missing("")
        amount = known.rss_bytes if isinstance(rss_bytes, Missing) else rss_bytes
        return _unless_unknown(amount, f"frees {format_bytes(amount)} of memory")
    if short is R.GPU_MEMORY:
        held = use.gpu_bytes.get(place) if use is not None else None
        gpu_bytes = float(known.gpu_bytes.get(place, 0.0) if held is None else held)
        return _unless_unknown(gpu_bytes, f"frees {format_bytes(gpu_bytes)} of GPU memory")
    if short is R.COMPUTE and not place and any(c.metric and not is_circumstance(c) for c in rule.when):
        cpu_pct = use.cpu_pct if use is not None else Missing("")
        busy_pct = (known.cpu_pct if isinstance(cpu_pct, Missing) else cpu_pct) / max(sample.num_cpus, 1e-9)
        return _unless_unknown(busy_pct, f"frees {busy_pct:.0f} % of the CPUs")
    return Freed(None, "writes no more" if short is R.DISK else "stops computing")


def shortfall(rule: Rule, looks: Sequence[ConditionLook], sample: Sample) -> float | None:
    """Return how much of it is missing until all is clear, in the unit of `freed`; None: not to be said."""
    missing: list[float] = []
    for condition, seen in zip(rule.when, looks, strict=True):
        metric = metric_of(condition)
        if isinstance(seen.reading, Missing) or metric is None:
            continue
        amount = metric.change.amount(thresholds(condition)[1] - seen.reading, sample)
        if amount is not None:
            missing.append(amount)
    return max(missing, default=None)


def _unless_unknown(amount: float, text: str) -> Freed:
    return Freed(amount, text) if amount > 0 else Freed(None, "nobody can tell how much it frees")


def _is_as_deep(depth: Depth, other: Depth) -> bool:
    return DEPTHS.index(depth) >= DEPTHS.index(other)
