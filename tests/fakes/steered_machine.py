"""A machine whose readings a test sets, with jobs that obey every verdict at once, through the job table."""

from __future__ import annotations

import msgspec

from supervisor.core.jobs import apply as core
from supervisor.core.jobs.events import (
    Admitted,
    Attached,
    CheckpointReported,
    PauseAsked,
    PauseFailed,
    PauseReached,
    ProcessEnded,
    ResumeAsked,
    Submitted,
    TrainingResumed,
)
from supervisor.core.jobs.job import Asker, CheckpointRef, Exit, JobSpec
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.policy.decide import decide, look_around
from supervisor.core.policy.explain import explain, rule_states
from supervisor.core.policy.memory import Memory
from supervisor.core.policy.rules import Condition, PolicyConfig, QueueConfig, Rule, Settings
from supervisor.core.readings.sample import Gpu, GpuProcess, JobUse, Sample

GIB = float(1 << 30)

CPU = Rule(
    name="cpu",
    when=(Condition(metric="cpu_foreign_pct", above=50.0, clear_below=20.0),),
    pause_after_s=30.0,
    resume_after_s=180.0,
)
MEMORY = Rule(
    name="memory",
    when=(Condition(metric="memory_available_pct", below=10.0, clear_above=20.0),),
    pause_after_s=5.0,
    resume_after_s=60.0,
)
GPU = Rule(
    name="gpu",
    when=(Condition(metric="gpu_foreign_memory_gib", above=1.0, clear_below=0.5),),
    pause_after_s=10.0,
    resume_after_s=60.0,
    escalate_after_s=100.0,
)
RULES = (MEMORY, GPU, CPU)


def gpu(name, foreign_gib=0.0, used_gib=0.0, total_gib=16.0):
    """A GPU on which somebody else holds so much, and everybody together so much."""
    processes = (GpuProcess(77, int(foreign_gib * GIB)),) if foreign_gib else ()
    return Gpu(
        uuid=name,
        processes=processes,
        memory_used_bytes=max(foreign_gib, used_gib) * GIB,
        memory_total_bytes=total_gib * GIB,
    )


class Machine:
    """Time passes with `run`; who said what is in `told`."""

    def __init__(self, *rules, queue=None, policy=None):
        self.settings = Settings(
            rules=rules or RULES, queue=queue or QueueConfig(), policy=policy or PolicyConfig()
        )
        self.memory = Memory()
        self.now = 1000.0
        self.jobs = {}
        self.verdicts = []
        self.uses = {}
        self.depths = {}
        #: Jobs that cannot save: a pause fails.
        self.failing = set()
        #: Jobs that reach no boundary.
        self.slow = set()
        self.readings = {
            "cpu_foreign_pct": 5.0,
            "num_cpus": 4.0,
            "memory_total_bytes": 24.0 * GIB,
            "memory_available_bytes": 20.0 * GIB,
            "gpus": (),
        }

    def submit(self, name, *, depths=(Depth.HOLD, Depth.EXIT), rss_gib=2.0, gpus=(), cpu_pct=100.0, **spec):
        spec = JobSpec(argv=("train",), cwd="/w", **spec)
        self.jobs[name] = core.create(name, Submitted(id=f"j-{name}", spec=spec), self.now)
        self.depths[name] = depths
        self.uses[name] = JobUse(
            cpu_pct=cpu_pct,
            rss_bytes=rss_gib * GIB,
            num_processes=1,
            gpu_bytes=dict.fromkeys(gpus, int(4 * GIB)),
        )
        return self

    def happen(self, name, event):
        self.jobs[name], _ = core.apply(self.jobs[name], event, self.now)

    def sample(self):
        uses = {
            name: self.uses[name] if job.alive else JobUse()
            for name, job in self.jobs.items()
            if not job.is_over
        }
        return Sample(at=self.now, jobs=uses, **self.readings)

    def run(self, for_s, **readings):
        """Let time pass with these readings; each second is looked at."""
        self.readings |= readings
        for _ in range(int(for_s)):
            self.now += 1.0
            self.tick()
        return self

    def tick(self):
        jobs = tuple(self.jobs.values())
        verdicts, memory = decide(jobs, self.sample(), self.settings, self.memory, self.now)
        self.memory = msgspec.json.decode(msgspec.json.encode(memory), type=Memory)
        for verdict in verdicts:
            self.verdicts.append((self.now, verdict))
            self.carry_out(verdict)

    def carry_out(self, verdict):
        name, by = verdict.job, Asker("rule", verdict.rule)
        match verdict.kind:
            case "start":
                self.happen(name, Admitted(start_grace_s=60.0, gpus=verdict.gpus))
                self.attach(name)
            case "pause" | "deepen":
                self.pause(name, by, verdict.depth)
            case "resume":
                self.resume(name, by, verdict.gpus)

    def attach(self, name):
        job = self.jobs[name]
        self.happen(name, Attached(incarnation=job.incarnation, depths=self.depths[name]))

    def pause(self, name, by, depth=Depth.HOLD, for_s=None):
        was_held = self.jobs[name].depth if self.jobs[name].state is JobState.PAUSED else None
        self.happen(name, PauseAsked(request="r", by=by, depth=depth, deadline_s=300.0, for_s=for_s))
        if name in self.slow or self.jobs[name].state is not JobState.PAUSING:
            return
        if name in self.failing:
            self.happen(name, PauseFailed(request="r", why="the disk is full", holding_depth=was_held))
            return
        self.happen(name, PauseReached(request="r", depth=depth, checkpoint=self.checkpoint()))
        if depth is Depth.EXIT:
            self.happen(name, ProcessEnded(incarnation=self.jobs[name].incarnation, exit=Exit(code=75)))

    def resume(self, name, by, gpus=()):
        self.happen(name, ResumeAsked(request="q", by=by, start_grace_s=60.0, gpus=gpus))
        if self.jobs[name].depths:
            self.happen(name, TrainingResumed(request="q"))
        else:
            self.attach(name)

    def saved(self, name, **of):
        """A checkpoint that was written now."""
        self.happen(name, CheckpointReported(checkpoint=self.checkpoint(**of)))

    def checkpoint(self, **of):
        return CheckpointRef(step=1, epoch=0, path="/c", digest=str(self.now), **of)

    @property
    def told(self):
        """What was decided, without the starts."""
        return [(v.kind, v.job, v.rule, v.depth) for _, v in self.verdicts if v.kind != "start"]

    @property
    def running(self):
        return sorted(name for name in self.jobs if self.state(name) is JobState.RUNNING)

    def state(self, name):
        return self.jobs[name].state

    def end(self, name):
        """Its training is done."""
        self.happen(name, ProcessEnded(incarnation=self.jobs[name].incarnation, exit=Exit(code=0)))

    def why(self, name):
        jobs = tuple(self.jobs.values())
        return explain(self.jobs[name], jobs, self.sample(), self.settings, self.memory, self.now)

    def rule(self, name, place=""):
        states = rule_states(tuple(self.jobs.values()), self.sample(), self.settings, self.memory, self.now)
        return next(state for state in states if (state.rule, state.place) == (name, place))

    def scene(self):
        jobs = tuple(self.jobs.values())
        return look_around(jobs, self.sample(), self.settings, self.memory, self.now)
