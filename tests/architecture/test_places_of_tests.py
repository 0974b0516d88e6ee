"""Where tests stand: those of a module are found by its name.

Covers: every file of tests/unit, every module of the core; names of files of tests wherever they are told.
Does not cover: what the tests say.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "tests/unit"
CORE = ROOT / "supervisor/core"
FILES = sorted(UNIT.rglob("*.py"))
#: Where the module of a file of tests may be: at the same place in one of these.
HOUSES = (ROOT / "supervisor", ROOT / "trainer_shim", ROOT)
#: Files that are named after something else, and why.
OTHER_NAMES = {
    "test_checkpoint_direct.py": "files that several threads write and read: two modules at once",
    "test_checkpoint_flushes.py": "what reaches the disk in which order, through whatever calls it",
    "test_checkpoint_format.py": "the format as its document has it, read without our modules",
    "test_checkpoint_golden.py": "a checkpoint that every later version must read, with all that reads it",
    "test_git_commit.py": "one function of surroundings.py, with trees of folders that only it needs",
}


def modules_at(place: Path) -> set[str]:
    """Names of the modules that files of tests in this folder of tests/unit may be for."""
    folders = [house / place for house in HOUSES]
    return {path.stem for folder in folders for path in folder.glob("*.py") if path.stem != "__init__"}


def is_named_after(name: str, place: Path, modules: set[str]) -> bool:
    """
    test_MODULE.py, or test_MODULE_SUBJECT.py where there is much to say. The package may stand before it,
    where two packages have modules of one name.
    """
    told = name.removeprefix("test_").removesuffix(".py")
    shorter = told.removeprefix(f"{place.name}_")
    return any(f"{one}_".startswith(f"{module}_") for one in (told, shorter) for module in modules)


def test_every_module_of_the_core_with_something_to_run_has_a_file_of_tests():
    """
    Whoever changes one knows at once which tests to run first. Records have nothing to run.
    """
    modules = [path for path in CORE.rglob("*.py") if "def " in path.read_text()]
    missing = []
    for path in modules:
        place = path.parent.relative_to(CORE.parent)
        names = (f"test_{path.stem}.py", f"test_{place.name}_{path.stem}.py")
        if not any((UNIT / place / name).exists() for name in names):
            missing.append(str(path.relative_to(ROOT)))

    assert len(modules) > 30
    assert [] == missing


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(UNIT)))
def test_every_file_of_unit_tests_belongs_to_a_module(path):
    """
    A module that was moved or renamed takes its tests with it.
    """
    place = path.parent.relative_to(UNIT)

    assert path.name.startswith("test_")
    assert path.name in OTHER_NAMES or is_named_after(path.name, place, modules_at(place))


def test_no_two_files_of_tests_have_one_name():
    """
    A name in a report leads to one file; pytest would refuse the second one.
    """
    names = Counter(
        path.name for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("test_*.py")
    )

    assert [] == [name for name, count in names.items() if count > 1]


def test_files_of_tests_that_a_docstring_names_exist():
    """
    "Does not cover" leads to what does.
    """
    there = [f"/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "tests").rglob("test_*.py")]
    lost = []
    for path in (ROOT / "tests").rglob("*.py"):
        if "golden" in path.parts:
            continue
        told = re.findall(r"[\w/]*test_\w+\.py", ast.get_docstring(ast.parse(path.read_text())) or "")
        lost += [
            (path.name, name) for name in told if not any(f"/{one}".endswith(f"/{name}") for one in there)
        ]

    assert [] == lost
