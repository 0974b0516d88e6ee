"""What the daemon remembers of a job. Records only; apply.py says how they change.

Covers: a job as a record of records, so that a state has one kind of payload: `pause` is there exactly
while it is pausing or paused, `stop` while it is stopping, `run` while a process of it lives. What
outlasts these states stands in the job itself.
Does not cover: which state follows which (states.py).

These structs are what the journal stores, so a field is never renamed or
removed without a migration; a new field needs a default.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from supervisor.core.jobs.states import FINAL, Depth, JobState
from supervisor.core.jobs.treatment import AtDeadline, JobLimits, Restart
from supervisor.core.jobs.verdict import QUEUE, QUEUE_IN_WORDS, Verdict
from supervisor.core.units import format_bytes

__all__ = [
    "THE_QUEUE",
    "Asker",
    "CheckpointRef",
    "CudaContext",
    "Exit",
    "GoAhead",
    "Job",
    "JobPause",
    "JobRun",
    "JobSpec",
    "JobStop",
    "Owner",
    "Pid",
]


_SIGKILL: Final = 9
#: The kernel knows no process, exit code or signal with a greater number.
_MOST_NUMBER: Final = 2**31 - 1


class Pid(msgspec.Struct, frozen=True):
    """A process that cannot be mistaken for a later one with the same number.

    Bounded, as what is read of a run folder is its user's word, and told to all who ask.
    """

    pid: Annotated[int, Meta(ge=0, le=_MOST_NUMBER)]
    #: Field 22 of /proc/PID/stat: clock ticks between boot and the start of the process.
    start_ticks: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    boot_id: Annotated[str, Meta(max_length=64)]


#: What people send, or a machine that is shut down; programs that heed it end with 128 and its number.
_SIGNALS: Final = MappingProxyType({1: "SIGHUP", 2: "SIGINT", 9: "SIGKILL", 15: "SIGTERM"})


class Exit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a process ended: one of the three is set. Bounded as `Pid` is."""

    code: Annotated[int, Meta(ge=0, le=_MOST_NUMBER)] | None = None
    signal: Annotated[int, Meta(ge=0, le=_MOST_NUMBER)] | None = None
    #: Why there is neither: it could not be started, or nobody was left to see its status. "": there is one.
    error: str = ""
    #: The kernel ended a process of it for want of memory, in a control group with this limit; 0: it was not
    #: its own limit that was reached. None: nothing of that was seen.
    memory_limit_bytes: Annotated[int, Meta(ge=0, le=2**62)] | None = None

    def __str__(self) -> str:
        if self.error:
            return self.error
        memory = self.memory_limit_bytes
        want = f"more memory than its {format_bytes(memory)}" if memory else "no memory was left around it"
        if memory is not None and self.signal == _SIGKILL:
            return f"ended by the kernel: {want}"
        how = f"killed by signal {self.signal}" if self.signal is not None else f"exit code {self.code}"
        if memory is not None:
            return f"{how}; the kernel ended a process of it: {want}"
        after = _SIGNALS.get((self.code or 0) - 128)
        return how if after is None else f"{how}, as after {after}"


class Owner(msgspec.Struct, frozen=True):
    """A user, by what the kernel says and by the name that the machine had for that then."""

    uid: int
    name: str


