"""Every rule at every place as it is now: readings, how near, how long, and what cannot be read.

Covers: what `supervisorctl policy show` tells, and the alarms of `status`.
Does not cover: what a rule means for one job (explain.py), stepping rules (rulebook.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from supervisor.core.jobs.job import Job
from supervisor.core.policy.conditions import look_at_all, thresholds
from supervisor.core.policy.decide import look_around
from supervisor.core.policy.explanation import ConditionState, RuleState
from supervisor.core.policy.hysteresis import Side
from supervisor.core.policy.memory import Memory
from supervisor.core.policy.rulebook import Instance, place_kind
from supervisor.core.policy.rules import Condition, Rule, Settings
from supervisor.core.policy.scene import Scene
from supervisor.core.readings.metrics import METRICS
from supervisor.core.readings.sample import Missing, Reading, Sample
from supervisor.core.replacing import replace

__all__ = [
    "alarms",
    "clear_at",
    "name_of",
    "rule_state",
    "rule_states",
]

#: A reading that has been missing for that long is worth saying aloud.
_ALARM_AFTER_S = 60.0

#: More places than these are counted, not named.
_MAX_PLACES = 3
_PLURALS = {"gpu": "GPUs", "job": "jobs"}


def rule_states(
    jobs: Sequence[Job], sample: Sample, settings: Settings, memory: Memory, now: float
) -> tuple[RuleState, ...]:
    """Return every rule at every place, in the order of their importance, also those that are off."""
    scene = look_around(jobs, sample, settings, memory, now)
    states = _with_joint_alarms([rule_state(instance, scene) for instance in scene.instances.values()])
    seen = {state.rule for state in states}
    is_off = not settings.policy.enabled
    states += [
        _not_watched(rule, sample, is_off=is_off or not rule.enabled)
        for rule in settings.rules
        if rule.name not in seen
    ]
    order = [rule.name for rule in settings.rules]
    return tuple(sorted(states, key=lambda state: order.index(state.rule)))


def alarms(
    jobs: Sequence[Job], sample: Sample, settings: Settings, memory: Memory, now: float
) -> tuple[str, ...]:
    """Return what the owner of the machine has to know: readings that went missing, each reason once."""
    states = rule_states(jobs, sample, settings, memory, now)
    return tuple(dict.fromkeys(state.alarm for state in states if state.alarm))


def _with_joint_alarms(states: list[RuleState]) -> list[RuleState]:
    """One reason is said once: a lost driver would else be as many alarms as there are rules and GPUs."""
    groups: dict[tuple[str, str], list[RuleState]] = {}
    for state in states:
        if state.alarm:
            groups.setdefault((state.missing, _kind(state)), []).append(state)
    texts = {key: _joint(*key, group) for key, group in groups.items() if len(group) > 1}
    return [
        replace(state, alarm=texts.get((state.missing, _kind(state)), state.alarm)) if state.alarm else state
        for state in states
    ]


def _kind(state: RuleState) -> str:
    kinds = {METRICS[one.what].place for one in state.conditions if one.what in METRICS} - {"host"}
    return kinds.pop() if kinds else "host"


def _joint(why: str, kind: str, group: list[RuleState]) -> str:
    rules = list(dict.fromkeys(state.rule for state in group))
    places = list(dict.fromkeys(state.place for state in group if state.place))
    what = f"rules {', '.join(rules[:-1])} and {rules[-1]}" if len(rules) > 1 else f"rule {rules[0]}"
    where = (
        f" of {', '.join(places)}" if len(places) <= _MAX_PLACES else f" of {len(places)} {_PLURALS[kind]}"
    )
    has, they, stay = ("have", "they", "stay") if len(rules) > 1 else ("has", "it", "stays")
    turned = {"on" if state.is_on else "off" for state in group}
    as_it_was = turned.pop() if len(turned) == 1 else "what it was at each place"
    return f"{what}{where if places else ''} {has} no reading: {why}; {they} {stay} {as_it_was}"


def rule_state(instance: Instance, scene: Scene) -> RuleState:
    """Return one rule at one place as it is now."""
    rule, trigger = instance.rule, instance.trigger
    conditions = tuple(
        _condition_state(condition, seen.side, seen.reading, seen.nearness)
        for condition, seen in zip(rule.when, instance.looks, strict=True)
    )
    missing = next((c.reading.why for c in conditions if isinstance(c.reading, Missing)), "")
    missing_for_s = 0.0 if trigger.missing_since is None else scene.now - trigger.missing_since
    was_read = trigger.side is not Side.UNKNOWN
    names = [job.name for job in scene.jobs.values() if not job.is_over and scene.concerns(instance, job)]
    alarm = ""
    is_late = missing_for_s >= _ALARM_AFTER_S or (bool(missing) and _is_silent(instance.place, scene.sample))
    if is_late and (was_read or trigger.is_on):
        place = f" of {instance.place}" if instance.place else ""
        state = "on" if trigger.is_on else "off"
        alarm = f"rule {rule.name}{place} has no reading: {missing}; it stays {state}"
    found = RuleState(
        rule=rule.name,
        place=instance.place,
        about=rule.about,
        is_on=trigger.is_on,
        side=instance.side,
        conditions=conditions,
        near_pct=min(c.near_pct for c in conditions),
        for_s=trigger.for_s(scene.now),
        held_s=trigger.held_s,
        hold_s=rule.resume_after_s if trigger.is_on else rule.pause_after_s,
        jobs=tuple(names),
        num_jobs=len(names),
        alarm=alarm,
    )
    return replace(found, missing=missing, missing_for_s=missing_for_s) if missing else found


def _is_silent(place: str, sample: Sample) -> bool:
    """Say whether this is a GPU that tells nothing at all while the driver answers: it does not come back."""
    if isinstance(sample.gpus, Missing) or not place or place in sample.jobs:
        return False
    readings = [
        reading
        for gpu in sample.gpus
        if gpu.uuid == place
        for reading in (gpu.utilization_pct, gpu.memory_used_bytes, gpu.temperature_c, gpu.processes)
    ]
    return all(isinstance(reading, Missing) for reading in readings)


def _not_watched(rule: Rule, sample: Sample, *, is_off: bool) -> RuleState:
    """A rule that is switched off, or has no place on this machine."""
    if is_off:
        return RuleState(rule=rule.name, about=rule.about, is_enabled=False)
    looks = look_at_all(rule.when, sample, "")
    conditions = tuple(
        _condition_state(condition, seen.side, seen.reading, seen.nearness)
        for condition, seen in zip(rule.when, looks, strict=True)
    )
    missing = "there is no job"
    if place_kind(rule) == "gpu":
        missing = sample.gpus.why if isinstance(sample.gpus, Missing) else "there is no GPU"
    return RuleState(rule=rule.name, about=rule.about, conditions=conditions, missing=missing)


def _condition_state(condition: Condition, side: Side, reading: Reading, nearness: float) -> ConditionState:
    unit = METRICS[condition.metric].unit if condition.metric else ""
    near_pct = min(max(nearness, 0.0), 1.0) * 100
    return ConditionState(
        what=name_of(condition),
        unit=unit,
        reading=reading,
        short=_short(condition),
        clear=clear_at(condition),
        side=side,
        near_pct=near_pct,
    )


def name_of(condition: Condition) -> str:
    """Return the metric, the window or the program."""
    return condition.metric or condition.clock or condition.program


def _short(condition: Condition) -> str:
    if not condition.metric:
        return ""
    short, clear = thresholds(condition)
    return f"{'>' if short > clear else '<'} {short:g}"


def clear_at(condition: Condition) -> str:
    """Return where a metric is clear, "< 20", or ""."""
    if not condition.metric:
        return ""
    short, clear = thresholds(condition)
    return f"{'<' if short > clear else '>'} {clear:g}"
