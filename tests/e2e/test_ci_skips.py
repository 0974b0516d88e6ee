"""A test that is skipped fails CI unless the repository says that it may be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

REPORT = """<testsuites><testsuite>
<testcase classname="tests.test_a" name="test_ran"/>
<testcase classname="tests.test_a" name="test_left_out[1]">
  <skipped type="pytest.skip" message="no root"/></testcase>
<testcase classname="tests.test_a" name="test_known_bug"><skipped type="pytest.xfail" message=""/></testcase>
</testsuite></testsuites>"""


def check(folder, allowed):
    (folder / "report.xml").write_text(REPORT, encoding="utf-8")
    (folder / "allowed.txt").write_text(allowed, encoding="utf-8")
    command = [sys.executable, ROOT / ".ci/skips.py", folder / "report.xml", folder / "allowed.txt"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_skip_that_nobody_allowed_fails_and_is_named(tmp_path):
    """
    A machine that cannot run a test is noticed, not taken for a pass.
    """
    done = check(tmp_path, "# nothing\n")

    assert 1 == done.returncode
    assert "`tests.test_a::test_left_out[1]`: no root" in done.stderr
    assert "test_known_bug" not in done.stderr


@pytest.mark.parametrize("pattern", ["tests.test_a::test_left_out*", "*::test_left_out[[]1]"])
def test_a_skip_on_the_list_passes(tmp_path, pattern):
    """
    A pattern covers a test and its parameters.
    """
    done = check(tmp_path, f"{pattern} mounting needs root\n")

    assert (0, "") == (done.returncode, done.stderr)


def test_the_list_needs_a_reason_for_each_line(tmp_path):
    """
    Whoever reads the list knows why a test may be left out.
    """
    done = check(tmp_path, "tests.test_a::test_left_out*\n")

    assert 1 == done.returncode
    assert "without a reason" in done.stderr


def test_the_list_of_this_repository_can_be_read(tmp_path):
    """
    The real list has its form right.
    """
    allowed = (ROOT / "tests/allowed_skips.txt").read_text(encoding="utf-8")

    assert "without a reason" not in check(tmp_path, allowed).stderr
