"""Room for a queued job, made by running ones of lower priority, where the owner allows it.

Covers: whether pausing some of them would let it start, and who is asked first.
Does not cover: `[queue] preempt` and when (policy.py), the line itself (admission.py).

Nobody is paused in vain: first it is worked out that the job would fit without
all who may be asked. Priority counts as it was given, without ageing: else two
jobs would take turns in pausing each other. So does what users have had: it says
who of those of lower priority is asked first, and makes nobody pause an equal.
"""

from __future__ import annotations

from dataclasses import replace

from supervisor.core.jobs.job import Job
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.jobs.verdict import QUEUE, Candidate, Verdict
from supervisor.core.policy.admission import Standing
from supervisor.core.policy.room import fit, needs_of
from supervisor.core.policy.scene import Scene
from supervisor.core.policy.shares import gives_way, merged, weighs
from supervisor.core.policy.shortage import DEPTHS
from supervisor.core.policy.victims import left_alone
from supervisor.core.readings.whatif import corrected

__all__ = ["make_room"]


def make_room(standing: Standing, scene: Scene) -> Verdict | None:
    """Return whom to pause next for a queued job, if that helps it."""
    job = standing.job
    if job.state is not JobState.QUEUED or not standing.lacks:
        return None
    shares = scene.settings.shares
    lower = [o for o in scene.jobs.values() if weighs(o, job, shares) < weighs(job, o, shares)]
    able = [other for other in lower if _depth(other, standing) is not None and not _why_not(other, scene)]
    able.sort(key=lambda other: (other.spec.priority, -other.since, other.name))
    able = list(merged(able, lambda other: other, lambda other: gives_way(other, scene)))
    needed = _enough(able, standing, scene)
    if not needed:
        return None
    return Verdict(
        kind="pause",
        job=needed[0].name,
        rule=QUEUE,
        reason=f"makes room for {job.name}, of higher priority: {standing.why_not}",
        depth=_depth(needed[0], standing),
        candidates=tuple(_candidate(other, scene, chosen=needed[0]) for other in lower),
    )


def _why_not(other: Job, scene: Scene) -> str:
    if other.state is not JobState.RUNNING:
        return f"it is {other.state}"
    return left_alone(QUEUE, other, scene)


def _depth(other: Job, standing: Standing) -> Depth | None:
    """A GPU and memory are free only when the process is gone."""
    gives = Depth.EXIT if standing.lacks & {"gpu", "memory"} else Depth.HOLD
    return next((depth for depth in DEPTHS[DEPTHS.index(gives) :] if depth in other.depths), None)


def _enough(able: list[Job], standing: Standing, scene: Scene) -> list[Job]:
    """Return those without whom the job fits, none of them needlessly; none if it never would."""
    gone: list[Job] = []
    for other in able:
        if _fits(gone, standing, scene):
            break
        gone.append(other)
    if not _fits(gone, standing, scene):
        return []
    return [other for other in gone if not _fits([one for one in gone if one is not other], standing, scene)]


def _fits(gone: list[Job], standing: Standing, scene: Scene) -> bool:
    if standing.lacks == {"running"}:
        return bool(gone)
    names = {job.name for job in gone}
    uses = {name: use for name, use in scene.sample.jobs.items() if name not in names}
    without = replace(
        scene,
        jobs={name: job for name, job in scene.jobs.items() if name not in names},
        sample=corrected(scene.sample, uses),
    )
    return not fit(
        standing.job, needs_of(standing.job, scene.known(standing.job.name).footprint), without
    ).why_not


def _candidate(other: Job, scene: Scene, *, chosen: Job) -> Candidate:
    why_not = _why_not(other, scene)
    return Candidate(
        job=other.name,
        why=why_not or f"priority {other.spec.priority}",
        is_chosen=other is chosen,
        is_eligible=not why_not,
    )
