"""Our policy beside others, on days of load: yielded late, paused needlessly, flaps.

    python -m benchmarks.policy [--tick SECONDS] [--search]

Late: others were short (the threshold of a rule was crossed) and our job still ran. Needless: it was paused
although the machine had room for it. Flap: a pause within ten minutes of a return. All policies get the
same days and the same job. The oscillation is a different one for each policy: its own worst.
"""

from __future__ import annotations

import argparse
import time

from benchmarks.policy_peers import PEERS
from benchmarks.policy_traces import DAY_S, GIB, TRACES, WORST, Trace, oscillation, samples
from supervisor.core.default_rules import DEFAULT_RULES
from supervisor.core.policy_memory import Footprint
from supervisor.core.rules import Settings
from supervisor.core.simulation import Report, SimJob, simulate

SETTINGS = Settings(rules=DEFAULT_RULES)
OSCILLATION = "oscillation, own worst"
NAMES = (*TRACES, OSCILLATION)
LENGTHS_ON = (10, 15, 30, 50, 60, 75, 100, 150, 230, 400)
LENGTHS_OFF = (15, 25, 60, 75, 90, 130, 200, 330, 600)


def trace_of(name: str, who: str) -> Trace:
    return WORST[who] if name == OSCILLATION else TRACES[name]


def day(trace: Trace, who: str, *, tick_s: float, until_s: float = DAY_S) -> Report:
    """Let one policy live through one day."""
    job = SimJob(name="job-1", demand=Footprint(cpu_pct=300.0, rss_bytes=2 * GIB))
    return simulate(samples(trace, tick_s, until_s), SETTINGS, [job], decide=PEERS.get(who))


def table(tick_s: float, until_s: float = DAY_S) -> None:
    head = ("trace", "policy", "late min", "needless min", "paused min", "pauses", "flaps", "us a tick")
    print("| " + " | ".join(head) + " |")
    print("|---" * len(head) + "|")
    for name in NAMES:
        for who in ("ours", *PEERS):
            began = time.perf_counter()
            report = day(trace_of(name, who), who, tick_s=tick_s, until_s=until_s)
            tick_us = (time.perf_counter() - began) / report.num_samples * 1e6
            minutes = [report.total(what) / 60 for what in ("late_s", "needless_s", "paused_s")]
            counts = [report.total(what) for what in ("num_pauses", "num_flaps")]
            row = [f"{figure:.1f}" for figure in minutes] + [f"{figure:.0f}" for figure in (*counts, tick_us)]
            print(f"| {name} | {who} | " + " | ".join(row) + " |", flush=True)


def search(tick_s: float) -> None:
    """Print the oscillation at which each policy flaps most, in three hours."""
    for who in ("ours", *PEERS):
        flaps = {
            (on_s, off_s): day(oscillation(on_s, off_s), who, tick_s=tick_s, until_s=3 * 3600).total(
                "num_flaps"
            )
            for on_s in LENGTHS_ON
            for off_s in LENGTHS_OFF
        }
        (on_s, off_s), most = max(flaps.items(), key=lambda one: one[1])
        print(f"{who}: {on_s} s on, {off_s} s off: {most / 3:.1f} flaps an hour")


def run(*, quick: bool = False) -> None:
    print("\n### policy\n")
    table(5.0 if quick else 1.0, 3600.0 if quick else DAY_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tick", type=float, default=1.0, help="seconds between two samples")
    parser.add_argument("--search", action="store_true", help="look for the worst oscillation of each")
    given = parser.parse_args()
    if given.search:
        search(given.tick)
    else:
        table(given.tick)


if __name__ == "__main__":
    main()
