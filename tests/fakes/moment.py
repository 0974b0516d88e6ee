"""One moment of the policy, written down by hand: jobs, readings, rules, what is remembered.

Covers: short forms of its records. Does not cover: time that passes (steered_machine.py).
"""

from __future__ import annotations

from supervisor.core.jobs.job import Asker, Job, JobPause, JobRun, JobSpec
from supervisor.core.jobs.states import FINAL, Depth, JobState
from supervisor.core.policy.decide import look_around
from supervisor.core.policy.hysteresis import Trigger
from supervisor.core.policy.memory import JobMemory, Memory
from supervisor.core.policy.rules import Condition, PolicyConfig, QueueConfig, Rule, Settings
from supervisor.core.readings.sample import Sample

NOW = 10_000.0
GIB = float(1 << 30)

#: A machine on which nothing is short.
QUIET = {
    "cpu_foreign_pct": 5.0,
    "num_cpus": 4.0,
    "memory_total_bytes": 24.0 * GIB,
    "memory_available_bytes": 20.0 * GIB,
    "gpus": (),
}


def a_job(name="a", state=JobState.RUNNING, **of):
    """A job that has been so for long; each value belongs to the record that has a field of that name."""
    is_alive = of.pop("alive", state is not JobState.QUEUED and state not in FINAL)
    given = {"depth": Depth.HOLD, "started_at": 1000.0, "depths": (Depth.HOLD, Depth.EXIT)} | of
    own, run, pause, spec = (
        {key: value for key, value in given.items() if key in kind.__struct_fields__}
        for kind in (Job, JobRun, JobPause, JobSpec)
    )
    assert given.keys() == own.keys() | run.keys() | pause.keys() | spec.keys()
    is_paused = state in (JobState.PAUSING, JobState.PAUSED)
    fixed = {"id": f"j-{name}", "created_at": 0.0, "since": 1000.0, "incarnation": 1} | own
    return Job(
        name=name,
        state=state,
        spec=JobSpec(argv=("train",), cwd="/w", **spec),
        run=JobRun(**run) if is_alive else None,
        pause=JobPause(**pause) if is_paused else None,
        **fixed,
    )


def paused(name="a", depth=Depth.HOLD, rule="cpu", **of):
    """A job that a rule has paused; without a process where it went so deep."""
    given = {"alive": depth is not Depth.EXIT, "depths": tuple(Depth), "by": Asker("rule", rule)}
    return a_job(name, JobState.PAUSED, depth=depth, **given | of)


def a_rule(*when, name="mine", **of):
    """A rule of these conditions, or of one about the CPU."""
    when = when or (Condition(metric="cpu_foreign_pct", above=50.0, clear_below=20.0),)
    return Rule(name=name, when=when, **{"pause_after_s": 10.0, "resume_after_s": 60.0} | of)


def above(metric, short, clear):
    return Condition(metric=metric, above=short, clear_below=clear)


def below(metric, short, clear):
    return Condition(metric=metric, below=short, clear_above=clear)


def on(*keys, ago_s=100.0):
    """Triggers of these rules, with their places, that turned on so long ago."""
    return {key: Trigger(is_on=True, turned_at=NOW - ago_s) for key in keys}


def remembered(triggers=None, **jobs):
    """A memory of these triggers, and of what is said of each job."""
    known = {name: JobMemory(**{"last_state": JobState.RUNNING} | of) for name, of in jobs.items()}
    return Memory(at=NOW, triggers=triggers or {}, jobs=known)


def moment(*jobs, rules=(), memory=None, policy=None, queue=None, **readings):
    """All that a decision is made from."""
    sample = Sample(at=NOW, **QUIET | readings)
    settings = Settings(rules=tuple(rules), policy=policy or PolicyConfig(), queue=queue or QueueConfig())
    return look_around(jobs, sample, settings, memory or remembered(), NOW)
