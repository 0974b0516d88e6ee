"""Breaks the code of the shim in random small ways and says which breaks no test sees.

`python -m tests.mutation.campaign --seed 1 --num 60` draws that many of `trainer_shim/checkpoint/` and
as many of the rest of `trainer_shim/`, or of each file and folder named. It works on copies of the tree;
every mutant that survives is printed as a difference, to be killed by a new test or judged to be the same
program.

Covers the tests that TESTS names for a file. Does not cover what only a whole run of all tests would see.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
#: What is run for a file: the tests of the first patterns that fit, the fastest first.
TESTS = {
    "checkpoint/nodes.py": "unit/cli/checkpoints/test_diff unit/trainer_shim/test_proof",
    "checkpoint/*": """unit/checkpoint property/test_retention property/test_checkpoint_recycling
        crash/test_damage crash/test_hostile_checkpoints property/test_checkpoint_round_trip
        crash/test_checkpoint_crash""",
    "protocol.py units.py": """unit/core/test_units unit/server/test_server_shims property/test_protocol
        integration/test_shim_alone""",
    "offload.py tensors.py devices.py": """unit/trainer_shim/test_devices unit/trainer_shim/test_offload
        exactness/test_giving_back""",
    "proof.py trace.py": """unit/cli/prove unit/test_proof
        e2e/test_prove""",
    """made.py module_*.py param_groups.py hyperparameters.py optimizer_state.py parts.py
    storable.py""": "exactness/test_made exactness/test_odd_parts exactness/test_torch_optim",
    """session.py attaching.py boundaries.py at_boundary.py saving.py background_saves.py drafts.py
    checks.py restoring.py telling.py manifest_facts.py gate.py link.py signals.py trainings.py
    process_end.py periodic.py receipt.py one_time_warnings.py surroundings.py whereabouts.py errors.py
    __init__.py""": """unit/trainer_shim/test_gate
        unit/trainer_shim/test_at_boundary unit/trainer_shim/test_boundaries unit/trainer_shim/test_drafts
        unit/trainer_shim/test_saving unit/trainer_shim/test_background_saves
        unit/trainer_shim/test_manifest_facts unit/trainer_shim/test_surroundings
        exactness/test_pauses integration/test_shim_alone integration/test_boundary
        integration/test_refused_in_time integration/test_periodic integration/test_several_trainings
        integration/test_training_in_a_child integration/test_training_in_a_thread
        integration/test_shims_and_daemon""",
    """strays.py moving.py kept.py loop_*.py inlining.py script_names.py
    source_places.py""": """unit/trainer_shim/test_loop_names exactness/test_loop_state
        exactness/test_strays""",
    "*": """unit/trainer_shim/test_reach unit/trainer_shim/test_values unit/trainer_shim/test_rng
        exactness/test_loader_light
        exactness/test_loader_doubts exactness/test_numbered_batches exactness/test_doubts
        exactness/test_passes exactness/test_drawn_before_the_loop exactness/test_state_of_the_data
        exactness/test_wrapped_loaders exactness/test_loader_edges exactness/test_loader_scenes""",
}
#: Takes milliseconds, so it comes before them.
FOR_EVERY_FILE = "tests/architecture/test_shim_source.py"
#: Longer than any test takes where other work shares the CPUs; a mutant that loops for ever costs as much.
TEST_LIMIT_S = 60
SWAPS: dict[type, type] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or,
    ast.Or: ast.And, ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult,
}  # fmt: skip


class Mutant(NamedTuple):
    """One change of one file: the `number`-th that can be made to the `index`-th node of its tree."""

    path: Path
    index: int
    number: int

    def source(self) -> tuple[int, str]:
        """Line and text of the changed file."""
        tree = ast.parse(self.path.read_text())
        node = list(ast.walk(tree))[self.index]
        list(_changes(node))[self.number]()
        return getattr(node, "lineno", 0), ast.unparse(tree)


def mutants(path: Path) -> Iterator[Mutant]:
    """Every small change of a file."""
    for index, node in enumerate(ast.walk(ast.parse(path.read_text()))):
        for number, _change in enumerate(_changes(node)):
            yield Mutant(path, index, number)


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


def tests_of(path: Path) -> list[str]:
    """What is run for a file of the shim; tests that bear its name come first."""
    name = str(path.relative_to(ROOT / "trainer_shim"))
    tests = next(
        tests for patterns, tests in TESTS.items() if any(fnmatch(name, one) for one in patterns.split())
    )
    found = [ROOT / "tests" / test for test in tests.split()]
    files = [
        file
        for one in found
        for file in (sorted(one.glob("test_*.py")) if one.is_dir() else [one.with_suffix(".py")])
    ]
    files.sort(key=lambda file: path.stem not in file.stem)
    return [FOR_EVERY_FILE, *(str(file.relative_to(ROOT)) for file in files)]


def passes(tests: list[str], folder: Path, limit_s: float, *more: str) -> bool:
    """Whether these tests come to their end in a copy of the tree, and none fails.

    What somebody else killed says nothing, so it is run again, once: a mutant may be what takes all memory.
    """
    code = _exit_code(tests, folder, limit_s, *more)
    if code == -signal.SIGKILL:
        code = _exit_code(tests, folder, limit_s, *more)
    return code == 0


def _exit_code(tests: list[str], folder: Path, limit_s: float, *more: str) -> int | None:
    """How these tests ended; None where they did not come to their end."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider"]
    command += ["-o", f"timeout={TEST_LIMIT_S}", f"--basetemp={folder}.tmp", *more, *tests]
    # In a group of its own, so that what a test has started ends with it; that, too, imports the copy.
    with subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as running:
        try:
            return running.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)


