"""Every rule at every place where it holds, with its trigger: what is short, what is over.

Covers: which instances there are, stepping their triggers, easing.
Does not cover: which job yields (victims.py), when one returns (returning.py).

An instance is a rule and a place: "" for the host, a GPU's UUID, a job's name.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import NamedTuple

import msgspec

from supervisor.core.jobs.job import Job
from supervisor.core.policy.conditions import (
    ConditionLook,
    combined,
    is_circumstance,
    least_short_s,
    look_at_all,
    metric_of,
)
from supervisor.core.policy.hysteresis import Side, Trend, Trigger
from supervisor.core.policy.memory import Memory
from supervisor.core.policy.rules import Condition, PolicyConfig, Rule, Settings
from supervisor.core.readings.metric import Place
from supervisor.core.readings.sample import Missing, Sample
from supervisor.core.replacing import replace

__all__ = ["Instance", "Instances", "key_of", "next_turn", "place_kind", "rule_of", "survey"]

_SEPARATOR = "@"

_REMEMBERED_S = 86400.0


class Instance(NamedTuple):
    """One rule at one place, now."""

    key: str
    rule: Rule
    place: str
    trigger: Trigger
    side: Side
    looks: tuple[ConditionLook, ...]
    trend: Trend | None
    #: The kernel's memory alarm speaks for it, so it waits for no holding time, and for less to settle.
    is_urgent: bool = False
    #: A digest of the conditions by which it is on or off.
    conditions: str = ""

    @property
    def is_on(self) -> bool:
        """Say whether it has been short for its time, and not yet clear for its time."""
        return self.trigger.is_on

    @property
    def is_short(self) -> bool:
        """Say whether it is on and short at this moment: between the thresholds nothing is done."""
        return self.trigger.is_on and self.side is Side.SHORT

    def is_easing(self, policy: PolicyConfig, now: float) -> bool:
        """Say whether it gets better by itself; after the longer of the two times that counts no more."""
        if self.trend is None or self.is_urgent or self.trigger.for_s(now) > policy.easing_long_s:
            return False
        # Else the "long" mean is the one that follows sooner: what grows would look as if it eased.
        if policy.easing_long_s <= policy.easing_short_s:
            return False
        return self.trend.is_easing

    def short_s(self, now: float) -> float:
        """Return how long it has been short without a break; a circumstance has been since it turned."""
        if self.trend is None:
            return self.trigger.for_s(now) + self.rule.pause_after_s
        return self.trend.for_s


Instances = dict[str, Instance]


def key_of(rule: str, place: str) -> str:
    """Return the name of an instance in memory: `memory` or `gpu-foreign@GPU-1`."""
    return f"{rule}{_SEPARATOR}{place}" if place else rule


def rule_of(key: str) -> str:
    """Return the rule's name of an instance."""
    return key.partition(_SEPARATOR)[0]


def place_kind(rule: Rule) -> Place:
    """Return where the rule holds; rule_check.py sees that its conditions agree."""
    for condition in rule.when:
        metric = metric_of(condition)
        if metric is not None and metric.place != "host":
            return metric.place
    return "host"


class _Moment(NamedTuple):
    """All that the rules are looked at with."""

    jobs: dict[str, Job]
    sample: Sample
    policy: PolicyConfig
    memory: Memory
    now: float


def survey(jobs: dict[str, Job], sample: Sample, settings: Settings, memory: Memory, now: float) -> Instances:
    """Return all instances of the rules in force, their triggers stepped to now."""
    found: Instances = {}
    moment = _Moment(jobs, sample, settings.policy, memory, now)
    if settings.policy.enabled:
        for rule in settings.rules:
            if rule.enabled:
                for place in _places(rule, jobs, sample, memory, now):
                    instance = _step(rule, place, moment)
                    found[instance.key] = instance
    return found


def next_turn(settings: Settings, memory: Memory) -> float | None:
    """Return when the next holding time ends if readings stay so; the memory is of these settings."""
    rules = {rule.name: rule for rule in settings.rules}
    moments = []
    for key, trigger in memory.triggers.items():
        rule = rules[rule_of(key)]
        moments.append(trigger.turns_at(rise_s=rule.pause_after_s, fall_s=rule.resume_after_s))
    return min((at for at in moments if at is not None), default=None)


@lru_cache(maxsize=256)
def _digest(when: tuple[Condition, ...]) -> str:
    """Return what a rule looks at, with its thresholds, in a form to be kept and compared."""
    return f"{zlib.crc32(msgspec.json.encode(when)):08x}"


