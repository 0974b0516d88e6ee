"""What the engine needs of the world, and no more.

Each port has a real adapter and a fake; tests/contract holds what both must do.
Nothing behind a port may block the engine's loop: slow work reports back later
through `fileno()` and a drain call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from supervisor.core.jobs.effects import AskCheckpoint, AskPause, AskResume, AskStop
from supervisor.core.jobs.events import JobEvent, PauseReached
from supervisor.core.jobs.job import Exit, Job, Owner, Pid
from supervisor.core.jobs.treatment import JobLimits
from supervisor.core.readings.sample import Sample

__all__ = [
    "Batch",
    "Clock",
    "Ended",
    "Froze",
    "Journal",
    "JournalRow",
    "LaunchSpec",
    "Launcher",
    "Orphan",
    "ProcessFreezer",
    "Sampler",
    "Shims",
    "Started",
    "StoredBlock",
    "StoredEvent",
    "Unreadable",
    "WatchedJob",
    "World",
]


class Clock(Protocol):
    """Two clocks: one to reckon with, one to show."""

    def now(self) -> float:
        """Return seconds that only go forward, also across daemon restarts within one boot."""
        ...

    def wall(self) -> float:
        """Return Unix time, for people."""
        ...


class LaunchSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One incarnation of a job, ready to start."""

    job: str
    incarnation: int
    argv: tuple[str, ...]
    cwd: str
    env: dict[str, str]
    #: Umask, niceness, CPUs and limits of the shell that asked, in the words of keeper.py; "": the daemon's.
    shell: str = ""
    #: The folder of this incarnation: who runs it, how it ended.
    run_dir: Path
    #: Output is appended to this file; it is made where it is not there.
    log: Path
    #: A line that sets its output apart from what stands in the log already, of an earlier job; "": none.
    log_heading: str = ""
    #: The id of the journal that knows of it; the folder is bound to that.
    journal: str = ""
    #: Nobody can have launched it before: whatever is in its folder is of another run.
    is_first: bool = False
    #: Whom it runs as; None: as the daemon's own user.
    owner: Owner | None = None
    limits: JobLimits = JobLimits()


class Started(msgspec.Struct, frozen=True):
    """The command runs as this process, or this one goes on in its place."""

    job: str
    incarnation: int
    process: Pid


class Orphan(msgspec.Struct, frozen=True):
    """A command that still runs, of which the journal does not know."""

    job: str
    incarnation: int
    process: Pid
    run_dir: Path


class Ended(msgspec.Struct, frozen=True):
    """The command is over, or never came to be."""

    job: str
    incarnation: int
    exit: Exit


class Launcher(Protocol):
    """Starts processes that outlive the daemon, and finds them again."""

    def launch(self, spec: LaunchSpec) -> None:
        """Start an incarnation once, however often this is called; news arrive by `drain()`."""
        ...

    def cannot_limit(self, limits: JobLimits) -> str:
        """Return why no start here could be held to these limits; "": it can."""
        ...

    def adopt(
        self, job: str, incarnation: int, run_dir: Path, *, journal: str = "", process: Pid | None = None
    ) -> bool:
        """Take up an incarnation after a restart; False when nothing of it was ever started.

        A process that is known and lives is taken up whatever became of the folder. One that belongs to
        another journal is not taken for this one's.
        """
        ...

    def last_incarnation(self, job_dir: Path) -> int:
        """Return the highest number of an incarnation that left a folder there, 0 if none did."""
        ...

    def orphans(self, jobs_dir: Path, known: Container[tuple[str, int]]) -> list[Orphan]:
        """Return what still runs there although nobody knows of it."""
        ...

    def fileno(self) -> int:
        """Return a descriptor that is readable when `drain()` has something."""
        ...

    def drain(self) -> list[Started | Ended]:
        """Return what happened since the last call; never blocks."""
        ...

    def left(self, jobs_dir: Path) -> Mapping[str, Collection[int]]:
        """Return the starts of which processes live, or whose keeper does, by job."""
        ...

    def is_alive(self, process: Pid) -> bool:
        """Say whether this very process still runs."""
        ...

    def signal(self, job: str, incarnation: int, number: int, *, whole_tree: bool) -> None:
        """Signal the command, or, with the next `drain()`, all processes it started.

        No error when it is gone; `fileno()` is readable at once.
        """
        ...

    def follow(self, job: str, incarnation: int, process: Pid) -> None:
        """Note who a training shim is in: where the command ends well before it, that one is the job's.

        `Started` tells then who goes on, and `Ended` how that one ended.
        """
        ...

    def end_group(self, job: str, run_dirs: Sequence[Path], *, grace_s: float) -> None:
        """End what starts of a job left: with `drain()` SIGTERM, after the grace time SIGKILL."""
        ...

    def close(self) -> None:
        """Let go; the jobs go on."""
        ...


class JournalRow(msgspec.Struct, frozen=True, kw_only=True):
    """An event with the job as it is afterwards: one line to store."""

    #: Counts up by one from row to row, over all batches.
    seq: int
    job: str
    #: Steady clock, seconds: the `now` that the event was applied with.
    at: float
    #: Unix time, for people.
    wall: float
    event: JobEvent
    #: None: the job was removed.
    after: Job | None


