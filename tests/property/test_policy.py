"""Whatever is measured and whoever acts: what the policy promises about every verdict.

Covers: the settle time, how often a job may be moved, persons before rules, protected jobs, missing
readings, the memory across restarts, the job table. Does not cover: single decisions
(tests/unit/core/policy/test_decide.py), days of load (test_policy_traces.py).
"""

from __future__ import annotations

import itertools
import math

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from supervisor.core.jobs import apply as core
from supervisor.core.jobs.events import (
    Admitted,
    Attached,
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
from supervisor.core.policy.decide import decide
from supervisor.core.policy.explain import explain, rule_states
from supervisor.core.policy.memory import Memory
from supervisor.core.policy.rules import Condition, PolicyConfig, QueueConfig, Rule, Settings
from supervisor.core.readings.sample import Gpu, GpuProcess, JobUse, Missing, Sample
from supervisor.errors import Refused

GIB = float(1 << 30)
NAMES = ("a", "b", "c", "d")
PERSON = Asker("person", "ada")
GONE = Missing("it does not answer")

RULES = (
    Rule(
        name="memory",
        when=(Condition(metric="memory_available_pct", below=10.0, clear_above=20.0),),
        pause_after_s=2.0,
        resume_after_s=20.0,
    ),
    Rule(
        name="gpu",
        when=(Condition(metric="gpu_foreign_processes", above=0.9, clear_below=0.1),),
        pause_after_s=3.0,
        resume_after_s=30.0,
        escalate_after_s=40.0,
    ),
    Rule(
        name="cpu",
        when=(Condition(metric="cpu_foreign_pct", above=50.0, clear_below=20.0),),
        pause_after_s=5.0,
        pause_again_after_s=20.0,
        resume_after_s=30.0,
        escalate_after_s=60.0,
    ),
    Rule(
        name="office",
        when=(
            Condition(clock="mon-fri 09:00-18:00"),
            Condition(metric="cpu_foreign_pct", above=30.0, clear_below=20.0),
        ),
        pause_after_s=5.0,
        resume_after_s=30.0,
    ),
)
POLICY = PolicyConfig(settle_s=4.0, min_run_s=6.0, flap_window_s=120.0, easing_short_s=2.0, easing_long_s=8.0)
SETTINGS = Settings(policy=POLICY, queue=QueueConfig(ageing_s=300.0, preempt=True), rules=RULES)

PERCENT = st.sampled_from([0.0, 10.0, 35.0, 45.0, 60.0, 95.0]) | st.just(GONE)
AVAILABLE = st.sampled_from([0.5, 2.0, 3.0, 8.0, 20.0]).map(lambda gib: gib * GIB) | st.just(GONE)


@st.composite
def readings(draw):
    processes = draw(st.sampled_from([(), (GpuProcess(9, 1 << 30),), GONE]))
    gpu = Gpu(uuid="GPU-1", processes=processes, memory_used_bytes=GIB, memory_total_bytes=8 * GIB)
    return {
        "cpu_foreign_pct": draw(PERCENT),
        "memory_available_bytes": draw(AVAILABLE),
        "gpus": draw(st.sampled_from([(gpu,), (gpu, replace(gpu, uuid="GPU-2")), (), GONE])),
        "weekday": draw(st.integers(0, 6)),
        "second_of_day": draw(st.sampled_from([0, 40000, 80000])),
        "is_urgent": draw(st.sampled_from([False, False, False, True])),
    }


PACES_S = st.sampled_from([1.0, 1.0, 1.0, 0.0, 0.3, 7.0, 400.0])
ACTS = st.sampled_from(
    ["", "", "", "", "pause", "pause-for", "resume", "fail", "end", "restart", "stuck", "lose-shim"]
)
SPECS = st.builds(
    JobSpec,
    argv=st.just(("train",)),
    cwd=st.just("/"),
    priority=st.integers(0, 2),
    protected=st.sampled_from([False, False, False, True]),
    num_gpus=st.sampled_from([0, 0, 1]),
    memory_bytes=st.sampled_from([0, 0, 1 << 30]),
    num_cpus=st.sampled_from([0.0, 0.0, 2.0]),
)
PHASES = st.lists(
    st.tuples(readings(), st.integers(1, 40), PACES_S, st.sampled_from(NAMES), ACTS), max_size=20
)
LIVES = st.tuples(st.lists(SPECS, min_size=1, max_size=len(NAMES)), PHASES)


class World:
    """Jobs, persons and a policy; every verdict goes through the job table, and is kept."""

    def __init__(self, specs, settings=SETTINGS):
        self.settings = settings
        self.now = 1000.0
        self.memory = Memory()
        self.num_requests = 0
        self.stuck = set()
        self.verdicts = []
        self.paused_by_person = set()
        self.jobs = {
            name: core.create(name, Submitted(id=f"j-{name}", spec=spec), self.now)
            for name, spec in zip(NAMES, specs, strict=False)
        }
        self.readings = {}

    def live(self, phases):
        for given_, ticks, pace_s, name, act in phases:
            self.act(name, act)
            for _ in range(ticks):
                self.tick(given_, pace_s)
        return self

    def tick(self, given_, pace_s=1.0):
        self.now += pace_s
        self.readings = given_
        self.answer()
        sample = self.sample()
        jobs = tuple(self.jobs.values())
        verdicts, memory = decide(jobs, sample, self.settings, self.memory, self.now)
        assert (verdicts, memory) == decide(jobs, sample, self.settings, self.memory, self.now)
        stored = msgspec.json.decode(msgspec.json.encode(memory), type=Memory)
        assert stored == memory
        self.memory = stored
        for verdict in verdicts:
            before = self.jobs[verdict.job]
            self.verdicts.append((self.now, verdict, before, sample))
            self.carry_out(verdict)
        return verdicts

    def sample(self):
        uses = {
            name: JobUse(
                cpu_pct=100.0, rss_bytes=GIB, num_processes=1, gpu_bytes=dict.fromkeys(job.gpus, 1 << 30)
            )
            if job.alive
            else JobUse()
            for name, job in self.jobs.items()
            if not job.is_over
        }
        return Sample(at=self.now, num_cpus=8.0, memory_total_bytes=24 * GIB, jobs=uses, **self.readings)

    def happen(self, name, event):
        self.jobs[name], _ = core.apply(self.jobs[name], event, self.now)

    def request(self):
        self.num_requests += 1
        return f"r{self.num_requests}"

    def carry_out(self, verdict):
        """As the engine does it; what the table refuses fails the test."""
        name, by = verdict.job, Asker("rule", verdict.rule)
        match verdict.kind:
            case "start":
                self.happen(name, Admitted(start_grace_s=60.0, gpus=verdict.gpus))
            case "resume":
                self.happen(
                    name, ResumeAsked(request=self.request(), by=by, start_grace_s=60.0, gpus=verdict.gpus)
                )
            case _:
                self.ask_pause(name, by, verdict.depth)

    def ask_pause(self, name, by, depth, for_s=None):
        asked = PauseAsked(request=self.request(), by=by, depth=depth, deadline_s=30.0, for_s=for_s)
        self.happen(name, asked)

    def answer(self):
        """Shims do what was asked of them, but for those that are stuck; timers fire."""
        for name in self.jobs:
            while timer := core.due(self.jobs[name], self.now, start_grace_s=60.0):
                self.happen(name, timer)
            job = self.jobs[name]
            saved = CheckpointRef(step=1, epoch=0, path="/c", digest=f"{self.now}")
            if name in self.stuck:
                continue
            if job.state in (JobState.STARTING, JobState.RESUMING) and not job.depths and job.alive:
                self.happen(name, Attached(incarnation=job.incarnation, depths=tuple(Depth)))
            elif job.state is JobState.RESUMING:
                self.happen(name, TrainingResumed(request=job.request))
            elif job.state is JobState.PAUSING:
                self.happen(name, PauseReached(request=job.request, depth=job.depth, checkpoint=saved))
                if job.depth is Depth.EXIT:
                    self.happen(name, ProcessEnded(incarnation=job.incarnation, exit=Exit(code=75)))

    def act(self, name, act):
        """Something that a person, or the job, does; what is refused is no test of ours."""
        if name not in self.jobs:
            return
        job = self.jobs[name]
        try:
            match act:
                case "pause" | "pause-for":
                    self.ask_pause(name, PERSON, Depth.HOLD, 50.0 if act == "pause-for" else None)
                case "resume":
                    self.happen(name, ResumeAsked(request=self.request(), by=PERSON, start_grace_s=60.0))
                case "fail":
                    self.happen(name, PauseFailed(request=job.request, why="disk full"))
                case "end":
                    self.happen(name, ProcessEnded(incarnation=job.incarnation, exit=Exit(code=0)))
                case "restart":
                    self.jobs[name] = core.create(
                        name, Submitted(id=job.id, spec=job.spec, incarnation=9), self.now
                    )
                case "stuck":
                    self.stuck ^= {name}
                case "lose-shim" if job.state is JobState.RUNNING:
                    self.happen(name, Attached(incarnation=job.incarnation, depths=()))
        except Refused:
            return


@given(LIVES)
@settings(max_examples=50, deadline=None)
def test_whatever_happens_the_promises_hold(life):
    """
    Persons before rules, protected jobs never, one verdict in a settle time, and each of them allowed
    by the job table; `why` and `policy show` have an answer at the end, whatever the end is.
    """
    specs, phases = life
    world = World(specs).live(phases)

    for _, verdict, before, _ in world.verdicts:
        is_persons = before.asked_by == PERSON and before.state in (JobState.PAUSED, JobState.PAUSING)
        assert not (verdict.kind in ("resume", "start") and is_persons)
        assert not (verdict.kind in ("pause", "deepen") and before.spec.protected)
        assert verdict.reason
    assert_settled(world)
    jobs = tuple(world.jobs.values())
    for job in jobs:
        told = explain(job, jobs, world.sample(), SETTINGS, world.memory, world.now)
        assert told.summary
    rule_states(jobs, world.sample(), SETTINGS, world.memory, world.now)


def assert_settled(world):
    """Starts of jobs that ask for nothing do not wait, and an emergency does not, once."""
    moments, emergencies = [], []
    for at, verdict, before, sample in world.verdicts:
        spec = before.spec
        is_free = verdict.kind == "start" and not (spec.num_gpus or spec.memory_bytes or spec.num_cpus)
        if is_free:
            continue
        is_emergency = sample.is_urgent and verdict.rule == "memory"
        (emergencies if is_emergency else moments).append(at)
        everything = moments[-1:] + emergencies[-1:]
        assert is_emergency or all(at - one >= POLICY.settle_s or one == at for one in everything)
    for series in (moments, emergencies):
        assert all(later - former >= POLICY.settle_s for former, later in itertools.pairwise(series))


@given(st.lists(st.tuples(readings(), st.integers(1, 30)), max_size=60))
@settings(max_examples=12, deadline=None)
def test_a_job_is_moved_a_bounded_number_of_times_an_hour(phases):
    """
    Whatever the input; the number follows from the settings.
    """
    world = World([JobSpec(argv=("train",), cwd="/")], replace(SETTINGS, rules=RULES[2:]))
    until = world.now + 3600.0
    for given_, ticks in phases * 20:
        for _ in range(ticks):
            if world.now < until:
                world.tick({**given_, "is_urgent": False})
    pauses = sum(verdict.kind == "pause" for _, verdict, _, _ in world.verdicts)

    assert pauses <= most_pauses(3600.0)


def test_who_knows_the_policy_cannot_move_a_job_more_often_either():
    """
    Others who become busy as soon as the job may be asked again, and calm as soon as it has yielded.
    """
    world = World([JobSpec(argv=("train",), cwd="/")], replace(SETTINGS, rules=RULES[2:3]))
    calm = {"memory_available_bytes": 20 * GIB, "gpus": (), "is_urgent": False, "second_of_day": 0}
    for _ in range(3600):
        is_out = world.jobs["a"].state in (JobState.PAUSED, JobState.PAUSING)
        world.tick({**calm, "cpu_foreign_pct": 1.0 if is_out else 90.0})
    pauses = sum(verdict.kind == "pause" for _, verdict, _, _ in world.verdicts)

    assert 10 <= pauses <= most_pauses(3600.0)


def most_pauses(for_s):
    """Return how often a job can be paused by rules in that time.

    Each flap makes the wait twice as long, up to a limit; each flap window without one takes one back. So
    there are as many as it takes to reach the limit, and then one for each flap window or longest wait.
    """
    shortest_s = min(rule.resume_after_s for rule in RULES[2:])
    slowest_s = min(POLICY.flap_window_s, shortest_s * POLICY.max_backoff)
    return 1 + math.log2(POLICY.max_backoff) + for_s / slowest_s


@given(LIVES, st.sampled_from([30.0, 45.0]))
@settings(max_examples=30, deadline=None)
def test_between_the_thresholds_nobody_yields(life, foreign_pct):
    """
    Whatever was before: as long as readings stay between, no trigger turns and no job is paused for a rule.
    """
    specs, phases = life
    world = World(specs, replace(SETTINGS, queue=QueueConfig(), rules=RULES[:3])).live(phases)
    between = {
        "cpu_foreign_pct": foreign_pct,
        "memory_available_bytes": 0.15 * 24 * GIB,
        "gpus": (),
        "is_urgent": False,
    }
    world.tick(between)
    on = {key: trigger.is_on for key, trigger in world.memory.triggers.items()}
    num_before = len(world.verdicts)
    for _ in range(100):
        world.tick(between)

    assert on == {key: trigger.is_on for key, trigger in world.memory.triggers.items()}
    assert {"pause"}.isdisjoint(verdict.kind for _, verdict, _, _ in world.verdicts[num_before:])
    assert {"deepen"}.isdisjoint(verdict.kind for _, verdict, _, _ in world.verdicts[num_before:])


@given(LIVES)
@settings(max_examples=30, deadline=None)
def test_without_readings_nothing_changes(life):
    """
    A machine that does not answer is neither short nor clear: no trigger turns, and no rule moves a job.
    """
    specs, phases = life
    world = World(specs, replace(SETTINGS, queue=QueueConfig(), rules=RULES[:3])).live(phases)
    silent = {"cpu_foreign_pct": GONE, "memory_available_bytes": GONE, "gpus": GONE, "is_urgent": False}
    on = {key: trigger.is_on for key, trigger in world.memory.triggers.items() if trigger.is_on}
    num_before = len(world.verdicts)
    for _ in range(60):
        world.tick(silent)

    assert on == {key: trigger.is_on for key, trigger in world.memory.triggers.items() if trigger.is_on}
    assert {"pause", "deepen"}.isdisjoint(verdict.kind for _, verdict, _, _ in world.verdicts[num_before:])


@given(LIVES)
@settings(max_examples=30, deadline=None)
def test_everything_comes_back_when_the_shortage_has_ended(life):
    """
    No job starves: once the machine is calm, all that a rule paused and all that wait run again, but for
    those that a person keeps, and those whose program hangs.
    """
    specs, phases = life
    world = World(specs).live(phases)
    world.stuck.clear()
    gpus = tuple(
        Gpu(uuid=f"GPU-{n}", processes=(), memory_used_bytes=0.0, memory_total_bytes=8 * GIB)
        for n in range(4)
    )
    calm = {"cpu_foreign_pct": 1.0, "memory_available_bytes": 20 * GIB, "gpus": gpus, "is_urgent": False}
    for _ in range(400):
        world.tick(calm, 4.0)

    for job in world.jobs.values():
        is_kept = job.state is JobState.PAUSED and job.asked_by == PERSON
        assert job.state is JobState.RUNNING or job.is_over or is_kept
