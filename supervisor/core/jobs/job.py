"""What the daemon remembers of a job. Records only; apply.py says how they change.

These structs are what the journal stores, so a field is never renamed or
removed without a migration; a new field needs a default.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from supervisor.core.jobs.states import FINAL, Depth, JobState
from supervisor.core.jobs.verdict import QUEUE, Verdict

__all__ = ["Asker", "CheckpointRef", "Exit", "GoAhead", "Job", "JobSpec", "Pid"]


class Pid(msgspec.Struct, frozen=True):
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    #: Field 22 of /proc/PID/stat: clock ticks between boot and the start of the process.
    start_ticks: int
    boot_id: str


class Exit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a process ended: one of the three is set."""

    code: int | None = None
    signal: int | None = None
    #: It could not be started, or nobody was left to see its status, in words.
    error: str = ""

    def __str__(self) -> str:
        if self.error:
            return self.error
        return f"killed by signal {self.signal}" if self.signal is not None else f"exit code {self.code}"


class Asker(msgspec.Struct, frozen=True):
    """Who wants it: a person (by user name), or a rule (by its name); the queue counts as one."""

    kind: Literal["person", "rule"]
    name: str

    def __str__(self) -> str:
        if self.kind == "person":
            return self.name
        return "the queue" if self.name == QUEUE else f"rule {self.name}"


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
    #: When the daemon heard of it.
    at: float = 0.0
    size_bytes: int = 0
    #: How long writing it took; 0: not told.
    took_s: float = 0.0


class JobSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to run and how to treat it."""

    argv: tuple[str, ...]
    cwd: str
    #: The whole environment of the command. Values are never logged or shown.
    env: dict[str, str] = msgspec.field(default_factory=dict)
    #: Folder of this job's checkpoints.
    checkpoints: str = ""
    restart: Literal["never", "on-failure"] = "never"
    max_restarts: int = 3
    restart_delay_s: float = 10.0
    #: The drop-in file that asked for this job, or "" for `supervisorctl run`; and what it said then.
    source: str = ""
    source_digest: str = ""
    #: The user it belongs to.
    user: str = ""
    #: Higher yields later and returns earlier.
    priority: int = 0
    #: Rules leave it alone; persons do not have to.
    protected: bool = False
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    #: What it needs to start; 0: nobody said.
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
    #: It saves in the background so often, where its script does not say how often. None: it does not.
    every_s: float | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One training command under supervision. Times are seconds of the daemon's steady clock."""

    name: str
    spec: JobSpec
    created_at: float
    state: JobState = JobState.QUEUED
    #: When the present state began.
    since: float = 0.0

    #: Number of the newest launch; counts on from removed jobs of the same name.
    incarnation: int = 0
    #: The first one that is its own. 0: nobody wrote it down, as in earlier versions.
    first_incarnation: int = 0
    #: True from the decision to launch until the end of the process is known.
    alive: bool = False
    process: Pid | None = None
    #: GPUs given to this start, by UUID.
    gpus: tuple[str, ...] = ()
    started_at: float | None = None
    #: Depths that the connected shim can do; empty while none has connected: not pausable.
    depths: tuple[Depth, ...] = ()

    #: Depth asked for while pausing, reached when paused.
    depth: Depth | None = None
    #: While pausing: how deep it holds already, its checkpoint durable.
    held_depth: Depth | None = None
    #: Memory of devices that the shim gave back at that depth.
    bytes_freed: int = 0
    asked_by: Asker | None = None
    #: Why it was asked, for people.
    reason: str = ""
    #: How it came to run; None: it has not yet, or nobody wrote it down, as in earlier versions.
    went_on: GoAhead | None = None
    #: The request that the shim is to answer.
    request: str = ""
    #: The shim said that its checkpoint is durable and its process is about to end.
    yielded: bool = False
    #: What a rule saw that asked for this pause.
    verdict: Verdict | None = None
    #: A pause not reached by then is late.
    deadline_at: float | None = None
    #: What was asked for, should the pause have to be asked again.
    deadline_s: float = 0.0
    late: bool = False
    #: What is done when it is late.
    at_deadline: Literal["wait", "freeze", "terminate"] = "wait"
    #: Since when all its processes stand still, because the pause was late.
    frozen_at: float | None = None
    #: The present start was frozen at some time: after a crash it may have to be thawed again.
    was_frozen: bool = False
    #: A pause that ends by itself ends then.
    wake_at: float | None = None

    #: A start without a shim counts as running from then on.
    start_grace_at: float | None = None
    #: For a launch that nobody asks for anew.
    start_grace_s: float = 60.0
    #: A stop that has not worked by then becomes more forceful.
    insist_at: float | None = None
    kill_grace_s: float = 10.0
    #: The most forceful signal that the present stop, or a late pause, decided on.
    insisted: Literal["", "TERM", "KILL"] = ""
    restart_after_stop: bool = False
    restart_at: float | None = None
    num_failures: int = 0
    #: This start, or the next one of a job without a process, takes up what an earlier one left; False for
    #: the first one, and for one that a person asked for by `restart`.
    goes_on: bool = False

    #: Where the CUDA context of its paused process is: `kept` could not be freed, `unsure` may be,
    #: `lost` did not come back, so the process is being ended.
    context: Literal["held", "kept", "freeing", "freed", "unsure", "taking", "lost"] = "held"
    context_process: Pid | None = None
    #: Why it is not where it was to be, for people.
    context_problem: str = ""
    #: It is tried again, or given up, then; and given up at the latest then, after so long.
    context_at: float | None = None
    context_limit_at: float | None = None
    context_limit_s: float = 300.0

    checkpoint: CheckpointRef | None = None
    exit: Exit | None = None
    #: The last thing that did not work, for people.
    problem: str = ""
    #: The pause that was asked for last could not be done; `problem` says why.
    is_pause_refused: bool = False

    @property
    def is_over(self) -> bool:
        """No process, and nothing planned."""
        return self.state in FINAL and self.restart_at is None
