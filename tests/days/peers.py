"""What others do in our place, as far as their documentation tells: written anew from it, for comparison.

- BOINC: suspends all work while others use more than 25 % of the CPUs (its default), measured over
  10 s, and keeps it suspended for at least 20 s. Preferences page of the BOINC wiki
  (https://boinc.berkeley.edu/wiki/Preferences), client 8.0 as reported in
  https://github.com/BOINC/boinc/issues/5871.
  "BOINC at 50 %" is the same with our threshold, so that one can see what comes from the threshold alone.
- HTCondor: the "Desktop/Non-Desktop" policy of the manual, version 23
  (https://htcondor.readthedocs.io/en/23.0/admin-manual/policy-configuration.html), on a machine
  without a keyboard: load average of others at least 0.5 for 2 minutes suspends a job that has run
  for 90 s; at most 0.3, and 5 minutes suspended, lets it go on; 10 minutes suspended make it leave
  the machine, and it starts again when the load is at most 0.3. The load average is that of the
  last minute, a slot is taken to be the whole machine, and it is looked at every 5 s.
- One threshold: above 50 % pause, else resume. What a script in cron does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from supervisor.core.jobs.job import Job
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.jobs.verdict import Verdict
from supervisor.core.readings.sample import Missing, Sample

Verdicts = tuple[Verdict, ...]


def _foreign(sample: Sample) -> float:
    assert not isinstance(sample.cpu_foreign_pct, Missing)
    return sample.cpu_foreign_pct


def _all(jobs: Sequence[Job], state: JobState, kind: Any, depth: Depth | None = None) -> Verdicts:
    return tuple(
        Verdict(kind=kind, job=job.name, rule="peer", reason="", depth=depth)
        for job in jobs
        if job.state is state
    )


def _starts(jobs: Sequence[Job]) -> Verdicts:
    return _all(jobs, JobState.QUEUED, "start")


@dataclass
class _Boinc:
    sum_s: float = 0.0
    for_s: float = 0.0
    at: float | None = None
    is_busy: bool = False
    since: float = -1e9


def boinc(
    jobs: Sequence[Job], sample: Sample, memory: Any, now: float, limit_pct: float = 25.0
) -> tuple[Verdicts, Any]:
    state = memory or _Boinc()
    gap_s = 0.0 if state.at is None else now - state.at
    state.at = now
    state.sum_s += gap_s * _foreign(sample)
    state.for_s += gap_s
    if state.for_s >= 10:
        is_busy = state.sum_s / state.for_s > limit_pct
        state.sum_s = state.for_s = 0.0
        if is_busy:
            state.since = state.since if state.is_busy else now
            state.is_busy = True
        elif now - state.since >= 20:
            state.is_busy = False
    kind = ("pause", JobState.RUNNING, Depth.HOLD) if state.is_busy else ("resume", JobState.PAUSED, None)
    return _starts(jobs) + _all(jobs, kind[1], kind[0], kind[2]), state


@dataclass
class _Condor:
    load: float = 0.0
    at: float | None = None
    looked_at: float = -1e9
    busy_since: float | None = None


def htcondor(jobs: Sequence[Job], sample: Sample, memory: Any, now: float) -> tuple[Verdicts, Any]:
    state = memory or _Condor()
    gap_s = 0.0 if state.at is None else now - state.at
    state.at = now
    state.load += (1 - math.exp(-gap_s / 60)) * (_foreign(sample) / 100 - state.load)
    if now - state.looked_at < 5:
        return _starts(jobs), state
    state.looked_at = now
    is_idle, is_busy = state.load <= 0.3, state.load >= 0.5
    state.busy_since = (state.busy_since or now) if is_busy else None
    busy_s = now - state.busy_since if state.busy_since is not None else 0.0
    return _starts(jobs) + tuple(
        filter(None, (_condor(job, busy_s, now, is_idle=is_idle) for job in jobs))
    ), state


def _condor(job: Job, busy_s: float, now: float, *, is_idle: bool) -> Verdict | None:
    in_state_s = now - job.since
    if job.state is JobState.RUNNING and busy_s > 120 and in_state_s > 90:
        return Verdict(kind="pause", job=job.name, rule="peer", reason="", depth=Depth.HOLD)
    if job.state is JobState.PAUSED and is_idle and (in_state_s > 300 or not job.alive):
        return Verdict(kind="resume", job=job.name, rule="peer", reason="")
    if job.state is JobState.PAUSED and job.alive and in_state_s > 600:
        return Verdict(kind="deepen", job=job.name, rule="peer", reason="", depth=Depth.EXIT)
    return None


def one_threshold(jobs: Sequence[Job], sample: Sample, memory: Any, _now: float) -> tuple[Verdicts, Any]:
    if _foreign(sample) > 50:
        return _starts(jobs) + _all(jobs, JobState.RUNNING, "pause", Depth.HOLD), memory
    return _starts(jobs) + _all(jobs, JobState.PAUSED, "resume"), memory


PEERS = {
    "BOINC": boinc,
    "BOINC at 50 %": partial(boinc, limit_pct=50.0),
    "HTCondor": htcondor,
    "one threshold": one_threshold,
}
