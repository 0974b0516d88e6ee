"""What a reading says about one condition, and what all conditions of a rule say together.

Covers: sides of thresholds, windows of time, programs; how near it is.
Does not cover: holding times (hysteresis.py), measuring (monitors/).

Levels can lie between their thresholds. Circumstances (a window, a program,
battery or mains) are so or not so; when one of them is over, the rule is over:
at six in the evening "weekdays nine to six, while others use the CPU" ends
however busy the CPU still is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from supervisor.core import windows
from supervisor.core.policy.hysteresis import Side
from supervisor.core.policy.rules import Condition
from supervisor.core.readings.metric import Metric
from supervisor.core.readings.metrics import METRICS
from supervisor.core.readings.sample import Missing, Reading, Sample

__all__ = [
    "ConditionLook",
    "combined",
    "is_circumstance",
    "least_short_s",
    "look",
    "look_at_all",
    "metric_of",
    "thresholds",
]


class ConditionLook(NamedTuple):
    """One condition as it is seen now."""

    side: Side
    reading: Reading
    #: 0 at the clear threshold, 1 at the one that makes it short; more: beyond.
    nearness: float


def metric_of(condition: Condition) -> Metric | None:
    """Return the metric that it looks at; a window of time or a program has none."""
    return METRICS[condition.metric] if condition.metric else None


def look_at_all(when: Sequence[Condition], sample: Sample, place: str) -> tuple[ConditionLook, ...]:
    """Return what each condition says, in their order."""
    return tuple([look(condition, sample, place) for condition in when])


def look(condition: Condition, sample: Sample, place: str) -> ConditionLook:
    """Return what one condition says; the place is used where its metric has places."""
    if condition.clock:
        return _fact(windows.parse(condition.clock).contains(sample.weekday, sample.second_of_day))
    if condition.program:
        if isinstance(sample.programs, Missing):
            return ConditionLook(Side.UNKNOWN, sample.programs, 0.0)
        return _fact(condition.program in sample.programs)
    metric = METRICS[condition.metric]
    reading = metric.read(sample, place if metric.place != "host" else "")
    if isinstance(reading, Missing):
        return ConditionLook(Side.UNKNOWN, reading, 0.0)
    if math.isnan(reading):
        return ConditionLook(Side.UNKNOWN, Missing("not a number"), 0.0)
    short, clear = thresholds(condition)
    if short > clear:
        side = Side.SHORT if reading > short else Side.CLEAR if reading < clear else Side.BETWEEN
    else:
        side = Side.SHORT if reading < short else Side.CLEAR if reading > clear else Side.BETWEEN
    return ConditionLook(side, reading, (reading - clear) / (short - clear))


def thresholds(condition: Condition) -> tuple[float, float]:
    """Return where a metric becomes short and where it is clear; rule_check.py keeps them apart."""
    if condition.above is not None and condition.clear_below is not None:
        return condition.above, condition.clear_below
    assert condition.below is not None
    assert condition.clear_above is not None
    return condition.below, condition.clear_above


def least_short_s(when: Sequence[Condition], looks: Sequence[ConditionLook], sample: Sample) -> float:
    """Return for how long a rule that is short now must have been so already; 0 where nobody can tell.

    CPU use is a mean and never more than 100 %: a mean of 75 % was above 50 % for half of its time or more.
    """
    if not all(_is_mean(condition) and condition.above is not None for condition in when):
        return 0.0
    shares = [
        (seen.reading - thresholds(condition)[0]) / (100 - thresholds(condition)[0])
        for condition, seen in zip(when, looks, strict=True)
        if not isinstance(seen.reading, Missing) and thresholds(condition)[0] < 100
    ]
    return sample.cpu_over_s * max(0.0, min(shares, default=0.0))


def is_circumstance(condition: Condition) -> bool:
    """Say whether it can only be so or not so."""
    metric = metric_of(condition)
    return metric is None or metric.kind == "circumstance"


def combined(when: Sequence[Condition], looks: Sequence[ConditionLook]) -> Side:
    """Return the side of the rule: short when all are, clear when all levels or one circumstance is."""
    sides = {look.side for look in looks}
    if len(sides) == 1:
        return sides.pop()
    for condition, seen in zip(when, looks, strict=True):
        if seen.side is Side.CLEAR and is_circumstance(condition):
            return Side.CLEAR
    levels = {
        seen.side for condition, seen in zip(when, looks, strict=True) if not is_circumstance(condition)
    }
    if levels == {Side.CLEAR}:
        return Side.CLEAR
    if Side.BETWEEN in sides or {Side.SHORT, Side.CLEAR} <= levels:
        return Side.BETWEEN
    return Side.UNKNOWN


def _is_mean(condition: Condition) -> bool:
    metric = metric_of(condition)
    return metric is not None and metric.kind == "mean"


def _fact(is_so: bool) -> ConditionLook:  # noqa: FBT001
    return ConditionLook(Side.SHORT, 1.0, 1.0) if is_so else ConditionLook(Side.CLEAR, 0.0, 0.0)
