"""`supervisorctl status` as a whole process, beside the command of that name in the package `supervisor`.

Covers: wall clock and processor's time of all that a person waits for, the start of Python included.
Does not cover: what the daemon takes for it (idle.py).

All run from compiled files, as installed packages do, wherever this checkout is told not to write any. Ratios
are of the processor's time, because others may have the machine in between.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.common import (
    goal,
    main,
    own_env,
    peer_env,
    print_table,
    range_of,
    scratch,
    take_turns,
    whole_process,
)
from benchmarks.peers import SUPERVISORD, start_peers
from benchmarks.scene import Scene

_OURS = "`supervisorctl status`, {} jobs"
_PEERS = "the same of {}, {} children"
#: Times the processor's time of `supervisor`, at the same number of children.
GOAL_RATIO = 0.7

#: What pip writes for an entry point.
_COMMAND = """#!{python}
import sys
from supervisor.entry import command
if __name__ == "__main__":
    sys.exit(command())
"""


def run(*, quick: bool) -> None:
    rounds = 3 if quick else 31
    counts = (10,) if quick else (10, 100)
    cpu: dict[str, list[float]] = defaultdict(list)
    bare = "bare Python"
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        own, peers = (_compiled(env, folder) for env in (own_env(), peer_env()))
        contenders = {bare: whole_process([sys.executable, "-c", "pass"], cpu[bare], env=peers)}
        command = folder / "supervisorctl"
        command.write_text(_COMMAND.format(python=sys.executable), encoding="utf-8")
        command.chmod(0o755)
        for num_jobs in counts:
            scene = stack.enter_context(Scene(folder / str(num_jobs)))
            scene.run_sleepers(num_jobs)
            argv = [str(command), "--home", str(scene.home), "status"]
            name, last = _OURS.format(num_jobs), f"sleeper-{num_jobs - 1}"
            contenders[name] = whole_process(argv, cpu[name], env=own, shows=last)
            for peer_name, peer in start_peers(stack, num_jobs).items():
                name, last = _PEERS.format(peer_name, num_jobs), str(num_jobs - 1)
                contenders[name] = whole_process(peer.status, cpu[name], env=peers, shows=last)
        walls = take_turns(contenders, rounds)
    # The round that does not count is in the list of the processor's times, and compiled the files.
    cpu_ms = {name: statistics.median(cpu[name][1:]) for name in walls}
    rows = []
    for name, values in walls.items():
        row = [name, f"{statistics.median(values):.1f}", range_of(values), f"{cpu_ms[name]:.1f}"]
        rows.append([*row, range_of(cpu[name][1:]), _outcome(name, cpu_ms, counts)])
    header = ["command", "median", "10 - 90 %", "CPU", "10 - 90 % of it", "goal"]
    print_table("`status` as a whole process, ms", header, rows)


def _compiled(env: dict[str, str], folder: Path) -> dict[str, str]:
    """Return the environment of a process that keeps its compiled files in the folder."""
    env = env | {"PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return env


def _outcome(name: str, cpu_ms: Mapping[str, float], counts: Sequence[int]) -> str:
    """Compare with `supervisor` at the same number of children."""
    for num_jobs in counts:
        peer_ms = cpu_ms.get(_PEERS.format(SUPERVISORD, num_jobs))
        if name == _OURS.format(num_jobs) and peer_ms:
            ratio = cpu_ms[name] / peer_ms
            return goal(f"{ratio:.2f} x the peer, at most {GOAL_RATIO}", met=ratio <= GOAL_RATIO)
    return ""


if __name__ == "__main__":
    main(run)
