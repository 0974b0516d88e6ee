"""The connected shims: who they are, what they last said, how to reach them.

Covers: hello and its checks, heartbeats, translating between the wire and the
core's events and effects. Implements ports.Shims.
Does not cover: what follows for the job (core/), requests of people.

What a heartbeat tells is kept in memory only: it is worth two seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from supervisor import api
from supervisor.core.jobs import by_hand, events
from supervisor.core.jobs.effects import AskCheckpoint, AskPause, AskResume, AskStop
from supervisor.core.jobs.job import CheckpointRef, Job, Pid
from supervisor.core.jobs.states import Depth
from supervisor.ports import Clock
from supervisor.server.access import is_within
from supervisor.server.measure import Jobs, Measure, Measured
from supervisor.server.router import Delivery
from supervisor.settings.config import ShimConfig
from supervisor.system.marks import JobStart, Marks
from supervisor.system.procfs import boot_id, read_stat, users_of
from trainer_shim import protocol
from trainer_shim.safe_files import read_in

__all__ = ["ShimPeer", "ShimTable", "read_receipt"]


@dataclass
class ShimPeer:
    """One connected rank, and its last words."""

    identity: bytes
    pid: int
    job: str
    incarnation: int
    rank: int
    position: protocol.PositionReport
    #: Steady clock when it last said anything, and when its loop last passed a boundary.
    heard_at: float
    boundary_at: float
    steps_per_s: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    #: The request it writes a checkpoint for at this moment, or "".
    saving: str = ""
    #: What else takes time on the way into a pause or out of it, in its words.
    stage: str = ""
    #: Of its process, as it was when it said hello.
    start_ticks: int | None = None


class ShimTable:
    """See ports.Shims. `take` gets every message that a shim can send."""

    def __init__(self, send: Callable[[bytes, protocol.Message], bool], clock: Clock, marks: Marks) -> None:
        self.config = ShimConfig()
        self._send = send
        self._clock = clock
        self._marks = marks
        self._log = structlog.get_logger("shims")
        self._by_identity: dict[bytes, ShimPeer] = {}
        self._by_job: dict[str, ShimPeer] = {}
        #: The last one of each job whose process ended.
        self._gone: dict[str, ShimPeer] = {}
        self._measured = Measured(clock)
        #: Of lines about refused ones in the daemon's log.
        self._refusals = Measure(clock)
        #: Jobs of which there is something new to look at.
        self._changed: set[str] = set()

    def peer(self, job: Job) -> ShimPeer | None:
        """Return the shim of the job's present incarnation, while its process lives."""
        peer = self._by_job.get(job.name)
        return peer if peer is not None and job.alive and peer.incarnation == job.incarnation else None

    def last_position(self, job: Job) -> protocol.PositionReport | None:
        """Return where the loop was last heard to be, also when its process is gone."""
        peer = self._by_job.get(job.name) or self._gone.get(job.name)
        return peer.position if peer is not None and peer.incarnation == job.incarnation else None

    def send(self, effect: AskPause | AskResume | AskStop | AskCheckpoint) -> bool:
        """Tell the job's shim; False when it is not connected."""
        peer = self._by_job.get(effect.name)
        self._measured.asked(effect.name, effect.request)
        return peer is not None and self._send(peer.identity, _message(effect))

    def is_saving(self, job: str) -> bool:
        """Say whether the job's shim is at a boundary, and at work there."""
        peer = self._by_job.get(job)
        return peer is not None and bool(peer.saving or peer.stage)

    def process(self, job: str) -> Pid | None:
        """Return the process that the job's shim is in: not always the one that was started for it."""
        peer = self._by_job.get(job)
        stat = read_stat(peer.pid) if peer is not None else None
        if peer is None or stat is None or stat.start_ticks != peer.start_ticks:
            return None
        return Pid(peer.pid, stat.start_ticks, boot_id())

    def take(self, delivery: Delivery, jobs: Jobs) -> None:
        """Handle a message of a shim."""
        message = delivery.message
        if isinstance(message, protocol.Hello):
            self._hello(delivery, message, jobs)
            return
        peer = self._by_identity.get(delivery.identity)
        if peer is None:
            # After a restart of the daemon; the shim says hello and tells all there is to know.
            self._send(delivery.identity, protocol.Unknown())
            return
        peer.heard_at = self._clock.now()
        job = jobs.find(peer.job)
        if job is None or job.incarnation != peer.incarnation:
            return
        self._hear(peer, message, job, jobs)

    def next_due(self) -> float | None:
        """Return when something that a shim said more often than is stored is to be heard."""
        return self._measured.next_due()

    def turn(self, jobs: Jobs) -> None:
        """Let jobs hear what was kept back and is due."""
        self._measured.turn(jobs)

    def settle(self, jobs: Jobs) -> None:
        """Let jobs hear all that was kept back."""
        self._measured.settle(jobs)

    def take_changed(self) -> set[str]:
        """Return the jobs of which there is something new to look at since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def forget(self, job: str) -> None:
        """The job's process is gone."""
        peer = self._by_job.pop(job, None)
        if peer is not None:
            self._by_identity.pop(peer.identity, None)
            self._gone[job] = peer

    def drop(self, job: str) -> None:
        """The job was removed; nobody asks for its last position again."""
        self._gone.pop(job, None)
        self._measured.drop(job)

    def _hear(self, peer: ShimPeer, message: protocol.FromShim, job: Job, jobs: Jobs) -> None:
        match message:
            case protocol.Heartbeat():
                peer.position = message.position
                peer.boundary_at = peer.heard_at - message.boundary_age_s
                peer.steps_per_s = message.steps_per_s
                peer.metrics = message.metrics
                self._able_to(peer, message.depths, job, jobs)
            case protocol.Saving():
                peer.saving = message.request
                self._changed.add(peer.job)
            case protocol.Stage():
                peer.saving, peer.stage = "", message.what
                self._changed.add(peer.job)
            case protocol.Checkpointed():
                # One that was written in the background ends before the one that is asked for begins.
                if message.request == peer.saving:
                    peer.saving = ""
                self._measured.observe(job, _checkpointed_event(message), jobs)
            case protocol.Yielded():
                peer.saving = peer.stage = ""
                self._at_boundary(peer, message.checkpoint)
                self._measured.observe(job, _yielded_event(message), jobs)
            case protocol.CannotYield():
                peer.saving = peer.stage = ""
                self._measured.observe(job, _failed_event(message), jobs)
            case protocol.Resumed():
                peer.saving = peer.stage = ""
                # The time that it held is no time without a boundary.
                peer.boundary_at = peer.heard_at
                self._measured.observe(job, events.TrainingResumed(request=message.request), jobs)

    def _able_to(self, peer: ShimPeer, names: tuple[str, ...], job: Job, jobs: Jobs) -> None:
        """Take over what it can give back; told with every heartbeat, stored when it changes."""
        depths = by_hand.able(job, tuple(map(Depth, names)))
        if depths and depths != job.depths:
            self._measured.observe(job, events.AbleTo(incarnation=peer.incarnation, depths=depths), jobs)

    def _at_boundary(self, peer: ShimPeer, checkpoint: protocol.Checkpointed) -> None:
        before = peer.position
        peer.position = protocol.PositionReport(
            step=checkpoint.step,
            epoch=checkpoint.epoch,
            num_steps=before.num_steps,
            num_epochs=before.num_epochs,
        )
        peer.boundary_at = peer.heard_at

    def _hello(self, delivery: Delivery, hello: protocol.Hello, jobs: Jobs) -> None:
        job = jobs.find(hello.job)
        if job is not None and job.alive and job.incarnation == hello.incarnation and job.process is None:
            # The keeper's word of which process it is comes any moment.
            self._send(delivery.identity, protocol.Unknown())
            return
        reason = self._why_not(delivery, hello, job)
        if job is None or reason:
            if self._refusals.wait_s() <= 0:
                self._refusals.spend()
                self._log.warning(
                    "hello-refused",
                    job=hello.job,
                    uid=delivery.peer.uid,
                    pid=delivery.peer.pid,
                    reason=reason,
                )
            hint = "training goes on without supervision"
            self._send(delivery.identity, protocol.Refusal(error=reason, hint=hint, job=hello.job))
            return
        now, stat = self._clock.now(), read_stat(delivery.peer.pid)
        self.forget(hello.job)
        peer = ShimPeer(
            identity=delivery.identity,
            pid=delivery.peer.pid,
            job=hello.job,
            incarnation=hello.incarnation,
            rank=hello.rank,
            position=hello.position,
            heard_at=now,
            boundary_at=now,
            start_ticks=stat.start_ticks if stat is not None else None,
        )
        self._by_identity[peer.identity] = self._by_job[peer.job] = peer
        welcome = protocol.Welcome(
            heartbeat_s=self.config.heartbeat_s,
            orphan_resume_s=self.config.orphan_resume_s,
            return_retry_s=self.config.return_retry_s,
        )
        self._send(peer.identity, welcome)
        if hello.checkpoint is not None:
            self._measured.observe(job, _checkpointed_event(hello.checkpoint), jobs)
        self._measured.observe(job, _attached_event(hello), jobs)
        self._changed.add(hello.job)

    def _why_not(self, delivery: Delivery, hello: protocol.Hello, job: Job | None) -> str:
        if job is None or not job.alive or job.incarnation != hello.incarnation:
            return f"cannot supervise `{hello.job}`: start {hello.incarnation} of it is not running here"
        # The number may be another process's by now, or the program another user's.
        is_who_connected = delivery.peer.uid in users_of(delivery.peer.pid)
        if not is_who_connected or not self._is_of(delivery.peer.pid, job):
            return f"cannot supervise process {delivery.peer.pid}: it does not belong to job `{hello.job}`"
        if hello.world_size != 1:
            return f"cannot supervise {hello.world_size} ranks: this version supervises one training process"
        other = self.peer(job)
        if other is not None and other.pid != delivery.peer.pid and self._is_of(other.pid, job):
            taken = f"rank {hello.rank} is process {other.pid} already"
            return f"cannot supervise process {delivery.peer.pid}: {taken}"
        return ""

    def _is_of(self, pid: int, job: Job) -> bool:
        """Say whether a process is of the job's present start; who detached himself is so by his mark."""
        if job.process is not None and is_within(pid, job.process):
            return True
        return self._marks.of(pid) == JobStart(job.name, job.incarnation)


