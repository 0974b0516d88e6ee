"""Samples, jobs and memory to at most one verdict: who yields, who goes deeper, who comes back, who starts.

Covers: the order in which these are asked, and waiting for each answer.
Does not cover: what is short (rulebook.py), who makes room (victims.py), whose
turn it is to go on (admission.py), carrying it out (engine.py).

Pure: the same arguments give the same answer. After a verdict nothing is
decided for `settle_s`, because the machine has to show its effect first. Two
things do not wait: an emergency, once in each settle time, for a machine that
thrashes has no 15 s to lose; and a queued job that asks for nothing, because
there is nothing to measure that could keep it. A pause that a person asked for
is waited for likewise, but only where all jobs are of one user.
"""

from __future__ import annotations

from collections.abc import Sequence

from supervisor.core import windows
from supervisor.core.jobs.job import Job
from supervisor.core.jobs.states import JobState
from supervisor.core.jobs.verdict import QUEUE, Evidence, Verdict
from supervisor.core.policy.admission import Standing, asks_for_nothing, line
from supervisor.core.policy.conditions import ConditionLook, thresholds
from supervisor.core.policy.hysteresis import Side
from supervisor.core.policy.memory import JobMemory, Memory
from supervisor.core.policy.observations import Moment, noted, watched
from supervisor.core.policy.preemption import make_room
from supervisor.core.policy.rulebook import Instance, survey
from supervisor.core.policy.rules import Condition, Settings
from supervisor.core.policy.scene import Scene, is_rules
from supervisor.core.policy.victims import Option, chosen, options, stays_a_while
from supervisor.core.readings.metrics import METRICS
from supervisor.core.readings.sample import Missing, Sample
from supervisor.core.replacing import replace

__all__ = ["decide", "evidence", "look_around", "waits_for"]


def decide(
    jobs: Sequence[Job], sample: Sample, settings: Settings, memory: Memory, now: float
) -> tuple[tuple[Verdict, ...], Memory]:
    """Return what is to be done now, and what to remember until the next call."""
    scene = look_around(jobs, sample, settings, memory, now)
    found = _relieve(scene)
    is_settled = found is None and not waits_for(scene)
    is_free = any(job.state is JobState.QUEUED and asks_for_nothing(job) for job in scene.jobs.values())
    # Once for both: there may be hundreds in it.
    standings = tuple(line(scene)) if is_settled or is_free else ()
    starts = tuple(_resume_or_start(standing, settings) for standing in standings if _starts_free(standing))
    if is_settled:
        found = _go_on(scene, standings)
    memory = scene.memory
    for start in starts:
        memory = noted(memory, start, QUEUE, settings.policy, scene.now)
    if found is None:
        return starts, memory
    verdict, key, is_urgent = found
    memory = noted(memory, verdict, key, settings.policy, scene.now)
    urgent_at = scene.now if is_urgent else memory.urgent_at
    return (*starts, verdict), replace(memory, acted_at=scene.now, urgent_at=urgent_at)


def look_around(jobs: Sequence[Job], sample: Sample, settings: Settings, memory: Memory, now: float) -> Scene:
    """Return everything that a decision is made from, with the memory brought up to now."""
    # The clock never goes back; one that seems to has not moved.
    now = max(now, memory.at)
    by_name = {job.name: job for job in jobs}
    instances = survey(by_name, sample, settings, memory, now)
    moment = Moment(settings.policy, now, now - memory.at)
    known = {
        name: watched(
            memory.jobs.get(name) or JobMemory(last_state=job.state),
            job,
            sample.jobs.get(name),
            instances,
            moment,
        )
        for name, job in by_name.items()
    }
    memory = replace(
        memory,
        at=now,
        triggers={key: instance.trigger for key, instance in instances.items()},
        trends={key: instance.trend for key, instance in instances.items() if instance.trend is not None},
        conditions={key: instance.conditions for key, instance in instances.items()},
        jobs=known,
        last={name: verdict for name, verdict in memory.last.items() if name in by_name},
    )
    return Scene(by_name, sample, settings, memory, instances, now)


def waits_for(scene: Scene, *, is_urgent: bool = False) -> str:
    """Return what has to show its effect before anything else is decided, or ""."""
    settle_s, now = scene.settings.policy.settle_s, scene.now
    moments = [(scene.memory.acted_at, "the last verdict")]
    if is_urgent:
        moments = [(scene.memory.urgent_at, "the last emergency")]
    for job in scene.jobs.values():
        # Pausing the own job again and again would keep all others from a decision.
        if scene.is_shared and not is_rules(job):
            continue
        if job.state is JobState.PAUSING and not job.late and not (is_urgent and now - job.since >= settle_s):
            return f"{job.name} is pausing"
        # In an emergency only what gave memory back is waited for.
        if job.state is JobState.PAUSED and (not is_urgent or not job.alive):
            moments.append((job.since, f"the pause of {job.name}"))
    for at, what in moments:
        if at is not None and 0 <= now - at < settle_s:
            return f"{what} was {now - at:.0f} s ago, of {settle_s:.0f} s that it has to show its effect"
    return ""


