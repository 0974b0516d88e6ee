"""One immutable sample a tick, put together from all monitors.

Covers: what is read how often, whose use is whose, and when to look again
sooner than asked.
Does not cover: the readings themselves (the other modules here), what follows
from them (core/policy/decide.py).

Foreign CPU is what is left of the whole when ours is taken away, and can be wrong
for one sample: a job that ended meanwhile took its last bit with it, and counts
as busy as it was before; a job that is read for the first time counts with all
it has used. Both make foreign use too small rather than too large.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from supervisor.core.jobs.job import Pid
from supervisor.core.readings.sample import DiskReading, Gpu, JobUse, Missing, Reading, Sample, Totals
from supervisor.core.replacing import replace
from supervisor.monitors.background_call import BackgroundCall
from supervisor.monitors.gpu import Gpus
from supervisor.monitors.group_counters import GroupCounters, GroupUse
from supervisor.monitors.host import Cpu, HostMemory, load_1min
from supervisor.monitors.pressure import MemoryTrigger, PressureFiles
from supervisor.monitors.processes import Processes, Usage
from supervisor.monitors.programs import Programs
from supervisor.monitors.sensors import SensorReading, read_sensors
from supervisor.monitors.user_folders import Place, UserFolders
from supervisor.ports import WatchedJob
from supervisor.system.cgroups import cpu_groups, memory_groups

__all__ = ["MachineSampler"]

_NO_PROCESS: Final = Missing("it has no process")
_FIRST: Final = Missing("it takes two readings")
_NO_FOLDER: Final = DiskReading(
    Missing("no checkpoint folder is known"), Missing("no checkpoint folder is known")
)
#: CPU time is counted in ticks of 10 ms: over less than this the per cents are noise.
_CPU_S: Final = 0.4
#: The next look at memory comes before a program that takes that much a second can have made it
#: low: many threads at once do that, one takes 2 to 3 GB. But not more often than this.
_FASTEST_BYTES_PER_S: Final = 8e9
_HURRY_S: Final = 0.1
#: Low memory is an emergency when it is gone in that time at the rate of the last two samples.
_HORIZON_S: Final = 2.0
_SENSORS_S: Final = 5.0
_PROGRAMS_S: Final = 5.0


#: A job and its command; None: only what earlier ones left.
_Root = tuple[str, Pid | None]


class MachineSampler:
    """See ports.Sampler. For one thread."""

    def __init__(
        self,
        *,
        proc: Path = Path("/proc"),
        sys: Path = Path("/sys"),
        gpus: Gpus | None = None,
        folders: UserFolders | None = None,
        jobs: Path | None = None,
    ) -> None:
        """`jobs` is the folder that the marks of jobs' processes lie below (supervisor/system/marks.py)."""
        self._processes = Processes(proc=proc, jobs=jobs)
        self._group_counters = GroupCounters(jobs, proc=proc)
        self._programs = Programs(proc=proc)
        self._cpu = Cpu(proc=proc)
        self._memory = HostMemory(proc=proc)
        self._pressure = PressureFiles(folder=proc / "pressure")
        self._trigger = MemoryTrigger([proc / "pressure/memory"])
        self._gpus = gpus or Gpus()
        self._folders = folders or UserFolders()
        self._sensors = BackgroundCall("the hardware", lambda: read_sensors(sys))
        self._memory_low_pct = 8.0
        self._memory_lasts_s = float("inf")
        self._was_called = False
        self._interval_s = 1.0
        self._asked_sensors_at = self._looked_for_programs_at = float("-inf")
        self._running: tuple[str, ...] | Missing = ()
        self._last: Sample | None = None
        #: The last one with all readings, and the CPU time used until then.
        self._full_at = float("-inf")
        self._usages: dict[_Root, Usage] = {}
        #: What each was using then; 100 is one CPU.
        self._rates: dict[_Root, float] = {}
        self._watched: tuple[tuple[str, Pid | None], ...] = ()
        self._look_at_groups(proc)

    def watch(self, programs: Collection[str], *, memory_low_pct: float = 8.0) -> None:
        """Look for these programs from now on, and sooner where memory could be low before the next look."""
        self._memory_low_pct = memory_low_pct
        if self._programs.watch(programs):
            self._looked_for_programs_at = float("-inf")

    def sample(self, jobs: Sequence[WatchedJob], *, at: float, wall: float) -> Sample:
        """Return all readings of this moment; in a hurry, those of memory and pressure are the new ones."""
        watched = tuple((job.name, job.process) for job in jobs)
        last, dt_s = self._last, at - self._full_at
        if last is None or dt_s >= _CPU_S or watched != self._watched:
            self._watched = watched
            last = self._full(jobs, at=at)
        else:
            # The means are of an earlier moment.
            last = replace(last, cpu_over_s=0.0)
        # Else the time zone would stay what it was at the start: somebody moves, and so do "9 to 6".
        time.tzset()
        local = time.localtime(wall)
        memory = self._memory.read(at=at)
        sample = replace(
            last,
            at=at,
            wall=wall,
            weekday=local.tm_wday,
            second_of_day=local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec,
            memory_total_bytes=memory.total_bytes,
            memory_available_bytes=memory.available_bytes,
            swap_total_bytes=memory.swap_total_bytes,
            swap_used_bytes=memory.swap_used_bytes,
            pressure=self._pressure.read(),
        )
        is_emergency = self._look_ahead(self._last, sample)
        was_called, self._was_called = self._was_called, False
        self._last = replace(sample, is_urgent=was_called or is_emergency)
        return self._last

    def wait_s(self, interval_s: float) -> float:
        """Return how long to wait until the next sample."""
        return min(interval_s, max(_HURRY_S, self._memory_lasts_s))

    def fileno(self) -> int:
        """Return a descriptor that is readable when the kernel says that memory became short."""
        return self._trigger.fileno()

    def acknowledge(self) -> None:
        """Make `fileno()` unreadable; the next sample is urgent."""
        self._trigger.acknowledge()
        self._was_called = True

    def close(self) -> None:
        """Let go; never waits for a call that hangs."""
        for one in (
            self._cpu,
            self._memory,
            self._pressure,
            self._trigger,
            self._gpus,
            self._folders,
            self._sensors,
        ):
            one.close()

    def _look_at_groups(self, proc: Path) -> None:
        """Take pressure from the group around us where it is limited: it feels a shortage of its own."""
        for memory in memory_groups(proc=proc)[:1]:
            self._pressure.limit_to("memory", memory.folder)
            self._trigger.add(memory.folder / "memory.pressure")
        for cpu in cpu_groups(proc=proc)[:1]:
            self._pressure.limit_to("cpu", cpu.folder)

    def _full(self, jobs: Sequence[WatchedJob], *, at: float) -> Sample:
        dt_s, self._full_at = at - self._full_at, at
        if dt_s < 60:
            self._interval_s = dt_s
        cpu = self._cpu.read(at=at)
        roots = {job.name: job.process for job in jobs if job.process is not None}
        usages, groups = self._processes.read(roots, at=at), self._group_counters.read(roots)
        usages = {name: _with_group(usage, groups.get(name)) for name, usage in usages.items()}
        rates = self._advance({(name, roots.get(name)): usage for name, usage in usages.items()}, dt_s)
        gpus = self._gpus.read(self._processes.owner, at=at, interval_s=self._interval_s)
        places = {job.name: Place(job.uid, job.checkpoints) for job in jobs if job.checkpoints is not None}
        disks = self._folders.read(set(places.values()), at=at)
        sensors = self._read_sensors(at)
        foreign: Reading = cpu.pct
        ours: Reading = cpu.pct
        if not isinstance(cpu.pct, Missing):
            ours = min(sum(rates.values()) / cpu.num_cpus, cpu.pct)
            foreign = cpu.pct - ours
        return Sample(
            at=at,
            num_cpus=cpu.num_cpus,
            cpu_pct=cpu.pct,
            cpu_ours_pct=ours,
            cpu_foreign_pct=foreign,
            cpu_over_s=0.0 if isinstance(foreign, Missing) else dt_s,
            load_1min=load_1min(),
            temperature_c=sensors.temperature_c,
            on_battery=sensors.on_battery,
            battery_pct=sensors.battery_pct,
            gpus=gpus,
            programs=self._look_for_programs(at),
            left=self._processes.left(),
            totals={name: _totals(usages[name], groups.get(name)) for name in roots if name in usages},
            jobs={
                job.name: replace(
                    self._use(job, usages.get(job.name), gpus),
                    disk=disks[places[job.name]] if job.name in places else _NO_FOLDER,
                )
                for job in jobs
            },
        )

    def _advance(self, usages: Mapping[_Root, Usage], dt_s: float) -> dict[_Root, float]:
        """Return what each root used of a CPU since the reading before, those that ended meanwhile too."""
        before, self._usages = self._usages, dict(usages)
        rates = {process: rate for process, rate in self._rates.items() if process not in usages}
        self._rates = {}
        for process, usage in usages.items():
            known = before.get(process)
            rate = 100 * usage.cpu_since(known) / dt_s if dt_s > 0 else 0.0
            rates[process] = rate
            if known is not None:
                self._rates[process] = rate
        return rates

    def _use(self, job: WatchedJob, usage: Usage | None, gpus: tuple[Gpu, ...] | Missing) -> JobUse:
        if usage is None or job.process is None:
            return JobUse(cpu_pct=_NO_PROCESS, rss_bytes=_NO_PROCESS)
        return JobUse(
            cpu_pct=self._rates.get((job.name, job.process), _FIRST),
            rss_bytes=float(usage.rss_bytes),
            num_processes=usage.num_processes,
            gpu_bytes=_held(job, gpus),
        )

    def _look_for_programs(self, at: float) -> tuple[str, ...] | Missing:
        if at - self._looked_for_programs_at >= _PROGRAMS_S:
            self._looked_for_programs_at = at
            self._running = self._programs.running(self._processes.foreign())
        return self._running

    def _read_sensors(self, at: float) -> SensorReading:
        if at - self._asked_sensors_at >= _SENSORS_S:
            self._asked_sensors_at = at
            self._sensors.ask()
        answer = self._sensors.answer(max_age_s=3 * _SENSORS_S)
        return SensorReading(answer, answer, answer) if isinstance(answer, Missing) else answer

    def _look_ahead(self, before: Sample | None, now: Sample) -> bool:
        """Reckon when memory can be low at the earliest; say whether it is about to be gone."""
        available, total = now.memory_available_bytes, now.memory_total_bytes
        self._memory_lasts_s = float("inf")
        if isinstance(available, Missing) or isinstance(total, Missing):
            return False
        low = total * self._memory_low_pct / 100
        self._memory_lasts_s = (available - low) / _FASTEST_BYTES_PER_S
        if before is None or isinstance(before.memory_available_bytes, Missing) or now.at <= before.at:
            return False
        falling = (before.memory_available_bytes - available) / (now.at - before.at)
        return available < low and available < falling * _HORIZON_S


