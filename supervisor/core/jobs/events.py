"""What can happen to a job: past facts and requests from outside, as data.

The journal keeps every event that changed a job, so applying them again gives
the same jobs. Numbers that came from the configuration travel inside the event
for the same reason.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from supervisor.core.jobs.job import Asker, CheckpointRef, Exit, JobSpec, Pid
from supervisor.core.jobs.states import Depth
from supervisor.core.jobs.treatment import AtDeadline
from supervisor.core.jobs.verdict import Verdict

__all__ = [
    "AbleTo",
    "Admitted",
    "Adopted",
    "Attached",
    "BaseEvent",
    "CheckpointAsked",
    "CheckpointReported",
    "ContextMoved",
    "ContextUnknown",
    "JobEvent",
    "PauseAsked",
    "PauseFailed",
    "PauseReached",
    "ProcessEnded",
    "ProcessStarted",
    "Removed",
    "RestartAsked",
    "ResumeAsked",
    "SpecChanged",
    "StopAsked",
    "Submitted",
    "SuspendAsked",
    "TimerFired",
    "TrainingResumed",
]


class BaseEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", omit_defaults=True):
    """Base of all; the tag is the class name in kebab case and is what the journal stores."""


class Submitted(BaseEvent, tag="submitted", frozen=True, kw_only=True):
    """A person or a drop-in file wants a new job."""

    #: Made where it was submitted: the core draws no lots.
    id: str
    spec: JobSpec
    #: Launches of removed jobs of that name: their run folders tell how those ended.
    incarnation: int = 0


class Admitted(BaseEvent, tag="admitted", frozen=True, kw_only=True):
    """A queued job may start now."""

    start_grace_s: float
    #: GPUs that it was given, by UUID; empty: it asked for none.
    gpus: tuple[str, ...] = ()
    #: What the policy saw that let it start; None: nobody wrote that down.
    verdict: Verdict | None = None


class Adopted(BaseEvent, tag="adopted", frozen=True, kw_only=True):
    """The process of a new job runs already: a person started it by hand, and its shim said hello."""

    process: Pid


class ProcessStarted(BaseEvent, tag="process-started", frozen=True, kw_only=True):
    """The keeper started the command."""

    incarnation: int
    process: Pid


class ProcessEnded(BaseEvent, tag="process-ended", frozen=True, kw_only=True):
    """The command ended, or could not be started."""

    incarnation: int
    exit: Exit
    #: The shim left word that its checkpoint was durable before it ended.
    yielded: bool = False


class Attached(BaseEvent, tag="attached", frozen=True, kw_only=True):
    """A shim said hello, for the first time or again after a lost connection."""

    incarnation: int
    depths: tuple[Depth, ...]
    #: The pause request that it is holding for, or "" while it trains.
    holding: str = ""
    holding_depth: Depth | None = None


class AbleTo(BaseEvent, tag="able-to", frozen=True, kw_only=True):
    """What a connected shim can give back has changed: a model was moved to a GPU after attach()."""

    incarnation: int
    depths: tuple[Depth, ...]


class PauseAsked(BaseEvent, tag="pause-asked", frozen=True, kw_only=True):
    """Somebody wants the job to yield."""

    request: str
    by: Asker
    depth: Depth
    deadline_s: float
    reason: str = ""
    #: Seconds after which it resumes by itself; None: somebody has to resume it.
    for_s: float | None = None
    at_deadline: AtDeadline = "wait"
    #: Seconds between SIGTERM and SIGKILL, where a late pause is to end the process.
    kill_grace_s: float = 15.0
    verdict: Verdict | None = None


class ResumeAsked(BaseEvent, tag="resume-asked", frozen=True, kw_only=True):
    """Somebody wants the job to go on."""

    request: str
    by: Asker
    #: Seconds in which a job that has to be launched again is waited for.
    start_grace_s: float
    gpus: tuple[str, ...] = ()
    verdict: Verdict | None = None
    #: A job without a process waits for its turn from now on, and does not go on at once.
    in_line: bool = False


class StopAsked(BaseEvent, tag="stop-asked", frozen=True, kw_only=True):
    """Somebody wants the job to end: after a checkpoint, or (`kill`) at once."""

    request: str
    by: Asker
    how: Literal["checkpoint", "kill"]
    stop_grace_s: float
    kill_grace_s: float
    #: Processes that it started live, whether its command does or not.
    has_left: bool = False


class RestartAsked(BaseEvent, tag="restart-asked", frozen=True, kw_only=True):
    """Somebody wants the command launched anew, from its newest checkpoint."""

    request: str
    by: Asker
    stop_grace_s: float
    kill_grace_s: float


class CheckpointAsked(BaseEvent, tag="checkpoint-asked", frozen=True, kw_only=True):
    """Somebody wants a checkpoint, and training to go on."""

    request: str
    by: Asker


class CheckpointReported(BaseEvent, tag="checkpointed", frozen=True, kw_only=True):
    """A shim reports a durable checkpoint."""

    checkpoint: CheckpointRef


class PauseReached(BaseEvent, tag="yielded", frozen=True, kw_only=True):
    """A shim reached the boundary: its checkpoint is durable, and it holds or is about to exit."""

    request: str
    depth: Depth
    checkpoint: CheckpointRef
    #: Memory of devices that was given back; 0 at depth `hold`, and where the process ends.
    bytes_freed: int = 0


class PauseFailed(BaseEvent, tag="pause-failed", frozen=True, kw_only=True):
    """A shim could not do what was asked: it trains on, or holds as it did before."""

    request: str
    why: str
    #: How deep it holds all the same; None: it trains on.
    holding_depth: Depth | None = None


class TrainingResumed(BaseEvent, tag="resumed", frozen=True, kw_only=True):
    """A held shim trains again."""

    request: str


class SuspendAsked(BaseEvent, tag="suspend-asked", frozen=True, kw_only=True):
    """The settings want the CUDA context of a job freed that waits at depth `offload`."""

    #: The one that trains; the job's own may be a script around it.
    process: Pid
    #: Seconds for which it is tried to take the context back; then the process is ended.
    restore_limit_s: float


class ContextUnknown(BaseEvent, tag="context-unknown", frozen=True, kw_only=True):
    """A new daemon took up a job: what came of the driver's last call is not known."""

    incarnation: int