def _relieve(scene: Scene) -> tuple[Verdict, str, bool] | None:
    """Ask one job to make room for the first rule that is short and finds one."""
    for instance in scene.instances.values():
        if not instance.is_short or waits_for(scene, is_urgent=instance.is_urgent):
            continue
        if instance.is_easing(scene.settings.policy, scene.now):
            continue
        ranking = options(instance, scene)
        option = chosen(ranking)
        if option is not None and not stays_a_while(instance, option, scene):
            return _yield(instance, option, ranking, scene), instance.key, instance.is_urgent
    return None


def _yield(instance: Instance, option: Option, ranking: list[Option], scene: Scene) -> Verdict:
    rule = instance.rule
    seen = evidence(instance, scene.now)
    return Verdict(
        kind=option.kind,
        job=option.job.name,
        rule=rule.name,
        reason=" and ".join(_told(one) for one in seen),
        depth=option.depth,
        deadline_s=rule.deadline_s,
        at_deadline=rule.at_deadline,
        evidence=seen,
        candidates=tuple(one.candidate(is_chosen=one is option) for one in ranking),
    )


def _go_on(scene: Scene, standings: Sequence[Standing]) -> tuple[Verdict, str, bool] | None:
    """Let the first one in the line go on that can; or make room for one that comes before it."""
    for standing in standings:
        if standing.may_go and not _starts_free(standing):
            return _resume_or_start(standing, scene.settings), QUEUE, False
        room = make_room(standing, scene) if scene.settings.queue.preempt else None
        if room is not None:
            return room, QUEUE, False
    return None


def _starts_free(standing: Standing) -> bool:
    job = standing.job
    return standing.may_go and job.state is JobState.QUEUED and asks_for_nothing(job)


def _resume_or_start(standing: Standing, settings: Settings) -> Verdict:
    job = standing.job
    if job.state is JobState.QUEUED:
        return Verdict(kind="start", job=job.name, rule=QUEUE, reason="it fits", gpus=standing.gpus)
    rule = job.asked_by.name if job.asked_by is not None else ""
    is_in_force = settings.policy.enabled and any(one.name == rule and one.enabled for one in settings.rules)
    reason = f"rule {rule} is {'over' if is_in_force else 'no longer in force'}, and it fits"
    if rule == QUEUE:
        reason = "there is room for it again"
    return Verdict(kind="resume", job=job.name, rule=rule, reason=reason, gpus=standing.gpus)


def evidence(instance: Instance, now: float) -> tuple[Evidence, ...]:
    """Return each condition of a rule as it was seen."""
    trigger = instance.trigger
    # An emergency waits for no holding time.
    waited_s = 0.0 if instance.is_urgent and trigger.turned_at == now else instance.rule.pause_after_s
    held_s = trigger.for_s(now) + waited_s if trigger.is_on else trigger.held_s
    return tuple(
        _seen(condition, seen, instance.place, held_s)
        for condition, seen in zip(instance.rule.when, instance.looks, strict=True)
    )


def _seen(condition: Condition, seen: ConditionLook, place: str, held_s: float) -> Evidence:
    what = condition.metric or condition.clock or condition.program
    threshold = _threshold(condition)
    if condition.metric and seen.side is Side.SHORT and seen.nearness < 1:
        # Short by the alarm alone: its mean has not crossed the threshold, and must not be said to have.
        what, threshold = f"{what} (the kernel's memory alarm)", ""
    return Evidence(
        what=what,
        place=place,
        reading=seen.reading,
        unit=METRICS[condition.metric].unit if condition.metric else "",
        threshold=threshold,
        for_s=held_s,
    )


def _threshold(condition: Condition) -> str:
    if condition.clock or condition.program:
        return ""
    short, clear = thresholds(condition)
    return f"{'>' if short > clear else '<'} {short:g}"


def _told(seen: Evidence) -> str:
    for_s = f"for {seen.for_s:.0f} s"
    if not seen.threshold:
        return f"{windows.circumstance(seen.what)}, {for_s}"
    reading = seen.reading.why if isinstance(seen.reading, Missing) else f"{seen.reading:.4g}"
    unit = f" {seen.unit}" if seen.unit else ""
    return f"{seen.what} {reading}{unit} {seen.threshold}{unit} {for_s}"