class Unreadable(msgspec.Struct, frozen=True):
    """A stored event that makes no sense, and why."""

    why: str


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One line read back."""

    seq: int
    at: float
    wall: float
    job: str
    event: JobEvent | Unreadable
    #: The job's state afterwards, or "removed".
    state: str


class StoredBlock(NamedTuple):
    """Recorded readings of some minutes: zlib of MessagePack, a list of samples."""

    #: Unix time of the first and of the last sample.
    first: float
    last: float
    block: bytes


class Batch(msgspec.Struct, frozen=True):
    """Rows that are stored together or not at all."""

    number: int
    rows: tuple[JournalRow, ...]
    #: Texts to remember beside the jobs, by name; a name that is not here keeps what it has.
    facts: dict[str, str] = {}


class Journal(Protocol):
    """Remembers jobs across crashes. A batch counts only once `committed()` has reached its number."""

    def jobs(self) -> list[Job]:
        """Return all jobs as last stored."""
        ...

    def unreadable(self) -> dict[str, str]:
        """Return the jobs whose records `jobs()` could not read, by name, with the reason."""
        ...

    def facts(self) -> dict[str, str]:
        """Return the small things that were stored with batches."""
        ...

    def append(self, batch: Batch) -> None:
        """Take a batch to be stored; returns at once. Batches are stored in order."""
        ...

    def committed(self) -> int:
        """Return the number of the last batch that is safe on disk."""
        ...

    def last_seq(self) -> int:
        """Return the sequence number of the newest stored row."""
        ...

    def fileno(self) -> int:
        """Return a descriptor that is readable after `committed()` or `problem()` changed."""
        ...

    def acknowledge(self) -> None:
        """Make `fileno()` unreadable until the next change."""
        ...

    def problem(self) -> str:
        """Return why nothing can be stored at present, or ""."""
        ...

    def history(self, *, after_seq: int, job: str | None, limit: int, user: str = "") -> list[StoredEvent]:
        """Return events after that number, oldest first; with -1 the newest `limit`.

        With a user only those of jobs whose key is his.
        """
        ...

    def record(self, samples: Sequence[Sample], *, limit_bytes: int) -> None:
        """Take readings to be stored when nothing else is to do; they may be lost, jobs' rows never are."""
        ...

    def recorded(self, *, after_wall: float, before_wall: float, limit: int) -> list[StoredBlock]:
        """Return blocks of readings that begin in between, oldest first; older ones are coarser."""
        ...

    def close(self) -> None:
        """Store what was taken, then let go."""
        ...


class Shims(Protocol):
    """The connected shims."""

    def send(self, effect: AskPause | AskResume | AskStop | AskCheckpoint) -> bool:
        """Tell every rank of a job; False when none is connected, which is no error."""
        ...

    def is_saving(self, job: str) -> bool:
        """Say whether its shim is at a boundary, and at work there."""
        ...

    def process(self, job: str) -> Pid | None:
        """Return the process that its shim is in; None when none is connected."""
        ...


class WatchedJob(msgspec.Struct, frozen=True, kw_only=True):
    """One job whose use is measured; all that are not over are watched."""

    name: str
    #: Without a process, only the disk is read.
    process: Pid | None = None
    #: Where its checkpoints go; need not be there yet. None: not known.
    checkpoints: Path | None = None
    #: As whom that is looked at; None: as the daemon's own user.
    uid: int | None = None
    #: GPUs that it was given, by UUID; counted as held where the driver does not tell who holds one.
    gpus: tuple[str, ...] = ()


class Froze(msgspec.Struct, frozen=True):
    """What came of freezing or thawing."""

    process: Pid
    #: Whether its devices are free now; None: that cannot be told.
    is_frozen: bool | None
    #: Why it is not as it was to be, or "".
    problem: str = ""


class ProcessFreezer(Protocol):
    """Frees what a process that waits still holds of its devices. Never to be used on one that trains."""

    def freeze(self, process: Pid) -> None:
        """Free its devices; returns at once, news arrive by `drain()`. May be repeated."""
        ...

    def thaw(self, process: Pid) -> None:
        """Let it go on as before; returns at once, news arrive by `drain()`. May be repeated."""
        ...

    def fileno(self) -> int:
        """Return a descriptor that is readable when `drain()` has something."""
        ...

    def drain(self) -> list[Froze]:
        """Return what came of it since the last call; never blocks."""
        ...

    def close(self) -> None:
        """Let go; what is frozen stays so."""
        ...


class Sampler(Protocol):
    """Looks at the machine. What may hang is read aside; a sample takes the newest that is known."""

    def watch(self, programs: Collection[str], *, memory_low_pct: float = 8.0) -> None:
        """Look for these programs from now on, and sooner where memory could be low before the next look."""
        ...

    def sample(self, jobs: Sequence[WatchedJob], *, at: float, wall: float) -> Sample:
        """Return all readings of this moment; returns at once."""
        ...

    def wait_s(self, interval_s: float) -> float:
        """Return how long to wait until the next sample: the interval, or less while memory is scarce."""
        ...

    def fileno(self) -> int:
        """Return a descriptor that is readable (POLLIN) when memory became short: sample at once."""
        ...

    def acknowledge(self) -> None:
        """Make `fileno()` unreadable; the next sample is urgent. Call it only when it was readable."""
        ...

    def close(self) -> None:
        """Let go; never waits for a call that hangs."""
        ...


@dataclass(frozen=True)
class World:
    """The adapters that the engine works with."""

    clock: Clock
    journal: Journal
    launcher: Launcher
    shims: Shims
    freezer: ProcessFreezer
    #: What the shim of an incarnation left in writing before its process ended, if anything.
    receipt: Callable[[str, int], PauseReached | None]
