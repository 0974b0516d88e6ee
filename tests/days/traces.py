"""Days of foreign load, invented but typical: what others do on a machine while our jobs want it.

Each trace is a function from the second of the day to (foreign CPU in per cent of all CPUs,
foreign memory in GiB); chance comes from a fixed seed, so a run can be repeated.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator

from supervisor.core.readings.sample import Pressure, Sample

GIB = float(1 << 30)
DAY_S = 86400
TOTAL_GIB = 24.0

Load = tuple[float, float]
Trace = Callable[[float], Load]


def samples(trace: Trace, tick_s: float, until_s: float = DAY_S) -> Iterator[Sample]:
    """Yield what a machine would measure without our jobs."""
    num_ticks = int(until_s / tick_s)
    for number in range(num_ticks):
        at = number * tick_s
        cpu_pct, memory_gib = trace(at)
        yield Sample(
            at=1e6 + at,
            second_of_day=int(at) % DAY_S,
            num_cpus=8.0,
            cpu_foreign_pct=cpu_pct,
            memory_total_bytes=TOTAL_GIB * GIB,
            memory_available_bytes=max(0.1, TOTAL_GIB - memory_gib) * GIB,
            pressure=Pressure(memory_full_pct=0.0, memory_some_pct=0.0),
            gpus=(),
        )


def spiky_desktop(seed: int = 0) -> Trace:
    """Office hours: pages that load, mail that is indexed, now and then a long job; a film in the evening."""
    chance = random.Random(seed)
    load = [3.0 + 4.0 * chance.random() for _ in range(DAY_S)]
    at = 9 * 3600.0
    while at < 18 * 3600:
        length_s = chance.choice([3, 5, 8, 12, 20]) if chance.random() < 0.97 else chance.uniform(600, 2400)
        height = chance.uniform(30, 95)
        for second in range(int(at), min(DAY_S, int(at + length_s))):
            load[second] = height * chance.uniform(0.9, 1.05)
        at += length_s + chance.expovariate(1 / 45)
    for second in range(20 * 3600, 22 * 3600):
        load[second] = chance.uniform(26, 38)
    return lambda second: (load[int(second)], 6.0)


def build_server(seed: int = 0) -> Trace:
    """Builds of 2 to 8 minutes in working hours, each followed by tests on a few cores."""
    chance = random.Random(seed)
    load = [2.0] * DAY_S
    at = 7 * 3600.0
    while at < 20 * 3600:
        length_s = chance.uniform(120, 480)
        for second in range(int(at), min(DAY_S, int(at + length_s))):
            load[second] = chance.uniform(80, 99)
        at += length_s
        tests_s = chance.uniform(60, 900)
        for second in range(int(at), min(DAY_S, int(at + tests_s))):
            load[second] = chance.uniform(22, 38)
        at += tests_s + chance.expovariate(1 / 600)
    return lambda second: (load[int(second)], 7.0)


def night_batch() -> Trace:
    """Three hours of somebody's batch at night, whose stages leave gaps of a minute; then a backup."""

    def load(second: float) -> Load:
        if 3600 <= second < 4 * 3600:
            return (8.0 if second % 900 < 60 else 92.0), 9.0
        if 4 * 3600 <= second < 6 * 3600:
            return 32.0, 5.0
        return 4.0, 4.0

    return load


def base_load() -> Trace:
    """A service that takes a third of the machine all day, with a busy hour at noon."""
    chance = random.Random(3)
    noise = [chance.uniform(-6, 6) for _ in range(DAY_S)]

    def load(second: float) -> Load:
        height = 80.0 if 12 * 3600 <= second < 13 * 3600 else 34.0
        return height + noise[int(second)], 5.0

    return load


def slow_ramp() -> Trace:
    """Load that rises and falls over eight hours, with noise that crosses every threshold many times."""
    chance = random.Random(4)
    noise = [chance.gauss(0, 7) for _ in range(DAY_S)]

    def load(second: float) -> Load:
        height = 45 - 43 * math.cos(2 * math.pi * second / (8 * 3600))
        return min(100.0, max(0.0, height + noise[int(second)])), 5.0

    return load


def memory_sawtooth() -> Trace:
    """A service that loads and drops its data every 50 minutes: memory climbs to where nothing is left."""

    def load(second: float) -> Load:
        share = (second % 3000) / 3000
        is_loading = (second % 300) < 100
        return (45.0 if is_loading else 10.0), 4.0 + 17.0 * share

    return load


def oscillation(on_s: float, off_s: float) -> Trace:
    """A load that comes and goes at the worst period for one policy or another."""
    return lambda second: ((90.0 if second % (on_s + off_s) < on_s else 4.0), 5.0)


TRACES: dict[str, Trace] = {
    "spiky desktop": spiky_desktop(),
    "build server": build_server(),
    "night batch": night_batch(),
    "base load": base_load(),
    "slow ramp": slow_ramp(),
    "memory sawtooth": memory_sawtooth(),
}

#: Seconds on and seconds off. Just long enough to be answered, just long enough away for a return: the worst
#: for each policy of a hundred pairs of lengths from 10 s to 10 min (`python -m benchmarks.policy --search`).
WORST: dict[str, tuple[float, float]] = {
    "ours": (330, 130),
    "BOINC": (15, 15),
    "BOINC at 50 %": (15, 15),
    "HTCondor": (150, 330),
    "one threshold": (5, 5),
}
