"""When a job that a rule paused comes back: what still stands in its way, in words.

Covers: the rules that keep it, the wait after flaps, its footprint below the thresholds.
Does not cover: whose turn it is (admission.py).

A job is brought back only if nothing that is known now would pause it again.
After it has waited for the time in `[queue] ageing_s`, the margins no longer
count, only that there is room at all: what it used before is no proof for ever.
"""

from __future__ import annotations

from supervisor.core.jobs.job import Job
from supervisor.core.jobs.states import JobState
from supervisor.core.policy.conditions import ConditionLook, metric_of, thresholds
from supervisor.core.policy.hysteresis import Side
from supervisor.core.policy.room import Fit, Needs, needs_of
from supervisor.core.policy.rulebook import Instance, place_kind, rule_of
from supervisor.core.policy.rules import Condition
from supervisor.core.policy.scene import Scene, is_rules
from supervisor.core.readings.metric import Addition, Metric
from supervisor.core.readings.sample import Missing, Reading
from supervisor.core.units import format_tenths

__all__ = ["crossing", "keepers", "may_come_back", "obstacle", "resume_after_s"]


def may_come_back(job: Job) -> bool:
    """Say whether it is the policy's to bring back: paused by a rule, or frozen on the way there."""
    return is_rules(job) and (job.state is JobState.PAUSED or job.frozen_at is not None)


def keepers(job: Job, scene: Scene) -> list[str]:
    """Return the rules, with places, that paused it; without memory of them all places of the rule."""
    remembered = list(scene.known(job.name).paused_by)
    if remembered or job.asked_by is None:
        return remembered
    return [key for key in scene.instances if rule_of(key) == job.asked_by.name]


def resume_after_s(instance: Instance, job: Job, scene: Scene) -> float:
    """Return how long the rule has to be clear for this job: twice as long for each flap, up to a limit."""
    policy = scene.settings.policy
    factor = min(2 ** min(scene.known(job.name).num_flaps, 16), policy.max_backoff)
    # Without a time of its own there would be nothing to double.
    base_s = instance.rule.resume_after_s
    return base_s if factor == 1 else max(base_s, policy.settle_s) * factor


def obstacle(job: Job, scene: Scene) -> str:
    """Return what keeps the rules from letting it go on, or ""."""
    kept_by = [scene.instances[key] for key in keepers(job, scene) if key in scene.instances]
    others = [] if job.spec.protected else scene.about(job)
    keeper_keys = {instance.key for instance in kept_by}
    for instance in (*kept_by, *(other for other in others if other.key not in keeper_keys)):
        if instance.key in scene.known(job.name).overruled:
            continue
        is_keeper = instance.key in keeper_keys
        if _is_left_behind(instance, job) and (instance.is_on or instance.side is Side.SHORT):
            left_s = resume_after_s(instance, job, scene) - (scene.now - _paused_at(job, scene))
            if is_keeper and left_s > 0:
                return f"rule {instance.rule.name} is on; it may go to another GPU in {left_s:.0f} s"
            continue
        if instance.is_on:
            return f"rule {instance.rule.name} is on"
        if instance.side is Side.SHORT:
            return f"rule {instance.rule.name} is short again"
        if is_keeper:
            left_s = resume_after_s(instance, job, scene) - instance.rule.resume_after_s
            left_s -= instance.trigger.for_s(scene.now)
            if left_s > 0 and instance.trigger.turned_at is not None:
                return f"it was paused again soon after a return, so it waits {left_s:.0f} s longer"
    return ""


def _is_left_behind(instance: Instance, job: Job) -> bool:
    """Say whether it matters no more: GPUs are found anew for a job that asked for some and is on none."""
    return not job.alive and bool(job.spec.num_gpus) and place_kind(instance.rule) == "gpu"


def _paused_at(job: Job, scene: Scene) -> float:
    paused_at = scene.known(job.name).paused_at
    return job.since if paused_at is None else paused_at


def crossing(job: Job, scene: Scene) -> Fit:
    """Say which rule its return would make short again, if any."""
    if job.spec.protected:
        return Fit()
    needs = needs_of(job, scene.known(job.name).footprint)
    for instance in scene.about(job):
        answers = [
            _would_be_short(
                instance,
                condition,
                seen,
                _expected(metric_of(condition), instance.place, needs, job, scene),
                scene.settings.policy.margin_pct / 100,
            )
            for condition, seen in zip(instance.rule.when, instance.looks, strict=True)
        ]
        if all(answers):
            return next((answer for answer in answers if isinstance(answer, Fit)), Fit())
    return Fit()


def _would_be_short(
    instance: Instance, condition: Condition, seen: ConditionLook, expected: Reading, margin: float
) -> Fit | bool:
    """Say so by a forecast where there is one; else what is so now counts."""
    metric = metric_of(condition)
    if isinstance(expected, Missing) or metric is None:
        return seen.side is Side.SHORT
    short, clear = thresholds(condition)
    is_low = short < clear
    limit = short * (1 + margin) if is_low else short * (1 - margin)
    if (expected >= limit) if is_low else (expected <= limit):
        return False
    beyond = f"{format_tenths(expected)} {'<' if is_low else '>'} {format_tenths(limit)}"
    text = (
        f"with it {metric.name} would be {beyond}, the threshold of rule {instance.rule.name} with its margin"
    )
    return Fit(text, metric.change.lacks)


def _expected(metric: Metric | None, place: str, needs: Needs, job: Job, scene: Scene) -> Reading:
    """Return a reading as it would be with this job, and all that have been let in and are not there yet."""
    if metric is None:
        return Missing("no forecast")
    more = Addition(needs.cpu_pct, needs.memory_bytes, scene.promised_bytes(job), needs.gpu_bytes)
    return metric.change.with_one_more(scene.sample, place, more)
