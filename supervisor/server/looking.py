"""Answers about jobs that change nothing: their lines, all about one, what has happened, who the daemon is.

Covers: putting them together, in as many messages as they need.
Does not cover: the policy (answers.py), requests that change something (requests.py).
"""

from __future__ import annotations

from supervisor import __version__, api
from supervisor.core.jobs.job import Job
from supervisor.core.policy.shares import granted
from supervisor.core.readings.sample import Totals
from supervisor.server.request_context import RequestContext, parted
from supervisor.server.router import Delivery

__all__ = ["events", "show", "status", "version", "watch"]


def _some(
    context: RequestContext, delivery: Delivery, request: api.StatusRequest | api.WatchRequest
) -> list[Job]:
    if not request.jobs:
        return context.views.seen(delivery.peer, context.engine.jobs.values())
    for name in request.jobs:
        context.views.check(delivery.peer, request, name)
    return [context.engine.job(name) for name in dict.fromkeys(request.jobs)]


def status(context: RequestContext, delivery: Delivery, request: api.StatusRequest) -> None:
    """Answer with the lines of some jobs, or of all and what is set aside."""
    jobs = _some(context, delivery, request)
    if not request.jobs and context.access.is_admin(delivery.peer):
        context.send_aside(delivery.identity, request.id)
    context.send_rows(delivery.identity, request.id, jobs)


def watch(context: RequestContext, delivery: Delivery, request: api.WatchRequest) -> None:
    """Answer with the lines of some jobs, and with each change from now on."""
    jobs = _some(context, delivery, request)
    context.watch(delivery.identity, request.id, frozenset(request.jobs))
    context.send_rows(delivery.identity, request.id, jobs)


def show(context: RequestContext, delivery: Delivery, request: api.ShowRequest) -> None:
    """Answer with all that there is to say about a job."""
    job = context.engine.job(request.job)
    spec, checkpoint, reading = job.spec, job.checkpoint, context.readings.get(job.name)
    reply = api.ShowReply(
        id=request.id,
        row=next(context.rows([job])),
        argv=spec.argv,
        cwd=spec.cwd,
        env_names=tuple(sorted(spec.env)),
        restart=spec.restart,
        source=spec.source,
        checkpoints=spec.checkpoints,
        checkpoint_path=checkpoint.path if checkpoint else "",
        checkpoint_digest=checkpoint.digest if checkpoint else "",
        created_wall=context.clock.wall() - (context.clock.now() - job.created_at),
        depths=tuple(str(depth) for depth in job.depths),
        labels=spec.labels,
        num_gpus=spec.num_gpus,
        gpu_memory_bytes=spec.gpu_memory_bytes,
        memory_bytes=spec.memory_bytes,
        num_cpus=spec.num_cpus,
        gpus=job.gpus if job.alive else (),
        every_s=spec.every_s,
        counted_priority=granted(job, context.engine.config.shares),
        uid=spec.uid,
        limits=spec.limits,
        totals=reading.totals if job.process is not None and reading is not None else Totals(),
    )
    context.send(delivery.identity, reply)


def events(context: RequestContext, delivery: Delivery, request: api.EventsRequest) -> None:
    """Answer with what has happened; raises Refused for a job that never was."""
    stored = context.journal.history(
        after_seq=request.after_seq, job=request.job, limit=request.limit, user=_only_of(context, delivery)
    )
    if request.job is not None and not stored and not _has_history(context, request.job):
        context.engine.job(request.job)  # Raises, unless it has just been made.
    seen = (context.views.event(delivery.peer, one) for one in stored)
    *parts, last = parted(one for one in seen if one is not None)
    for part in parts:
        context.send(delivery.identity, api.EventsReply(id=request.id, events=part, more=True))
    context.send(delivery.identity, api.EventsReply(id=request.id, events=last))


def _only_of(context: RequestContext, delivery: Delivery) -> str:
    """Return the user of whose jobs alone the peer may know, or ""."""
    peer, access = delivery.peer, context.access
    return "" if access.sees_others(peer) else access.user(peer)


def _has_history(context: RequestContext, name: str) -> bool:
    """Say whether there ever was such a job; one that was removed has a past."""
    return bool(context.journal.history(after_seq=-1, job=name, limit=1))


def version(context: RequestContext, delivery: Delivery, request: api.VersionRequest) -> None:
    """Answer who this daemon is."""
    reply = api.VersionReply(
        id=request.id,
        version=__version__,
        pid=context.pid,
        home=str(context.paths.home or ""),
        config=str(context.paths.config_file),
        started_wall=context.started_wall,
        num_jobs=len(context.engine.jobs),
        num_dropped=context.router.num_dropped,
        num_denied=context.access.num_denied,
        serves_all=context.access.serves_all,
        alerts=context.alerts() if context.access.is_admin(delivery.peer) else (),
    )
    context.send(delivery.identity, reply)
