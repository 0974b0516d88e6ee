"""What a supervisor costs while nothing happens: CPU and memory, beside others with as many children.

All run at the same time, so that they share whatever else the machine does.
CPU time is what the scheduler counts in nanoseconds (schedstat of every
thread); where the kernel lacks it, the clock ticks of /proc/PID/stat.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from benchmarks.common import main, print_table, scratch
from benchmarks.peers import start_peers
from benchmarks.scene import Scene, keepers

NUM_JOBS = 10

#: After the last child is up: what a start leaves behind is over.
_CALM_S = 5.0

_MB = 1e6


class _Contender(NamedTuple):
    daemon: int
    #: The small parents of the jobs, where there are any.
    keepers: Sequence[int] = ()


def run(*, quick: bool) -> None:
    window_s = 5.0 if quick else 60.0
    contenders = {}
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        scene = stack.enter_context(Scene(folder / "a"))
        scene.run_sleepers(NUM_JOBS)
        ours = _Contender(scene.pid, sorted(keepers(scene.rows())))
        contenders[f"`training-supervisord`, {NUM_JOBS} x `sleep`"] = ours
        scene = stack.enter_context(Scene(folder / "b"))
        scene.run_toys([f"toy-{number}" for number in range(NUM_JOBS)], "idle")
        ours = _Contender(scene.pid, sorted(keepers(scene.rows())))
        contenders[f"`training-supervisord`, {NUM_JOBS} connected shims"] = ours
        for name, peer in start_peers(stack, NUM_JOBS).items():
            contenders[f"{name}, {NUM_JOBS} x `sleep`"] = _Contender(peer.pid)
        time.sleep(_CALM_S)
        pids = [pid for one in contenders.values() for pid in (one.daemon, *one.keepers)]
        began = time.monotonic()
        before = {pid: cpu_s(pid) for pid in pids}
        time.sleep(window_s)
        took_s = time.monotonic() - began
        cpu = {pid: 100 * (cpu_s(pid) - before[pid]) / took_s for pid in pids}
        rows = [_table_row(name, one, cpu) for name, one in contenders.items()]
    header = ["supervisor", "CPU %", "RSS MB", "PSS MB", "keepers", "their CPU %", "their PSS MB"]
    print_table(f"Idle for {window_s:g} s", header, rows)


def _table_row(name: str, one: _Contender, cpu: dict[int, float]) -> list[str]:
    row = [name, f"{cpu[one.daemon]:.3f}", f"{_memory(one.daemon, 'Rss') / _MB:.1f}"]
    row.append(f"{_memory(one.daemon, 'Pss') / _MB:.1f}")
    if not one.keepers:
        return [*row, "none", "-", "-"]
    pss = sum(_memory(pid, "Pss") for pid in one.keepers)
    return [*row, str(len(one.keepers)), f"{sum(cpu[pid] for pid in one.keepers):.3f}", f"{pss / _MB:.1f}"]


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process and all its threads so far."""
    spent_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            spent_ns += int((task / "schedstat").read_text(encoding="ascii").split()[0])
        except FileNotFoundError:
            return _ticks_s(pid)
    return spent_ns / 1e9


def _ticks_s(pid: int) -> float:
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int, name: str) -> int:
    """Return `Rss` or `Pss` in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no {name} of process {pid}")


if __name__ == "__main__":
    main(run)
