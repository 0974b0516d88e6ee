"""What operators ask the daemon and what it answers: the second wire, beside that of the shims.

Covers: the messages between command line and daemon, and the codec of both wires together. What the core
already has a record of travels as that record.
Does not cover: the form of a frame, its limits and its version (trainer_shim/protocol.py), who may say what.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from supervisor.core.jobs.states import Depth
from supervisor.core.jobs.treatment import AtDeadline, JobLimits, Labels, Priority, Restart
from supervisor.core.jobs.verdict import Candidate, Verdict
from supervisor.core.policy.explanation import USUAL_WAIT, RuleState, Share, WentOn
from supervisor.core.readings.sample import Left, Totals
from supervisor.set_aside import SetAside
from trainer_shim import protocol
from trainer_shim.protocol import (
    Count,
    JobName,
    Message,
    Reply,
    RequestId,
    Seconds,
)

__all__ = [
    "Accepted",
    "AnyMessage",
    "CheckpointRequest",
    "Event",
    "EventsReply",
    "EventsRequest",
    "FromOperator",
    "JobRow",
    "JobRows",
    "JobsRequest",
    "KillRequest",
    "PauseRequest",
    "PolicyReply",
    "PolicyRequest",
    "ReloadRequest",
    "RemoveRequest",
    "Request",
    "RestartRequest",
    "ResumeRequest",
    "RunRequest",
    "SamplesReply",
    "SamplesRequest",
    "SetRequest",
    "ShowReply",
    "ShowRequest",
    "StatusRequest",
    "StopRequest",
    "VersionReply",
    "VersionRequest",
    "WatchRequest",
    "WhyReply",
    "WhyRequest",
    "decode",
    "decode_answer",
]

# --- from the command line -----------------------------------------------------------------

#: Between two saves in the background.
Period = Annotated[float, Meta(ge=1, le=10 * 365 * 86400)]
Jobs = Annotated[tuple[JobName, ...], Meta(max_length=1000)]


class Request(Message, frozen=True, kw_only=True):
    """Base of the requests; every answer carries the same `id`."""

    id: RequestId


class JobsRequest(Request, frozen=True, kw_only=True):
    """Base of the requests about several jobs. No names and `all`: every job of his that it can apply to."""

    jobs: Jobs = ()
    all: bool = False
    #: Those of all users; only admins may.
    all_users: bool = False


class RunRequest(Request, tag="run-request", frozen=True, kw_only=True):
    """Start a command as a new job. Without a name it gets the next free `job-N`."""

    argv: Annotated[tuple[str, ...], Meta(min_length=1)]
    cwd: str
    env: dict[str, str]
    name: JobName | None = None
    checkpoints: str = ""
    restart: Restart = "never"
    #: Higher yields later and returns earlier.
    priority: Priority = 0
    #: Rules leave it alone.
    protected: bool = False
    labels: Labels = msgspec.field(default_factory=dict)
    #: What it needs to start; 0: not said.
    num_gpus: Annotated[int, Meta(ge=0, le=1024)] = 0
    gpu_memory_bytes: Count = 0
    memory_bytes: Count = 0
    num_cpus: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    #: Of the shell that asks: "umask=18 nice=0 cpus=0,1 limit.7=1024:4096"; -1 is no limit. "": the daemon's.
    shell: Annotated[str, Meta(pattern=r"^[a-z0-9.=:, -]*\Z", max_length=8192)] = ""
    #: What it started besides outlives a pause, a stop and a kill of it.
    keep_children: bool = False
    #: Its log is cut when longer (0: never), and so many older files are kept. None: as the settings say.
    log_max_bytes: Count | None = None
    log_files: Annotated[int, Meta(ge=0, le=1000)] | None = None
    #: It saves in the background so often, where its script does not say how often. None: it does not.
    every_s: Period | None = None
    limits: JobLimits = JobLimits()


class StatusRequest(JobsRequest, tag="status-request", frozen=True, kw_only=True):
    """Rows of the jobs named, or of all."""


class ShowRequest(Request, tag="show-request", frozen=True, kw_only=True):
    """Everything about one job."""

    job: JobName


class WatchRequest(JobsRequest, tag="watch-request", frozen=True, kw_only=True):
    """As status, and again whenever one of them changes, until this is silent for 10 s: repeat it."""


class PauseRequest(JobsRequest, tag="pause-request", frozen=True, kw_only=True):
    """Checkpoint jobs at their next boundary, then hold them or end their process."""

    depth: Depth = Depth.HOLD
    for_s: Annotated[float, Meta(gt=0, le=10 * 365 * 86400)] | None = None
    reason: Annotated[str, Meta(max_length=500)] = ""
    #: None: as the settings say.
    deadline_s: Annotated[float, Meta(gt=0, le=10 * 365 * 86400)] | None = None
    at_deadline: AtDeadline = "wait"


class ResumeRequest(JobsRequest, tag="resume-request", frozen=True, kw_only=True):
    """Let paused jobs go on."""


class StopRequest(JobsRequest, tag="stop-request", frozen=True, kw_only=True):
    """End jobs after a checkpoint."""


class KillRequest(JobsRequest, tag="kill-request", frozen=True, kw_only=True):
    """End jobs at once."""


class RestartRequest(JobsRequest, tag="restart-request", frozen=True, kw_only=True):
    """Launch the commands anew from their newest checkpoints."""

    #: The environment from now on; None: as before.
    env: dict[str, str] | None = None


class CheckpointRequest(JobsRequest, tag="checkpoint-request", frozen=True, kw_only=True):
    """Checkpoint jobs at their next boundary and go on."""


class RemoveRequest(JobsRequest, tag="remove-request", frozen=True, kw_only=True):
    """Forget jobs that are over; their checkpoints stay."""


class SetRequest(JobsRequest, tag="set-request", frozen=True, kw_only=True):
    """Change how jobs are treated; what is None stays as it is."""

    priority: Priority | None = None
    protected: bool | None = None
    #: Added or replaced; an empty value takes the label away.
    labels: Labels = msgspec.field(default_factory=dict)
    #: As in `RunRequest`, from the next start on; `no_every` takes it away.
    every_s: Period | None = None
    no_every: bool = False


class EventsRequest(Request, tag="events-request", frozen=True, kw_only=True):
    """Stored events after that number, oldest first; -1: the newest `limit`."""

    after_seq: Annotated[int, Meta(ge=-1, le=2**63 - 1)] = -1
    job: JobName | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class WhyRequest(Request, tag="why-request", frozen=True, kw_only=True):
    """Why a job is where it is; without a name, of all in short."""

    job: JobName | None = None


class PolicyRequest(Request, tag="policy-request", frozen=True, kw_only=True):
    """The rules with their readings now."""


class SamplesRequest(Request, tag="samples-request", frozen=True, kw_only=True):
    """Recorded readings that begin between two moments of Unix time, a page of them."""

    after_wall: Seconds = 0.0
    before_wall: Seconds = 1e12


class ReloadRequest(Request, tag="reload-request", frozen=True, kw_only=True):
    """Read the configuration and the drop-in files now."""


class VersionRequest(Request, tag="version-request", frozen=True, kw_only=True):
    """Who answers, and since when."""


# --- to the command line -------------------------------------------------------------------


class JobRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of `supervisorctl status`. Durations are seconds at the time of the answer."""

    name: str
    state: str
    since_s: float
    depth: str | None = None
    #: Memory of devices that a paused job gave back.
    bytes_freed: int | None = None
    #: False: no shim has connected. None: not known yet, or not running.
    pausable: bool | None = None
    #: The request that a paused or pausing job answers to.
    request: str = ""
    #: What happens inside the state, e.g. "waiting for a batch boundary" or "saving".
    stage: str = ""
    step: int | None = None
    num_steps: int | None = None
    epoch: int | None = None
    num_epochs: int | None = None
    steps_per_s: float | None = None
    eta_s: float | None = None
    boundary_age_s: float | None = None
    heartbeat_age_s: float | None = None
    cpu_pct: float | None = None
    rss_bytes: int | None = None
    metrics: dict[str, float] = {}
    checkpoint_step: int | None = None
    checkpoint_age_s: float | None = None
    asked_by: str = ""
    reason: str = ""
    #: A timed pause ends in that many seconds.
    wake_in_s: float | None = None
    #: A failed job is started again in that many seconds.
    restart_in_s: float | None = None
    #: The pause did not reach a boundary before its deadline.
    late: bool = False
    #: For that long all its processes stand still, because the pause was late.
    frozen_s: float | None = None
    #: The last thing that did not work.
    problem: str = ""
    pid: int | None = None
    incarnation: int = 0
    exit_code: int | None = None
    exit_signal: int | None = None
    log: str = ""
    priority: int = 0
    protected: bool = False
    user: str = ""
    #: What its command left running when it ended; the largest of it.
    left: tuple[Left, ...] = ()
    #: Its process is over, and how it ended cannot be stored yet.
    ended: bool = False
    #: A person started its present or newest process; what that prints is no log of ours.
    by_hand: bool = False


