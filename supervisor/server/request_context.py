"""What a request is handled with: the engine, the shims, the journal, and ways to answer.

Covers: answering when the journal has it, rows of jobs, telling watchers.
Does not cover: what each request does (requests.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import msgspec

from supervisor import api
from supervisor.core.jobs.events import JobEvent
from supervisor.core.jobs.job import Asker, Job, JobSpec
from supervisor.core.jobs.states import JobState
from supervisor.core.policy.explanation import Explanation, RuleState, Share
from supervisor.core.policy.scene import is_rules
from supervisor.core.readings.sample import Left, Sample
from supervisor.core.replacing import replace
from supervisor.core.rights import UsersConfig
from supervisor.errors import Refused, SupervisorError
from supervisor.past_jobs import PastJobs
from supervisor.paths import Paths
from supervisor.ports import Clock, Journal
from supervisor.server.access import Access
from supervisor.server.kept_rows import KeptRows
from supervisor.server.router import Delivery, Peer, Router
from supervisor.server.rows import JobView, Reading, Unstored, row
from supervisor.server.shims import ShimTable
from supervisor.server.views import Views
from supervisor.set_aside import SetAside
from supervisor.settings.config import Config
from supervisor.system.procfs import has_ended
from trainer_shim import protocol

__all__ = ["RequestContext", "parted", "refusal"]

#: A watcher that is silent for that long has gone; clients repeat their wish every 2 s.
_WATCH_S = 10.0

#: Rows in one message; what is left of the frame's limit is for alerts.
_PART_BYTES = protocol.MAX_FRAME_BYTES // 2

#: More bad files than that say no more.
_MAX_ALERTS = 20
_ALERT_CHARS = 1000
_MAX_ASIDE = 1000

#: Answers of one user that wait for a journal that cannot be written, each with what changed; and those of
#: root and the daemon's own user.
_MAX_WAITING_OF_USER = 200
_MAX_WAITING = 1000

#: A kill is always taken: it ends what may have filled the disk.
_REFUSED_WHEN_FULL = (
    api.RunRequest,
    api.PauseRequest,
    api.ResumeRequest,
    api.StopRequest,
    api.RestartRequest,
    api.CheckpointRequest,
    api.RemoveRequest,
    api.SetRequest,
)

_ENCODER = msgspec.msgpack.Encoder()

T = TypeVar("T")
_Answer = api.Accepted | protocol.Refusal


class _Engine(Protocol):
    """What is needed of the engine."""

    config: Config
    past: PastJobs

    @property
    def jobs(self) -> Mapping[str, Job]: ...
    @property
    def held(self) -> frozenset[str]: ...
    def job(self, name: str) -> Job: ...
    def find(self, name: str) -> Job | None: ...
    def submit(self, name: str | None, spec: JobSpec) -> Job: ...
    def ask(self, name: str, event: JobEvent) -> Job: ...
    def observe(self, name: str, event: JobEvent) -> None: ...
    def remove(self, name: str, by: Asker) -> None: ...
    def then(self, call: Callable[[], None]) -> None: ...


class _PolicyLoop(Protocol):
    """What is needed of the policy loop."""

    def explain(self, name: str) -> Explanation: ...
    def explain_all(self) -> Iterator[Explanation]: ...
    def waiting(self) -> dict[str, str]: ...
    def never_fits(self, spec: JobSpec) -> str: ...
    def rule_states(self) -> tuple[RuleState, ...]: ...
    def shares(self) -> tuple[Share, ...]: ...
    def settling(self) -> str: ...
    def fresh(self, *, after_wall: float, before_wall: float) -> list[Sample]: ...


@dataclass
class _Watch:
    request: str
    #: Empty: all jobs.
    names: frozenset[str]
    until: float


@dataclass(eq=False)
class _Waiting:
    """An answer that goes out when the journal has what it is about."""

    identity: bytes
    uid: int
    make: Callable[[], _Answer]
    #: Its peer was told that nothing can be stored.
    is_told: bool = False


@dataclass
class RequestContext:
    """Lives in the loop's thread."""

    engine: _Engine
    router: Router
    shims: ShimTable
    journal: Journal
    policy_loop: _PolicyLoop
    clock: Clock
    paths: Paths
    #: What the jobs' processes use, by job name; kept up to date by the daemon.
    readings: dict[str, Reading]
    #: Jobs whose newest checkpoint is not there any more; likewise.
    gone: frozenset[str]
    #: Returns what is wrong with the daemon itself, a line each for people; empty: nothing.
    alerts: Callable[[], tuple[str, ...]]
    #: Returns what it could not use and does without; empty: nothing.
    aside: Callable[[], tuple[SetAside, ...]]
    #: Reads configuration and job files; then calls with what is wrong with them, and now and then meanwhile
    #: with how many were read.
    reload: Callable[[Callable[[tuple[SetAside, ...]], None], Callable[[int], None]], None]
    started_wall: float
    pid: int
    #: Nothing more fits on the disk of the state folder; kept up to date by the daemon.
    is_full: bool = False
    #: Who may do what.
    access: Access = field(default_factory=Access)
    #: What one user may take; kept up to date by the daemon.
    max_jobs: int = UsersConfig().max_jobs
    #: The daemon starts jobs of other users as these (launcher/transient.py).
    starts_others: bool = False
    #: What their commands left running, by job name; likewise.
    left: Mapping[str, tuple[Left, ...]] = field(default_factory=dict)
    _watches: dict[bytes, _Watch] = field(default_factory=dict)
    _changed: set[str] = field(default_factory=set)
    _waiting: list[_Waiting] = field(default_factory=list)
    _kept: KeptRows = field(default_factory=KeptRows)

    def __post_init__(self) -> None:
        """Make what each peer sees by who may what."""
        self.views = Views(self.access, lambda: self.engine.jobs, self.engine.past.owner)

    def watch(self, identity: bytes, request: str, names: frozenset[str]) -> None:
        """Tell this peer of changes of these jobs, or of all; for a while."""
        self._watches = {peer: watch for peer, watch in self._watches.items() if self.router.is_there(peer)}
        self._watches[identity] = _Watch(request, names, self.clock.now() + _WATCH_S)

    def mark_changed(self, job: str) -> None:
        """Note that watchers of a job have something to see."""
        self._changed.add(job)
        self._kept.forget(job)

    def tell_watchers(self) -> None:
        """Send the rows that changed since the last call to whoever watches them."""
        self._changed |= self.shims.take_changed()
        if not self._changed:
            return
        now = self.clock.now()
        self._watches = {peer: watch for peer, watch in self._watches.items() if watch.until > now}
        changed, self._changed = self._changed, set()
        for identity, watch in list(self._watches.items()):
            names = changed & watch.names if watch.names else changed
            jobs = [job for name in sorted(names) if (job := self.engine.find(name)) is not None]
            if self.access.serves_all:
                peer = self.router.peer(identity)
                jobs = self.views.seen(peer, jobs) if peer is not None else []
            if jobs and not self.send_rows(identity, watch.request, jobs):
                del self._watches[identity]

    def answer(self, delivery: Delivery, message: _Answer | Callable[[], _Answer]) -> None:
        """Answer once everything so far is stored; with what is called then, where it depends on that."""
        if isinstance(message, protocol.Refusal) and self._is_crowded(delivery.peer):
            self.send(delivery.identity, message)
            return
        make = message if callable(message) else lambda: message
        waiting = _Waiting(delivery.identity, delivery.peer.uid, make)
        self._waiting.append(waiting)

        def send() -> None:
            self._waiting.remove(waiting)
            if not waiting.is_told:
                self.send(waiting.identity, waiting.make())

        self.engine.then(send)

    def check_room(self, peer: Peer, message: object) -> None:
        """Raise Refused for what would be held in memory beside all of his that cannot be stored already."""
        if isinstance(message, _REFUSED_WHEN_FULL) and self._is_crowded(peer):
            raise Refused(
                "cannot take more requests: too many wait for the journal, which cannot be written",
                hint="`supervisorctl status` tells why; `supervisorctl kill` needs no journal",
            )

    def _is_crowded(self, peer: Peer) -> bool:
        if not self._waiting or not self.journal.problem():
            return False
        most = _MAX_WAITING_OF_USER if self.access.is_bounded(peer) else _MAX_WAITING
        return sum(one.uid == peer.uid for one in self._waiting) >= most

    def tell_unstored(self) -> None:
        """Tell whoever waits for an answer that it may be long in coming, while nothing can be stored."""
        if not self._waiting or not (problem := self.journal.problem()):
            return
        for waiting in self._waiting:
            if not waiting.is_told:
                waiting.is_told = True
                answer = waiting.make()
                if isinstance(answer, api.Accepted):
                    answer = replace(answer, stored=False, detail=problem[:_ALERT_CHARS])
                self.send(waiting.identity, answer)

    def rows(self, jobs: Iterable[Job], peer: Peer | None = None) -> Iterator[api.JobRow]:
        """Return the lines of some jobs as a peer may have them; None may have all."""
        now = self.clock.now()
        waiting: dict[str, str] | None = None
        may_keep = not (self.is_full or self.journal.problem())
        for job in jobs:
            is_whole = peer is None or self.views.is_whole(peer, job)
            line = self._kept.find(job, now, is_whole=is_whole) if may_keep else None
            if line is None:
                if is_whole and waiting is None and (job.state is JobState.QUEUED or is_rules(job)):
                    # Of all in the line at once, and only where one of them is asked about.
                    waiting = self.policy_loop.waiting()
                log = self.paths.log_name(job.name) if is_whole else ""
                line = row(job, self._view(job, waiting or {}), now=now, log=log)
                if peer is not None and not is_whole:
                    line = self.views.of_another(peer, line)
                if may_keep:
                    self._kept.keep(job, now, line, is_whole=is_whole)
            yield self.views.whole(peer, line) if peer is not None and is_whole else line

    def _view(self, job: Job, waiting: Mapping[str, str]) -> JobView:
        return JobView(
            self.shims.peer(job),
            self.shims.last_position(job),
            self.readings.get(job.name),
            waiting.get(job.name, ""),
            job.name in self.gone,
            self.left.get(job.name, ()),
            self.unstored(job),
        )

    def unstored(self, job: Job) -> Unstored:
        """Return what is not as it looks while the disk of the journal is full."""
        if not (self.is_full or self.journal.problem()):
            return ""
        if job.alive and job.process is not None and has_ended(job.process):
            return "ended"
        return "held" if job.name in self.engine.held else ""

    def send_rows(self, identity: bytes, request: str, jobs: list[Job]) -> bool:
        """Send the lines of some jobs that the peer may know of, in as many messages as it takes."""
        peer = self.router.peer(identity) if self.access.serves_all else None
        if peer is None and self.access.serves_all:
            return False
        parts = parted(self.rows(jobs, peer))
        for part in parts[:-1]:
            self.router.send(identity, api.JobRows(id=request, rows=part, more=True))
        # They name files, folders and jobs of all.
        found = self.alerts() if peer is None or self.access.is_admin(peer) else ()
        alerts = tuple(alert[:_ALERT_CHARS] for alert in found[:_MAX_ALERTS])
        if len(found) > _MAX_ALERTS:
            alerts += (f"and {len(found) - _MAX_ALERTS} more like these; the daemon's log has them all",)
        return self.router.send(identity, api.JobRows(id=request, rows=parts[-1], alerts=alerts))

    def send_aside(self, identity: bytes, request: str) -> None:
        """Send what is set aside; rows of jobs follow."""
        rows = [_sendable(one) for one in self.aside()[:_MAX_ASIDE]]
        for part in parted(rows) if rows else ():
            self.send(identity, api.JobRows(id=request, aside=part, more=True))

    def send(self, identity: bytes, message: protocol.Message) -> bool:
        """Send now what this peer may have of it; False when the peer is gone."""
        if not self.access.serves_all:
            return self.router.send(identity, message)
        peer = self.router.peer(identity)
        seen = None if peer is None else self.views.outward(peer, message)
        return peer is not None and (seen is None or self.router.send(identity, seen))

    def check_jobs_of(self, peer: Peer) -> None:
        """Raise Refused for a user who has as many jobs as one may have."""
        if not self.access.is_bounded(peer):
            return
        num = sum(self.access.owns(peer, job.name, job) for job in self.engine.jobs.values())
        if num >= self.max_jobs:
            raise Refused(
                f"cannot take another job: you have {num} of them, and one user may have {self.max_jobs}",
                hint="`supervisorctl remove` forgets those that are over; `users.max_jobs` in the daemon's "
                "config.toml is the bound",
            )


def _sendable(one: SetAside) -> SetAside:
    return replace(
        one,
        name=_text(one.name),
        where=_text(one.where),
        why=_text(one.why),
        hint=_text(one.hint),
    )


def _text(text: str) -> str:
    # Names of files may be anything.
    return text.encode(errors="backslashreplace").decode()[:_ALERT_CHARS]


def parted(rows: Iterable[T]) -> list[tuple[T, ...]]:
    """Return the rows in as many parts as messages are needed; at least one, which may be empty."""
    parts: list[list[T]] = [[]]
    room = _PART_BYTES
    for one in rows:
        size = len(_ENCODER.encode(one))
        if parts[-1] and size > room:
            parts.append([])
            room = _PART_BYTES
        parts[-1].append(one)
        room -= size
    return list(map(tuple, parts))


def refusal(request: str, error: SupervisorError, *, job: str = "") -> protocol.Refusal:
    """Return an error as an answer."""
    return protocol.Refusal(id=request, job=job, error=str(error), hint=error.hint, exit_code=error.exit_code)