class Asker(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who wants it: a person (by user name), or a rule (by its name); the queue counts as one."""

    kind: Literal["person", "rule"]
    name: str
    #: Of a person; None: a rule, or written down by an earlier version.
    uid: int | None = None

    def __str__(self) -> str:
        if self.kind == "person":
            return self.name
        return QUEUE_IN_WORDS if self.name == QUEUE else f"rule {self.name}"


#: A job waits for room and its turn, and nobody in particular wants it.
THE_QUEUE: Final = Asker("rule", QUEUE)


class GoAhead(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a job came to start or go on."""

    #: None: nobody let it, it happened.
    by: Asker | None = None
    #: What they did, or what happened: "restarted it", "its pause was over".
    did: str = ""
    why: str = ""


class CheckpointRef(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A checkpoint that a shim reported durable."""

    step: int
    epoch: int
    path: str
    digest: str
    #: Steady clock of the daemon when it heard of it.
    at: float = 0.0
    size_bytes: int = 0
    #: Seconds that writing it took; 0: not told.
    took_s: float = 0.0


class JobSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to run and how to treat it."""

    argv: tuple[str, ...]
    cwd: str
    #: The whole environment of the command. Values are never logged or shown.
    env: dict[str, str] = msgspec.field(default_factory=dict)
    #: Folder of its checkpoints; "" only until it is submitted: then it gets one.
    checkpoints: str = ""
    restart: Restart = "never"
    max_restarts: int = 3
    restart_delay_s: float = 10.0
    #: The drop-in file that asked for this job, or "" for `supervisorctl run`; and what it said then.
    source: str = ""
    source_digest: str = ""
    #: Name of the user it belongs to; "": nobody wrote it down, as in earlier versions.
    user: str = ""
    #: The same by number, and what decides who may act on it; None: the daemon's own user.
    owner: Owner | None = None
    #: A person started it without us: `once`: `argv` is what that was, and we never run it; `again`: it is
    #: how it is started again; "": we start it.
    by_hand: Literal["", "once", "again"] = ""
    #: -10000 to 10000; higher yields later and returns earlier.
    priority: int = 0
    #: The most that counts of it against jobs of other users, as an admin said; None: as the settings say.
    granted: int | None = None
    #: Rules leave it alone; persons do not have to.
    protected: bool = False
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    #: What it needs to start, the memory of GPUs on each of them; 0: nobody said.
    num_gpus: int = 0
    gpu_memory_bytes: int = 0
    memory_bytes: int = 0
    num_cpus: float = 0.0
    #: Umask, niceness, CPUs and limits of the shell that asked, in the words of the keeper; "": the daemon's.
    shell: str = ""
    #: What it started besides outlives a pause, a stop and a kill of it.
    keep_children: bool = False
    #: Its log is cut when longer (0: never), and so many older files are kept. None: as the settings say.
    log_max_bytes: int | None = None
    log_files: int | None = None
    #: Seconds between saves in the background, where its script does not say how often. None: it does not.
    every_s: float | None = None
    limits: JobLimits = JobLimits()

    @property
    def uid(self) -> int | None:
        """Number of the user that it belongs to; None: the daemon's own one."""
        return None if self.owner is None else self.owner.uid


class CudaContext(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The CUDA context of a paused process, since it was first tried to free it."""

    #: `kept` could not be freed, `unsure` may be, `lost` did not come back, so the process is being ended.
    where: Literal["kept", "freeing", "freed", "unsure", "taking", "lost"]
    process: Pid
    #: Why it is not where it was to be, for people; "": it is.
    problem: str = ""
    #: When it is tried again, or given up, and when it is given up at the latest; None: nothing is due.
    #: That is `limit_s` seconds after it was first to come back.
    at: float | None = None
    limit_at: float | None = None
    limit_s: float = 300.0


class JobRun(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One living process: from the decision to launch it until its end is known."""

    started_at: float
    #: None: no keeper has told yet.
    process: Pid | None = None
    #: Depths that the connected shim can do; empty while none has connected: not pausable.
    depths: tuple[Depth, ...] = ()
    #: Without a shim it counts as running from then on; None: a shim has come, or none is waited for.
    start_grace_at: float | None = None
    #: Seconds that its start was given; also the next one, where nobody asks for that.
    start_grace_s: float = 60.0
    #: The shim said that its checkpoint is durable and its process is about to end.
    yielded: bool = False
    #: It was frozen at some time: after a crash it may have to be thawed again.
    was_frozen: bool = False
    #: A stop, or the end of a late pause, that has not worked by then becomes more forceful; None: neither.
    insist_at: float | None = None
    #: The most forceful signal that was decided on for it ("": none); a pause that is called off does not
    #: unsend it.
    insisted: Literal["", "TERM", "KILL"] = ""
    #: None: nobody ever tried to free it, so it is where it always was.
    context: CudaContext | None = None


class JobPause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A pause that is under way or reached, also of a job that was held back before its start."""

    #: Asked for while pausing, reached when paused.
    depth: Depth
    by: Asker | None = None
    #: Why it was asked, for people; "": nobody said.
    reason: str = ""
    #: What the rule saw that asked for it; None: a person did.
    verdict: Verdict | None = None
    #: While pausing: how deep it holds already, its checkpoint durable; None: it still trains.
    held_depth: Depth | None = None
    #: Memory of devices that the shim gave back at that depth; 0: none, or not reached.
    bytes_freed: int = 0
    #: Not reached by then it is late; None: it is reached.
    deadline_at: float | None = None
    #: Seconds that were asked for, should it have to be asked again.
    deadline_s: float = 0.0
    late: bool = False
    at_deadline: AtDeadline = "wait"
    #: Since when all processes stand still, because it was late; None: they do not.
    frozen_at: float | None = None
    #: When it ends by itself; None: somebody has to resume it.
    wake_at: float | None = None


class JobStop(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A stop that is under way."""

    by: Asker | None = None
    #: It is launched anew as soon as its process has ended.
    is_restart: bool = False


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One training command under supervision. Times are seconds of the daemon's steady clock."""

    #: Opaque, and its own for ever; a name may be used again when its job was removed.
    #: What is keyed by the name stays so (run folders, logs, readings, what the policy remembers): another
    #: key would move the folders of jobs that run.
    id: str
    name: str
    spec: JobSpec
    created_at: float
    state: JobState = JobState.QUEUED
    #: When it came into its present state.
    since: float = 0.0

    run: JobRun | None = None
    pause: JobPause | None = None
    stop: JobStop | None = None

    #: Number of the newest launch, from 1; counts on from removed jobs of the same name. 0: none yet.
    incarnation: int = 0
    #: The first one that is its own. 0: nobody wrote it down, as in earlier versions.
    first_incarnation: int = 0
    #: GPUs given to the newest start, by UUID; empty: it asked for none, and sees all.
    gpus: tuple[str, ...] = ()
    #: The request that the shim is to answer, or answered last; "": none yet.
    request: str = ""
    #: Seconds between SIGTERM and SIGKILL, as it was asked last; also for what a start left behind.
    kill_grace_s: float = 10.0
    #: How it came to run; None: it has not yet, or nobody wrote it down, as in earlier versions.
    went_on: GoAhead | None = None
    restart_at: float | None = None
    num_failures: int = 0
    #: This start, or the next one of a job without a process, takes up what an earlier one left; False for
    #: the first one, and for one that a person asked for by `restart`.
    goes_on: bool = False

    checkpoint: CheckpointRef | None = None
    exit: Exit | None = None
    #: The last thing that did not work, for people; "": nothing to tell.
    problem: str = ""
    #: The pause that was asked for last could not be done; `problem` says why.
    is_pause_refused: bool = False

    @property
    def is_over(self) -> bool:
        """No process, and nothing planned."""
        return self.state in FINAL and self.restart_at is None

    # Questions that many readers have, whatever the state is.

    @property
    def alive(self) -> bool:
        """True from the decision to launch until the end of the process is known."""
        return self.run is not None

    @property
    def is_by_hand(self) -> bool:
        """Its present or newest start is none of ours: a person's, and its output is where that shows it."""
        return bool(self.spec.by_hand) and self.incarnation == self.first_incarnation

    @property
    def process(self) -> Pid | None:
        """The process of the command, once the keeper has told."""
        return self.run.process if self.run else None

    @property
    def depths(self) -> tuple[Depth, ...]:
        """Depths that the connected shim can do; empty: not pausable."""
        return self.run.depths if self.run else ()

    @property
    def start_grace_at(self) -> float | None:
        """How long a shim is waited for; None: not any more."""
        return self.run.start_grace_at if self.run else None

    @property
    def is_ending(self) -> bool:
        """A signal that ends its process was decided on."""
        return self.run is not None and bool(self.run.insisted)

    @property
    def yielded(self) -> bool:
        """Its checkpoint is durable and its process is about to end."""
        return self.run is not None and self.run.yielded

    @property
    def depth(self) -> Depth | None:
        """Depth of its pause: asked for while pausing, reached when paused."""
        return self.pause.depth if self.pause else None

    @property
    def frozen_at(self) -> float | None:
        """Since when all its processes stand still."""
        return self.pause.frozen_at if self.pause else None

    @property
    def late(self) -> bool:
        """Its pause was not reached in time."""
        return self.pause is not None and self.pause.late

    @property
    def wake_at(self) -> float | None:
        """When its pause ends by itself."""
        return self.pause.wake_at if self.pause else None

    @property
    def asked_by(self) -> Asker | None:
        """Who asked for what is under way: its pause or its stop."""
        under_way = self.pause or self.stop
        return under_way.by if under_way else None
