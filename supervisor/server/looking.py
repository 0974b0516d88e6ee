"""Answers about jobs that change nothing: their lines, all about one, what has happened, who the daemon is.

Covers: putting them together, in as many messages as they need.
Does not cover: the policy (answers.py), requests that change something (requests.py).
"""

from __future__ import annotations

from supervisor import __version__, api
from supervisor.core.jobs.job import Job
from supervisor.server.event_rows import event_message
from supervisor.server.request_context import Desk, parted
from supervisor.server.router import Delivery

__all__ = ["events", "show", "status", "version", "watch"]


def _some(desk: Desk, names: tuple[str, ...]) -> list[Job]:
    if not names:
        return list(desk.engine.jobs.values())
    return [desk.engine.job(name) for name in dict.fromkeys(names)]


def status(desk: Desk, delivery: Delivery, request: api.StatusRequest) -> None:
    """Answer with the lines of some jobs, or of all and what is set aside."""
    if not request.jobs:
        desk.send_aside(delivery.identity, request.id)
    desk.send_rows(delivery.identity, request.id, _some(desk, request.jobs))


def watch(desk: Desk, delivery: Delivery, request: api.WatchRequest) -> None:
    """Answer with the lines of some jobs, and with each change from now on."""
    jobs = _some(desk, request.jobs)
    desk.watch(delivery.identity, request.id, frozenset(request.jobs))
    desk.send_rows(delivery.identity, request.id, jobs)


def show(desk: Desk, delivery: Delivery, request: api.ShowRequest) -> None:
    """Answer with all that there is to say about a job."""
    job = desk.engine.job(request.job)
    spec, checkpoint = job.spec, job.checkpoint
    reply = api.ShowReply(
        id=request.id,
        row=next(desk.rows([job])),
        argv=spec.argv,
        cwd=spec.cwd,
        env_names=tuple(sorted(spec.env)),
        restart=spec.restart,
        source=spec.source,
        checkpoints=spec.checkpoints,
        checkpoint_path=checkpoint.path if checkpoint else "",
        checkpoint_digest=checkpoint.digest if checkpoint else "",
        created_wall=desk.clock.wall() - (desk.clock.now() - job.created_at),
        depths=tuple(str(depth) for depth in job.depths),
        labels=spec.labels,
        num_gpus=spec.num_gpus,
        gpu_memory_bytes=spec.gpu_memory_bytes,
        memory_bytes=spec.memory_bytes,
        num_cpus=spec.num_cpus,
        gpus=job.gpus if job.alive else (),
        every_s=spec.every_s,
    )
    desk.send(delivery.identity, reply)


def events(desk: Desk, delivery: Delivery, request: api.EventsRequest) -> None:
    """Answer with what has happened; raises Refused for a job that never was."""
    stored = desk.journal.history(after_seq=request.after_seq, job=request.job, limit=request.limit)
    if request.job is not None and not stored and not _has_history(desk, request.job):
        desk.engine.job(request.job)  # Raises, unless it has just been made.
    *parts, last = parted(event_message(one) for one in stored)
    for part in parts:
        desk.send(delivery.identity, api.EventsReply(id=request.id, events=part, more=True))
    desk.send(delivery.identity, api.EventsReply(id=request.id, events=last))


def _has_history(desk: Desk, name: str) -> bool:
    """Say whether there ever was such a job; one that was removed has a past."""
    return bool(desk.journal.history(after_seq=-1, job=name, limit=1))


def version(desk: Desk, delivery: Delivery, request: api.VersionRequest) -> None:
    """Answer who this daemon is."""
    reply = api.VersionReply(
        id=request.id,
        version=__version__,
        pid=desk.pid,
        home=str(desk.paths.home or ""),
        config=str(desk.paths.config_file),
        started_wall=desk.started_wall,
        num_jobs=len(desk.engine.jobs),
        num_dropped=desk.router.num_dropped,
        alerts=desk.alerts(),
    )
    desk.send(delivery.identity, reply)
