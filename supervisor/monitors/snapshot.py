"""One immutable sample a tick, put together from all monitors.

Covers: what is read how often, and what the daemon waits on between samples.
Does not cover: the readings themselves (the other modules here), what follows
from them (core/policy.py).
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from contextlib import suppress

from supervisor.core.job import Pid
from supervisor.core.sample import JobUse, Missing, Sample
from supervisor.monitors.process_tree import ProcessTree, Usage, cpu_percent
from supervisor.ports import WatchedJob

__all__ = ["Sampler"]

_NO_PROCESS = JobUse(cpu_pct=Missing("it has no process"), rss_bytes=Missing("it has no process"))


class Sampler:
    """See ports.Sampler."""

    def __init__(self) -> None:
        self._programs: frozenset[str] = frozenset()
        self._trees: dict[Pid, tuple[ProcessTree, Usage | None, float]] = {}
        self._is_urgent = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def watch(self, programs: Collection[str], *, memory_low_pct: float = 5.0) -> None:  # noqa: ARG002
        """Look for these programs from now on."""
        self._programs = frozenset(programs)

    def sample(self, jobs: Sequence[WatchedJob], *, at: float, wall: float) -> Sample:
        """Return all readings of this moment."""
        local = time.localtime(wall)
        trees = {}
        uses = {}
        for job in jobs:
            uses[job.name] = _NO_PROCESS
            if job.process is None:
                continue
            tree, before, before_at = self._trees.get(job.process) or (ProcessTree(job.process), None, at)
            usage = tree.read()
            trees[job.process] = (tree, usage, at)
            if usage is not None:
                cpu = cpu_percent(before, usage, at - before_at) if before else Missing("first reading")
                uses[job.name] = JobUse(
                    cpu_pct=cpu, rss_bytes=usage.rss_bytes, num_processes=usage.num_processes
                )
        self._trees = trees
        is_urgent, self._is_urgent = self._is_urgent, False
        return Sample(
            at=at,
            wall=wall,
            weekday=local.tm_wday,
            second_of_day=local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec,
            jobs=uses,
            is_urgent=is_urgent,
        )

    def wait_s(self, interval_s: float) -> float:
        """Return how long to wait until the next sample."""
        return interval_s

    def fileno(self) -> int:
        """Return a descriptor that is readable when memory became short."""
        return self._wake

    def acknowledge(self) -> None:
        """Make `fileno()` unreadable; the next sample is urgent."""
        self._is_urgent = True
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)

    def close(self) -> None:
        """Let go."""
        os.close(self._wake)