def read_receipt(run_dir: Path) -> events.PauseReached | None:
    """Return what the shim left in writing before its process ended, if it is there and whole."""
    try:
        message = api.decode(read_in(run_dir, protocol.RECEIPT))
    except (OSError, protocol.ProtocolError):
        return None
    return _yielded_event(message) if isinstance(message, protocol.Yielded) else None


def _yielded_event(message: protocol.Yielded) -> events.PauseReached:
    return events.PauseReached(
        request=message.request,
        depth=Depth(message.depth),
        checkpoint=_reference(message.checkpoint),
        bytes_freed=message.bytes_freed,
    )


def _failed_event(message: protocol.CannotYield) -> events.PauseFailed:
    holding_depth = Depth(message.holding_depth) if message.holding_depth else None
    return events.PauseFailed(request=message.request, why=message.why, holding_depth=holding_depth)


def _checkpointed_event(message: protocol.Checkpointed) -> events.CheckpointReported:
    return events.CheckpointReported(checkpoint=_reference(message))


def _reference(message: protocol.Checkpointed) -> CheckpointRef:
    return CheckpointRef(
        step=message.step,
        epoch=message.epoch,
        path=message.path,
        digest=message.digest,
        size_bytes=message.size_bytes,
        took_s=message.took_s,
    )


def _attached_event(hello: protocol.Hello) -> events.Attached:
    return events.Attached(
        incarnation=hello.incarnation,
        depths=tuple(Depth(depth) for depth in hello.depths),
        holding=hello.holding,
        holding_depth=Depth(hello.holding_depth) if hello.holding_depth else None,
    )


def _message(effect: AskPause | AskResume | AskStop | AskCheckpoint) -> protocol.Message:
    match effect:
        case AskPause(_, request, depth, by_rule):
            return protocol.Pause(request=request, depth=depth, by_rule=by_rule)
        case AskResume(_, request):
            return protocol.Resume(request=request)
        case AskStop(_, request):
            return protocol.Stop(request=request)
        case AskCheckpoint(_, request):
            return protocol.Checkpoint(request=request)
