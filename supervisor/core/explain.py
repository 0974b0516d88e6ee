"""Why a job is where it is, and how near each rule is: the answers, as data.

Covers: what `supervisorctl why JOB` and `supervisorctl policy show` tell.
Does not cover: how it is laid out (cli/), deciding (policy.py): what is said here
comes from the same functions that decide, so the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from supervisor.core import suspension, windows
from supervisor.core.admission import Standing, holding, line
from supervisor.core.conditions import look_at_all, thresholds
from supervisor.core.hysteresis import Side
from supervisor.core.job import Job
from supervisor.core.metrics import METRICS
from supervisor.core.policy import look_around, waits_for
from supervisor.core.policy_memory import Memory
from supervisor.core.returning import keepers, may_come_back, resume_after_s
from supervisor.core.rulebook import Instance, place_kind
from supervisor.core.rules import Condition, Rule, Settings
from supervisor.core.sample import Missing, Reading, Sample
from supervisor.core.scene import Scene
from supervisor.core.states import State
from supervisor.core.verdict import Candidate, Verdict
from supervisor.core.victims import chosen, options, stays_a_while

__all__ = ["ConditionState", "Explanation", "RuleState", "alarms", "explain", "explain_all", "rule_states"]

#: A reading that has been missing for that long is worth saying aloud.
_ALARM_AFTER_S = 60.0

#: Less of the way to a threshold is not near.
_NEAR_PCT = 0.5


class ConditionState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One condition of a rule as it is now."""

    what: str
    unit: str = ""
    reading: Reading = 0.0
    #: Beyond this it is short: "> 50"; beyond that it is clear: "< 20". "" for windows and programs.
    short: str = ""
    clear: str = ""
    side: Side = Side.UNKNOWN
    #: 0 at the clear threshold or beyond, 100 where it is short.
    near_pct: float = 0.0


class RuleState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One rule at one place, now."""

    rule: str
    #: "" for the host, a GPU's UUID, or a job's name.
    place: str = ""
    about: str = ""
    is_enabled: bool = True
    is_on: bool = False
    side: Side = Side.UNKNOWN
    conditions: tuple[ConditionState, ...] = ()
    #: The least near of its conditions: all have to be short.
    near_pct: float = 0.0
    #: How long it has been on or off; 0: since the daemon knows it.
    for_s: float = 0.0
    #: How long it has been on the side that would turn it, and how long that has to be.
    held_s: float = 0.0
    hold_s: float = 0.0
    #: Jobs that it is about, whether or not they could be asked.
    jobs: tuple[str, ...] = ()
    #: It has no reading, why and for how long.
    missing: str = ""
    missing_for_s: float = 0.0
    #: To be said aloud, or "".
    alarm: str = ""


class Explanation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to `why JOB`."""

    job: str
    state: State
    #: One sentence: where it is and who wanted that.
    summary: str
    for_s: float = 0.0
    #: What asked for it: a person's name or a rule's, "" where nobody did.
    by: str = ""
    by_kind: Literal["", "person", "rule"] = ""
    reason: str = ""
    #: The newest verdict of the policy on this job, with what it was made from.
    verdict: Verdict | None = None
    #: The rules that keep it paused, or for a running job the one that is nearest to being short.
    rules: tuple[RuleState, ...] = ()
    #: What stands in its way now, each in words; empty: nothing does.
    waits_for: tuple[str, ...] = ()
    #: What has to happen for it to go on, or what would make it yield.
    next: str = ""
    #: Seconds until the pause is late, or ends by itself.
    deadline_in_s: float | None = None
    wakes_in_s: float | None = None
    #: Among the jobs that wait to go on, from 1.
    position: int | None = None
    line_length: int = 0
    #: How often in a row it was paused soon after a return, and by how much that lengthens the wait.
    num_flaps: int = 0
    wait_factor: float = 1.0
    #: Who would be asked, in order, by the rule that is nearest or on.
    candidates: tuple[Candidate, ...] = ()


def rule_states(
    jobs: Sequence[Job], sample: Sample, settings: Settings, memory: Memory, now: float
) -> tuple[RuleState, ...]:
    """Return every rule at every place, in the order of their importance, also those that are off."""
    scene = look_around(jobs, sample, settings, memory, now)
    states = [_rule_state(instance, scene) for instance in scene.instances.values()]
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
    """Return what the owner of the machine has to know: readings that went missing."""
    states = rule_states(jobs, sample, settings, memory, now)
    return tuple(dict.fromkeys(state.alarm for state in states if state.alarm))


def explain(
    job: Job, jobs: Sequence[Job], sample: Sample, settings: Settings, memory: Memory, now: float
) -> Explanation:
    """Return why this job is where it is, and what has to happen for that to change."""
    return next(iter(explain_all((job,), jobs, sample, settings, (memory, now))))


def explain_all(
    some: Sequence[Job], jobs: Sequence[Job], sample: Sample, settings: Settings, given: tuple[Memory, float]
) -> Iterator[Explanation]:
    """Yield the same for some of the jobs; the line is looked at once for all of them."""
    memory, now = given
    scene = look_around(jobs, sample, settings, memory, now)
    standings = tuple(line(scene)) if any(_is_in_line(job) for job in some) else ()
    for job in some:
        yield _explained(job, scene, standings)


def _is_in_line(job: Job) -> bool:
    return job.state is State.QUEUED or may_come_back(job)


