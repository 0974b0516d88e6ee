"""Many commands that end at once: how often it is looked what they left."""

import os
import subprocess
import time

import pytest

from supervisor.core.jobs.job import Exit
from supervisor.launcher.group import ProcessLooks
from supervisor.launcher.identity import identify
from supervisor.launcher.left_behind import LeftBehind
from supervisor.ports import Ended
from supervisor.system.procfs import read_stat
from tests.harness import until


class CountedProcessLooks(ProcessLooks):
    """Those of which it is known who asked."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def since(self, at):
        self.seen.append(super().since(at))
        return self.seen[-1]


@pytest.fixture
def looks():
    return CountedProcessLooks()


@pytest.fixture
def left(looks):
    return LeftBehind(looks)


@pytest.fixture
def children(tmp_path):
    """A process of each of five jobs."""
    found = []
    for number in range(5):
        run_dir = tmp_path / f"job-{number}" / "run-1"
        run_dir.mkdir(parents=True)
        mark = {"TRAINING_SUPERVISOR_RUN_DIR": str(run_dir)}
        found.append(subprocess.Popen(["sleep", "600"], env={**os.environ, **mark}))
    yield found
    for child in found:
        child.kill()
        child.wait()


def test_one_look_serves_all_ends_of_that_moment(tmp_path, left, looks, children):
    """
    And while there is no time for another, who ends next is told of later.
    """
    ends = [Ended(f"job-{number}", 1, Exit(code=1)) for number in range(6)]
    process = identify(children[0].pid)
    for end in ends[:5]:
        left.note(tmp_path / end.job / "run-1", process, end, time.monotonic())
    told = left.look()
    looks.seen[0].took_s = 0.02
    left.note(tmp_path / "job-5" / "run-1", process, ends[5], time.monotonic())
    soon = left.look()
    is_to_be_called = left.is_ending
    later = until(left.look)

    assert ends[:5] == told
    assert ([], True, ends[5:]) == (soon, is_to_be_called, later)
    assert 2 == len(looks.seen)
    assert looks.seen[1].at - looks.seen[0].at >= 0.2


def test_one_push_ends_what_many_left(tmp_path, left, looks, children):
    """
    With one look for all of them.
    """
    for number in range(len(children)):
        left.end(f"job-{number}", [tmp_path / f"job-{number}" / "run-1"], 600.0)
    is_new = left.is_new
    left.push()

    assert is_new
    assert not left.is_new
    assert 1 == len(looks.seen)
    until(lambda: all(read_stat(child.pid).state == "Z" for child in children))
