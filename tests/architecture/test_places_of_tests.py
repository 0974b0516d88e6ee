"""Where tests stand: those of a module are found by its name.

Covers: the pure core and tests/unit/core. Does not cover: what the tests say.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
CORE = ROOT / "supervisor/core"
TESTS = ROOT / "tests/unit/core"
#: The tests of jobs are still in tests/unit itself; they follow.
LATER = CORE / "jobs"


def test_every_module_of_the_core_has_a_file_of_tests():
    """
    Whoever changes one knows at once which tests to run first.
    """
    modules = [path.relative_to(CORE) for path in CORE.rglob("*.py") if LATER not in path.parents]
    names = [path for path in modules if path.name != "__init__.py"]

    assert len(names) > 20
    assert [] == [str(path) for path in names if not (TESTS / path.with_name(f"test_{path.name}")).exists()]
