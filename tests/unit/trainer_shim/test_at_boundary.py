"""The order of things at a boundary, which is the promise: durable, then given back, then told.

Covers: at_boundary.py with a disk, a device and a daemon that write down when each is asked.
Does not cover: real ones (tests/integration/test_boundary.py, tests/exactness/test_giving_back.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer_shim import protocol as wire
from trainer_shim.at_boundary import AtBoundary
from trainer_shim.checkpoint import Saved
from trainer_shim.errors import CannotReturn, CannotSave
from trainer_shim.gate import Gate, LeaveBySignal, Want
from trainer_shim.link_report import LinkReport
from trainer_shim.offload import GivenBack
from trainer_shim.one_time_warnings import OneTimeWarnings
from trainer_shim.signals import SignalWatch
from trainer_shim.telling import Telling

SAVED = Saved(Path("step-7"), 7, "digest", 10, 0.5)


class Disk:
    """Stands where the saver is; `full` refuses."""

    def __init__(self, log):
        self._log, self.fresh, self.full, self.while_writing = log, None, False, lambda: None

    def save(self, request):
        if self.full:
            raise CannotSave("cannot save step 7: the disk is full", hint="free some space")
        if self.fresh is None:
            self._log.append("durable")
            self.fresh = SAVED
            self.while_writing()
        return self.fresh

    def still_there(self):
        return self.fresh

    def count_anew(self):
        self._log.append("counts anew")

    def leave_boundary(self):
        self.fresh = None


class Device:
    """Stands where the offloader is; of `refusals` one is used up by each try to return."""

    def __init__(self, log):
        self._log, self.is_away, self.refusals = log, False, []

    def give_back(self):
        self._log.append("given back")
        self.is_away = True
        return GivenBack(100, ())

    def take_back(self):
        if self.is_away and self.refusals:
            raise self.refusals.pop(0)
        if self.is_away:
            self._log.append("taken back")
        self.is_away = False

    def stay_on_host(self):
        if self.is_away:
            self._log.append("on the host")
        self.is_away = False


class Scene:
    """A loop at step 7, and a daemon that gives its next command when it is told of a pause."""

    def __init__(self, *commands):
        self.log, self.commands = [], list(commands)
        self.report, self.gate = LinkReport(), Gate()
        self.report.step = 7
        self.disk, self.device = Disk(self.log), Device(self.log)
        telling = Telling(self.report, OneTimeWarnings(), self, None)
        signals = SignalWatch(lambda _: None, lambda: None, lambda: None)
        self.order = AtBoundary(self.gate, self.disk, self.device, telling, self.report, signals)

    def send(self, message):
        self.log.append(" ".join([type(message).__name__, getattr(message, "depth", "")]).strip())
        if isinstance(message, wire.Yielded | wire.CannotYield) and self.commands:
            self.gate.put(self.commands.pop(0))

    def close(self, *, wait_s):
        raise AssertionError("the session ends the line, not the boundary")

    def do(self, command):
        self.gate.put(command)
        return self.order.do(self.gate.take(Want()))


def pause(depth, request="p"):
    return wire.Pause(request=request, depth=depth)


RESUME = wire.Resume(request="r")


def test_memory_is_given_back_behind_a_durable_checkpoint_and_told_when_it_is_gone():
    """
    Whoever hears of it may rely on both, and nothing trains before all is back.
    """
    scene = Scene(RESUME)
    code = scene.do(pause("offload"))

    assert code is None
    assert ["durable", "Stage", "given back", "Yielded offload"] == scene.log[:4]
    assert ["taken back", "counts anew", "Resumed"] == scene.log[4:]
    assert scene.report.holding is None


def test_a_pause_that_goes_deeper_rests_on_the_same_checkpoint_and_never_trains_between():
    """
    From hold to offload to the end of the process, in one boundary.
    """
    scene = Scene(pause("offload", "2"), pause("exit", "3"))
    code = scene.do(pause("hold", "1"))

    assert 75 == code
    told = ["Yielded hold", "Stage", "given back", "Yielded offload", "Yielded exit", "on the host"]
    assert ["durable", *told] == scene.log


def test_without_a_checkpoint_nothing_is_given_back_and_training_goes_on():
    """
    A full disk costs the pause, not the run.
    """
    for depth in ("hold", "offload", "exit"):
        scene = Scene()
        scene.disk.full = True

        assert scene.do(pause(depth)) is None
        assert ["CannotYield"] == scene.log


def test_a_pause_that_is_called_off_while_it_is_written_is_none():
    """
    Nothing is given back for a pause that nobody wants any more.
    """
    for depth in ("hold", "offload", "exit"):
        scene = Scene()
        scene.disk.while_writing = lambda scene=scene: scene.gate.put(RESUME)

        assert scene.do(pause(depth)) is None
        assert ["durable", "Resumed"] == scene.log


def test_a_signal_ends_the_process_with_its_code_behind_a_checkpoint():
    """
    The daemon is not told of a pause that it did not ask for.
    """
    scene = Scene()

    assert 128 + 15 == scene.do(LeaveBySignal(15))
    assert ["durable"] == scene.log


def test_a_process_that_does_not_get_its_memory_back_ends_to_be_started_again():
    """
    Only where a daemon is there to start it, and from the checkpoint that it holds on.
    """
    scene = Scene(RESUME)
    scene.report.has_daemon, scene.report.return_retry_s = True, 0.0
    scene.device.refusals = [CannotReturn("waiting for GPU memory")]

    assert 75 == scene.do(pause("offload"))
    assert ["Stage", "Yielded exit", "on the host"] == scene.log[4:]


def test_an_interrupt_while_the_memory_is_away_brings_it_back():
    """
    A script that catches Ctrl-C and saves its model finds its weights.
    """
    scene = Scene()

    def interrupted(message):
        if isinstance(message, wire.Yielded):
            raise KeyboardInterrupt

    scene.send = interrupted
    with pytest.raises(KeyboardInterrupt):
        scene.do(pause("offload"))

    assert ["durable", "given back", "taken back"] == scene.log
    assert scene.report.holding is None
    assert scene.disk.fresh is None
