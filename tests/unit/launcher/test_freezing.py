"""What is done with a start that systemd is to stop, or to let go, and what is done where it cannot.

Covers: answers that come late, or never were; a process that is really stopped.
Does not cover: groups (tests/integration/test_job_groups.py), systemd (tests/systemd/test_job_units.py).
"""

import signal
import subprocess

import pytest

from supervisor.launcher.freezing import Freezing
from supervisor.launcher.identity import identify
from supervisor.launcher.keepers import FreezeAnswer
from supervisor.launcher.runs import Run
from supervisor.system.procfs import read_stat
from tests.harness import until

NO_BUS = "no bus"


class Units:
    """Keepers in units, of which the test says what came of it."""

    def __init__(self):
        self.asked = []

    def set_frozen(self, _run, *, is_frozen):
        self.asked.append(is_frozen)
        return True


class World:
    """One start that is asked for."""

    def __init__(self, tmp_path, child):
        self.units = Units()
        self.freezing = Freezing(self.units)
        self.run = Run("a", 1, tmp_path / "jobs/a/run-1", process=identify(child.pid))

    def signal(self, number):
        self.freezing.signal(self.run, number)
        self.freezing.send()

    def answer(self, *, is_frozen, problem=""):
        self.freezing.take(self.run, FreezeAnswer("a", 1, is_frozen, problem))
        self.freezing.send()

    def is_stopped(self):
        return read_stat(self.run.process.pid).state == "T"


@pytest.fixture
def world(tmp_path):
    with subprocess.Popen(["sleep", "600"]) as child:
        yield World(tmp_path, child)
        child.kill()


def test_a_unit_is_stopped_by_systemd_and_by_no_signal(world):
    """
    Signals would have to be sent to each process, and others could undo them.
    """
    world.signal(signal.SIGSTOP)
    world.answer(is_frozen=True)

    assert [True] == world.units.asked
    assert not world.is_stopped()


def test_what_systemd_cannot_stop_is_stopped_by_signals(world):
    """
    And goes on when it is let go, whatever systemd says to that.
    """
    world.signal(signal.SIGSTOP)
    world.answer(is_frozen=True, problem=NO_BUS)
    until(world.is_stopped)
    world.signal(signal.SIGCONT)

    until(lambda: not world.is_stopped())
    assert [True, False] == world.units.asked


def test_an_answer_that_comes_when_it_is_let_go_stops_nothing(world):
    """
    A job that runs by the journal must not stand still.
    """
    world.signal(signal.SIGSTOP)
    world.signal(signal.SIGCONT)
    world.answer(is_frozen=True, problem=NO_BUS)
    world.answer(is_frozen=False)

    assert not world.is_stopped()
    assert not world.run.is_awaited


def test_what_could_not_be_let_go_is_tried_again(world):
    """
    Until it works, or it is to stand still again.
    """
    world.signal(signal.SIGSTOP)
    world.answer(is_frozen=True)
    world.signal(signal.SIGCONT)
    world.answer(is_frozen=False, problem=NO_BUS)
    was_due = world.run.is_awaited
    world.freezing.thaw(world.run)
    is_asked = not world.run.is_awaited
    world.answer(is_frozen=False)

    assert (True, True) == (was_due, is_asked)
    assert [True, False, False] == world.units.asked
    assert not world.run.is_awaited


def test_a_start_that_is_killed_is_let_go_before(world):
    """
    Its keeper stands still with it, and is to write down how it ended.
    """
    world.signal(signal.SIGSTOP)
    world.signal(signal.SIGKILL)

    assert [True, False] == world.units.asked