def _explained(job: Job, scene: Scene, standings: Sequence[Standing]) -> Explanation:
    known = scene.known(job.name)
    asked_by = job.asked_by
    answer = Explanation(
        job=job.name,
        state=job.state,
        summary=_summary(job),
        for_s=max(0.0, scene.now - job.since),
        by="" if asked_by is None else asked_by.name,
        by_kind="" if asked_by is None else asked_by.kind,
        reason=job.reason,
        verdict=scene.memory.last.get(job.name),
        deadline_in_s=None if job.deadline_at is None else job.deadline_at - scene.now,
        wakes_in_s=None if job.wake_at is None else max(0.0, job.wake_at - scene.now),
        num_flaps=known.num_flaps,
    )
    match job.state:
        case State.QUEUED:
            return _of_waiting(answer, job, scene, standings)
        case State.PAUSED | State.PAUSING if may_come_back(job):
            return _of_waiting(answer, job, scene, standings)
        case State.PAUSED | State.PAUSING:
            return _of_yielding(answer, job)
        case State.RUNNING:
            return _of_running(answer, job, scene)
        case _:
            return answer


def _summary(job: Job) -> str:
    depth = f" ({job.depth})" if job.depth is not None else ""
    context = f", {words}" if (words := suspension.words(job)) else ""
    by = f" by {job.asked_by}" if job.asked_by is not None else ""
    problem = f": {job.problem}" if job.problem else ""
    late = ", late" if job.late else ""
    return f"{job.state}{depth}{context}{by}{late}{problem}"


def _of_waiting(answer: Explanation, job: Job, scene: Scene, standings: Sequence[Standing]) -> Explanation:
    """A job in the line: what keeps it, and its place."""
    position = next(i for i, standing in enumerate(standings, 1) if standing.job.name == job.name)
    standing = standings[position - 1]
    settling = waits_for(scene)
    blocks = tuple(text for text in (standing.why_not, settling) if text)
    if job.state is State.QUEUED:
        kept_by = holding(job, scene)
    else:
        kept_by = [scene.instances[key] for key in keepers(job, scene) if key in scene.instances]
    factors = [
        resume_after_s(i, job, scene) / i.rule.resume_after_s for i in kept_by if i.rule.resume_after_s
    ]
    next_ = _has_to(kept_by, job, scene) or standing.why_not or settling or "it goes on with the next tick"
    return msgspec.structs.replace(
        answer,
        rules=tuple(_rule_state(instance, scene) for instance in kept_by),
        waits_for=blocks,
        next=next_,
        position=position,
        line_length=len(standings),
        wait_factor=max(factors, default=1.0),
    )


def _has_to(kept_by: list[Instance], job: Job, scene: Scene) -> str:
    """Return what the rules that are on still ask for."""
    wanted = []
    for instance in kept_by:
        if instance.is_on:
            clear = " and ".join(
                f"{condition.metric} {_clear(condition)}"
                if condition.metric
                else windows.circumstance(_name(condition), "no longer")
                for condition in instance.rule.when
            )
            comma = "" if instance.rule.when[-1].metric else ","
            hold_s = resume_after_s(instance, job, scene)
            wanted.append(f"{clear}{comma} for {hold_s:.0f} s" if hold_s else clear)
    return "; ".join(wanted)


def _of_yielding(answer: Explanation, job: Job) -> Explanation:
    if job.state is State.PAUSING:
        return msgspec.structs.replace(answer, next="it reaches its next batch boundary and saves")
    if job.wake_at is not None:
        return msgspec.structs.replace(answer, next="the time that it was paused for ends")
    return msgspec.structs.replace(answer, next=f"a person resumes it: `supervisorctl resume {job.name}`")


def _of_running(answer: Explanation, job: Job, scene: Scene) -> Explanation:
    """A running job: the rule that is nearest to asking it."""
    about = scene.about(job)
    if not about:
        return msgspec.structs.replace(answer, next="nothing asks it to yield: no rule is about it")
    states = {instance.key: _rule_state(instance, scene) for instance in about}
    nearest = max(about, key=lambda i: (i.is_on, states[i.key].near_pct))
    state = states[nearest.key]
    ranking = options(nearest, scene)
    mine = next((option for option in ranking if option.job.name == job.name), None)
    if nearest.is_on:
        text = f"rule {nearest.rule.name} is on"
        first = chosen(ranking)
        if first is not None and nearest.is_short and (why_not_yet := stays_a_while(nearest, first, scene)):
            text += f"; {why_not_yet}"
    elif state.near_pct < _NEAR_PCT:
        text = "nothing asks it to yield, and no rule is near"
    else:
        way = f"{state.near_pct:.0f} % of the way"
        text = f"nothing asks it to yield; nearest is rule {nearest.rule.name}, {way}"
    if mine is not None and not mine.is_eligible:
        text += f"; this job is left alone: {mine.why}"
    return msgspec.structs.replace(
        answer,
        rules=(state,),
        next=text,
        candidates=tuple(option.candidate(is_chosen=False) for option in ranking),
    )


def _rule_state(instance: Instance, scene: Scene) -> RuleState:
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
    if missing_for_s >= _ALARM_AFTER_S and (was_read or trigger.is_on):
        place = f" of {instance.place}" if instance.place else ""
        state = "on" if trigger.is_on else "off"
        alarm = f"rule {rule.name}{place} has no reading: {missing}; it stays {state}"
    return RuleState(
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
        missing=missing,
        missing_for_s=missing_for_s if missing else 0.0,
        alarm=alarm,
    )


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
        what=_name(condition),
        unit=unit,
        reading=reading,
        short=_short(condition),
        clear=_clear(condition),
        side=side,
        near_pct=near_pct,
    )


def _name(condition: Condition) -> str:
    return condition.metric or condition.clock or condition.program


def _short(condition: Condition) -> str:
    if not condition.metric:
        return ""
    short, clear = thresholds(condition)
    return f"{'>' if short > clear else '<'} {short:g}"


def _clear(condition: Condition) -> str:
    if not condition.metric:
        return ""
    short, clear = thresholds(condition)
    return f"{'<' if short > clear else '>'} {clear:g}"
