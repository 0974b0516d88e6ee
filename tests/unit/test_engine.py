"""A late pause and a daemon that is killed at every point around it: nothing stands still by mistake.

Covers: freezing and letting go across a crash, a save that is under way, the environment of a start.
Does not cover: what an event does to a job (test_apply.py), real processes (tests/integration).
"""

import pytest

from supervisor.core.jobs.events import Admitted, PauseAsked, ResumeAsked
from supervisor.core.jobs.job import Asker
from supervisor.core.jobs.states import Depth, JobState
from tests.fakes.journal import FakeDisk, FakeJournal
from tests.fakes.world import SupervisedMachine

ADA = Asker("person", "ada")


@pytest.fixture
def world():
    disk = FakeDisk()
    world = SupervisedMachine(lambda: FakeJournal(disk))
    world.submit("night", world.spec())
    world.turns()
    world.hello("night")
    world.turns()
    yield world
    world.close()


def pause(world, late):
    asked = PauseAsked(request="p", by=ADA, depth=Depth.HOLD, deadline_s=30.0, at_deadline=late)
    world.engine.ask("night", asked)
    world.turns()
    world.clock.advance(31.0)
    world.stage()


def resume(world):
    world.engine.ask("night", ResumeAsked(request="r", by=ADA, start_grace_s=60.0))
    world.stage()


@pytest.mark.parametrize("effects", range(3))
@pytest.mark.parametrize("stored", range(2))
def test_a_daemon_killed_around_a_freeze_leaves_the_job_frozen_in_the_end(world, stored, effects):
    """
    Journal and processes agree afterwards, wherever it was killed.
    """
    pause(world, "freeze")
    world.crash(stored=stored, effects=effects)
    world.turns()
    # The next daemon hears its shim first, before it calls a pause late.
    world.clock.advance(5.0)
    world.turns()

    job = world.engine.job("night")
    assert (JobState.PAUSING, True) == (job.state, world.is_frozen("night"))
    assert job.frozen_at is not None


@pytest.mark.parametrize("effects", range(3))
@pytest.mark.parametrize("stored", range(2))
def test_a_daemon_killed_around_a_resume_leaves_nothing_frozen(world, stored, effects):
    """
    What was told to go on goes on; what was not stored stays frozen and can be resumed again.
    """
    pause(world, "freeze")
    world.turns()
    resume(world)
    world.crash(stored=stored, effects=effects)
    world.turns()

    assert world.is_frozen("night") == (stored == 0)
    if stored == 0:
        resume(world)
    world.come_to_rest()

    assert (JobState.RUNNING, False) == (world.engine.job("night").state, world.is_frozen("night"))


@pytest.mark.parametrize("late", ["freeze", "terminate"])
def test_a_save_at_the_deadline_is_left_to_end(world, late):
    """
    The shim said that it writes the checkpoint; the pause comes a little later, and nobody is hurt.
    """
    world.shims.saving.add("night")
    pause(world, late)
    world.turns()

    assert ([], False) == (world.machine.signals, world.engine.job("night").late)

    world.shims.saving.clear()
    world.come_to_rest()

    assert JobState.PAUSED is world.engine.job("night").state


def test_a_job_sees_the_gpus_that_it_was_given_and_no_others():
    """
    By UUID: an index means another GPU in another process.
    """
    world = SupervisedMachine(lambda: FakeJournal(FakeDisk()))
    world.submit("night", world.spec(num_gpus=2, env={"CUDA_VISIBLE_DEVICES": "0"}))
    world.engine.ask("night", Admitted(start_grace_s=60.0, gpus=("GPU-a", "GPU-b")))
    world.turns()

    assert "GPU-a,GPU-b" == world.machine.specs[-1].env["CUDA_VISIBLE_DEVICES"]
    world.close()