class JobRows(Reply, tag="job-rows", frozen=True, kw_only=True):
    """Some of the rows; `more` says that another message with the rest follows."""

    rows: tuple[JobRow, ...] = ()
    more: bool = False
    #: What the daemon itself has to complain about: a bad configuration file, a full disk.
    alerts: tuple[str, ...] = ()
    #: What is set aside; the alerts have it too, in words.
    aside: tuple[SetAside, ...] = ()


class ShowReply(Reply, tag="show-reply", frozen=True, kw_only=True):
    """One job: its row and what does not fit in a row. Of the environment only names are told."""

    row: JobRow
    argv: tuple[str, ...]
    cwd: str
    env_names: tuple[str, ...] = ()
    restart: str = "never"
    source: str = ""
    checkpoints: str = ""
    checkpoint_path: str = ""
    checkpoint_digest: str = ""
    created_wall: float = 0.0
    depths: tuple[str, ...] = ()
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    num_gpus: int = 0
    gpu_memory_bytes: int = 0
    memory_bytes: int = 0
    num_cpus: float = 0.0
    #: GPUs that the present start was given, by UUID.
    gpus: tuple[str, ...] = ()
    #: As in `RunRequest`.
    every_s: float | None = None
    #: What its priority counts against jobs of other users; None: an earlier daemon.
    counted_priority: int | None = None
    #: Number of the job's user; None: the daemon's own one, or an earlier daemon that does not say it.
    uid: int | None = None
    limits: JobLimits = JobLimits()
    #: What its present start used up so far.
    totals: Totals = Totals()


