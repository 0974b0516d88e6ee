"""Deciding, told as short stories: what is measured, and what follows."""

from __future__ import annotations

import msgspec

from supervisor.core import apply as core
from supervisor.core.events import Admitted, Attached, PauseAsked, ResumeAsked, Resumed, Submitted, Yielded
from supervisor.core.explain import explain, rule_states
from supervisor.core.job import Asker, JobSpec
from supervisor.core.policy import decide
from supervisor.core.policy_memory import Memory
from supervisor.core.rules import Condition, Rule, Settings
from supervisor.core.sample import JobUse, Sample
from supervisor.core.states import Depth, State

GIB = 1 << 30

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


class Machine:
    """Jobs that obey verdicts at once, and readings that a test sets."""

    def __init__(self, settings=None):
        self.settings = settings or Settings(rules=RULES)
        self.memory = Memory()
        self.now = 1000.0
        self.jobs = {}
        self.verdicts = []
        self.readings = {
            "cpu_foreign_pct": 5.0,
            "num_cpus": 4.0,
            "memory_total_bytes": 24.0 * GIB,
            "memory_available_bytes": 20.0 * GIB,
            "gpus": (),
        }
        self.uses = {}

    def submit(self, name, depths=(Depth.HOLD, Depth.EXIT), **spec):
        spec = JobSpec(argv=("train",), cwd="/w", **spec)
        self.jobs[name] = core.create(name, Submitted(spec=spec), self.now)
        self.depths = depths
        self.uses[name] = JobUse(cpu_pct=100.0, rss_bytes=2.0 * GIB, num_processes=1)
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
        """Let time pass with these readings; verdicts are carried out at once."""
        self.readings |= readings
        for _ in range(int(for_s)):
            self.now += 1.0
            verdicts, memory = decide(
                list(self.jobs.values()), self.sample(), self.settings, self.memory, self.now
            )
            self.memory = msgspec.json.decode(msgspec.json.encode(memory), type=Memory)
            for verdict in verdicts:
                self.verdicts.append((self.now, verdict))
                self.carry_out(verdict)
        return self

    def carry_out(self, verdict):
        name, by = verdict.job, Asker("rule", verdict.rule)
        match verdict.kind:
            case "start":
                self.happen(name, Admitted(start_grace_s=60.0))
            case "pause" | "deepen":
                self.pause(name, by, verdict.depth)
            case "resume":
                self.resume(name, by)
        self.attach(name)

    def attach(self, name):
        job = self.jobs[name]
        if job.state in (State.STARTING, State.RESUMING) and not job.depths:
            self.happen(name, Attached(incarnation=job.incarnation, depths=self.depths))

    def pause(self, name, by, depth):
        self.happen(name, PauseAsked(request="r", by=by, depth=depth, deadline_s=300.0))
        place = {"step": 1, "epoch": 0, "path": "/c", "digest": str(self.now)}
        self.happen(name, Yielded(request="r", depth=depth, **place))

    def resume(self, name, by):
        self.happen(name, ResumeAsked(request="q", by=by, start_grace_s=60.0))
        self.happen(name, Resumed(request="q"))

    @property
    def told(self):
        return [(verdict.kind, verdict.job, verdict.rule) for _, verdict in self.verdicts]

    def explain(self, name):
        jobs = list(self.jobs.values())
        return explain(self.jobs[name], jobs, self.sample(), self.settings, self.memory, self.now)


def test_a_job_holds_while_others_use_the_cpu_and_comes_back_by_itself():
    """
    Half a minute of foreign load, then three minutes of calm.
    """
    machine = Machine().submit("a").run(100)
    machine.run(31, cpu_foreign_pct=80.0)

    assert [("start", "a", "queue"), ("pause", "a", "cpu")] == machine.told
    assert Depth.HOLD == machine.jobs["a"].depth

    machine.run(179, cpu_foreign_pct=5.0)
    assert State.PAUSED == machine.jobs["a"].state
    machine.run(3)

    assert ("resume", "a", "cpu") == machine.told[-1]
    assert State.RUNNING == machine.jobs["a"].state


def test_why_tells_what_has_to_happen():
    """
    The rule, the reading and the time that it has to be clear.
    """
    machine = Machine().submit("a").run(100).run(40, cpu_foreign_pct=80.0)
    answer = machine.explain("a")

    assert "cpu_foreign_pct < 20 for 180 s" == answer.next
    assert "cpu" == answer.by
    assert ("a",) == tuple(one.job for one in answer.verdict.candidates)


def test_policy_show_tells_every_rule():
    """
    Also those that have no place here: there is no GPU.
    """
    machine = Machine().submit("a").run(100, cpu_foreign_pct=35.0)
    states = rule_states(
        list(machine.jobs.values()), machine.sample(), machine.settings, machine.memory, machine.now
    )

    assert [rule.name for rule in RULES] == [state.rule for state in states]
    assert 50.0 == states[-1].near_pct
