"""Days that nobody looked at while the policy was made: other shapes of load, each with five seeds.

The days of traces.py were at hand when thresholds and holding times were chosen, so a good
figure there proves little. These were written down, and put into the repository, before any policy
had been run on them. What they showed was the reason for one change of the policy, since when a job that
has just come back stays; its number was chosen on the days of policy_choice.py, not on these.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.days.traces import DAY_S, Trace

SEEDS = (101, 102, 103, 104, 105)
_HOUR_S = 3600.0


class _Day:
    """Load of a day, second by second, as the sum of what is added to it."""

    def __init__(self, chance: random.Random, rest_pct: float = 3.0, rest_gib: float = 4.0) -> None:
        self.cpu_pct = [rest_pct + chance.uniform(-1.5, 1.5) for _ in range(DAY_S)]
        self.memory_gib = [rest_gib] * DAY_S

    def add(self, at: float, for_s: float, cpu_pct: float, memory_gib: float = 0.0) -> float:
        """Return when it ends."""
        for second in range(max(0, int(at)), min(DAY_S, int(at + for_s))):
            self.cpu_pct[second] += cpu_pct
            self.memory_gib[second] += memory_gib
        return at + for_s

    def trace(self) -> Trace:
        cpu_pct = [min(100.0, max(0.0, load)) for load in self.cpu_pct]
        return lambda second: (cpu_pct[int(second)], self.memory_gib[int(second)])


def _notebook(day: _Day, chance: random.Random, begin_h: float, end_h: float) -> None:
    """Cells that take seconds, now and then minutes; thinking in between; a break at noon."""
    at = begin_h * _HOUR_S
    while at < end_h * _HOUR_S:
        if 12.25 * _HOUR_S <= at < 13.25 * _HOUR_S:
            at = 13.25 * _HOUR_S
        ran_s = min(chance.lognormvariate(2.2, 1.4), 2400.0)
        at = day.add(at, ran_s, chance.choice([12.5, 50.0, 75.0, 95.0]), chance.uniform(0.5, 4.0))
        at += min(chance.lognormvariate(3.6, 1.1), 1500.0)


def notebook(seed: int) -> Trace:
    chance = random.Random(seed)
    day = _Day(chance)
    _notebook(day, chance, 8.75, 18.25)
    return day.trace()


def continuous_integration(seed: int) -> Trace:
    """Each commit is fetched, built and tested, one after the other; commits come in office hours."""
    chance = random.Random(seed)
    day = _Day(chance)
    commit, free_at = 8.5 * _HOUR_S, 0.0
    while commit < 19 * _HOUR_S:
        at = day.add(max(commit, free_at), chance.uniform(15, 40), 10.0)
        at = day.add(at, chance.uniform(60, 420), chance.uniform(82, 97), 3.0)
        free_at = day.add(at, chance.uniform(40, 300), chance.uniform(38, 68), 2.0)
        commit += chance.expovariate(1 / 700.0)
    return day.trace()


def lab_sessions(seed: int) -> Trace:
    """A lecture's lab every 90 minutes: for 50 of them two dozen students start small runs."""
    chance = random.Random(seed)
    day = _Day(chance)
    for number in range(6):
        begin = (8.25 + 1.5 * number) * _HOUR_S
        for _ in range(chance.randint(12, 26)):
            at = begin + chance.uniform(0, 600)
            while at < begin + 50 * 60:
                at = day.add(at, chance.uniform(8, 70), 12.5, 0.3) + chance.expovariate(1 / 120.0)
    return day.trace()


def backup_night(seed: int) -> Trace:
    """The weekly backup: packing, then sending, volume by volume, half of the night; a quiet day."""
    chance = random.Random(seed)
    day = _Day(chance)
    at = 0.5 * _HOUR_S
    while at < 6 * _HOUR_S:
        at = day.add(at, chance.uniform(120, 1500), chance.uniform(45, 80), 1.0)
        at = day.add(at, chance.uniform(30, 500), chance.uniform(4, 14), 1.0)
    return day.trace()


def heavy_tails(seed: int) -> Trace:
    """On and off at random, both mostly short and sometimes very long: Pareto with an index of 1.3."""
    chance = random.Random(seed)
    day = _Day(chance)
    at = 0.0
    while at < DAY_S:
        at = day.add(at, 15.0 * chance.paretovariate(1.3), chance.uniform(30, 97))
        at += 30.0 * chance.paretovariate(1.3)
    return day.trace()


def big_tables(seed: int) -> Trace:
    """Somebody reads tables of 4 to 19 GiB, looks at them on one CPU, and lets go of them."""
    chance = random.Random(seed)
    day = _Day(chance)
    at = 9 * _HOUR_S
    while at < 21 * _HOUR_S:
        gib, for_s = chance.uniform(4, 19), 90.0 + min(chance.lognormvariate(6.0, 1.0), 5400.0)
        day.add(at, 60.0, 60.0)
        at = day.add(at, for_s, 12.5, gib) + chance.expovariate(1 / 900.0)
    return day.trace()


def mixture(seed: int) -> Trace:
    """Two people with notebooks, builds now and then, a backup at night."""
    chance = random.Random(seed)
    day = _Day(chance, rest_pct=9.0, rest_gib=5.0)
    _notebook(day, chance, 8.0, 16.5)
    _notebook(day, chance, 10.5, 20.0)
    at = 9 * _HOUR_S
    while at < 23 * _HOUR_S:
        at = day.add(at, 20.0 * chance.paretovariate(1.2), chance.uniform(25, 80), 2.0)
        at += chance.expovariate(1 / 1200.0)
    day.add(2 * _HOUR_S, chance.uniform(2400, 7200), 62.0)
    return day.trace()


HELD_OUT: dict[str, Callable[[int], Trace]] = {
    "notebook": notebook,
    "continuous integration": continuous_integration,
    "lab sessions": lab_sessions,
    "backup night": backup_night,
    "heavy tails": heavy_tails,
    "big tables": big_tables,
    "mixture": mixture,
}