class Accepted(Reply, tag="accepted", frozen=True, kw_only=True):
    """The request about this job is stored and under way; `state` is the job's state now."""

    job: str
    state: str
    detail: str = ""
    #: False: it is taken and cannot be stored at present, `detail` says why; it is carried out as soon as it
    #: can be, and lost if the daemon ends before that.
    stored: bool = True
    #: True: what was asked takes its time, `detail` says how far it is; the answer follows.
    under_way: bool = False
    #: False: answers about other jobs of the same request follow.
    last: bool = True


class Event(Reply, tag="event", frozen=True, kw_only=True):
    """Something that changed a job; published as it happens, and part of EventsReply."""

    seq: int
    wall: float
    job: str
    kind: str
    state: str
    detail: str = ""


class EventsReply(Reply, tag="events-reply", frozen=True, kw_only=True):
    """Stored events, oldest first; `more` as in JobRows."""

    events: tuple[Event, ...] = ()
    more: bool = False


class WhyReply(Reply, tag="why-reply", frozen=True, kw_only=True):
    """Why one job is where it is, and what has to happen for that to change; `more` as in JobRows."""

    job: str = ""
    state: str = ""
    #: One sentence: where it is and who wanted that.
    summary: str = ""
    for_s: float = 0.0
    since_wall: float = 0.0
    depth: str | None = None
    by: str = ""
    #: "person", "rule" or "".
    by_kind: str = ""
    reason: str = ""
    #: Of a job that runs, or is about to.
    went_on: WentOn | None = None
    #: What happens inside the state, as in `JobRow`.
    stage: str = ""
    #: The verdict that led here, if one did.
    verdict: Verdict | None = None
    rules: tuple[RuleState, ...] = ()
    #: What stands in its way now; empty: nothing does.
    waits_for: tuple[str, ...] = ()
    next: str = ""
    deadline_in_s: float | None = None
    wakes_in_s: float | None = None
    position: int | None = None
    line_length: int = 0
    #: Of a job that waits: what each user has had, the least for his weight first; empty: there is one user.
    shares: tuple[Share, ...] = ()
    #: Who asks may start this queued job all the same.
    can_be_started: bool = True
    num_flaps: int = 0
    wait_factor: float = USUAL_WAIT
    candidates: tuple[Candidate, ...] = ()
    problem: str = ""
    #: Where the CUDA context of its process is, where that is to be known.
    context: str = ""
    more: bool = False


