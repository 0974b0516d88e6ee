"""What the policy learns of jobs by watching them: what they use, who overruled it, who flaps.

Covers: bringing the memory of every job up to date once a tick, and noting a verdict in it.
Does not cover: what follows from it (victims.py, returning.py).
"""

from __future__ import annotations

from typing import NamedTuple

from supervisor.core.jobs.job import Job
from supervisor.core.jobs.states import JobState
from supervisor.core.jobs.verdict import Verdict
from supervisor.core.policy.memory import Footprint, JobMemory, Memory
from supervisor.core.policy.rulebook import Instances
from supervisor.core.policy.rules import PolicyConfig
from supervisor.core.policy.scene import FILL_S
from supervisor.core.readings.sample import JobUse, Missing
from supervisor.core.replacing import replace

__all__ = ["Moment", "noted", "watched"]

_YIELDS = frozenset({JobState.PAUSING, JobState.PAUSED})
_GOES = frozenset({JobState.STARTING, JobState.RUNNING, JobState.RESUMING})

#: A job that could not be paused is asked again after that long, then twice as long, at most so long.
_FIRST_REPEAT_S = 30.0
_LONGEST_REPEAT_S = 3600.0


#: After a longer gap between two looks nobody can say who let a job go on.
_LONGEST_GAP_S = 60.0

#: A peak has to be that much higher to be noted: memory is stored each time it changes.
_NEW_PEAK = 1.02


class Moment(NamedTuple):
    """When a job is looked at, and by which settings."""

    policy: PolicyConfig
    now: float
    #: Since the look before.
    gap_s: float


def watched(
    known: JobMemory,
    job: Job,
    use: JobUse | None,
    instances: Instances,
    moment: Moment,
) -> JobMemory:
    """Return what is remembered of a job after another look at it; the same object where nothing changed."""
    now, gap_s = moment.now, moment.gap_s
    after = known
    if known.last_state is not job.state:
        after = replace(known, last_state=job.state, wakes_at=job.wake_at)
        if known.last_state in _YIELDS and job.state in _GOES:
            after = _came_free(after, known.wakes_at, job, instances, moment)
        elif known.last_state is JobState.QUEUED and job.state in _GOES and gap_s <= _LONGEST_GAP_S:
            # The policy notes what it starts itself: this was a person.
            after = _overruled(after, instances)
        elif known.last_state is JobState.PAUSING and job.state is JobState.PAUSED:
            after = _yielded(after, job, now)
    elif known.wakes_at != job.wake_at:
        after = replace(known, wakes_at=job.wake_at)
    footprint = _footprint(known.footprint, job, use, now)
    if footprint is not known.footprint:
        after = replace(after, footprint=footprint)
    still = tuple(key for key in after.overruled if key in instances and instances[key].is_on)
    if still != after.overruled:
        after = replace(after, overruled=still)
    calm_since = max(known.returned_at or 0.0, known.flapped_at)
    # Also while it is paused: else a load that comes every ten minutes would keep it out for ever.
    if known.num_flaps and now - calm_since > moment.policy.flap_window_s:
        after = replace(after, num_flaps=known.num_flaps - 1, flapped_at=now)
    return after


def _came_free(
    known: JobMemory, wakes_at: float | None, job: Job, instances: Instances, moment: Moment
) -> JobMemory:
    """A job that yielded goes on, and no rule let it: it could not yield, or somebody wants it to go on."""
    free = replace(known, paused_by=(), returned_at=None)
    if job.is_pause_refused or job.since < known.asked_at:
        return _ask_again(free, moment.now)
    has_woken = wakes_at is not None and job.since >= wakes_at
    if has_woken or moment.gap_s > _LONGEST_GAP_S:
        # Its time was over; or its shim went on alone while nobody watched. Nobody spoke against a rule.
        return free
    return _overruled(free, instances)


def _overruled(known: JobMemory, instances: Instances) -> JobMemory:
    return replace(known, overruled=tuple(key for key, instance in instances.items() if instance.is_on))


def _yielded(known: JobMemory, job: Job, now: float) -> JobMemory:
    """It is paused; perhaps only as deep as it was before it was asked to go deeper."""
    if job.is_pause_refused:
        return _ask_again(known, now)
    return replace(known, num_refusals=0)


def _ask_again(known: JobMemory, now: float) -> JobMemory:
    wait_s = min(_FIRST_REPEAT_S * 2 ** min(known.num_refusals, 10), _LONGEST_REPEAT_S)
    return replace(known, num_refusals=known.num_refusals + 1, ask_again_at=now + wait_s)


def _footprint(known: Footprint, job: Job, use: JobUse | None, now: float) -> Footprint:
    """Keep the most that it used since it came back; what it used before counts until it has filled up."""
    if use is None or job.state is not JobState.RUNNING:
        return known
    if known.since != job.since and now - job.since >= FILL_S:
        known = Footprint(since=job.since)
    cpu_pct = _peak(known.cpu_pct, use.cpu_pct)
    rss_bytes = _peak(known.rss_bytes, use.rss_bytes)
    gpu_bytes = known.gpu_bytes
    for uuid, bytes_ in use.gpu_bytes.items():
        peak = _peak(gpu_bytes.get(uuid, 0.0), float(bytes_ or 0))
        if uuid not in gpu_bytes or peak != gpu_bytes[uuid]:
            gpu_bytes = {**gpu_bytes, uuid: peak}
    same = (cpu_pct, rss_bytes, gpu_bytes) == (known.cpu_pct, known.rss_bytes, known.gpu_bytes)
    return known if same else Footprint(cpu_pct, rss_bytes, gpu_bytes, known.since)


def _peak(known: float, reading: float | Missing) -> float:
    return known if isinstance(reading, Missing) or reading <= known * _NEW_PEAK else reading


def noted(memory: Memory, verdict: Verdict, key: str, policy: PolicyConfig, now: float) -> Memory:
    """Remember what was decided; the rule and place are `key`."""
    known = memory.jobs[verdict.job]
    match verdict.kind:
        case "pause":
            soon = known.returned_at is not None and now - known.returned_at <= policy.flap_window_s
            # Where the wait grows no more, there is nothing to count: it would only be slow to forgive.
            more = 2**known.num_flaps < policy.max_backoff
            after = replace(
                known,
                last_state=JobState.PAUSING,
                paused_by=(key,),
                asked_at=now,
                paused_at=now,
                returned_at=None,
            )
            if soon:
                after = replace(after, num_flaps=known.num_flaps + more, flapped_at=now)
        case "deepen":
            keys = known.paused_by if key in known.paused_by else (*known.paused_by, key)
            after = replace(known, last_state=JobState.PAUSING, paused_by=keys, asked_at=now)
        case "resume":
            after = replace(known, last_state=JobState.RESUMING, paused_by=(), returned_at=now)
        case "start":
            after = replace(known, last_state=JobState.STARTING)
    return replace(
        memory,
        jobs={**memory.jobs, verdict.job: after},
        last={**memory.last, verdict.job: verdict},
    )
