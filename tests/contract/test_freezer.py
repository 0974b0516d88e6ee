"""What the engine may rely on, of every ProcessFreezer.

Covers: the fake in full; the real one on processes of this machine, with a driver that is the
documented state machine without a device.
Does not cover: a real driver. As of November 2026 none was at hand.
"""

from __future__ import annotations

import select
import subprocess
import sys
import threading

import pytest

from supervisor.core.jobs.job import Pid
from supervisor.freezer import CudaFreezer, Limits
from supervisor.system.procfs import boot_id, read_stat
from tests.fakes.freezer import FakeCuda, FakeFreezer
from tests.harness import until


class Fake:
    """No processes at all."""

    def __init__(self):
        self.freezer = FakeFreezer()
        self.process = Pid(4242, 17, "boot-1")

    def is_frozen(self):
        return self.process in self.freezer.frozen

    def refuse(self):
        self.freezer.problems[self.process] = "CUDA_ERROR_OUT_OF_MEMORY"

    def end(self):
        self.freezer.gone.add(self.process)

    def close(self):
        self.freezer.close()


class Real:
    """A process that waits, and a driver that does as it is told."""

    def __init__(self):
        self.cuda = FakeCuda()
        self.freezer = CudaFreezer(lambda _pid: self.cuda, Limits(lock_s=1.0, pause_s=0.0))
        self.child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self.process = Pid(self.child.pid, read_stat(self.child.pid).start_ticks, boot_id())

    def is_frozen(self):
        return self.cuda.state == "checkpointed"

    def refuse(self):
        self.cuda.failures = dict.fromkeys(["checkpoint", "restore"], 99)

    def end(self):
        self.child.kill()
        self.child.wait()

    def close(self):
        self.end()
        self.child.stdin.close()
        self.freezer.close()


@pytest.fixture(params=[Fake, Real], ids=["fake", "real"])
def world(request):
    made = request.param()
    yield made
    made.close()


@pytest.fixture
def real():
    made = Real()
    yield made
    made.close()


def news(world):
    """What comes next; its descriptor says when."""
    assert select.select([world.freezer.fileno()], [], [], 20)[0], "no news"
    (one,) = world.freezer.drain()
    return one


class TestFreezerContract:
    """Runs against the fake and the real one."""

    def test_a_process_is_frozen_and_thawed(self, world):
        """
        Each may be repeated: after a crash nobody knows whether it was done.
        """
        told, seen = [], []
        for act in (world.freezer.freeze, world.freezer.freeze, world.freezer.thaw, world.freezer.thaw):
            act(world.process)
            told.append(news(world).is_frozen)
            seen.append(world.is_frozen())

        assert [True, True, False, False] == told == seen
        assert [] == world.freezer.drain()

    def test_what_does_not_work_is_told(self, world):
        """
        With the driver's reason; the process is where it was, and that is told as well.
        """
        world.refuse()
        world.freezer.freeze(world.process)
        one = news(world)

        assert (False, False) == (one.is_frozen, world.is_frozen())
        assert "CUDA_ERROR_OUT_OF_MEMORY" in one.problem

    def test_a_return_that_does_not_work_is_told(self, world):
        """
        It is still frozen, and can be asked again.
        """
        world.freezer.freeze(world.process)
        news(world)
        world.refuse()
        world.freezer.thaw(world.process)
        one = news(world)

        assert (True, True) == (one.is_frozen, world.is_frozen())
        assert "CUDA_ERROR_OUT_OF_MEMORY" in one.problem

    def test_a_process_that_is_gone_is_told(self, world):
        """
        Whoever has its number by now is left alone.
        """
        world.end()
        world.freezer.freeze(world.process)

        assert "the process is gone" == news(world).problem


class TestTheRealOne:
    """What only the real one has to mind."""

    def test_a_call_that_fails_is_tried_again(self, real):
        """
        Memory that another process frees in this moment is worth a second try.
        """
        real.freezer.freeze(real.process)
        news(real)
        real.cuda.failures = {"restore": 2}
        real.freezer.thaw(real.process)

        assert False is news(real).is_frozen
        assert ["lock", "checkpoint", "restore", "restore", "restore", "unlock"] == real.cuda.calls

    def test_one_that_cannot_be_moved_is_unlocked_again(self, real):
        """
        Locked it would stand still for ever at its next call of CUDA.
        """
        real.cuda.failures = {"checkpoint": 99}
        real.freezer.freeze(real.process)
        news(real)

        assert "running" == real.cuda.state

    def test_a_call_that_hangs_is_told_and_left_alone(self, real):
        """
        It is not called a second time meanwhile; when it comes back, that is told as well.
        """
        real.freezer.close()
        real.freezer = CudaFreezer(lambda _pid: real.cuda, Limits(call_s=0.01))
        real.cuda.hangs["checkpoint"] = threading.Event()
        real.freezer.freeze(real.process)
        first = news(real)
        real.freezer.thaw(real.process)
        second = news(real)
        real.cuda.hangs["checkpoint"].set()
        third = news(real)

        assert "the driver has not answered for" in first.problem
        assert "an earlier call of the driver has not come back" == second.problem
        assert (True, True) == (third.is_frozen, real.is_frozen())

    def test_without_the_library_it_says_so(self, real):
        """
        `cuda.core` is not needed by anything else, so it is not installed with the daemon. Nothing
        was done to the process; whether one that was frozen still is cannot be told without it.
        """
        freezer = CudaFreezer(limits=Limits(tries=1))
        real.freezer, other = freezer, real.freezer
        freezer.freeze(real.process)
        one = news(real)
        freezer.thaw(real.process)
        two = news(real)
        other.close()

        assert (False, None) == (one.is_frozen, two.is_frozen)
        assert one.problem
        assert two.problem

    def test_closing_does_not_wait_for_a_call(self, real):
        """
        The daemon ends at once; what the call comes to is nobody's any more.
        """
        real.cuda.hangs["lock"] = threading.Event()
        freezer = CudaFreezer(lambda _pid: real.cuda)
        freezer.freeze(real.process)
        until(lambda: real.cuda.calls, "the call")
        freezer.close()
        real.cuda.hangs["lock"].set()
        until(lambda: not freezer._busy, "the end of the call")

        assert ["lock", "checkpoint"] == real.cuda.calls