class PolicyReply(Reply, tag="policy-reply", frozen=True, kw_only=True):
    """Every rule at every place; the last of the messages also has the settings in force, as JSON."""

    rules: tuple[RuleState, ...] = ()
    #: What has to show its effect before anything else is decided, or "".
    settling: str = ""
    settings: str = ""
    #: As in WhyReply; in the last of the messages.
    shares: tuple[Share, ...] = ()
    more: bool = False


class SamplesReply(Reply, tag="samples-reply", frozen=True, kw_only=True):
    """Recorded readings, oldest first: blocks of zlib of MessagePack, a list of samples each."""

    blocks: tuple[bytes, ...] = ()
    #: Where the next page begins; None: this was the last one.
    next_wall: float | None = None


class VersionReply(Reply, tag="version-reply", frozen=True, kw_only=True):
    """What the daemon is."""

    version: str
    pid: int
    home: str = ""
    config: str = ""
    started_wall: float = 0.0
    num_jobs: int = 0
    #: Frames that were dropped since the start: malformed, oversized, from nobody.
    num_dropped: int = 0
    #: Requests that were refused for want of a right, likewise.
    num_denied: int = 0
    #: It serves all users of the machine.
    serves_all: bool = False
    alerts: tuple[str, ...] = ()


FromOperator = (
    RunRequest
    | StatusRequest
    | ShowRequest
    | WatchRequest
    | PauseRequest
    | ResumeRequest
    | StopRequest
    | KillRequest
    | RestartRequest
    | CheckpointRequest
    | RemoveRequest
    | SetRequest
    | EventsRequest
    | WhyRequest
    | PolicyRequest
    | SamplesRequest
    | ReloadRequest
    | VersionRequest
)
ToOperator = (
    JobRows
    | ShowReply
    | Accepted
    | protocol.Refusal
    | Event
    | EventsReply
    | WhyReply
    | PolicyReply
    | SamplesReply
    | VersionReply
)

#: Whatever may come in a frame.
AnyMessage = protocol.FromShim | protocol.ToShim | FromOperator | ToOperator

# Both are made when they are first used: to look at the fields of all messages takes milliseconds, and a
# command hears answers alone.


@functools.cache
def _any_codec() -> protocol.Codec:
    return protocol.Codec(AnyMessage)


@functools.cache
def _answer_codec() -> protocol.Codec:
    return protocol.Codec(ToOperator)


def decode(frame: bytes) -> Any:
    """Return whatever message is in a frame; as `Codec.decode`."""
    return _any_codec().decode(frame)


def decode_answer(frame: bytes) -> Any:
    """Return the answer in a frame; every other message is unknown. As `Codec.decode`."""
    return _answer_codec().decode(frame)