class ContextMoved(BaseEvent, tag="context-moved", frozen=True, kw_only=True):
    """The driver freed a CUDA context, or took it back, or could not."""

    process: Pid
    #: None: not known.
    is_freed: bool | None
    #: Why it is not where it was to be, or "".
    why: str = ""


class Removed(BaseEvent, tag="removed", frozen=True, kw_only=True):
    """A person is done with the job; its record goes, its checkpoints stay."""

    by: Asker


class SpecChanged(BaseEvent, tag="spec-changed", frozen=True, kw_only=True):
    """Its drop-in file was edited, or a person changed how it is treated; the next launch uses it."""

    spec: JobSpec
    #: None: the drop-in file was edited.
    by: Asker | None = None


class TimerFired(BaseEvent, tag="timer-fired", frozen=True, kw_only=True):
    """A moment written in the job has come."""

    timer: Literal["start-grace", "deadline", "wake", "insist", "restart", "context"]
    #: Seconds in which a command that this timer launches is waited for; 0: it launches none.
    start_grace_s: float = 0.0
    #: GPUs for a job that was paused without a process, by UUID; empty: it gets none, or there is one.
    gpus: tuple[str, ...] = ()
    #: Its shim is at a boundary and writes a checkpoint.
    is_saving: bool = False


JobEvent = (
    Submitted
    | Admitted
    | Adopted
    | ProcessStarted
    | ProcessEnded
    | Attached
    | AbleTo
    | PauseAsked
    | ResumeAsked
    | StopAsked
    | RestartAsked
    | CheckpointAsked
    | CheckpointReported
    | PauseReached
    | PauseFailed
    | TrainingResumed
    | SuspendAsked
    | ContextMoved
    | ContextUnknown
    | Removed
    | SpecChanged
    | TimerFired
)
