"""A machine whose readings the test sets.

Covers: everything that tests/contract/test_sampler.py demands.
Does not cover: reading anything; a job with a process uses what `uses` says, or next to nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from contextlib import suppress

from msgspec.structs import replace

from supervisor.core.jobs.job import Pid
from supervisor.core.readings.sample import DiskReading, JobUse, Missing, Sample, Totals
from supervisor.ports import WatchedJob

__all__ = ["FakeSampler"]


class FakeSampler:
    """See ports.Sampler."""

    def __init__(self) -> None:
        #: What all samples show; moment, jobs and urgency are filled in.
        self.host = Sample(
            at=0.0,
            num_cpus=8.0,
            cpu_pct=2.0,
            cpu_ours_pct=1.0,
            cpu_foreign_pct=1.0,
            load_1min=0.2,
            memory_total_bytes=64.0 * 2**30,
            memory_available_bytes=48.0 * 2**30,
            swap_total_bytes=0.0,
            swap_used_bytes=0.0,
            on_battery=0.0,
            gpus=(),
        )
        #: By job: what its processes use, in place of next to nothing.
        self.uses: dict[str, JobUse] = {}
        #: By job: the disk under its checkpoints.
        self.disks: dict[str, DiskReading] = {}
        #: Programs that run, named by a rule or not.
        self.running: set[str] = set()
        #: Processes that are over, whatever the caller believes.
        self.over: set[Pid] = set()
        #: What was asked for last.
        self.watched: frozenset[str] = frozenset()
        self.memory_low_pct = 8.0
        self.is_hurried = False
        self._seen: set[Pid] = set()
        self._is_urgent = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def wake(self) -> None:
        """Be the kernel that tells that memory became short."""
        os.eventfd_write(self._wake, 1)

    def watch(self, programs: Collection[str], *, memory_low_pct: float = 8.0) -> None:
        self.watched = frozenset(programs)
        self.memory_low_pct = memory_low_pct

    def sample(self, jobs: Sequence[WatchedJob], *, at: float, wall: float) -> Sample:
        local = time.localtime(wall)
        is_urgent, self._is_urgent = self._is_urgent, False
        uses = {job.name: self._use(job) for job in jobs}
        self._seen = {job.process for job in jobs if job.process is not None}
        return replace(
            self.host,
            at=at,
            wall=wall,
            weekday=local.tm_wday,
            second_of_day=local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec,
            programs=tuple(sorted(self.running & self.watched)),
            jobs=uses,
            totals={name: Totals(cpu_s=at) for name, use in uses.items() if use.num_processes},
            is_urgent=is_urgent,
        )

    def wait_s(self, interval_s: float) -> float:
        return min(interval_s, 0.1) if self.is_hurried else interval_s

    def fileno(self) -> int:
        return self._wake

    def acknowledge(self) -> None:
        self._is_urgent = True
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)

    def close(self) -> None:
        os.close(self._wake)

    def _use(self, job: WatchedJob) -> JobUse:
        disk = self.disks.get(job.name, DiskReading(free_bytes=5e11, total_bytes=1e12))
        if job.checkpoints is None:
            disk = DiskReading(
                Missing("no checkpoint folder is known"), Missing("no checkpoint folder is known")
            )
        if job.process is None or job.process in self.over:
            gone = Missing("it has no process")
            return JobUse(cpu_pct=gone, rss_bytes=gone, disk=disk)
        default = JobUse(cpu_pct=100.0, rss_bytes=float(2**30), num_processes=1)
        use = replace(self.uses.get(job.name, default), disk=disk)
        is_new = job.process not in self._seen
        return replace(use, cpu_pct=Missing("it takes two readings")) if is_new else use
