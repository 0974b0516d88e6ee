"""Training processes with a shim inside, without processes or sockets.

Covers: what a shim does with what it is told (by the real gate's rules), what
it says and when; going deeper while it holds, a return that finds no memory; a
line that breaks, with all that was on it; a shim on its way out that still says
hello; one that a rule paused going on alone.
Does not cover: checkpoints. A save works or does not, as the test says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from supervisor.core.jobs.effects import AskCheckpoint, AskPause, AskResume, AskStop
from supervisor.core.jobs.events import (
    AbleTo,
    Attached,
    CheckpointReported,
    JobEvent,
    PauseFailed,
    PauseReached,
    TrainingResumed,
)
from supervisor.core.jobs.job import CheckpointRef, Pid
from supervisor.core.jobs.states import Depth
from trainer_shim.gate import Want, merge
from trainer_shim.protocol import Checkpoint, Pause, Resume, Stop

__all__ = ["FakeShims", "FakeTrainer"]


@dataclass
class FakeTrainer:
    """One incarnation's training loop. `outbox` is on its way to the daemon, `inbox` to the gate."""

    job: str
    incarnation: int
    depths: tuple[Depth, ...] = (Depth.HOLD, Depth.EXIT)
    process: Pid | None = None
    step: int = 0
    #: Whether its host has room for what is on its device, and its device for what is on the host.
    has_host_memory: bool = True
    has_device_memory: bool = True
    is_connected: bool = False
    holding: Pause | None = None
    #: It has said its last words and the process is about to end.
    is_leaving: bool = False
    #: What it left in writing for a daemon that is gone just now.
    receipt: PauseReached | None = None
    inbox: deque[Pause | Resume | Stop | Checkpoint] = field(default_factory=deque)
    outbox: deque[JobEvent] = field(default_factory=deque)

    def hello(self) -> JobEvent:
        """Connect; all that was on the old line is lost."""
        self.outbox.clear()
        self.is_connected = True
        holding = self.holding
        return Attached(
            incarnation=self.incarnation,
            depths=self.depths,
            holding=holding.request if holding else "",
            holding_depth=Depth(holding.depth) if holding else None,
        )

    def disconnect(self) -> None:
        self.is_connected = False
        self.outbox.clear()

    def move_to_device(self) -> None:
        """From now on there is something to give back; the next heartbeat says so."""
        self.depths = tuple(Depth)
        self._tell(AbleTo(incarnation=self.incarnation, depths=self.depths))

    def boundary(self, *, can_save: bool) -> None:
        """Reach the end of a step, or wake while holding, and do what is wanted."""
        if self.is_leaving:
            return
        want = self._take(Want(pause=self.holding))
        if self.holding is None:
            self.step += 1
        elif want.pause is self.holding and want.leave is None:
            self._answer_saves(want)
            return
        if want.leave is not None or (want.pause is not None and want.pause.depth == "exit"):
            self._leave(want, can_save=can_save)
        elif want.pause is not None:
            self._hold(want.pause, can_save=can_save)
        elif self.holding is not None and self.holding.depth == "offload" and not self.has_device_memory:
            # It has tried for long enough.
            self._leave(Want(pause=Pause(request=want.resumed, depth="exit")), can_save=True)
        else:
            self.holding = None
            self._answer_saves(want)
            if want.resumed:
                self._tell(TrainingResumed(request=want.resumed))

    def go_on_alone(self) -> bool:
        """Do what a shim does that has had no daemon for long; only where a rule paused it."""
        if self.is_connected or self.holding is None or not self.holding.by_rule:
            return False
        if self.holding.depth == "offload" and not self.has_device_memory:
            self._leave(Want(pause=replace(self.holding, depth="exit")), can_save=True)
            return True
        self.holding = None
        return True

    def _take(self, want: Want) -> Want:
        while self.inbox:
            want = merge(want, self.inbox.popleft())
        return want

    def _answer_saves(self, want: Want) -> None:
        for _ in want.saves:
            self._tell(CheckpointReported(checkpoint=self._checkpoint()))

    def _hold(self, pause: Pause, *, can_save: bool) -> None:
        held = self.holding
        is_away = held is not None and held.depth == "offload"
        depth = "offload" if is_away else pause.depth
        needs_room = depth == "offload" and not is_away
        # What is durable for the pause that it holds for is not written again.
        if (held is None and not can_save) or (needs_room and not self.has_host_memory):
            holding = Depth(held.depth) if held is not None else None
            self._tell(PauseFailed(request=pause.request, why="no room", holding_depth=holding))
            if held is not None:
                self.holding = replace(pause, depth=held.depth)
                depth_now, saved = Depth(held.depth), self._checkpoint()
                self._tell(PauseReached(request=pause.request, depth=depth_now, checkpoint=saved))
            return
        self.holding = replace(pause, depth=depth)
        freed = 4096 if depth == "offload" else 0
        saved = self._checkpoint()
        self._tell(
            PauseReached(request=pause.request, depth=Depth(depth), bytes_freed=freed, checkpoint=saved)
        )

    def _leave(self, want: Want, *, can_save: bool) -> None:
        asked = want.leave if isinstance(want.leave, Stop) else want.pause
        assert asked is not None
        if not can_save and self.holding is None:
            self._tell(PauseFailed(request=asked.request, why="disk full"))
            if want.leave is not None and want.pause is not None:
                self.inbox.appendleft(want.pause)
            return
        self.is_leaving = True
        self.receipt = PauseReached(request=asked.request, depth=Depth.EXIT, checkpoint=self._checkpoint())
        self._tell(self.receipt)

    def _checkpoint(self) -> CheckpointRef:
        path = f"/ckpt/{self.job}/step-{self.step}"
        return CheckpointRef(step=self.step, epoch=0, path=path, digest=f"{self.job}-{self.step}")

    def _tell(self, event: JobEvent) -> None:
        if self.is_connected:
            self.outbox.append(event)


class FakeShims:
    """See ports.Shims. Holds the trainers of all jobs; they survive the daemon."""

    def __init__(self) -> None:
        self.trainers: dict[str, FakeTrainer] = {}
        self.saving: set[str] = set()

    def send(self, effect: AskPause | AskResume | AskStop | AskCheckpoint) -> bool:
        trainer = self.trainers.get(effect.name)
        if trainer is None or not trainer.is_connected:
            return False
        trainer.inbox.append(_message(effect))
        return True

    def is_saving(self, job: str) -> bool:
        """A save takes no time here, unless the test says that it is under way."""
        return job in self.saving and job in self.trainers and self.trainers[job].is_connected

    def process(self, job: str) -> Pid | None:
        """Each is in a process below the one that was started for it."""
        trainer = self.trainers.get(job)
        return trainer.process if trainer is not None and trainer.is_connected else None

    def connected(self) -> Iterator[FakeTrainer]:
        return (trainer for trainer in self.trainers.values() if trainer.is_connected)


def _message(effect: AskPause | AskResume | AskStop | AskCheckpoint) -> Pause | Resume | Stop | Checkpoint:
    match effect:
        case AskPause():
            return Pause(request=effect.request, depth=effect.depth, by_rule=effect.by_rule)
        case AskResume():
            return Resume(request=effect.request)
        case AskStop():
            return Stop(request=effect.request)
        case AskCheckpoint():
            return Checkpoint(request=effect.request)
