"""What `import trainer_shim` costs a training process: time, modules, what must not be among them."""

from __future__ import annotations

import statistics
import subprocess
import sys

from benchmarks.common import ROOT, goal, main, own_env, print_table, range_of, take_turns, whole_process

STATEMENTS = {
    "bare Python": "pass",
    "`import trainer_shim`": "import trainer_shim",
    # Whatever the package puts off is loaded by then.
    "`from trainer_shim import attach`": "from trainer_shim import attach",
    "`import zmq`": "import zmq",
    "`import msgspec`": "import msgspec",
    "`import zmq, msgspec`": "import zmq, msgspec",
    "`import torch`": "import torch",
}
HEAVY = ("torch", "numpy", "psutil")

_COUNT = (
    "import sys; before = set(sys.modules)\n{statement}\n"
    "new = set(sys.modules) - before; print(len(new), *[n for n in {heavy} if n in new])"
)


def run(*, quick: bool) -> None:
    rounds = 3 if quick else 21
    modules = {name: _modules(statement) for name, statement in STATEMENTS.items()}
    missing = [name for name, (count, _) in modules.items() if count is None]
    cpu: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    contenders = {
        name: whole_process([sys.executable, "-c", statement], cpu[name], env=own_env())
        for name, statement in STATEMENTS.items()
        if name not in missing
    }
    walls = take_turns(contenders, rounds)
    bare_wall, bare_cpu = (statistics.median(each["bare Python"]) for each in (walls, cpu))
    rows = []
    for name, values in walls.items():
        count, heavy = modules[name]
        row = [name, f"{statistics.median(values):.1f}", range_of(values)]
        row += [
            f"{statistics.median(values) - bare_wall:.1f}",
            f"{statistics.median(cpu[name]) - bare_cpu:.1f}",
        ]
        row += [str(count), heavy or "none"]
        row.append(goal("none of these", met=not heavy) if "trainer_shim" in name else "")
        rows.append(row)
    header = ["what", "whole process", "10 - 90 %", "beyond bare", "CPU beyond bare", "modules"]
    header += ["of torch, numpy, psutil", "goal"]
    print_table("Importing the shim, ms as whole processes", header, rows)
    for name in missing:
        print(f"\nwithout {name}: it cannot be imported here")


def _modules(statement: str) -> tuple[int | None, str]:
    """Return how many modules a statement loads, and which of the heavy ones."""
    code = _COUNT.format(statement=statement, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=own_env(), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        return None, ""
    count, *heavy = done.stdout.split()
    return int(count), ", ".join(heavy)


if __name__ == "__main__":
    main(run)
