"""The CUDA context of a paused job, freed and taken back, and a daemon that is killed around it.

Covers: what is asked in which order, failures of the driver, the settings, the words for it.
Does not cover: the driver (tests/contract/test_freezer.py), orders that nobody thought of (tests/property).
"""

import pytest

from supervisor.core.jobs import cuda_context
from supervisor.core.jobs.events import PauseAsked, ResumeAsked, StopAsked
from supervisor.core.jobs.job import Asker
from supervisor.core.jobs.states import Depth, JobState
from tests.fakes.journal import FakeDisk, FakeJournal
from tests.fakes.world import SupervisedMachine

ADA = Asker("person", "ada")


@pytest.fixture
def world():
    disk = FakeDisk()
    world = SupervisedMachine(lambda: FakeJournal(disk))
    world.frees_contexts = True
    world.configure()
    world.submit("night", world.spec())
    world.turns()
    world.hello("night")
    world.trainer("night").move_to_device()
    world.deliver("night")
    yield world
    world.close()


def pause(world, depth=Depth.OFFLOAD):
    """Up to the word of the shim; nothing of what follows it is stored."""
    world.engine.ask("night", PauseAsked(request=f"p-{depth}", by=ADA, depth=depth, deadline_s=30.0))
    world.turns()
    world.boundary("night", can_save=True)
    world.deliver("night")


def resume(world):
    world.engine.ask("night", ResumeAsked(request="r", by=ADA, start_grace_s=60.0))


def job(world):
    return world.engine.job("night")


def break_driver(world, why="CUDA_ERROR_OUT_OF_MEMORY"):
    world.driver_problems[world.trainer("night").process] = why


def test_a_job_at_depth_offload_loses_its_context_and_has_it_back_before_it_goes_on(world):
    """
    The process that trains does, whatever was started around it; the shim hears of the resume last.
    """
    pause(world)
    world.turns()
    freed = (cuda_context.where(job(world)), world.is_suspended("night"))
    trainer = world.trainer("night")
    resume(world)
    world.turn()
    world.turn()
    taking = (cuda_context.where(job(world)), list(trainer.inbox))
    world.come_to_rest()

    assert ("freed", True) == freed
    assert job(world).process != trainer.process
    assert ("taking", []) == taking
    assert (JobState.RUNNING, "held", False) == (
        job(world).state,
        cuda_context.where(job(world)),
        world.is_suspended("night"),
    )


@pytest.mark.parametrize("depth", [Depth.HOLD, Depth.EXIT])
def test_no_other_depth_frees_a_context(world, depth):
    """
    A job that only holds has everything on its device still.
    """
    pause(world, depth)
    world.turns()

    assert not world.suspended


def test_without_the_setting_the_driver_is_not_asked(world):
    """
    It is experimental, and off by default.
    """
    world.frees_contexts = False
    world.configure()
    pause(world)
    world.turns()

    assert (JobState.PAUSED, "held", set()) == (
        job(world).state,
        cuda_context.where(job(world)),
        world.suspended,
    )


def test_a_setting_that_is_switched_off_still_takes_back_what_was_freed(world):
    """
    The job's record says what is owed to it, not the settings.
    """
    pause(world)
    world.turns()
    world.frees_contexts = False
    world.configure()
    resume(world)
    world.come_to_rest()

    assert (JobState.RUNNING, set()) == (job(world).state, world.suspended)


def test_going_deeper_takes_the_context_back_first(world):
    """
    A process without it could not end itself.
    """
    pause(world)
    world.turns()
    world.engine.ask("night", PauseAsked(request="deep", by=ADA, depth=Depth.EXIT, deadline_s=30.0))
    world.come_to_rest()

    assert (JobState.PAUSED, Depth.EXIT, False) == (
        job(world).state,
        job(world).depth,
        world.running("night"),
    )
    assert [] == world.machine.signals


