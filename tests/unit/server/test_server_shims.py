"""What the daemon makes of the words of a shim, one after the other.

Covers: whether it is at work at a boundary, which is what a late pause asks.
Does not cover: who may speak (tests/integration/test_shims_and_daemon.py).
"""

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from supervisor.core.jobs.job import Job, JobPause, JobRun, JobSpec, Pid
from supervisor.core.jobs.states import Depth, JobState
from supervisor.server import shims
from supervisor.server.router import Delivery, Peer
from supervisor.server.shims import ShimTable
from supervisor.system.marks import Marks
from supervisor.system.procfs import read_stat
from tests.fakes.clock import FakeClock
from trainer_shim import protocol as wire

JOB = Job(
    id="j-1", name="j", spec=JobSpec(argv=("x",), cwd="/"), created_at=0.0, state=JobState.PAUSING, since=0.0,
    incarnation=1, run=JobRun(started_at=0.0, process=Pid(os.getpid(), 1, "boot")),
    pause=JobPause(depth=Depth.HOLD),
)  # fmt: skip
DONE = wire.Checkpointed(step=1, epoch=0, path="/c", digest="d")
SAVING = wire.Saving(request="p", step=2)
COPYING = wire.Stage(request="p", what="copying GPU memory to the host")


class Jobs:
    """One job, to which nothing happens."""

    def find(self, name):
        return JOB

    def observe(self, name, event):
        pass


def welcomed(table, peer):
    """Whether who connected is taken for the job's shim."""
    table.take(Delivery(b"x", peer, wire.Hello(job="j", incarnation=1)), Jobs())
    return table.peer(JOB) is not None


def new_table():
    return ShimTable(lambda identity, message: True, FakeClock(), Marks(Path("/none")))


def is_saving_after(*words):
    table = ShimTable(lambda identity, message: True, FakeClock(), Marks(Path("/none")))
    peer = Peer(os.geteuid(), os.getpid())
    for message in (wire.Hello(job="j", incarnation=1), *words):
        table.take(Delivery(b"x", peer, message), Jobs())
    return table.is_saving("j")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), False),
        ((SAVING,), True),
        # One from the background ends before that of the pause begins.
        ((SAVING, DONE), True),
        ((SAVING, replace(DONE, request="p")), False),
        ((SAVING, wire.Yielded(request="p", depth="hold", checkpoint=DONE)), False),
        ((SAVING, wire.CannotYield(request="p", why="full")), False),
        # Called off: nothing else is said of that save.
        ((SAVING, wire.Resumed(request="r", step=2)), False),
        ((SAVING, COPYING), True),
        ((SAVING, COPYING, wire.Resumed(request="r", step=2)), False),
    ],
)
def test_a_shim_is_at_work_from_its_first_word_of_a_pause_to_the_last(words, expected):
    """
    A late pause freezes or ends only a loop that has not come to its boundary.
    """
    assert expected == is_saving_after(*words)


def test_a_process_that_is_of_another_user_than_who_connected_is_no_shim():
    """
    Its number went to another process meanwhile, or it became another user's program.
    """
    assert welcomed(new_table(), Peer(os.geteuid(), os.getpid()))
    assert not welcomed(new_table(), Peer(os.geteuid() + 1, os.getpid()))


def test_the_process_of_a_shim_is_the_one_that_said_hello(monkeypatch):
    """
    Its context is freed with root's rights: a later process of that number must not be taken for it.
    """
    table, stat = new_table(), read_stat(os.getpid())
    assert welcomed(table, Peer(os.geteuid(), os.getpid()))
    before = table.process("j")
    monkeypatch.setattr(shims, "read_stat", lambda _pid: stat._replace(start_ticks=stat.start_ticks + 1))

    assert os.getpid() == before.pid
    assert table.process("j") is None
