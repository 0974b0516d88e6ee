"""Whose turn it is: queued jobs that want to start and paused ones that may come back, in one line.

Covers: the order, who may pass whom, what each one waits for.
Does not cover: whether a job fits (room.py), whether the rules let it (returning.py).

The order of one user's jobs is priority, with one point more for each `ageing_s` of
waiting; among equals who was paused comes before who never ran, then who has waited
longest. Among users it is whose turn it is (shares.py).
One that does not fit may be passed by others for `ageing_s`. After that, or at
once where the queue may pause jobs, what it lacks is kept for it, so a big job
does not starve behind small ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from supervisor.core.jobs.job import Job
from supervisor.core.jobs.states import JobState
from supervisor.core.policy.returning import crossing, may_come_back, obstacle
from supervisor.core.policy.room import Fit, asked, fit, needs_of
from supervisor.core.policy.rulebook import Instance, place_kind
from supervisor.core.policy.scene import Scene
from supervisor.core.policy.shares import Turns, aged, merged

__all__ = ["Standing", "asks_for_nothing", "holding", "line"]

_RUNS = frozenset(
    {JobState.STARTING, JobState.RUNNING, JobState.PAUSING, JobState.RESUMING, JobState.STOPPING}
)


class Standing(NamedTuple):
    """One job in the line."""

    job: Job
    #: What it waits for; "": it may go on now, with these GPUs.
    why_not: str
    gpus: tuple[str, ...] = ()
    #: What others would have to give back for it: gpu, memory, cpus, running; nothing where a rule keeps it.
    lacks: frozenset[str] = frozenset()

    @property
    def may_go(self) -> bool:
        """Say whether nothing stands in its way."""
        return not self.why_not


def asks_for_nothing(job: Job) -> bool:
    """Say whether a queued job named no needs: there is nothing to wait for."""
    spec = job.spec
    return not (spec.num_gpus or spec.memory_bytes or spec.num_cpus or spec.gpu_memory_bytes)


def line(scene: Scene) -> Iterator[Standing]:
    """Yield every job that waits, who is first first."""
    kept: frozenset[str] = frozenset()
    num_running = sum(job.state in _RUNS and job.frozen_at is None for job in scene.jobs.values())
    queue = scene.settings.queue
    most = queue.max_running
    waiting = _in_order(scene)
    turns = Turns(scene, {job.name: _since(job, scene) for job in waiting})
    for job in merged(waiting, lambda job: job, turns.key):
        waited_s = max(0.0, scene.now - _since(job, scene))
        why_not = _held_by_rules(job, scene)
        if why_not:
            yield Standing(job, why_not)
            continue
        answer = _fit(job, scene, kept, waited_s)
        if not answer.why_not and most and num_running >= most:
            answer = Fit(
                f"{num_running} jobs run or are about to, of {most} that may", frozenset({"running"})
            )
        lacks = frozenset() if answer.is_hopeless else answer.lacks
        yield Standing(job, answer.why_not, answer.gpus, lacks)
        if not answer.why_not:
            num_running += 1
            turns.took(job)
        if waited_s >= queue.ageing_s or queue.preempt:
            kept |= lacks


def _fit(job: Job, scene: Scene, kept: frozenset[str], waited_s: float) -> Fit:
    needs = needs_of(job, scene.known(job.name).footprint)
    answer = fit(job, needs, scene)
    if answer.why_not:
        return answer
    for what in sorted(asked(needs) & kept):
        return Fit(f"{what} is kept for a job before it in the line", frozenset({what}))
    ageing_s = scene.settings.queue.ageing_s
    is_patient = not ageing_s or waited_s < ageing_s
    too_close = crossing(job, scene) if is_patient else Fit()
    return too_close if too_close.why_not else answer


def _in_order(scene: Scene) -> list[Job]:
    waiting = [job for job in scene.jobs.values() if job.state is JobState.QUEUED or may_come_back(job)]

    def rank(job: Job) -> tuple[float, bool, float, str]:
        since = _since(job, scene)
        return -(job.spec.priority + aged(since, scene)), job.state is JobState.QUEUED, since, job.name

    return sorted(waiting, key=rank)


def _since(job: Job, scene: Scene) -> float:
    """Return since when it waits: a pause that went deeper began when it began."""
    paused_at = scene.known(job.name).paused_at if job.state is JobState.PAUSED else None
    return job.since if paused_at is None else min(paused_at, job.since)


def holding(job: Job, scene: Scene) -> list[Instance]:
    """Return the rules, with their places, that keep a queued job from starting."""
    if job.spec.protected:
        return []
    return [
        instance
        for instance in scene.on
        # GPUs are found for a job that asks for some, and one whose rule is on is not found.
        if not (place_kind(instance.rule) == "gpu" and job.spec.num_gpus) and scene.concerns(instance, job)
    ]


def _held_by_rules(job: Job, scene: Scene) -> str:
    if job.state is not JobState.QUEUED:
        return obstacle(job, scene)
    held_by = holding(job, scene)
    return f"rule {held_by[0].rule.name} is on" if held_by else ""
