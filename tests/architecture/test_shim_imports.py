"""What the shim imports, and when.

Covers: what `from trainer_shim import attach` leaves out, what is there by the first boundary, imports in
functions that nobody has written down.
Does not cover: how long it takes (benchmarks/import_weight.py).
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer_shim.late_imports import AT_ATTACH, LATE

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "trainer_shim").rglob("*.py"))

#: What nothing of the shim needs before it is known what the script wants. `ast`, `inspect`, `dis`,
#: `linecache` and `uuid` are not among them: msgspec brings those.
HEAVY = ("dataclasses", "logging", "multiprocessing", "queue", "socket", "tempfile", "zmq")
#: Imported in a function where the script has them.
OF_THE_SCRIPT = ("torch", "numpy", "multiprocessing")

TRAINING = """
import sys
from trainer_shim import attach

class Part:
    def state_dict(self):
        return {"number": 1}

    def load_state_dict(self, state):
        pass

shim = attach(part=Part(), checkpoints=sys.argv[1])
UNTIL
before = set(sys.modules)
shim.checkpoint()
shim.boundary()
shim.detach()
print(*sorted(set(sys.modules) - before))
"""


def run(code: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=290,
    )
    return done.stdout.strip()


def in_functions(path: Path) -> Iterator[str]:
    """The modules that functions of a source import, by their full names."""
    tree = ast.parse(path.read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    for node in (inner for function in functions for inner in ast.walk(function)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            packages = ("trainer_shim", "trainer_shim.checkpoint")
            inside = [f"{node.module}.{alias.name}" for alias in node.names if node.module in packages]
            yield from inside or [str(node.module)]


def test_a_script_that_only_imports_the_shim_pays_for_little():
    """
    Seen in a fresh interpreter: no module is there that the run has not asked for yet.
    """
    names = (*LATE, *AT_ATTACH, *HEAVY)
    found = run(f"import sys; from trainer_shim import attach; print(*set(sys.modules) & set({names}))")

    assert found == ""


@pytest.mark.parametrize("until", ["shim.boundary()", "next(shim.batches([1, 2]))"])
def test_nothing_is_imported_at_a_pause(tmp_path, until):
    """
    By the first batch or boundary all is there: later the package may have been updated, or its disk be
    gone.
    """
    assert run(TRAINING.replace("UNTIL", until), str(tmp_path / "checkpoints")) == ""


def test_an_import_in_a_function_is_there_in_time():
    """
    Each stands in one of the two lists, with its reason, or comes with one that does.
    """
    code = "import sys; from trainer_shim import late_imports as l; l.import_late(); print(*sys.modules)"
    there = {*run(code).split(), *AT_ATTACH}
    late = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in SOURCES
        for name in in_functions(path)
        if name not in there and name.partition(".")[0] not in OF_THE_SCRIPT
    }

    assert late == set()
