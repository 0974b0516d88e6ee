"""A job, its shim and its readings as what people are shown. Pure: all times come in."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import Literal, NamedTuple

from supervisor import api
from supervisor.core.jobs import cuda_context
from supervisor.core.jobs.job import Asker, Job
from supervisor.core.jobs.states import JobState
from supervisor.core.policy.explain import for_want_of_a_shim
from supervisor.core.readings.sample import Left, Missing, Sample, Totals
from supervisor.core.replacing import replace
from supervisor.server.shims import ShimPeer
from trainer_shim import protocol

__all__ = ["SAVING", "UNSTORED", "JobView", "Reading", "Unstored", "readings", "row", "stage"]

#: The stage in which a checkpoint is being written.
SAVING = "saving"

#: What is not as it looks because the journal's disk is full: nothing was done of what was asked, or the
#: process is over and nobody could write down how.
Unstored = Literal["", "held", "ended"]
UNSTORED = MappingProxyType(
    {
        "held": "not begun: nothing can be stored; it is done as soon as that is mended",
        "ended": "its process has ended; how is told as soon as it can be stored",
    }
)

#: From one look at the processes to the next, as it is by default.
_LOOK_S = 1.0


class Reading(NamedTuple):
    """What a job's processes use."""

    cpu_pct: float | None
    rss_bytes: int
    #: When it was read; the CPU is that of the time since the reading before.
    at: float = math.inf
    #: Since its present start.
    totals: Totals = Totals()


def readings(sample: Sample | None) -> dict[str, Reading]:
    """Return what each job's processes use, where that could be read."""
    if sample is None:
        return {}
    return {
        name: Reading(
            None if isinstance(use.cpu_pct, Missing) else use.cpu_pct,
            round(use.rss_bytes),
            sample.at,
            sample.totals.get(name, Totals()),
        )
        for name, use in sample.jobs.items()
        if not isinstance(use.rss_bytes, Missing)
    }


class JobView(NamedTuple):
    """What is known of a job beside its record."""

    peer: ShimPeer | None
    #: Where the loop was last heard to be.
    position: protocol.PositionReport | None
    reading: Reading | None
    #: What a job in the line waits for, beside the rule that it yielded to; "": nothing that is known.
    waits_for: str = ""
    #: Somebody removed the files of its newest checkpoint.
    is_gone: bool = False
    #: What outlived its command.
    left: tuple[Left, ...] = ()
    unstored: Unstored = ""


def row(job: Job, view: JobView, *, now: float, log: str) -> api.JobRow:
    """Return the line of a job in `status`."""
    peer = view.peer
    reading = view.reading if job.process is not None else None
    # Most of what was read just now is of the time before.
    is_before_hold = reading is not None and job.state is JobState.PAUSED and reading.at - job.since < _LOOK_S
    checkpoint = None if view.is_gone else job.checkpoint
    exit_ = job.exit
    told = api.JobRow(
        name=job.name,
        state=job.state,
        since_s=_age(job.since, now),
        depth=job.depth,
        bytes_freed=(job.pause.bytes_freed or None) if job.pause else None,
        pausable=_pausable(job),
        request=job.request,
        stage=UNSTORED.get(view.unstored, "")
        or cuda_context.words(job)
        or "; ".join(filter(None, (stage(job, peer), for_want_of_a_shim(job, now))))
        or _waits(job, view.waits_for)
        or ("started by hand" if job.is_by_hand and job.state is JobState.RUNNING else ""),
        cpu_pct=reading.cpu_pct if reading and not is_before_hold else None,
        rss_bytes=reading.rss_bytes if reading else None,
        checkpoint_step=checkpoint.step if checkpoint else None,
        checkpoint_age_s=_age(checkpoint.at, now) if checkpoint else None,
        asked_by=_words(job.asked_by),
        reason=job.pause.reason if job.pause else "",
        wake_in_s=None if job.wake_at is None else max(0.0, job.wake_at - now),
        restart_in_s=None if job.restart_at is None else max(0.0, job.restart_at - now),
        late=job.late,
        frozen_s=None if job.frozen_at is None else _age(job.frozen_at, now),
        problem=job.problem or _gone(job, view),
        pid=job.process.pid if job.process else None,
        incarnation=job.incarnation,
        exit_code=exit_.code if exit_ else None,
        exit_signal=exit_.signal if exit_ else None,
        log=log,
        by_hand=job.is_by_hand,
        priority=job.spec.priority,
        protected=job.spec.protected,
        user=job.spec.user,
        ended=view.unstored == "ended",
        left=view.left,
    )
    return _with_progress(told, job, view, now)


def _with_progress(told: api.JobRow, job: Job, view: JobView, now: float) -> api.JobRow:
    """Add where the loop is: from its shim, or else from the last checkpoint."""
    at, peer = view.position, view.peer
    if job.state is JobState.QUEUED:
        # What its last start came to says nothing of the next one.
        return told
    if at is None and job.state in (JobState.COMPLETED, JobState.FAILED):
        # It ended somewhere behind its last checkpoint: 10/400 beside `completed` would be a lie.
        return told
    if at is None:
        return replace(told, step=job.checkpoint.step, epoch=job.checkpoint.epoch) if job.checkpoint else told
    told = replace(told, step=at.step, num_steps=at.num_steps, epoch=at.epoch, num_epochs=at.num_epochs)
    if peer is None:
        return told
    rate = peer.steps_per_s if job.state is JobState.RUNNING else None
    left = None if at.num_steps is None else max(0, at.num_steps - at.step)
    return replace(
        told,
        steps_per_s=rate,
        eta_s=left / rate if left is not None and rate else None,
        boundary_age_s=_age(peer.boundary_at, now),
        heartbeat_age_s=_age(peer.heard_at, now),
        metrics=peer.metrics,
    )


def _pausable(job: Job) -> bool | None:
    if not job.alive:
        return None
    if job.depths:
        return True
    return None if job.start_grace_at is not None else False


def stage(job: Job, peer: ShimPeer | None) -> str:
    """Return what happens inside the state, or ""."""
    match job.state:
        case JobState.PAUSING if job.frozen_at is not None:
            return "frozen"
        case JobState.PAUSING | JobState.STOPPING if job.is_ending:
            return "waiting for the process to end"
        case JobState.PAUSING | JobState.STOPPING if job.yielded:
            return "checkpoint is durable, waiting for the process to end"
        case JobState.PAUSING | JobState.STOPPING if peer is not None and peer.saving:
            return SAVING
        case JobState.PAUSING | JobState.RESUMING if peer is not None and peer.stage:
            return peer.stage
        case JobState.PAUSING if peer is None:
            return "waiting for the training shim to connect"
        case JobState.PAUSING:
            return "waiting for a batch boundary"
        case JobState.STOPPING:
            return "waiting for a batch boundary" if job.depths else "waiting for the process to end"
        case JobState.RESUMING | JobState.STARTING if peer is None:
            return "waiting for the training shim to connect"
        case _:
            return SAVING if peer is not None and peer.saving else ""


def _waits(job: Job, waits_for: str) -> str:
    if waits_for:
        return f"waiting: {waits_for}"
    return "waiting in the queue" if job.state is JobState.QUEUED else ""


def _gone(job: Job, view: JobView) -> str:
    return f"its checkpoint `{job.checkpoint.path}` is gone" if view.is_gone and job.checkpoint else ""


def _age(moment: float, now: float) -> float:
    return max(0.0, now - moment)


def _words(asker: Asker | None) -> str:
    return str(asker) if asker else ""
