"""Our policy, with other numbers too, and those of others: each through a day of load.

Covers: who they are, and one day of one of them. Does not cover: the days (traces.py, heldout.py), how others
decide (peers.py), tables of figures (`python -m benchmarks.policy`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from supervisor.core.jobs.job import Job
from supervisor.core.jobs.verdict import Verdict
from supervisor.core.policy.decide import decide
from supervisor.core.policy.default_rules import DEFAULT_RULES
from supervisor.core.policy.memory import Footprint, Memory
from supervisor.core.policy.rules import Condition, PolicyConfig, Settings
from supervisor.core.policy.simulation import Decider, SimJob, SimulationReport, simulate
from supervisor.core.readings.sample import Sample
from tests.days.peers import PEERS
from tests.days.traces import DAY_S, GIB, TRACES, WORST, Trace, oscillation, samples

SETTINGS = Settings(rules=DEFAULT_RULES)
OSCILLATION = "oscillation, own worst"
NAMES = (*TRACES, OSCILLATION)


def ours_with(policy: PolicyConfig | None = None, **numbers: Any) -> Decider:
    """Return our policy with other numbers in the rule for foreign CPU."""
    rules = tuple(replace(rule, **numbers) if rule.name == "cpu-foreign" else rule for rule in DEFAULT_RULES)
    settings = Settings(rules=rules, policy=policy or PolicyConfig())

    def with_numbers(
        jobs: Sequence[Job], sample: Sample, memory: Any, now: float
    ) -> tuple[tuple[Verdict, ...], Any]:
        return decide(jobs, sample, settings, memory or Memory(), now)

    return with_numbers


OTHERS: dict[str, Decider] = {
    # What comes from the one number, and what from HTCondor's thresholds and holding times.
    "ours, never stays": ours_with(pause_again_after_s=0.0),
    "ours, HTCondor's times": ours_with(
        when=(Condition(metric="cpu_foreign_pct", above=50.0, clear_below=30.0),),
        pause_after_s=120.0,
        pause_again_after_s=0.0,
        resume_after_s=300.0,
    ),
    **PEERS,
}


def trace_of(name: str, who: str) -> Trace:
    return oscillation(*WORST[who]) if name == OSCILLATION else TRACES[name]


def day(trace: Trace, who: str, *, tick_s: float, until_s: float = DAY_S) -> SimulationReport:
    """Let one policy live through one day."""
    job = SimJob(name="job-1", demand=Footprint(cpu_pct=300.0, rss_bytes=2 * GIB))
    return simulate(samples(trace, tick_s, until_s), SETTINGS, [job], decide=OTHERS.get(who))
