"""What `import trainer_shim` costs a training process: time, modules, what must not be among them.

Covers: the import, and attach() in an empty folder behind it, so that nothing is only put off.
Does not cover: the first batch, which loads what a loop needs (trainer_shim/late_imports.py).

All run from compiled files, as an installed package does, wherever this checkout is told not to write any.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.common import (
    ROOT,
    goal,
    main,
    own_env,
    print_table,
    range_of,
    scratch,
    take_turns,
    whole_process,
)

_BARE, _NEEDED, _IMPORT = "bare Python", "`import zmq, msgspec`", "`from trainer_shim import attach`"
#: Beyond a bare Python, in terms of what the shim cannot do without.
GOAL_RATIO = 1.4

_ATTACH = """
import os
from trainer_shim import attach

class Part:
    def state_dict(self):
        return {"number": 1}

    def load_state_dict(self, state):
        pass

attach(Part(), checkpoints=f"{os.environ['CHECKPOINTS']}/{os.getpid()}").detach()
"""

STATEMENTS = {
    _BARE: "pass",
    "`import trainer_shim`": "import trainer_shim",
    # Whatever the package puts off is loaded by then, or has a reason to come later.
    _IMPORT: "from trainer_shim import attach",
    "the same, and `attach()`": _ATTACH,
    "`import zmq`": "import zmq",
    "`import msgspec`": "import msgspec",
    _NEEDED: "import zmq, msgspec",
    "`import torch`": "import torch",
}
HEAVY = ("torch", "numpy", "psutil")

_COUNT = (
    "import sys; before = set(sys.modules)\n{statement}\n"
    "new = set(sys.modules) - before; print(len(new), *[n for n in {heavy} if n in new])"
)


def run(*, quick: bool) -> None:
    rounds = 3 if quick else 21
    with scratch() as folder:
        _run(folder, rounds)


def _run(folder: Path, rounds: int) -> None:
    env = own_env(PYTHONPYCACHEPREFIX=str(folder / "compiled"), CHECKPOINTS=str(folder))
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    # This compiles them, too.
    modules = {name: _modules(statement, env) for name, statement in STATEMENTS.items()}
    missing = [name for name, (count, _) in modules.items() if count is None]
    cpu: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    contenders = {
        name: whole_process([sys.executable, "-c", statement], cpu[name], env=env)
        for name, statement in STATEMENTS.items()
        if name not in missing
    }
    walls = take_turns(contenders, rounds)
    bare_wall, bare_cpu = (statistics.median(each[_BARE]) for each in (walls, cpu))
    # Of the processor's time, because others may have the machine in between.
    needed_ms = statistics.median(cpu[_NEEDED] or [float("nan")]) - bare_cpu
    rows = []
    for name, values in walls.items():
        count, heavy = modules[name]
        beyond_ms, cpu_ms = statistics.median(values) - bare_wall, statistics.median(cpu[name]) - bare_cpu
        row = [name, f"{statistics.median(values):.1f}", range_of(values), f"{beyond_ms:.1f}"]
        row += [f"{cpu_ms:.1f}", f"{cpu_ms / needed_ms:.2f}"]
        row += [str(count), heavy or "none"]
        goals = [goal("none of these", met=not heavy)] if "trainer_shim" in name else []
        if name == _IMPORT:
            goals.append(goal(f"at most {GOAL_RATIO} x {_NEEDED}", met=cpu_ms <= GOAL_RATIO * needed_ms))
        row.append("; ".join(goals))
        rows.append(row)
    header = ["what", "whole process", "10 - 90 %", "beyond bare", "CPU beyond bare", "x zmq, msgspec"]
    header += ["modules", "of torch, numpy, psutil", "goal"]
    print_table("Importing the shim, ms as whole processes", header, rows)
    for name in missing:
        print(f"\nwithout {name}: it cannot be imported here")


def _modules(statement: str, env: dict[str, str]) -> tuple[int | None, str]:
    """Return how many modules a statement loads, and which of the heavy ones."""
    code = _COUNT.format(statement=statement, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        return None, ""
    count, *heavy = done.stdout.split()
    return int(count), ", ".join(heavy)


if __name__ == "__main__":
    main(run)
