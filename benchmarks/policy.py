"""Our policy beside others, on days of load: yielded late, paused needlessly, flaps.

    python -m benchmarks.policy [--tick SECONDS] [--search]

Late: others were short (the threshold of a rule was crossed) and our job still ran. Needless: it was paused
although the machine had room for it. Flap: a pause within ten minutes of a return. All policies get the
same days and the same job.

Three tables. The days of tests/days/traces.py were at hand while the policy was made; those of
tests/days/heldout.py were not, and stand as medians of five seeds. The last one lets every policy meet the
oscillation that is the worst for each of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from statistics import median

from supervisor.core.policy.simulation import SimulationReport
from tests.days.heldout import HELD_OUT, SEEDS
from tests.days.peers import PEERS
from tests.days.policies import NAMES, OSCILLATION, OTHERS, day, trace_of
from tests.days.traces import DAY_S, WORST, oscillation

POLICIES = ("ours", *OTHERS)
LENGTHS_ON = (10, 15, 30, 50, 60, 75, 100, 150, 230, 330, 400)
LENGTHS_OFF = (15, 25, 60, 75, 90, 130, 200, 330, 600)

_FIGURES = ("late_s", "needless_s", "paused_s", "num_pauses", "num_flaps")
_HEAD = ("day", "policy", "late min", "needless min", "paused min", "pauses", "flaps")


def development(tick_s: float, until_s: float = DAY_S) -> None:
    """Print the days that the policy was made with."""
    print("Development days:\n")
    _heading(_HEAD)
    for name in NAMES:
        for who in POLICIES:
            if name != OSCILLATION or who in WORST:
                _row((name, who), [day(trace_of(name, who), who, tick_s=tick_s, until_s=until_s)])


def held_out(tick_s: float, until_s: float = DAY_S) -> None:
    """Print the days that it was not made with."""
    print(f"\nHeld-out days, medians of {len(SEEDS)} seeds (flaps: and the most):\n")
    _heading(_HEAD)
    for name, make in HELD_OUT.items():
        traces = [make(seed) for seed in SEEDS]
        for who in POLICIES:
            _row((name, who), [day(trace, who, tick_s=tick_s, until_s=until_s) for trace in traces])


def worst(tick_s: float, until_s: float) -> None:
    """Print how often each policy flaps where each of them is at its worst."""
    print("\nFlaps an hour, each policy at the worst oscillation of each:\n")
    _heading(("worst of", "s on, s off", *POLICIES))
    for whose, (on_s, off_s) in WORST.items():
        flaps = [
            day(oscillation(on_s, off_s), who, tick_s=tick_s, until_s=until_s).total("num_flaps")
            for who in POLICIES
        ]
        cells = [f"{number / until_s * 3600:.1f}" for number in flaps]
        print(f"| {whose} | {on_s:g}, {off_s:g} | " + " | ".join(cells) + " |", flush=True)


def _heading(head: Sequence[str]) -> None:
    print("| " + " | ".join(head) + " |")
    print("|---" * len(head) + "|")


def _row(names: Sequence[str], reports: Sequence[SimulationReport]) -> None:
    figures = {what: [report.total(what) for report in reports] for what in _FIGURES}
    minutes = [f"{median(figures[what]) / 60:.1f}" for what in ("late_s", "needless_s", "paused_s")]
    flaps = f"{median(figures['num_flaps']):.0f}"
    if len(reports) > 1:
        flaps += f" ({max(figures['num_flaps']):.0f})"
    cells = [*names, *minutes, f"{median(figures['num_pauses']):.0f}", flaps]
    print("| " + " | ".join(cells) + " |", flush=True)


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


def tables(tick_s: float, until_s: float = DAY_S) -> None:
    development(tick_s, until_s)
    held_out(tick_s, until_s)
    worst(min(tick_s, 5.0), min(until_s, DAY_S / 4))


def run(*, quick: bool = False) -> None:
    print("\n### policy\n")
    tables(5.0, 3600.0 if quick else DAY_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tick", type=float, default=5.0, help="seconds between two samples")
    parser.add_argument("--search", action="store_true", help="look for the worst oscillation of each")
    given = parser.parse_args()
    if given.search:
        search(given.tick)
    else:
        tables(given.tick)


if __name__ == "__main__":
    main()
