"""A small world in which a policy is tried: recorded or invented readings, jobs that obey, what came of it.

Covers: `simulate`, the corrections that make one machine's readings those of
another decision, and the measures. Does not cover: reading recordings (store/),
printing (cli/, benchmarks/).

The loop is closed. A job that runs in the simulation loads the machine, one that
yields gives back what its depth gives back, and both take their time. What the
jobs of a recording used is taken out of its readings first, so a decision that
was not taken that day is answered as the machine would have answered. Only
pressure and load averages stay as they were recorded: nobody can know them.

Jobs change through `apply`, so a policy that asks for what a job's state does
not allow fails here, not on somebody's machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from supervisor.core.jobs import apply as core
from supervisor.core.jobs.events import (
    Admitted,
    Attached,
    JobEvent,
    PauseAsked,
    PauseReached,
    ProcessEnded,
    ResumeAsked,
    Submitted,
    TrainingResumed,
)
from supervisor.core.jobs.job import Asker, CheckpointRef, Exit, Job, JobSpec
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.jobs.verdict import Verdict
from supervisor.core.policy import decide as policy
from supervisor.core.policy.conditions import combined, look_at_all
from supervisor.core.policy.hysteresis import Side
from supervisor.core.policy.memory import Footprint, Memory
from supervisor.core.policy.rulebook import place_kind
from supervisor.core.policy.rules import Settings
from supervisor.core.policy.scene import FILL_S, selects
from supervisor.core.policy.usage import Account, charged, is_over, num_slots, use_of
from supervisor.core.readings.sample import JobUse, Missing, Sample
from supervisor.core.readings.whatif import corrected, or_zero
from supervisor.core.replacing import replace

__all__ = ["Decider", "Happening", "JobReport", "SimJob", "SimulationReport", "recorded_jobs", "simulate"]

Decider = Callable[[Sequence[Job], Sample, Any, float], tuple[tuple[Verdict, ...], Any]]

_GRACE_S: Final = 60.0
#: Per cent of one CPU; a recorded job that used less held at a boundary.
_HOLDS_PCT: Final = 1.0
_ENDED: Final = Exit(code=core.EXIT_YIELDED)


class SimJob(msgspec.Struct, frozen=True, kw_only=True):
    """One job of the simulation."""

    name: str
    spec: JobSpec = JobSpec(argv=("train",), cwd="/")
    demand: Footprint = Footprint(cpu_pct=100.0, rss_bytes=float(1 << 30))
    #: Seconds after the first sample when it is submitted.
    arrives_s: float = 0.0
    #: It ran already before the first sample, and had filled its memory.
    was_running: bool = False
    #: Seconds of training after which it ends; None: it never does.
    work_s: float | None = None
    #: Seconds to the next boundary and a durable checkpoint; from a held process to training; from nothing.
    save_s: float = 4.0
    return_s: float = 1.0
    start_s: float = 20.0
    depths: tuple[Depth, ...] = (Depth.HOLD, Depth.EXIT)


class Happening(msgspec.Struct, frozen=True):
    """One verdict of the simulation."""

    at: float
    job: str
    kind: str
    rule: str
    reason: str
    depth: Depth | None = None


class JobReport(msgspec.Struct, kw_only=True):
    """What became of one job."""

    name: str
    paused_s: float = 0.0
    queued_s: float = 0.0
    ran_s: float = 0.0
    num_pauses: int = 0
    #: How many of its pauses came within `flap_window_s` after a return.
    num_flaps: int = 0
    #: Seconds in which it ran, or was on its way to yield, while the machine was short.
    late_s: float = 0.0
    #: Seconds in which it was paused while the machine would have had room for all jobs.
    needless_s: float = 0.0
    state: JobState = JobState.QUEUED
    returned_at: float | None = None


class SimulationReport(msgspec.Struct, kw_only=True):
    """What became of all."""

    duration_s: float
    num_samples: int
    jobs: dict[str, JobReport]
    timeline: list[Happening]

    def total(self, what: str) -> float:
        """Return the sum of one measure over all jobs."""
        return float(sum(getattr(job, what) for job in self.jobs.values()))


def simulate(
    samples: Iterable[Sample],
    settings: Settings,
    jobs: Sequence[SimJob],
    *,
    decide: Decider | None = None,
) -> SimulationReport:
    """Let a policy, ours or another, act on these readings and return what came of it."""
    world = _World(settings, jobs, decide or _ours(settings))
    for sample in samples:
        world.step(sample)
    return world.report()


def _ours(settings: Settings) -> Decider:
    def decide(
        jobs: Sequence[Job], sample: Sample, memory: Any, now: float
    ) -> tuple[tuple[Verdict, ...], Memory]:
        return policy.decide(jobs, sample, settings, memory or Memory(), now)

    return decide


class _World:
    """The jobs, what is on its way to them, and the books."""

    def __init__(self, settings: Settings, jobs: Sequence[SimJob], decide: Decider) -> None:
        self.settings = settings
        self.sims = {job.name: job for job in jobs}
        self.decide = decide
        self.memory: Any = None
        self.usage: dict[str, Account] = {}
        self.jobs: dict[str, Job] = {}
        self.coming: list[tuple[float, str, JobEvent]] = []
        self.reports: dict[str, JobReport] = {}
        self.timeline: list[Happening] = []
        self.first_at: float | None = None
        self.now = 0.0
        self.num_samples = 0

    def step(self, sample: Sample) -> None:
        """Let time pass up to a sample, decide, and begin what was decided."""
        if self.first_at is None:
            self.first_at = self.now = sample.at
        gap_s, self.now = sample.at - self.now, sample.at
        self.num_samples += 1
        self._arrive()
        self._deliver()
        self._book(sample, gap_s)
        seen = corrected(sample, {name: self._use(job) for name, job in self.jobs.items() if not job.is_over})
        if isinstance(self.memory, Memory):
            # Ours is told, as the daemon tells it, what users have had.
            self.memory = replace(self.memory, usage=self.usage)
        verdicts, self.memory = self.decide(tuple(self.jobs.values()), seen, self.memory, self.now)
        for verdict in verdicts:
            self._carry_out(verdict)

    def report(self) -> SimulationReport:
        """Close the books."""
        duration_s = 0.0 if self.first_at is None else self.now - self.first_at
        for name, report in self.reports.items():
            report.state = self.jobs[name].state
        return SimulationReport(
            duration_s=duration_s, num_samples=self.num_samples, jobs=self.reports, timeline=self.timeline
        )

    def _arrive(self) -> None:
        assert self.first_at is not None
        for name, sim in self.sims.items():
            if name not in self.jobs and self.now - self.first_at >= sim.arrives_s:
                age_s = max(FILL_S, self.settings.policy.min_run_s) if sim.was_running else 0.0
                event = Submitted(id=f"j-{name}", spec=sim.spec)
                self.jobs[name] = core.create(name, event, self.now - age_s)
                self.reports[name] = JobReport(name=name)
                if sim.was_running:
                    held = tuple(sim.demand.gpu_bytes)
                    self._happen(name, Admitted(start_grace_s=_GRACE_S, gpus=held), age_s)
                    attached = Attached(incarnation=self.jobs[name].incarnation, depths=sim.depths)
                    self._happen(name, attached, age_s)

    def _happen(self, name: str, event: JobEvent, ago_s: float = 0.0) -> None:
        before = self.jobs[name]
        self.jobs[name], _ = core.apply(before, event, self.now - ago_s)
        if is_over(before, self.jobs[name]):
            shares = self.settings.shares
            slots = num_slots(before, self.sims[name].demand.gpu_bytes, shares)
            self.usage = charged(self.usage, use_of(before, slots, self.now), shares, self.now)

    def _later(self, after_s: float, name: str, event: JobEvent) -> None:
        self.coming.append((self.now + after_s, name, event))

    def _deliver(self) -> None:
        if self.coming:
            due = [one for one in self.coming if one[0] <= self.now]
            self.coming = [one for one in self.coming if one[0] > self.now]
            for _, name, event in due:
                self._happen(name, event)
        for name, report in self.reports.items():
            work_s, job = self.sims[name].work_s, self.jobs[name]
            if work_s is not None and report.ran_s >= work_s and job.state is JobState.RUNNING:
                self._happen(name, ProcessEnded(incarnation=job.incarnation, exit=Exit(code=0)))

    def _carry_out(self, verdict: Verdict) -> None:
        name, by = verdict.job, Asker("rule", verdict.rule)
        sim, job, report = self.sims[name], self.jobs[name], self.reports[name]
        self.timeline.append(
            Happening(self.now, name, verdict.kind, verdict.rule, verdict.reason, verdict.depth)
        )
        request = f"{len(self.timeline)}"
        if verdict.kind == "start":
            self._happen(name, Admitted(start_grace_s=_GRACE_S, gpus=verdict.gpus))
            self._attach(name, sim)
        elif verdict.kind == "resume":
            report.returned_at = self.now
            self._happen(name, ResumeAsked(request=request, by=by, start_grace_s=_GRACE_S, gpus=verdict.gpus))
            if job.alive:
                self._later(sim.return_s, name, TrainingResumed(request=request))
            else:
                self._attach(name, sim)
        else:
            if verdict.kind == "pause":
                self._count_pause(report)
            self._yield(verdict, by, request)

    def _attach(self, name: str, sim: SimJob) -> None:
        self._later(sim.start_s, name, Attached(incarnation=self.jobs[name].incarnation, depths=sim.depths))

    def _count_pause(self, report: JobReport) -> None:
        report.num_pauses += 1
        soon_s = self.settings.policy.flap_window_s
        if report.returned_at is not None and self.now - report.returned_at <= soon_s:
            report.num_flaps += 1

    def _yield(self, verdict: Verdict, by: Asker, request: str) -> None:
        name, depth = verdict.job, verdict.depth or Depth.HOLD
        took_s = self.sims[name].save_s if verdict.kind == "pause" else 1.0
        self._happen(
            name,
            PauseAsked(
                request=request, by=by, depth=depth, deadline_s=verdict.deadline_s, reason=verdict.reason
            ),
        )
        saved = CheckpointRef(step=len(self.timeline), epoch=0, path="/", digest=request)
        self._later(took_s, name, PauseReached(request=request, depth=depth, checkpoint=saved))
        if depth is Depth.EXIT:
            ended = ProcessEnded(incarnation=self.jobs[name].incarnation, exit=_ENDED, yielded=True)
            self._later(took_s, name, ended)

    def _use(self, job: Job) -> JobUse:
        """Return what a job uses in its state."""
        demand = self.sims[job.name].demand
        if (
            not job.alive
            or job.state is JobState.STARTING
            or (job.state is JobState.RESUMING and not job.depths)
        ):
            return JobUse()
        gpu_bytes: dict[str, int | None] = {uuid: int(bytes_) for uuid, bytes_ in demand.gpu_bytes.items()}
        for uuid in job.gpus:
            gpu_bytes.setdefault(uuid, job.spec.gpu_memory_bytes)
        if job.state is JobState.PAUSED:
            gpu_bytes = {} if job.depth is Depth.OFFLOAD else gpu_bytes
            return JobUse(cpu_pct=0.0, rss_bytes=demand.rss_bytes, num_processes=1, gpu_bytes=gpu_bytes)
        return JobUse(
            cpu_pct=demand.cpu_pct, rss_bytes=demand.rss_bytes, num_processes=1, gpu_bytes=gpu_bytes
        )

    def _book(self, sample: Sample, gap_s: float) -> None:
        """Add the time since the last sample to what each job did in it."""
        is_short: dict[str, bool] | None = None
        for name, report in self.reports.items():
            job = self.jobs[name]
            match job.state:
                case JobState.QUEUED:
                    report.queued_s += gap_s
                case JobState.RUNNING | JobState.PAUSING:
                    report.ran_s += gap_s
                    is_short = is_short or self._shortages(sample)
                    report.late_s += gap_s * is_short[name]
                case JobState.PAUSED:
                    report.paused_s += gap_s
                    is_short = is_short or self._shortages(sample)
                    report.needless_s += gap_s * (not is_short[name])

    def _shortages(self, sample: Sample) -> dict[str, bool]:
        """Say for each job whether a rule about it would be short at this moment if all jobs ran."""
        uses = {
            name: JobUse(
                cpu_pct=self.sims[name].demand.cpu_pct,
                rss_bytes=self.sims[name].demand.rss_bytes,
                num_processes=1,
                gpu_bytes={uuid: int(b) for uuid, b in self.sims[name].demand.gpu_bytes.items()},
            )
            for name, job in self.jobs.items()
            if not job.is_over
        }
        full = corrected(sample, uses)
        short = dict.fromkeys(self.jobs, False)
        for rule in self.settings.rules:
            if rule.enabled:
                kind = place_kind(rule)
                sides: dict[str, Side] = {}
                for name, job in self.jobs.items():
                    if short[name] or not selects(rule.jobs, job):
                        continue
                    spots = [""] if kind == "host" else [name] if kind == "job" else _gpus_of(job, uses)
                    for spot in spots:
                        if spot not in sides:
                            sides[spot] = combined(rule.when, look_at_all(rule.when, full, spot))
                        short[name] |= sides[spot] is Side.SHORT
        return short


def _gpus_of(job: Job, uses: dict[str, JobUse]) -> list[str]:
    use = uses.get(job.name)
    return list(dict.fromkeys((*job.gpus, *(use.gpu_bytes if use is not None else ()))))


def recorded_jobs(samples: Iterable[Sample], specs: dict[str, JobSpec] | None = None) -> tuple[SimJob, ...]:
    """Return the jobs of a recording: each there from its first reading on, with the most that it used.

    One that was over before the recording ends has as much to do as it did: paused longer, it ends later.
    """
    peaks: dict[str, Footprint] = {}
    arrivals: dict[str, float] = {}
    worked_s: dict[str, float] = {}
    first: Sample | None = None
    last: Sample | None = None
    for sample in samples:
        first, gap_s = first or sample, 0.0 if last is None else sample.at - last.at
        for name, use in sample.jobs.items():
            if use.num_processes:
                arrivals.setdefault(name, sample.at - first.at)
                peaks[name] = _peak(peaks.get(name, Footprint()), use)
        for name, use in last.jobs.items() if last is not None else ():
            worked_s[name] = worked_s.get(name, 0.0) + gap_s * _works(use)
        last = sample
    still_there = frozenset(last.jobs) if last is not None else frozenset()
    default = SimJob(name="")
    return tuple(
        SimJob(
            name=name,
            demand=peaks[name],
            arrives_s=arrivals[name],
            was_running=not arrivals[name],
            # Some of the time of a process that began then was its start.
            work_s=None
            if name in still_there
            else max(0.0, worked_s[name] - (default.start_s if arrivals[name] else 0.0)),
            spec=(specs or {}).get(name, default.spec),
            depths=tuple(Depth) if peaks[name].gpu_bytes else (Depth.HOLD, Depth.EXIT),
        )
        for name in peaks
    )


def _works(use: JobUse) -> bool:
    """Say whether its process trained: one that holds uses next to no CPU."""
    return use.num_processes > 0 and (isinstance(use.cpu_pct, Missing) or use.cpu_pct >= _HOLDS_PCT)


def _peak(known: Footprint, use: JobUse) -> Footprint:
    gpu_bytes = dict(known.gpu_bytes)
    for uuid, bytes_ in use.gpu_bytes.items():
        gpu_bytes[uuid] = max(gpu_bytes.get(uuid, 0.0), float(bytes_ or 0))
    return Footprint(
        max(known.cpu_pct, or_zero(use.cpu_pct)), max(known.rss_bytes, or_zero(use.rss_bytes)), gpu_bytes
    )
