"""What the engine may rely on, of every Shims.

Covers: the fake, and the real table with a socket that the test holds.
Does not cover: who may connect, and what follows for a job (tests/unit/server/test_server_shims.py).
"""

import os
from pathlib import Path

import pytest

from supervisor.core.jobs.effects import AskCheckpoint, AskPause, AskResume, AskStop
from supervisor.core.jobs.job import Job, JobPause, JobRun, JobSpec, Pid
from supervisor.core.jobs.states import Depth, JobState
from supervisor.server.router import Delivery, Peer
from supervisor.server.shims import ShimTable
from supervisor.system.marks import Marks
from tests.fakes.clock import FakeClock
from tests.fakes.shims import FakeShims, FakeTrainer
from trainer_shim import protocol as wire

PROCESS = Pid(os.getpid(), 1, "boot")
JOB = Job(
    id="j-1",
    name="j",
    spec=JobSpec(argv=("x",), cwd="/"),
    created_at=0.0,
    state=JobState.PAUSING,
    incarnation=1,
    run=JobRun(started_at=0.0, process=PROCESS),
    pause=JobPause(depth=Depth.HOLD),
)
ASKED = {
    AskPause("j", "p", Depth.EXIT, True): wire.Pause(request="p", depth="exit", by_rule=True),
    AskResume("j", "r"): wire.Resume(request="r"),
    AskStop("j", "s"): wire.Stop(request="s"),
    AskCheckpoint("j", "c"): wire.Checkpoint(request="c"),
}


class Fake:
    """A trainer that never was."""

    def __init__(self):
        self.shims = FakeShims()
        self.trainer = FakeTrainer("j", 1, process=PROCESS)

    def connect(self):
        self.shims.trainers["j"] = self.trainer
        self.trainer.hello()

    def begin_save(self):
        self.shims.saving.add("j")

    def end_save(self):
        self.shims.saving.discard("j")

    def end(self):
        self.trainer.disconnect()

    def heard(self):
        return list(self.trainer.inbox)


class Real:
    """This process is the trainer; what is sent to it is kept."""

    def __init__(self):
        self.sent = []
        self.shims = ShimTable(self._send, FakeClock(), Marks(Path("/none")))

    def _send(self, _identity, message):
        self.sent.append(message)
        return True

    def find(self, _name):
        return JOB

    def observe(self, _name, _event):
        pass

    def _say(self, message):
        self.shims.take(Delivery(b"x", Peer(os.geteuid(), os.getpid()), message), self)

    def connect(self):
        self._say(wire.Hello(job="j", incarnation=1))

    def begin_save(self):
        self._say(wire.Saving(request="p", step=2))

    def end_save(self):
        self._say(wire.CannotYield(request="p", why="full"))

    def end(self):
        self.shims.forget("j")

    def heard(self):
        return [message for message in self.sent if not isinstance(message, wire.Welcome)]


@pytest.fixture(params=[Fake, Real], ids=["fake", "real"])
def world(request):
    return request.param()


class TestEveryShims:
    def test_a_job_without_a_shim_is_no_error(self, world):
        """
        Nothing is sent, and nothing is known of it.
        """
        assert [False] * len(ASKED) == [world.shims.send(effect) for effect in ASKED]
        assert not world.shims.is_saving("j")
        assert world.shims.process("j") is None

    def test_what_is_asked_is_heard_as_it_was_meant(self, world):
        """
        In its order, with the request that an answer will name.
        """
        world.connect()

        assert [True] * len(ASKED) == [world.shims.send(effect) for effect in ASKED]
        assert list(ASKED.values()) == world.heard()

    def test_it_is_known_which_process_a_shim_is_in(self, world):
        """
        Which need not be the one that was started.
        """
        world.connect()

        assert os.getpid() == world.shims.process("j").pid
        assert world.shims.process("another") is None

    def test_a_save_is_seen_from_its_begin_to_its_end(self, world):
        """
        A pause that is late by then waits for it.
        """
        world.connect()
        seen = [world.shims.is_saving("j")]
        world.begin_save()
        seen += [world.shims.is_saving("j"), world.shims.is_saving("another")]
        world.end_save()

        assert [False, True, False, False] == [*seen, world.shims.is_saving("j")]

    def test_one_that_has_gone_is_as_none(self, world):
        """
        Whatever it was at just then.
        """
        world.connect()
        world.begin_save()
        world.end()

        assert not world.shims.send(AskResume("j", "r"))
        assert not world.shims.is_saving("j")
        assert world.shims.process("j") is None
