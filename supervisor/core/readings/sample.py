"""What was measured at one moment: all readings of one tick, as one immutable record.

Covers: the shape of a sample and of what is missing in it.
Does not cover: measuring (monitors/), which numbers a rule can ask for
(metrics.py), what follows from them (policy.py).

A value that could not be read is `Missing` with its reason, never zero: a rule
must be able to tell an idle GPU from one that does not answer. The journal
stores these records, so a new field needs a default.
"""

from __future__ import annotations

import msgspec

__all__ = [
    "DiskReading",
    "Gpu",
    "GpuProcess",
    "JobUse",
    "Left",
    "Missing",
    "Pressure",
    "Reading",
    "Sample",
    "Totals",
]


class Missing(msgspec.Struct, frozen=True):
    """A value that could not be read, and why, in words for people."""

    why: str


Reading = float | Missing

_UNREAD = Missing("not measured")


class GpuProcess(msgspec.Struct, frozen=True, omit_defaults=True):
    """One process that holds a GPU."""

    pid: int
    #: None where the driver does not tell.
    used_bytes: int | None = None
    #: The job that it belongs to, or "": foreign.
    job: str = ""
    #: False: it only draws, as every program of a desktop does.
    computes: bool = True


class Gpu(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One GPU. Its UUID is its name everywhere: indices change with CUDA_VISIBLE_DEVICES."""

    uuid: str
    index: int = 0
    name: str = ""
    utilization_pct: Reading = _UNREAD
    memory_used_bytes: Reading = _UNREAD
    memory_total_bytes: Reading = _UNREAD
    temperature_c: Reading = _UNREAD
    power_w: Reading = _UNREAD
    processes: tuple[GpuProcess, ...] | Missing = _UNREAD


class Pressure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Share of the last 10 s in which some or all tasks waited for a resource, per cent (kernel: PSI)."""

    cpu_some_pct: Reading = _UNREAD
    memory_some_pct: Reading = _UNREAD
    memory_full_pct: Reading = _UNREAD
    io_some_pct: Reading = _UNREAD
    io_full_pct: Reading = _UNREAD


class DiskReading(msgspec.Struct, frozen=True, omit_defaults=True):
    """The file system under a checkpoint folder."""

    free_bytes: Reading = _UNREAD
    total_bytes: Reading = _UNREAD
    #: Whether the folder itself is there, as far as anybody could look.
    is_there: bool = True


class JobUse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the process tree of one job uses; without a process all but the disk is missing."""

    #: 100 is one CPU fully used. Missing at the first reading of a process: it takes two.
    cpu_pct: Reading = _UNREAD
    rss_bytes: Reading = _UNREAD
    num_processes: int = 0
    #: By UUID, only GPUs that it holds; None where the driver does not tell how much.
    gpu_bytes: dict[str, int | None] = {}
    disk: DiskReading = DiskReading()


class Totals(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the present start of a job has used up so far; None: nobody counts that here."""

    cpu_s: float | None = None
    #: The most memory that it held at once, with what the kernel kept of its files.
    peak_bytes: int | None = None
    #: From and to disks.
    read_bytes: int | None = None
    written_bytes: int | None = None


class Left(msgspec.Struct, frozen=True):
    """A process that outlived the command of its job."""

    pid: int
    program: str
    rss_bytes: int = 0


class Sample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All readings of one tick. Per cents of CPU are of all CPUs that we may use: 0 to 100."""

    #: The daemon's steady clock, seconds.
    at: float
    #: Unix time, for people.
    wall: float = 0.0
    #: Local time for time windows: Monday is 0, and seconds since midnight.
    weekday: int = 0
    second_of_day: int = 0

    #: CPUs that we may use: the affinity mask and the cgroup's quota are respected.
    num_cpus: float = 1.0
    cpu_pct: Reading = _UNREAD
    #: Of all jobs together, and of everybody else.
    cpu_ours_pct: Reading = _UNREAD
    cpu_foreign_pct: Reading = _UNREAD
    #: Those three are means over so many seconds, up to this moment; 0: not to be said.
    cpu_over_s: float = 0.0
    load_1min: Reading = _UNREAD

    #: Of the host or of our cgroup, whichever is less.
    memory_total_bytes: Reading = _UNREAD
    memory_available_bytes: Reading = _UNREAD
    swap_total_bytes: Reading = _UNREAD
    swap_used_bytes: Reading = _UNREAD
    pressure: Pressure = Pressure()

    #: Of the hottest sensor of the CPU.
    temperature_c: Reading = _UNREAD
    #: 1 while it runs on battery, 0 on mains; a machine without a battery is on mains.
    on_battery: Reading = _UNREAD
    battery_pct: Reading = _UNREAD

    #: Missing: no driver, or it does not answer. An empty tuple: there is none.
    gpus: tuple[Gpu, ...] | Missing = _UNREAD
    #: Those of the programs that rules name which run now and are not ours; Missing: could not look.
    programs: tuple[str, ...] | Missing = ()
    #: By name, all jobs that are not over.
    jobs: dict[str, JobUse] = {}
    #: By name, also of jobs that are over: what their commands left running, at most some of each.
    left: dict[str, tuple[Left, ...]] = {}
    #: By name, of jobs with a process. Shown and not recorded: they only grow.
    totals: dict[str, Totals] = {}
    #: The kernel woke us: memory became short between two ticks.
    is_urgent: bool = False
