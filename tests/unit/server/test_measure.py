"""How much of what a shim says is stored, and what becomes of the rest.

Covers: one job's words over time. Does not cover: the messages (test_server_shims.py), real floods
(tests/integration/test_bounds.py).
"""

import pytest
from msgspec.structs import replace

from supervisor.core.jobs import events
from supervisor.core.jobs.job import CheckpointRef, Job, JobRun, JobSpec
from supervisor.core.jobs.states import JobState
from supervisor.server.measure import Measured
from tests.fakes.clock import FakeClock

JOB = Job(
    id="j-1", name="j", spec=JobSpec(argv=("x",), cwd="/"), created_at=0.0, state=JobState.RUNNING, since=0.0,
    incarnation=1, run=JobRun(started_at=0.0),
)  # fmt: skip


class Jobs:
    """One job that every event changes."""

    def __init__(self):
        self.job = JOB
        self.heard = []

    def find(self, name):
        return self.job

    def observe(self, name, event):
        self.heard.append(event)
        self.job = replace(self.job, since=self.job.since + 1.0)


class Scene:
    def __init__(self):
        self.clock, self.jobs = FakeClock(), Jobs()
        self.measured = Measured(self.clock)

    def say(self, *some):
        for event in some:
            self.measured.observe(self.jobs.job, event, self.jobs)

    def after(self, seconds):
        self.clock.advance(seconds)
        self.measured.turn(self.jobs)

    @property
    def steps(self):
        return [event.checkpoint.step for event in self.jobs.heard]


@pytest.fixture
def scene():
    return Scene()


def saved(step):
    return events.CheckpointReported(
        checkpoint=CheckpointRef(step=step, epoch=0, path="/c", digest=str(step))
    )


def test_what_is_beyond_the_measure_is_heard_a_second_later_and_only_the_newest(scene):
    """
    Ten at once are stored as they come.
    """
    scene.say(*map(saved, range(100)))

    assert [*range(10)] == scene.steps
    assert scene.clock.now() + 1.0 == scene.measured.next_due()
    scene.after(0.9)
    assert [*range(10)] == scene.steps
    scene.after(0.1)
    assert [*range(10), 99] == scene.steps
    assert scene.measured.next_due() is None


def test_one_in_a_second_is_never_late(scene):
    """
    A run that saves each second is told as before.
    """
    for step in range(100):
        scene.say(saved(step))
        scene.clock.advance(1.0)

    assert [*range(100)] == scene.steps


def test_what_was_asked_for_is_answered_at_once(scene):
    """
    Also after many requests in one moment; asking the same once more leaves no more room.
    """
    for number in range(50):
        scene.measured.asked("j", f"request-{number}")
        scene.say(saved(number))
    answered = len(scene.steps)
    for step in range(1000, 2000):
        scene.measured.asked("j", "request-49")
        scene.say(saved(step))

    assert 50 == answered
    assert len(scene.steps) < 200


def test_the_order_of_different_words_is_kept(scene):
    """
    What comes behind something that was kept back is kept back too.
    """
    scene.say(*map(saved, range(12)), events.TrainingResumed(request="r"), saved(12))
    for _ in range(5):
        scene.after(1.0)

    assert [events.TrainingResumed(request="r"), saved(12)] == scene.jobs.heard[10:]


def test_of_a_process_that_is_gone_the_newest_checkpoint_counts_and_nothing_else(scene):
    """
    Its other words would be taken for those of the next start.
    """
    place = {"checkpoint": CheckpointRef(step=77, epoch=0, path="/c", digest="77")}
    left = events.PauseReached(request="r", depth="exit", **place)
    scene.say(*map(saved, range(12)), left, events.TrainingResumed(request="r"))
    scene.jobs.job = replace(scene.jobs.job, incarnation=2)
    scene.after(0.0)

    assert [events.CheckpointReported(**place)] == scene.jobs.heard[10:]
    assert scene.measured.next_due() is None


def test_at_the_end_of_the_daemon_nothing_is_left_untold(scene):
    """
    A checkpoint that is known is in the journal.
    """
    scene.say(*map(saved, range(12)))
    scene.measured.settle(scene.jobs)

    assert 11 == scene.steps[-1]


def test_of_a_removed_job_nothing_is_heard(scene):
    """
    Another one may have its name by then.
    """
    scene.say(*map(saved, range(12)))
    scene.measured.drop("j")
    scene.after(5.0)

    assert [*range(10)] == scene.steps
