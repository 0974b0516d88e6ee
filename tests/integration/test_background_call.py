"""Calls that hang, and what goes on meanwhile.

Covers: answers with their age, a call that never returns, folders on dead file systems.
Does not cover: the driver of GPUs (test_gpu.py).
"""

import threading
from pathlib import Path

import pytest

from supervisor.core.readings.sample import DiskReading, Missing
from supervisor.monitors.background_call import BackgroundCall
from supervisor.monitors.disks import Disks, look
from tests.fakes.clock import FakeClock
from tests.harness import until

#: What is due for so long is never called by chance.
FOR_EVER = 1e6


class Slow:
    """A call that the test lets go."""

    def __init__(self):
        self.gate = threading.Event()
        self.is_in = threading.Event()
        self.num_calls = 0

    def __call__(self):
        self.num_calls += 1
        self.is_in.set()
        assert self.gate.wait(60)
        return self.num_calls


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def slow():
    one = Slow()
    yield one
    one.gate.set()


class TestBackgroundCall:
    """
    One call in a thread of its own.
    """

    def test_before_the_first_answer_there_is_none(self, slow, clock):
        """
        That is said; nobody waits.
        """
        aside = BackgroundCall("the thing", slow, clock=clock.now)
        before = aside.answer()
        aside.ask()
        slow.is_in.wait(60)

        assert Missing("no answer from the thing yet") == before == aside.answer()
        aside.close()

    def test_the_newest_answer_counts_until_it_is_old(self, slow, clock):
        """
        What was true a while ago is not the present.
        """
        slow.gate.set()
        aside = BackgroundCall("the thing", slow, clock=clock.now)
        aside.ask()
        until(lambda: aside.answer() == 1)
        clock.advance(4.0)
        young = aside.answer()
        clock.advance(2.0)

        assert (1, Missing("no answer from the thing yet")) == (young, aside.answer())
        aside.close()

    def test_a_call_that_hangs_is_said_with_its_time(self, slow, clock):
        """
        Asking again starts no second one; when it comes back, its answer counts.
        """
        aside = BackgroundCall("the thing", slow, clock=clock.now)
        aside.ask()
        slow.is_in.wait(60)
        clock.advance(12.0)
        aside.ask(delay_s=FOR_EVER)
        hanging = aside.answer()
        slow.gate.set()

        assert Missing("the thing has not answered for 12 s") == hanging
        assert until(lambda: aside.answer() == 1)
        assert 1 == slow.num_calls
        aside.close()

    def test_an_earlier_time_wins_over_a_later_one(self, slow, clock):
        """
        Whoever asks for the far future does not keep others waiting.
        """
        slow.gate.set()
        aside = BackgroundCall("the thing", slow, clock=clock.now)
        aside.ask(delay_s=FOR_EVER)
        aside.ask(delay_s=0.0)

        assert until(lambda: aside.answer() == 1)
        aside.close()

    def test_at_its_end_it_lets_go(self, slow, clock):
        """
        In the thread that made the calls; nothing is called afterwards.
        """
        ended = threading.Event()
        slow.gate.set()
        aside = BackgroundCall("the thing", slow, at_end=ended.set, clock=clock.now)
        aside.ask()
        until(lambda: aside.answer() == 1)
        aside.close()
        aside.join(60)

        assert ended.is_set()


class Mounts:
    """File systems of which some do not answer."""

    def __init__(self):
        self.dead = {}
        self.looks = []

    def look(self, folder):
        self.looks.append(folder)
        gate = self.dead.get(folder)
        if gate is not None:
            assert gate.wait(60)
        return DiskReading(7.0, 9.0)


class TestDisks:
    """
    One that hangs keeps nobody else from being looked at.
    """

    A, B, C = Path("/a"), Path("/b"), Path("/c")

    @pytest.fixture
    def mounts(self):
        one = Mounts()
        yield one
        for gate in one.dead.values():
            gate.set()

    def test_folders_are_looked_at_aside(self, mounts):
        """
        At first nothing is known; soon all is.
        """
        disks = Disks(look_at=mounts.look)
        first = disks.read({self.A, self.B}, at=0.0)
        until(
            lambda: (
                disks.read({self.A, self.B}, at=0.0) == dict.fromkeys([self.A, self.B], DiskReading(7.0, 9.0))
            )
        )
        disks.close()

        assert Missing("not measured yet") == first[self.A].free_bytes
        assert [self.A, self.B] == mounts.looks

    def test_they_are_looked_at_again_after_a_while_and_a_new_one_at_once(self, mounts):
        """
        Space does not go so fast; a new job wants to know.
        """
        disks = Disks(look_at=mounts.look)
        until(lambda: disks.read({self.A}, at=0.0)[self.A] == DiskReading(7.0, 9.0))
        disks.read({self.A}, at=4.0)
        until(lambda: disks.read({self.A, self.B}, at=4.5)[self.B] == DiskReading(7.0, 9.0))
        until(lambda: disks.read({self.A, self.B}, at=9.6) and len(mounts.looks) == 5)
        disks.close()

        assert [self.A, self.A, self.B, self.A, self.B] == mounts.looks

    def test_a_dead_file_system_is_missing_and_the_others_go_on(self, mounts, clock):
        """
        With one thread for each that hangs, and no more; one that comes back is read again.
        """
        mounts.dead = {self.A: threading.Event(), self.B: threading.Event()}
        folders = {self.A, self.B, self.C}
        disks = Disks(look_at=mounts.look, clock=clock.now)
        at = 0.0

        def step():
            nonlocal at
            at += 6.0
            clock.advance(6.0)
            return disks.read(folders, at=at)

        def others_go_on():
            found = step()
            return found if found[self.C] == DiskReading(7.0, 9.0) else None

        found = until(others_go_on)
        for _ in range(3):
            step()
        looks = [mounts.looks.count(folder) for folder in (self.A, self.B)]
        mounts.dead[self.A].set()
        until(lambda: step()[self.A] == DiskReading(7.0, 9.0))
        later = step()
        looks.append(mounts.looks.count(self.B))
        disks.close()

        assert "the file system has not answered for" in found[self.A].free_bytes.why
        assert [1, 1, 1] == looks
        assert isinstance(later[self.B].free_bytes, Missing)

    def test_a_folder_that_is_not_made_yet_is_that_above_it(self, tmp_path):
        """
        Its checkpoints will go to the same disk. A file in the way is no folder.
        """
        (tmp_path / "file").write_text("")

        assert look(tmp_path).total_bytes == look(tmp_path / "not/yet").total_bytes
        assert look(tmp_path).total_bytes == look(tmp_path / "file/x").total_bytes
        assert 0 < look(tmp_path).free_bytes <= look(tmp_path).total_bytes

    def test_a_folder_that_cannot_be_looked_at_is_missing(self):
        """
        Said in the words of the system.
        """
        disk = look(Path("/" + "x" * 300))

        assert "cannot look at /xxx" in disk.free_bytes.why
        assert disk.free_bytes == disk.total_bytes