def is_killed(mutant: Mutant, folder: Path, limit_s: float) -> bool:
    """Whether a test fails, or none comes to its end."""
    place = folder / mutant.path.relative_to(ROOT)
    original = place.read_text()
    place.write_text(mutant.source()[1])
    try:
        return not passes(tests_of(mutant.path), folder, limit_s)
    finally:
        place.write_text(original)


def judge(chosen: list[Mutant], jobs: int) -> Iterator[bool]:
    """
    Yield for each mutant whether it is killed.

    Raises SystemExit if the tests fail without a mutant: they would kill every one.
    """
    with tempfile.TemporaryDirectory() as where, ThreadPoolExecutor(jobs) as pool:
        folders: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            hidden = shutil.ignore_patterns(".*", "__pycache__")
            folder = shutil.copytree(ROOT, Path(where) / str(number), ignore=hidden)
            folders.put(folder)
        needed = sorted({test for mutant in chosen for test in tests_of(mutant.path)})
        began = time.monotonic()
        if not passes(needed, folder, 3600, "-n", str(jobs)):
            raise SystemExit(
                f"error: these tests fail without a mutant\n\nhint: mend them: {' '.join(needed)}"
            )
        limit_s = 2 * jobs * (time.monotonic() - began) + TEST_LIMIT_S

        def judged(mutant: Mutant) -> bool:
            folder = folders.get()
            try:
                return is_killed(mutant, folder, limit_s)
            finally:
                folders.put(folder)

        yield from pool.map(judged, chosen)


def show(mutant: Mutant, *, killed: bool) -> None:
    """Say how a mutant ended, and what it was if no test saw it."""
    line, source = mutant.source()
    print(f"{'killed  ' if killed else 'SURVIVED'} {mutant.path.relative_to(ROOT)}:{line}", flush=True)
    if not killed:
        before = ast.unparse(ast.parse(mutant.path.read_text())).splitlines()
        print(*difflib.unified_diff(before, source.splitlines(), lineterm="", n=1), sep="\n", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--num", type=int, default=60, help="mutants drawn for each path")
    options.add_argument("--jobs", type=int, default=2)
    shim = ROOT / "trainer_shim"
    options.add_argument("paths", nargs="*", type=Path, default=[shim / "checkpoint", shim])
    given = options.parse_args()
    drawn: dict[Path, list[Mutant]] = {}
    for path in map(Path.resolve, given.paths):
        files = sorted(path.glob("*.py")) if path.is_dir() else [path]
        there = [mutant for file in files for mutant in mutants(file)]
        drawn[path] = random.Random(given.seed).sample(there, min(given.num, len(there)))
        print(
            f"{path.relative_to(ROOT)}: {len(drawn[path])} drawn, of {len(there)} that there are", flush=True
        )
    chosen = [mutant for some in drawn.values() for mutant in some]
    killed = {}
    for mutant, is_dead in zip(chosen, judge(chosen, given.jobs), strict=True):
        killed[mutant] = is_dead
        show(mutant, killed=is_dead)
    for path, some in drawn.items():
        print(f"{path.relative_to(ROOT)}: {sum(killed[mutant] for mutant in some)} of {len(some)} killed")


if __name__ == "__main__":
    main()
