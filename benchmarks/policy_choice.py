"""Which way of flapping less is worth its price: the days that it was chosen on, and the figures of each way.

    python -m benchmarks.policy_choice

A second set of development days: written for this choice, other shapes than the first set and other
generators than the held-out days, two seeds each. Every row is the sum over the means of the seeds.
"Again within 20 min" counts pauses as a flap does, with twice the time: a way that only moves pauses
past the ten minutes of a flap would show there.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from statistics import mean

from supervisor.core.policy.default_rules import DEFAULT_RULES
from supervisor.core.policy.memory import Footprint
from supervisor.core.policy.rules import PolicyConfig, Settings
from supervisor.core.policy.simulation import Decider, SimJob, SimulationReport, simulate
from tests.days.peers import PEERS
from tests.days.policies import ours_with
from tests.days.traces import DAY_S, GIB, Trace, samples

SEEDS = (1, 2)
TICK_S = 5.0
_HOUR_S = 3600.0
_AGAIN_S = 1200.0


class _Day:
    """Load of a day, second by second; of two at the same time the larger counts."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.load = [4.0 + self.chance.uniform(-2, 2) for _ in range(DAY_S)]

    def put(self, at: float, for_s: float, pct: float, noise: float = 3.0) -> float:
        """Return when it ends."""
        for second in range(max(0, int(at)), min(DAY_S, int(at + for_s))):
            self.load[second] = max(self.load[second], pct + self.chance.gauss(0, noise))
        return at + for_s

    def trace(self) -> Trace:
        load = [min(100.0, max(0.0, pct)) for pct in self.load]
        return lambda second: (load[int(second)], 5.0)


def two_states(seed: int) -> Trace:
    """Busy and idle, each for a time without memory: a minute and a half, and four minutes, in the mean."""
    day, at = _Day(seed), 8 * _HOUR_S
    while at < 20 * _HOUR_S:
        at = day.put(at, day.chance.expovariate(1 / 90), day.chance.uniform(55, 95))
        at += day.chance.expovariate(1 / 240)
    return day.trace()


def compile_loop(seed: int) -> Trace:
    """Somebody edits for two minutes and compiles for most of one, all day long."""
    day, at = _Day(seed), 9 * _HOUR_S
    while at < 19 * _HOUR_S:
        at = day.put(at, day.chance.lognormvariate(math.log(40), 1.0), day.chance.uniform(70, 98))
        at += day.chance.lognormvariate(math.log(120), 0.8)
    return day.trace()


def batch_queue(seed: int) -> Trace:
    """Jobs of 4 to 17 minutes come every 18 and run one after the other."""
    day, at, free_at = _Day(seed), 0.0, 0.0
    while at < DAY_S:
        free_at = day.put(max(at, free_at), day.chance.uniform(240, 1000), 92.0)
        at += day.chance.expovariate(1 / 1100)
    return day.trace()


def meetings(seed: int) -> Trace:
    """Video calls of half an hour and more, whose load lies around the threshold."""
    day, at = _Day(seed), 8.5 * _HOUR_S
    while at < 18 * _HOUR_S:
        at = day.put(at, day.chance.uniform(1500, 3600), day.chance.uniform(48, 65), 8.0)
        at += day.chance.uniform(300, 2100)
    return day.trace()


def games(seed: int) -> Trace:
    """Matches of a quarter of an hour in the evening, a few restless minutes between two of them."""
    day, at = _Day(seed), 17 * _HOUR_S
    while at < 24 * _HOUR_S:
        at = day.put(at, day.chance.uniform(700, 1800), day.chance.uniform(65, 90), 6.0)
        ends_at = at + day.chance.uniform(60, 360)
        while at < ends_at:
            at = day.put(at, day.chance.uniform(5, 30), day.chance.choice([18, 25, 60]))
    return day.trace()