@pytest.mark.parametrize(("how", "numbers"), [("checkpoint", []), ("kill", [9])])
def test_a_stop_waits_for_the_context_and_a_kill_does_not(world, how, numbers):
    """
    SIGKILL works on a process without it.
    """
    pause(world)
    world.turns()
    if how == "kill":
        break_driver(world)
    event = StopAsked(request="s", by=ADA, how=how, stop_grace_s=20.0, kill_grace_s=10.0)
    world.engine.ask("night", event)
    world.come_to_rest()

    assert JobState.STOPPED is job(world).state
    assert numbers == [number for _, _, number, _ in world.machine.signals]


def test_a_context_that_cannot_be_freed_leaves_the_job_paused(world):
    """
    It is said, it is not tried again in this pause, and the job goes on as ever.
    """
    break_driver(world)
    pause(world)
    world.turns()
    kept = (job(world).state, job(world).depth, cuda_context.words(job(world)), job(world).problem)
    resume(world)
    world.come_to_rest()

    why = "keeps its CUDA context: CUDA_ERROR_OUT_OF_MEMORY"
    assert (JobState.PAUSED, Depth.OFFLOAD, why, "") == kept
    assert (JobState.RUNNING, 1) == (job(world).state, job(world).incarnation)


def test_a_context_that_comes_back_late_is_waited_for(world):
    """
    Memory that another program frees in time is enough.
    """
    pause(world)
    world.turns()
    break_driver(world)
    resume(world)
    world.turns()
    words = cuda_context.words(job(world))
    world.driver_problems.clear()
    world.clock.advance(11.0)
    world.come_to_rest()

    assert "taking its CUDA context back: CUDA_ERROR_OUT_OF_MEMORY" == words
    assert (JobState.RUNNING, 1) == (job(world).state, job(world).incarnation)


def test_a_context_that_never_comes_back_ends_the_process_and_the_job_starts_again(world):
    """
    From its checkpoint, with a clear word of why.
    """
    pause(world)
    world.turns()
    break_driver(world)
    resume(world)
    world.turns()
    for _ in range(32):
        world.clock.advance(10.0)
        world.turns()
    problem = job(world).problem
    world.come_to_rest()

    assert (
        "cannot take its CUDA context back within 300 s (CUDA_ERROR_OUT_OF_MEMORY); its process was ended, "
        "it starts again from its checkpoint"
    ) == problem
    assert (JobState.RUNNING, 2) == (job(world).state, job(world).incarnation)


@pytest.mark.parametrize("effects", range(3))
@pytest.mark.parametrize("stored", range(3))
def test_a_daemon_killed_around_the_freeing_brings_the_job_back(world, stored, effects):
    """
    Whether the driver was asked or not: what is not known counts as freed.
    """
    pause(world)
    world.stage()
    world.crash(stored=stored, effects=effects)
    world.turns()
    world.hello("night")
    world.come_to_rest()
    state = job(world).state
    resume(world)
    world.come_to_rest()

    assert JobState.PAUSED is state
    assert (JobState.RUNNING, set(), 1) == (job(world).state, world.suspended, job(world).incarnation)


@pytest.mark.parametrize("effects", range(3))
@pytest.mark.parametrize("stored", range(3))
def test_a_daemon_killed_around_the_return_brings_the_job_back(world, stored, effects):
    """
    The driver is asked again; what is there already does no harm.
    """
    pause(world)
    world.turns()
    resume(world)
    world.stage()
    world.crash(stored=stored, effects=effects)
    world.turns()
    if job(world).state is JobState.PAUSED:
        resume(world)
    world.come_to_rest()

    assert (JobState.RUNNING, set(), 1) == (job(world).state, world.suspended, job(world).incarnation)


def test_a_late_deeper_pause_is_not_forced_while_the_context_comes_back(world):
    """
    Stopped or asked to end, its process could not take it back.
    """
    pause(world)
    world.turns()
    break_driver(world)
    deeper = {"request": "deep", "by": ADA, "depth": Depth.EXIT, "deadline_s": 5.0, "kill_grace_s": 10.0}
    world.engine.ask("night", PauseAsked(**deeper, at_deadline="freeze"))
    world.turns()
    world.clock.advance(6.0)
    world.turns()

    assert ([], JobState.PAUSING, None) == (world.machine.signals, job(world).state, job(world).frozen_at)