def _with_group(usage: Usage, group: GroupUse | None) -> Usage:
    """Return the use of a job with what its group says better: each page of memory once, and all CPU time."""
    if group is None:
        return usage
    rss_bytes = usage.rss_bytes if group.memory_bytes is None else group.memory_bytes
    return replace(usage, rss_bytes=rss_bytes, group_cpu_s=group.totals.cpu_s)


def _totals(usage: Usage, group: GroupUse | None) -> Totals:
    totals = Totals() if group is None else group.totals
    return totals if totals.cpu_s is not None else replace(totals, cpu_s=usage.cpu_s)


def _held(job: WatchedJob, gpus: tuple[Gpu, ...] | Missing) -> dict[str, int | None]:
    """Return what a job holds of each GPU; of one that does not tell, what it was given."""
    held: dict[str, int | None] = {}
    if isinstance(gpus, Missing):
        return dict.fromkeys(job.gpus)
    for gpu in gpus:
        if isinstance(gpu.processes, Missing):
            if gpu.uuid in job.gpus:
                held[gpu.uuid] = None
            continue
        mine = [process.used_bytes for process in gpu.processes if process.job == job.name]
        if mine:
            known = [used for used in mine if used is not None]
            held[gpu.uuid] = sum(known) if len(known) == len(mine) else None
    return held