def timed_jobs(seed: int) -> Trace:
    """Something short every ten minutes, something longer every hour."""
    day = _Day(seed)
    for number in range(144):
        at = 600 * number + day.chance.uniform(0, 60)
        day.put(at, day.chance.uniform(20, 150), day.chance.uniform(55, 90))
    for number in range(24):
        day.put(_HOUR_S * number + 300, day.chance.uniform(240, 720), day.chance.uniform(60, 95))
    return day.trace()


def web_server(seed: int) -> Trace:
    """Many small requests: a curve over the day, and noise that takes minutes to go up and down."""
    day, noise = _Day(seed), 0.0
    for second in range(DAY_S):
        noise += -noise / 120 + day.chance.gauss(0, 12 * math.sqrt(2 / 120))
        day.load[second] = 36 - 22 * math.cos(2 * math.pi * (second / _HOUR_S - 2) / 24) + noise
    return day.trace()


def anything(seed: int) -> Trace:
    """Runs and breaks from seconds to hours, both lognormal."""
    day, at = _Day(seed), 0.0
    while at < DAY_S:
        for_s = min(7200.0, day.chance.lognormvariate(math.log(45), 1.5))
        at = day.put(at, for_s, day.chance.uniform(40, 97))
        at += min(7200.0, day.chance.lognormvariate(math.log(90), 1.5))
    return day.trace()


DAYS: tuple[Callable[[int], Trace], ...] = (
    two_states,
    compile_loop,
    batch_queue,
    meetings,
    games,
    timed_jobs,
    web_server,
    anything,
)


WAYS: dict[str, Decider] = {
    "BOINC": PEERS["BOINC"],
    "HTCondor": PEERS["HTCondor"],
    "never stays (`pause_again_after_s = 0`)": ours_with(pause_again_after_s=0.0),
    "a flap counts for 30 min": ours_with(PolicyConfig(flap_window_s=1800.0), pause_again_after_s=0.0),
    "back after 3 min of calm instead of 1": ours_with(pause_again_after_s=0.0, resume_after_s=180.0),
    "short for 90 s instead of 45": ours_with(pause_again_after_s=0.0, pause_after_s=90.0),
    **{
        f"stays for {at} s": ours_with(pause_again_after_s=float(at)) for at in (120, 180, 240, 300, 360, 600)
    },
    "stays for 300 s, back after 90 s": ours_with(pause_again_after_s=300.0, resume_after_s=90.0),
    "stays for 300 s, back after 30 s": ours_with(pause_again_after_s=300.0, resume_after_s=30.0),
    "stays for 300 s, waits never doubled": ours_with(PolicyConfig(max_backoff=1), pause_again_after_s=300.0),
}


def _lived(trace: Trace, who: Decider) -> SimulationReport:
    job = SimJob(name="job-1", demand=Footprint(cpu_pct=300.0, rss_bytes=2 * GIB))
    return simulate(samples(trace, TICK_S), Settings(rules=DEFAULT_RULES), [job], decide=who)


def _figures(report: SimulationReport) -> tuple[float, ...]:
    moved = [one for one in report.timeline if one.kind in ("pause", "resume")]
    again = sum(
        (former.kind, later.kind) == ("resume", "pause") and later.at - former.at <= _AGAIN_S
        for former, later in itertools.pairwise(moved)
    )
    late_min, needless_min = report.total("late_s") / 60, report.total("needless_s") / 60
    return late_min, needless_min, report.total("num_pauses"), again, report.total("num_flaps")


def main() -> None:
    print("| way | late min | needless min | pauses | again within 20 min | flaps | flaps of each day |")
    print("|---|---|---|---|---|---|---|", flush=True)
    traces = [[make(seed) for seed in SEEDS] for make in DAYS]
    for name, who in WAYS.items():
        # A peer's memory begins anew with each day; so does ours.
        days = [
            [mean(column) for column in zip(*(_figures(_lived(one, who)) for one in day), strict=True)]
            for day in traces
        ]
        sums = " | ".join(f"{sum(column):.0f}" for column in zip(*days, strict=True))
        print(f"| {name} | {sums} | {', '.join(f'{day[-1]:g}' for day in days)} |", flush=True)


if __name__ == "__main__":
    main()