def _places(rule: Rule, jobs: dict[str, Job], sample: Sample, memory: Memory, now: float) -> list[str]:
    kind = place_kind(rule)
    if kind == "host":
        return [""]
    if kind == "job":
        return [name for name, job in jobs.items() if not job.is_over]
    seen = [] if isinstance(sample.gpus, Missing) else [gpu.uuid for gpu in sample.gpus]
    # A GPU that does not answer, or is no longer there, keeps what was known of it.
    prefix = key_of(rule.name, "?")[:-1]
    lost = [
        key.removeprefix(prefix)
        for key, trigger in memory.triggers.items()
        if key.startswith(prefix) and _is_remembered(trigger, now)
    ]
    return seen + [uuid for uuid in lost if uuid not in seen]


def _is_remembered(trigger: Trigger, now: float) -> bool:
    """Say whether a place without readings still counts: one that was taken out does so for a day."""
    if trigger.is_on or trigger.side is Side.UNKNOWN:
        return trigger.is_on
    return trigger.missing_since is None or now - trigger.missing_since < _REMEMBERED_S


def _step(rule: Rule, place: str, moment: _Moment) -> Instance:
    jobs, sample, memory, now = moment.jobs, moment.sample, moment.memory, moment.now
    key = key_of(rule.name, place)
    looks = look_at_all(rule.when, sample, place)
    if sample.is_urgent:
        looks = _alarmed(rule, looks)
    if place:
        looks = _without_process(rule, looks, jobs.get(place))
    side = looks[0].side if len(looks) == 1 else combined(rule.when, looks)
    is_urgent = sample.is_urgent and side is Side.SHORT and is_about_memory(rule)
    before = memory.triggers.get(key)
    conditions = _digest(rule.when)
    known_conditions = memory.conditions.get(key, conditions)
    is_other = known_conditions != conditions
    if before is None:
        before = Trigger(is_on=_paused_somebody(rule.name, key, jobs, memory))
    elif is_other and side is Side.UNKNOWN:
        # By which of the two it is on shows with the next reading.
        conditions = known_conditions
    elif is_other:
        # What was on by other thresholds stays so only where it is short by these.
        is_over = before.is_on and side is not Side.SHORT
        before = Trigger(turned_at=now) if is_over else replace(before, held_s=0.0, held_at=None)
    trigger = before.step(
        side,
        now,
        rise_s=0.0 if is_urgent else rule.pause_after_s,
        fall_s=rule.resume_after_s,
        before_s=least_short_s(rule.when, looks, sample) if side is Side.SHORT else 0.0,
    )
    was_missing = before.missing_since is not None
    known_trend = None if is_other else memory.trends.get(key)
    trend = _trend(_nearness(rule, looks), side, known_trend, moment, was_missing=was_missing)
    return Instance(key, rule, place, trigger, side, looks, trend, is_urgent, conditions)


def is_about_memory(rule: Rule) -> bool:
    """Say whether the kernel's memory alarm concerns this rule."""
    return any(metric is not None and metric.memory_alarm != "none" for metric in map(metric_of, rule.when))


def _alarmed(rule: Rule, looks: tuple[ConditionLook, ...]) -> tuple[ConditionLook, ...]:
    return tuple(
        seen._replace(side=Side.SHORT) if metric is not None and metric.memory_alarm == "precedes" else seen
        for metric, seen in zip(map(metric_of, rule.when), looks, strict=True)
    )


def _without_process(
    rule: Rule, looks: tuple[ConditionLook, ...], job: Job | None
) -> tuple[ConditionLook, ...]:
    """A job without a process uses no memory: here nothing to read is known to be nothing."""
    if job is None or job.alive:
        return looks
    return tuple(
        ConditionLook(Side.CLEAR, 0.0, 0.0)
        if metric is not None and metric.change.ends_with_process
        else seen
        for metric, seen in zip(map(metric_of, rule.when), looks, strict=True)
    )


def _paused_somebody(name: str, key: str, jobs: dict[str, Job], memory: Memory) -> bool:
    """Say whether a trigger that nobody remembers must have been on."""
    return any(
        job.asked_by is not None
        and job.asked_by.kind == "rule"
        and job.asked_by.name == name
        and (job.name not in memory.jobs or key in memory.jobs[job.name].paused_by)
        for job in jobs.values()
    )


def _nearness(rule: Rule, looks: tuple[ConditionLook, ...]) -> float | None:
    """Return how short the level is that is the least short; None where there is none to read."""
    levels = [
        seen.nearness
        for condition, seen in zip(rule.when, looks, strict=True)
        if not is_circumstance(condition) and not isinstance(seen.reading, Missing)
    ]
    return min(levels, default=None)


def _trend(
    nearness: float | None, side: Side, before: Trend | None, moment: _Moment, *, was_missing: bool
) -> Trend | None:
    """Watch how short it is for as long as it is short."""
    if side is not Side.SHORT:
        return before if side is Side.UNKNOWN else None
    if nearness is None:
        return None
    if before is None:
        return Trend(nearness, nearness, moment.now)
    short_s, long_s = moment.policy.easing_short_s, moment.policy.easing_long_s
    return before.step(nearness, moment.now, short_s=short_s, long_s=long_s, was_missing=was_missing)
