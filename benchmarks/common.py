"""What every benchmark shares: taking turns, medians, tables, where things may lie.

Contenders take turns within each round, so that a machine which gets slower
meanwhile gets slower for all of them; what is reported is the median.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = [
    "BENCH",
    "ROOT",
    "goal",
    "main",
    "own_env",
    "peer_env",
    "print_machine",
    "print_table",
    "range_of",
    "scratch",
    "take_turns",
    "wait_for",
    "whole_process",
]

ROOT = Path(__file__).resolve().parent.parent

#: Environments of the peers and scratch folders; on the disk of the checkout, because /tmp may be memory.
BENCH = ROOT / ".bench"

#: How long anything may take to come up or go away on a busy machine.
_GUARD_S = 120.0


def take_turns(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call each contender once a round, after one round that does not count; return what they measured."""
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds + 1):
        # Nobody always runs behind the same one.
        for name in names[number % len(names) :] + names[: number % len(names)]:
            figure = contenders[name]()
            if number > 0:
                figures[name].append(figure)
    return figures


def range_of(figures: Sequence[float], digits: int = 1) -> str:
    """Return the 10th and 90th percentile, the way the tables show them."""
    if len(figures) < 2:
        return "-"
    deciles = statistics.quantiles(figures, n=10, method="inclusive")
    return f"{deciles[0]:.{digits}f} - {deciles[-1]:.{digits}f}"


def goal(words: str, *, met: bool) -> str:
    """Return a goal with its outcome."""
    return f"{words}: {'met' if met else 'MISSED'}"


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table; all but the first column are figures."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(header) + " |")
    print("|---" + "|---:" * (len(header) - 1) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    sys.stdout.flush()


def print_machine() -> None:
    """Print what a reader needs to compare figures, and nothing that names the machine."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = "not installed"
    load = os.getloadavg()[0]
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.system()} "
        f"{platform.release().split('-')[0]} {platform.machine()}, Python {platform.python_version()}, "
        f"torch {torch}, load average at the start {load:.1f}"
    )
    sys.stdout.flush()


def peer_env() -> dict[str, str]:
    """Return an environment in which a peer imports its own packages, whatever PYTHONPATH is here.

    One of them is called `supervisor`, like ours.
    """
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def own_env(**more: str) -> dict[str, str]:
    """Return an environment in which this checkout is what Python imports, and no daemon is set.

    On a bare server what else there is to import is named by PYTHONPATH (gpu/start.py).
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("TRAINING_SUPERVISOR_")}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return env | {"PYTHONPATH": path} | more


def whole_process(
    argv: Sequence[str], cpu_ms: list[float], *, env: Mapping[str, str] | None = None, shows: str = ""
) -> Callable[[], float]:
    """Return a timer in ms of a command from start to end; its CPU time is added to the list.

    The timer raises RuntimeError when the command fails or its output lacks `shows`.
    """

    def wall_ms() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        done = subprocess.run(
            argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        took_s = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode != 0 or shows not in done.stdout:
            raise RuntimeError(f"{argv} failed, or did not show `{shows}`:\n{done.stdout}{done.stderr}")
        cpu_ms.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000)
        return took_s * 1000

    return wall_ms


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder that is gone afterwards."""
    BENCH.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=BENCH, prefix="r-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Return when the condition holds; raises TimeoutError when it does not come true."""
    give_up_at = time.monotonic() + _GUARD_S
    while not condition():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"waited {_GUARD_S:g} s for {what}")
        time.sleep(0.02)


def main(run: Callable[..., None]) -> None:
    """Run one benchmark alone, from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="small counts: to see that it works")
    arguments = parser.parse_args()
    print_machine()
    run(quick=arguments.quick)
