"""What people may ask: a table from request to handler, one small function each.

Covers: checking who asks, turning a request into events, the answers.
Does not cover: sockets (router.py), what an event does to a job (core/).

An answer that reports a change is sent when the change is stored; what only
looks is answered at once.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from supervisor import api
from supervisor.core.jobs import events
from supervisor.core.jobs.events import JobEvent
from supervisor.core.jobs.job import Asker, Job
from supervisor.core.jobs.states import JobState, Kind, accepts
from supervisor.core.policy.explain import for_want_of_a_shim
from supervisor.core.replacing import replace
from supervisor.errors import Refused, SupervisorError, UsageError
from supervisor.launching import shell_fault
from supervisor.server import adopting, looking, treating
from supervisor.server.answers import policy, samples, why, why_queued
from supervisor.server.request_context import RequestContext, refusal
from supervisor.server.router import Delivery
from supervisor.set_aside import SetAside
from supervisor.system.marks import marks_of
from trainer_shim import protocol

__all__ = ["take"]

#: `status` tells of more.
_MAX_PROBLEMS = 20

_log = structlog.get_logger("requests")


def take(context: RequestContext, delivery: Delivery) -> None:
    """Handle one message of anybody; a mistake of ours must not take the loop down with it."""
    message = delivery.message
    handler = _HANDLERS.get(type(message))
    try:
        if handler is not None:
            context.access.check_served(delivery.peer, message)
            request = context.views.inward(delivery.peer, message)
            context.check_room(delivery.peer, request)
            # Where several jobs are meant each is asked about for itself (`_each`).
            if not isinstance(request, api.JobsRequest):
                context.views.check(delivery.peer, request, getattr(request, "job", None) or "")
            handler(context, delivery, request)
        elif isinstance(message, protocol.FromShim):
            known = adopting.known(context, delivery)
            if known is not None:
                context.shims.take(known, context.engine)
        else:
            _refuse(context, delivery, UsageError(f"cannot take a `{_tag(message)}`: it is an answer"))
    except SupervisorError as error:
        _refuse(context, delivery, error)
    except Exception as error:  # noqa: BLE001  # one of the few places that may: a request handler
        _log.exception("handler-failed", message=_tag(message))
        if isinstance(message, protocol.FromShim):
            # A refusal would send the shim away; its next word may be fine.
            return
        text = f"cannot answer: internal error ({type(error).__name__}: {error})"
        _refuse(context, delivery, SupervisorError(text, hint="the daemon's log has the details"))


def _refuse(context: RequestContext, delivery: Delivery, error: SupervisorError) -> None:
    context.answer(delivery, refusal(getattr(delivery.message, "id", ""), error))


def run(context: RequestContext, delivery: Delivery, request: api.RunRequest) -> None:
    """Start a command as a new job."""
    if not request.cwd.startswith("/"):
        raise UsageError(f"cannot run in `{request.cwd}`: not an absolute path")
    if fault := shell_fault(request.shell):
        raise UsageError(f"cannot run it as the shell that asks: {fault}", hint="correct that word")
    spec = treating.new_spec(context.access, delivery.peer, request)
    context.check_jobs_of(delivery.peer)
    if why_not := context.policy_loop.never_fits(spec):
        raise UsageError(f"cannot run it on this machine: it {why_not}", hint="ask for no more than there is")
    job = context.engine.submit(request.name, spec)

    def accepted() -> api.Accepted:  # By then the policy has been asked about it.
        less = treating.counts_less(job, context.engine.config.shares)
        words = (why_queued(context, job.name), less)
        detail = "; ".join(word for word in words if word)
        return api.Accepted(id=request.id, job=job.name, state=job.state, detail=detail)

    context.answer(delivery, accepted)


def reload(context: RequestContext, delivery: Delivery, request: api.ReloadRequest) -> None:
    """Read configuration and job files again."""

    def tell(problems: tuple[SetAside, ...]) -> None:
        told = [UsageError(one.why, hint=one.hint) for one in problems[:_MAX_PROBLEMS]]
        for error in told:
            answer = refusal(request.id, error)
            context.answer(delivery, replace(answer, last=error is told[-1]))
        if not told:
            accepted = api.Accepted(id=request.id, job="", state="", detail="configuration read")
            context.answer(delivery, accepted)

    def meanwhile(num_read: int) -> None:
        files = "file" if num_read == 1 else "files"
        detail = f"the daemon reads its files; {num_read} {files} so far"
        under_way = api.Accepted(id=request.id, job="", state="", detail=detail, under_way=True, last=False)
        context.send(delivery.identity, under_way)

    context.reload(tell, meanwhile)


def remove(context: RequestContext, delivery: Delivery, request: api.RemoveRequest) -> None:
    """Forget jobs that are over."""

    def forget(name: str) -> api.Accepted:
        job = context.engine.find(name)
        if job is not None and job.spec.source and Path(job.spec.source).exists():
            raise Refused(
                f"cannot remove job `{job.name}`: its file `{job.spec.source}` would start it again",
                hint="remove the file first",
            )
        context.engine.remove(name, delivery.peer.asker())
        kept = f"its checkpoints stay in {job.spec.checkpoints}" if job and job.checkpoint else ""
        return api.Accepted(id=request.id, job=name, state="removed", detail=kept)

    _each(context, delivery, request, lambda job: job.is_over, forget)


def set_job(context: RequestContext, delivery: Delivery, request: api.SetRequest) -> None:
    """Change how jobs are treated."""

    def change(name: str) -> api.Accepted:
        job = context.engine.job(name)
        spec = treating.changed_spec(context.access, delivery.peer, job, request)
        after = context.engine.ask(job.name, events.SpecChanged(spec=spec, by=delivery.peer.asker()))
        less = "" if request.priority is None else treating.counts_less(after, context.engine.config.shares)
        return api.Accepted(id=request.id, job=job.name, state=after.state, detail=less)

    _each(context, delivery, request, lambda _job: True, change)


def pause(context: RequestContext, delivery: Delivery, request: api.PauseRequest) -> None:
    """Checkpoint jobs and make them give back what is short."""
    jobs = context.engine.config.jobs

    def event(by: Asker) -> JobEvent:
        return events.PauseAsked(
            request=_new_request(),
            by=by,
            depth=request.depth,
            deadline_s=jobs.pause_deadline_s if request.deadline_s is None else request.deadline_s,
            reason=request.reason,
            for_s=request.for_s,
            at_deadline=request.at_deadline,
            kill_grace_s=jobs.kill_grace_s,
        )

    _ask_each(
        context,
        delivery,
        request,
        event,
        lambda job: accepts(job.state, Kind.PAUSE) and job.state not in (JobState.PAUSING, JobState.PAUSED),
        lambda job: _no_shim_yet(job, context.clock.now()),
    )


def _no_shim_yet(job: Job, now: float) -> str:
    called_off = for_want_of_a_shim(job, now)
    return f"no training shim has connected yet; {called_off}" if called_off else ""


def resume(context: RequestContext, delivery: Delivery, request: api.ResumeRequest) -> None:
    """Let paused jobs go on; start queued ones."""

    def ask(name: str) -> api.Accepted:
        if context.engine.job(name).state is JobState.QUEUED:
            context.access.check_start(delivery.peer, request, name)
        event = events.ResumeAsked(
            request=_new_request(),
            by=delivery.peer.asker(),
            start_grace_s=context.engine.config.jobs.start_grace_s,
            in_line=not context.access.may_start(delivery.peer),
        )
        after = context.engine.ask(name, event)
        detail = "it goes on when it is its turn" if after.state is JobState.PAUSED else ""
        return api.Accepted(id=request.id, job=name, state=after.state, detail=detail)

    # A queued job starts before its time only by its name.
    _each(
        context,
        delivery,
        request,
        lambda job: accepts(job.state, Kind.RESUME) and job.state is not JobState.QUEUED,
        ask,
    )


def stop(context: RequestContext, delivery: Delivery, request: api.StopRequest) -> None:
    """End jobs after a checkpoint."""
    jobs = context.engine.config.jobs

    def event(by: Asker) -> JobEvent:
        return events.StopAsked(
            request=_new_request(),
            by=by,
            how="checkpoint",
            stop_grace_s=jobs.stop_grace_s,
            kill_grace_s=jobs.kill_grace_s,
        )

    _ask_each(context, delivery, request, event, lambda job: not job.is_over)


def kill(context: RequestContext, delivery: Delivery, request: api.KillRequest) -> None:
    """End jobs at once, and what those that have ended left."""
    jobs, marks = context.engine.config.jobs, marks_of(context.paths.jobs_state_dir)

    def ask(name: str) -> api.Accepted:
        job = context.engine.job(name)
        left = [] if job.alive else marks.left_of(job.name)
        event = events.StopAsked(
            request=_new_request(),
            by=delivery.peer.asker(),
            how="kill",
            stop_grace_s=jobs.stop_grace_s,
            kill_grace_s=jobs.kill_grace_s,
            has_left=bool(left),
        )
        after = context.engine.ask(job.name, event)
        pids = f"what it left is ended: {', '.join(map(str, left))}" if left else ""
        return api.Accepted(id=request.id, job=job.name, state=after.state, detail=pids)

    _each(context, delivery, request, lambda job: not job.is_over, ask)


def restart(context: RequestContext, delivery: Delivery, request: api.RestartRequest) -> None:
    """Start the commands of jobs anew."""
    graces = context.engine.config.jobs

    def ask(name: str) -> api.Accepted:
        job, by = context.engine.job(name), delivery.peer.asker()
        if request.env is not None and job.spec.source:
            raise Refused(
                f"cannot change the environment of job `{job.name}`: it comes from `{job.spec.source}`",
                hint="edit the file; it is read again by itself",
            )
        asked = events.RestartAsked(
            request=_new_request(),
            by=by,
            stop_grace_s=graces.stop_grace_s,
            kill_grace_s=graces.kill_grace_s,
        )
        after = context.engine.ask(job.name, asked)
        if request.env is not None:
            # Behind it: a restart that is refused changes nothing, and no launch happens in between.
            spec = replace(job.spec, env=request.env)
            after = context.engine.ask(job.name, events.SpecChanged(spec=spec, by=by))
        return api.Accepted(id=request.id, job=job.name, state=after.state)

    # When it is stored, the policy has been asked about it.
    _each(
        context,
        delivery,
        request,
        lambda _job: True,
        ask,
        lambda a: replace(a, detail=why_queued(context, a.job)),
    )


def checkpoint(context: RequestContext, delivery: Delivery, request: api.CheckpointRequest) -> None:
    """Checkpoint jobs, which go on."""

    def event(by: Asker) -> JobEvent:
        return events.CheckpointAsked(request=_new_request(), by=by)

    _ask_each(context, delivery, request, event, lambda job: job.state is JobState.RUNNING)


def _ask_each(
    context: RequestContext,
    delivery: Delivery,
    request: api.JobsRequest,
    event: Callable[[Asker], JobEvent],
    applies: Callable[[Job], bool],
    detail: Callable[[Job], str] = lambda _job: "",
) -> None:
    def ask(name: str) -> api.Accepted:
        after = context.engine.ask(name, event(delivery.peer.asker()))
        return api.Accepted(id=request.id, job=name, state=after.state, detail=detail(after))

    _each(context, delivery, request, applies, ask)


def _each(
    context: RequestContext,
    delivery: Delivery,
    request: api.JobsRequest,
    applies: Callable[[Job], bool],
    act: Callable[[str], api.Accepted],
    told: Callable[[api.Accepted], api.Accepted] = lambda accepted: accepted,
) -> None:
    """Act on every job, whoever is refused; `told` makes the answer of what is stored."""
    if bool(request.jobs) == (request.all or request.all_users):
        raise UsageError("cannot tell which jobs are meant", hint="name jobs, or say --all, not both")
    names = list(dict.fromkeys(request.jobs))
    if not names:
        names = [job.name for job in _all_meant(context, delivery, request) if applies(job)]
    answers: list[api.Accepted | protocol.Refusal] = []
    for name in names:
        try:
            context.views.check(delivery.peer, request, name)
            answers.append(act(name))
        except SupervisorError as error:
            answers.append(refusal(request.id, error, job=name))
    nothing = api.Accepted(id=request.id, job="", state="", detail="no job to act on")
    answers = answers or [nothing]
    for number, answer in enumerate(answers, 1):
        whole = replace(answer, last=number == len(answers))
        context.answer(delivery, partial(told, whole) if isinstance(whole, api.Accepted) else whole)


def _all_meant(context: RequestContext, delivery: Delivery, request: api.JobsRequest) -> list[Job]:
    jobs, peer = context.engine.jobs.values(), delivery.peer
    if request.all_users:
        context.access.check_all_users(peer, request)
        return list(jobs)
    return [job for job in jobs if context.access.owns(peer, job.name, job)]


def _tag(message: object) -> str:
    config = getattr(type(message), "__struct_config__", None)
    return str(config.tag) if config is not None else type(message).__name__


def _new_request() -> str:
    return uuid.uuid4().hex[:12]


_HANDLERS: dict[type, Callable[[RequestContext, Delivery, Any], None]] = {
    api.StatusRequest: looking.status,
    api.WatchRequest: looking.watch,
    api.ShowRequest: looking.show,
    api.EventsRequest: looking.events,
    api.WhyRequest: why,
    api.PolicyRequest: policy,
    api.SamplesRequest: samples,
    api.VersionRequest: looking.version,
    api.RunRequest: run,
    api.ReloadRequest: reload,
    api.RemoveRequest: remove,
    api.SetRequest: set_job,
    api.PauseRequest: pause,
    api.ResumeRequest: resume,
    api.StopRequest: stop,
    api.KillRequest: kill,
    api.RestartRequest: restart,
    api.CheckpointRequest: checkpoint,
}
