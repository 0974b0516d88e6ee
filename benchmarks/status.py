"""`supervisorctl status` as a whole process, beside the command of that name in the package `supervisor`."""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

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

#: What pip writes for an entry point.
_COMMAND = """#!{python}
import sys
from supervisor.cli.main import main
if __name__ == "__main__":
    sys.exit(main())
"""


def run(*, quick: bool) -> None:
    rounds = 3 if quick else 31
    counts = (10,) if quick else (10, 100)
    cpu: dict[str, list[float]] = defaultdict(list)
    bare = "bare Python"
    contenders = {bare: whole_process([sys.executable, "-c", "pass"], cpu[bare], env=peer_env())}
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        command = folder / "supervisorctl"
        command.write_text(_COMMAND.format(python=sys.executable), encoding="utf-8")
        command.chmod(0o755)
        for num_jobs in counts:
            scene = stack.enter_context(Scene(folder / str(num_jobs)))
            scene.run_sleepers(num_jobs)
            argv = [str(command), "--home", str(scene.home), "status"]
            name, last = _OURS.format(num_jobs), f"sleeper-{num_jobs - 1}"
            contenders[name] = whole_process(argv, cpu[name], env=own_env(), shows=last)
            for peer_name, peer in start_peers(stack, num_jobs).items():
                name, last = _PEERS.format(peer_name, num_jobs), str(num_jobs - 1)
                contenders[name] = whole_process(peer.status, cpu[name], env=peer_env(), shows=last)
        walls = take_turns(contenders, rounds)
    rows = []
    for name, values in walls.items():
        row = [name, f"{statistics.median(values):.1f}", range_of(values)]
        rows.append([*row, f"{statistics.median(cpu[name]):.1f}", _outcome(name, walls, counts)])
    print_table("`status` as a whole process, ms", ["command", "median", "10 - 90 %", "CPU", "goal"], rows)


def _outcome(name: str, walls: Mapping[str, list[float]], counts: Sequence[int]) -> str:
    """Compare with `supervisor` at the same number of children."""
    for num_jobs in counts:
        peer = walls.get(_PEERS.format(SUPERVISORD, num_jobs))
        if name == _OURS.format(num_jobs) and peer:
            return goal("not slower", met=statistics.median(walls[name]) <= statistics.median(peer))
    return ""


if __name__ == "__main__":
    main(run)
