"""Breaks the checkpoint code in random small ways and says which breaks no test sees.

`python -m tests.mutation.campaign --seed 1 --num 60` works on copies of the tree; every mutant that
survives is printed as a difference, to be killed by a new test or judged to be the same program.
"""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
TESTS = [
    "tests/unit/checkpoint",
    "tests/property/test_checkpoint_round_trip.py",
    "tests/property/test_checkpoint_recycling.py",
    "tests/property/test_retention.py",
    "tests/crash/test_hostile_checkpoints.py",
    "tests/crash/test_checkpoint_crash.py",
    "tests/crash/test_damage.py",
]
SWAPS: dict[type, type] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or,
    ast.Or: ast.And, ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult,
}  # fmt: skip


class Mutant(NamedTuple):
    """One file, otherwise."""

    path: Path
    line: int
    source: str


def mutants(path: Path) -> Iterator[Mutant]:
    """Every small change of a file."""
    tree = ast.parse(path.read_text())
    for index, node in enumerate(ast.walk(tree)):
        for number in range(sum(1 for _ in _changes(node))):
            # The same walk over a copy finds the same node.
            changed = copy.deepcopy(tree)
            twin = next(one for at, one in enumerate(ast.walk(changed)) if at == index)
            list(_changes(twin))[number]()
            yield Mutant(path, getattr(node, "lineno", 0), ast.unparse(changed))


def _changes(node: ast.AST) -> Iterator[Callable[[], None]]:
    for block in ("body", "orelse", "finalbody"):
        for at, statement in enumerate(
            getattr(node, block, None) or [] if not isinstance(node, ast.IfExp | ast.Lambda) else []
        ):
            if _can_go(statement):
                yield lambda block=block, at=at: getattr(node, block).__setitem__(at, ast.Pass())
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        yield lambda: setattr(node, "test", ast.UnaryOp(ast.Not(), node.test))
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        yield lambda: node.ops.__setitem__(0, SWAPS[type(node.ops[0])]())
    if isinstance(node, ast.BoolOp | ast.BinOp) and type(node.op) in SWAPS:
        yield lambda: setattr(node, "op", SWAPS[type(node.op)]())
    if isinstance(node, ast.Constant) and type(node.value) in (int, bool):
        yield lambda: setattr(node, "value", not node.value if type(node.value) is bool else node.value + 1)
    if isinstance(node, ast.Call):
        for at in range(len(node.keywords)):
            yield lambda at=at: node.keywords.pop(at)


def _can_go(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return not isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Raise | ast.AugAssign | ast.Continue | ast.Break) or (
        isinstance(statement, ast.Assign) and not isinstance(statement.targets[0], ast.Name)
    )


def is_killed(mutant: Mutant, folder: Path, limit_s: float) -> bool:
    """Whether a test fails, or none comes to its end."""
    place = folder / mutant.path.relative_to(ROOT)
    original = place.read_text()
    place.write_text(mutant.source)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:randomly",
        "-p",
        "no:cacheprovider",
        *TESTS,
    ]
    try:
        # In a group of its own, so that what a test has started ends with it.
        with subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        ) as tests:
            try:
                return tests.wait(limit_s) != 0
            except subprocess.TimeoutExpired:
                os.killpg(tests.pid, signal.SIGKILL)
                return True
    finally:
        place.write_text(original)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--num", type=int, default=60)
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--limit-s", type=float, default=150)
    options.add_argument(
        "paths", nargs="*", type=Path, default=sorted((ROOT / "trainer_shim/checkpoint").glob("*.py"))
    )
    given = options.parse_args()
    everything = [mutant for path in given.paths for mutant in mutants(path.resolve())]
    chosen = random.Random(given.seed).sample(everything, min(given.num, len(everything)))
    with tempfile.TemporaryDirectory() as where, ThreadPoolExecutor(given.jobs) as pool:
        folders: SimpleQueue[Path] = SimpleQueue()
        for number in range(given.jobs):
            copied = shutil.copytree(
                ROOT, Path(where) / str(number), ignore=shutil.ignore_patterns(".*", "__pycache__")
            )
            folders.put(copied)

        def judged(mutant: Mutant) -> bool:
            folder = folders.get()
            try:
                return is_killed(mutant, folder, given.limit_s)
            finally:
                folders.put(folder)

        survivors = 0
        for mutant, killed in zip(chosen, pool.map(judged, chosen), strict=True):
            print(f"{'killed  ' if killed else 'SURVIVED'} {mutant.path.name}:{mutant.line}", flush=True)
            if not killed:
                survivors += 1
                before = ast.unparse(ast.parse(mutant.path.read_text())).splitlines()
                print(
                    *difflib.unified_diff(before, mutant.source.splitlines(), lineterm="", n=1),
                    sep="\n",
                    flush=True,
                )
    print(f"{len(chosen) - survivors} of {len(chosen)} killed, of {len(everything)} that there are")


if __name__ == "__main__":
    main()
