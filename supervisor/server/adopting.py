"""A program that a person started by hand, and whose training shim says hello: it becomes a job of that user.

Covers: whose it is, which job it is already, its name, its command, the bound on such jobs.
Does not cover: what happens to it then (core/jobs/by_hand.py), shims of jobs that we started (shims.py).

Who it is the kernel says: user and process of the connection. What it says of itself (the name of its
script, its checkpoints, how it is started again) is about its own job only.
"""

from __future__ import annotations

import re
from collections.abc import Container
from pathlib import Path
from typing import Final, Literal

import structlog

from supervisor import api
from supervisor.core.jobs import names
from supervisor.core.jobs.events import Adopted
from supervisor.core.jobs.job import Job, JobSpec, Pid
from supervisor.core.jobs.treatment import inherited
from supervisor.core.replacing import replace
from supervisor.errors import NameTaken, Refused, SupervisorError
from supervisor.server.request_context import RequestContext
from supervisor.server.router import Delivery, Peer
from supervisor.system.marks import marks_of
from supervisor.system.procfs import boot_id, has_ended, line_of, read_stat, users_of
from supervisor.system.started_with import started_with
from trainer_shim import protocol

__all__ = ["known"]

#: Room for a number behind it.
_MAX_NAME: Final = 56

#: Of a command and an environment nothing more is kept.
_MAX_BYTES: Final = 1 << 20

_log = structlog.get_logger("adopting")


def known(context: RequestContext, delivery: Delivery) -> Delivery | None:
    """Return a shim's message with the job that it is about; None where it was refused, and is told so."""
    hello = delivery.message
    if not isinstance(hello, protocol.Hello) or hello.job:
        return delivery
    try:
        job = _job_of(context, delivery.peer, hello)
    except SupervisorError as error:
        _log.info("not-adopted", uid=delivery.peer.uid, pid=delivery.peer.pid, reason=str(error))
        context.send(delivery.identity, protocol.Refusal(error=str(error), hint=error.hint))
        return None
    if job is None:
        context.send(delivery.identity, protocol.Refusal(error=""))
        return None
    return delivery._replace(message=replace(hello, job=job.name, incarnation=job.incarnation))


def _job_of(context: RequestContext, peer: Peer, hello: protocol.Hello) -> Job | None:
    """Return the job of a process, a new one where it has none; None where it is to be left alone."""
    stat = read_stat(peer.pid)
    if stat is None or peer.uid not in users_of(peer.pid):
        raise Refused(f"cannot take up process {peer.pid}: it is not there under its number")
    process = Pid(peer.pid, stat.start_ticks, boot_id())
    alive = {job.process: job for job in context.engine.jobs.values() if job.process is not None}
    if (job := alive.get(process)) is not None:
        return job
    if not context.engine.config.jobs.adopt:
        return None
    above = _above(peer.pid)
    inside = next((job for one, job in alive.items() if one.pid in above), None)
    start = marks_of(context.paths.jobs_state_dir).of(peer.pid)
    if inside is not None or (start is not None and context.engine.find(start.job) is not None):
        # A process of a job is no job of its own, and its script is not to hear of that.
        return None
    context.access.check_served(peer, hello)
    spec = _spec(context, process, peer, hello)
    # Whoever may start no jobs has none taken up either.
    context.access.check(peer, api.RunRequest(id="", argv=spec.argv, cwd=spec.cwd, env={}))
    _make_room(context, peer)
    context.check_jobs_of(peer)
    name = _free_name(context, peer, hello.script)
    context.engine.submit(name, spec)
    return context.engine.ask(name, Adopted(process=process))


def _spec(context: RequestContext, process: Pid, peer: Peer, hello: protocol.Hello) -> JobSpec:
    """Return what is known of a process as a job; how it is started again only where we may start it."""
    owner, cwd = context.access.owner(peer), _cwd(process.pid)
    may_start = owner is None or context.starts_others
    is_wanted = bool(hello.restart) and may_start and bool(cwd)
    words, env = _words(process.pid, "cmdline"), _environment(process.pid) if is_wanted else {}
    is_startable = bool(env)
    # What was read is to be of this process and this user: the number may have become somebody else's, and so
    # may the program that it runs.
    if has_ended(process) or (is_startable and set(users_of(process.pid)) != {peer.uid}):
        raise Refused(f"cannot take up process {process.pid}: it became another one meanwhile")
    by_hand: Literal["once", "again"] = "again" if is_startable else "once"
    return JobSpec(
        argv=hello.restart if is_startable else words or (hello.script or "?",),
        cwd=cwd or "/",
        env=env,
        checkpoints=hello.checkpoints,
        user=peer.asker().name,
        owner=owner,
        by_hand=by_hand,
        # What a person's process started is his.
        keep_children=True,
    )


def _make_room(context: RequestContext, peer: Peer) -> None:
    """Forget jobs by hand that are over, the oldest first, where a user has as many as one may have."""
    most = context.engine.config.jobs.max_adopted
    theirs = [
        job
        for job in context.engine.jobs.values()
        if job.spec.by_hand and context.access.owns(peer, job.name, job)
    ]
    over = sorted((job for job in theirs if job.is_over), key=lambda job: job.since)
    too_many = len(theirs) - most + 1
    for job in over[: max(0, too_many)]:
        context.engine.remove(job.name, peer.asker())
    if too_many > len(over):
        raise Refused(
            f"cannot take up another program: you have {len(theirs)} that were started by hand",
            hint="`jobs.max_adopted` in the daemon's config.toml is the bound; this one trains on alone",
        )


def _free_name(context: RequestContext, peer: Peer, script: str) -> str:
    """Return the key of a new job, named after its script; the next free one."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", script).lstrip("._-")[:_MAX_NAME] or "training"
    key = names.key_of(context.access.user(peer), plain)
    taken: Container[str] = context.engine.jobs
    aside = {one.name for one in context.aside() if one.name}
    # One more than there are names that are taken.
    for number in range(1, len(context.engine.jobs) + len(aside) + 2):
        one = key if number == 1 else f"{key}-{number}"
        if one not in taken and one not in aside:
            return one
    raise NameTaken(key, "there")  # pragma: no cover  # One of them is free.


def _above(pid: int) -> set[int]:
    """Return a process with all above it, and the leaders of their sessions."""
    return {number for one, stat in line_of(pid) if stat is not None for number in (one, stat.session)}


def _cwd(pid: int) -> str:
    """Return the working directory of a process; "" where the kernel does not tell us."""
    try:
        return protocol.as_utf8(str(Path(f"/proc/{pid}/cwd").readlink()))
    except OSError:
        return ""


def _words(pid: int, what: Literal["cmdline", "environ"]) -> tuple[str, ...]:
    text = started_with(pid, what)[:_MAX_BYTES]
    return tuple(map(_decoded, text.removesuffix(b"\0").split(b"\0"))) if text else ()


def _environment(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with, as far as a job inherits it."""
    pairs = (word.partition("=") for word in _words(pid, "environ"))
    return inherited({name: value for name, sign, value in pairs if sign and name})


def _decoded(word: bytes) -> str:
    return word.decode("utf-8", "replace")
