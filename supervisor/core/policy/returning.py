"""When a job that a rule paused comes back: what still stands in its way, in words.

Covers: the rules that keep it, the wait after flaps, its footprint below the thresholds.
Does not cover: whose turn it is (admission.py).

A job is brought back only if nothing that is known now would pause it again.
After it has waited for the time in `[queue] ageing_s`, the margins no longer
count, only that there is room at all: what it used before is no proof for ever.
"""

from __future__ import annotations

from typing import Final

from supervisor.core.jobs.job import Job
from supervisor.core.jobs.states import JobState
from supervisor.core.policy.conditions import ConditionLook, thresholds
from supervisor.core.policy.hysteresis import Side
from supervisor.core.policy.room import Fit, Needs, needs_of
from supervisor.core.policy.rulebook import Instance, place_kind, rule_of
from supervisor.core.policy.rules import Condition
from supervisor.core.policy.scene import Scene, is_rules
from supervisor.core.readings.sample import Missing, Reading, Sample
from supervisor.core.units import format_tenths

__all__ = ["crossing", "keepers", "may_come_back", "obstacle", "resume_after_s"]

#: What a job lacks, in the words of room.py, when its return would cross a threshold of this metric.
_LACKS: Final = {
    "memory_available_pct": frozenset({"memory"}),
    "memory_available_gib": frozenset({"memory"}),
    "gpu_memory_used_pct": frozenset({"gpu"}),
}


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
            _would_be_short(instance, condition, seen, (needs, job, scene))
            for condition, seen in zip(instance.rule.when, instance.looks, strict=True)
        ]
        if all(answers):
            return next((answer for answer in answers if isinstance(answer, Fit)), Fit())
    return Fit()


def _would_be_short(
    instance: Instance, condition: Condition, seen: ConditionLook, given: tuple[Needs, Job, Scene]
) -> Fit | bool:
    """Foretell it where that can be done; else what is so now counts."""
    needs, job, scene = given
    expected = _expected(condition.metric, instance.place, needs, job, scene)
    if isinstance(expected, Missing):
        return seen.side is Side.SHORT
    short, clear = thresholds(condition)
    margin = scene.settings.policy.margin_pct / 100
    is_low = short < clear
    limit = short * (1 + margin) if is_low else short * (1 - margin)
    if (expected >= limit) if is_low else (expected <= limit):
        return False
    beyond = f"{format_tenths(expected)} {'<' if is_low else '>'} {format_tenths(limit)}"
    text = (
        f"with it {condition.metric} would be {beyond}, "
        f"the threshold of rule {instance.rule.name} with its margin"
    )
    return Fit(text, _LACKS.get(condition.metric, frozenset()))


def _expected(metric: str, place: str, needs: Needs, job: Job, scene: Scene) -> Reading:
    """Return a reading as it would be with this job, and all that have been let in and are not there yet."""
    sample = scene.sample
    if metric in ("memory_available_pct", "memory_available_gib"):
        total, available = sample.memory_total_bytes, sample.memory_available_bytes
        if isinstance(available, Missing) or isinstance(total, Missing) or not needs.memory_bytes:
            return Missing("no forecast")
        left = available - needs.memory_bytes - scene.promised_bytes(job)
        return left / total * 100 if metric == "memory_available_pct" else left / (1 << 30)
    if metric == "cpu_pct" and not isinstance(sample.cpu_pct, Missing) and needs.cpu_pct:
        return sample.cpu_pct + needs.cpu_pct / sample.num_cpus
    if metric == "gpu_memory_used_pct":
        return _gpu_used_pct(place, needs, sample)
    return Missing("no forecast")


def _gpu_used_pct(uuid: str, needs: Needs, sample: Sample) -> Reading:
    bytes_ = needs.gpu_bytes.get(uuid, 0.0)
    gpus = () if isinstance(sample.gpus, Missing) else sample.gpus
    gpu = next((gpu for gpu in gpus if gpu.uuid == uuid), None)
    if gpu is None or not bytes_ or isinstance(gpu.memory_used_bytes, Missing):
        return Missing("no forecast")
    if isinstance(gpu.memory_total_bytes, Missing):
        return gpu.memory_total_bytes
    return 100 * (gpu.memory_used_bytes + bytes_) / gpu.memory_total_bytes
