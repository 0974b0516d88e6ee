"""What the core makes of a job that a person started: taking it up, its depths, its end, its second start."""

import pytest
from msgspec.structs import replace

from supervisor.core.jobs import apply as core
from supervisor.core.jobs.effects import AskPause, Launch, TakeUp
from supervisor.core.jobs.events import (
    AbleTo,
    Admitted,
    Adopted,
    Attached,
    PauseAsked,
    PauseReached,
    ProcessEnded,
    RestartAsked,
    ResumeAsked,
    StopAsked,
    Submitted,
    TimerFired,
)
from supervisor.core.jobs.job import Asker, CheckpointRef, Exit, JobSpec, Pid
from supervisor.core.jobs.states import Depth, JobState
from supervisor.errors import Refused

ADA = Asker("person", "ada")
PROCESS = Pid(5, 6, "boot")
ALL = tuple(Depth)
UNSEEN = "ended; how is not known, it was started by hand"
PLACE = CheckpointRef(step=3, epoch=0, path="/c/3", digest="d")


def taken_up(by_hand="once", past_starts=0):
    spec = JobSpec(argv=("train",), cwd="/work", by_hand=by_hand, keep_children=True)
    new = core.create("train", Submitted(id="j-1", spec=spec, incarnation=past_starts), 1.0)
    job, effects = core.apply(new, Adopted(process=PROCESS), 2.0)
    assert (TakeUp(job),) == effects
    return told(job, Attached(incarnation=job.incarnation, depths=ALL))


def told(job, *all_events, at=3.0):
    for event in all_events:
        job, _ = core.apply(job, event, at)
    return job


def pause(depth):
    return PauseAsked(request="r", by=ADA, depth=depth, deadline_s=60.0)


def ended(job, error="exit status unknown: whatever"):
    return ProcessEnded(incarnation=job.incarnation, exit=Exit(error=error))


def test_how_an_earlier_start_ended_is_over_when_a_process_is_taken_up():
    """
    2026-11-29: a job that could not be started, and waited to be started anew, ran with an exit.
    """
    spec = JobSpec(argv=("train",), cwd="/work")
    waiting = told(
        core.create("train", Submitted(id="j-1", spec=spec), 1.0),
        Admitted(start_grace_s=60.0),
        RestartAsked(request="r", by=ADA, stop_grace_s=60.0, kill_grace_s=15.0),
        ProcessEnded(incarnation=1, exit=Exit(error="cannot start: no such file")),
    )
    job = told(waiting, Adopted(process=PROCESS))

    assert JobState.QUEUED is waiting.state
    assert waiting.exit
    assert (JobState.RUNNING, None, None) == (job.state, job.exit, job.restart_at)


def test_it_runs_at_once_as_its_own_first_start():
    """
    Also where a job of that name was removed before it.
    """
    job = taken_up(past_starts=4)

    assert (JobState.RUNNING, 5, PROCESS) == (job.state, job.incarnation, job.process)
    assert job.is_by_hand
    assert "it was started by hand" == job.went_on.did


def test_what_nobody_said_how_to_start_is_never_launched():
    """
    Not even where its process was not taken up yet: its words are those of a person's own start.
    """
    spec = JobSpec(argv=("train",), cwd="/work", by_hand="once")
    new = core.create("train", Submitted(id="j-1", spec=spec), 1.0)

    assert (new, ()) == core.apply(new, Admitted(start_grace_s=1.0), 2.0)
    with pytest.raises(Refused, match="nobody said how it is started again"):
        core.apply(new, ResumeAsked(request="s", by=ADA, start_grace_s=1.0), 2.0)


def test_it_is_taken_up_once():
    """
    A process that is known already changes nothing.
    """
    job = taken_up()

    assert (job, ()) == core.apply(job, Adopted(process=Pid(7, 8, "boot")), 9.0)


@pytest.mark.parametrize(("by_hand", "depths"), [("once", ALL[:2]), ("again", ALL)])
def test_exit_is_a_depth_only_of_what_can_be_started_again(by_hand, depths):
    """
    Whatever its shim says of itself, also later.
    """
    job = taken_up(by_hand)

    assert depths == job.depths
    assert depths == told(job, AbleTo(incarnation=job.incarnation, depths=ALL)).depths


def test_exit_is_refused_in_words():
    """
    With what it can do instead, and how that is changed.
    """
    with pytest.raises(Refused, match="nobody said how it is started again") as refused:
        core.apply(taken_up(), pause(Depth.EXIT), 4.0)

    assert "--depth offload" in refused.value.hint
    assert "attach(restart=" in refused.value.hint


def test_it_holds_and_offloads_as_any_job():
    """
    The shim is asked, and the pause is reached when it says so.
    """
    pausing, effects = core.apply(taken_up(), pause(Depth.OFFLOAD), 4.0)
    paused = told(pausing, PauseReached(request="r", depth=Depth.OFFLOAD, checkpoint=PLACE))

    assert (AskPause("train", "r", Depth.OFFLOAD, False),) == effects
    assert (JobState.PAUSED, Depth.OFFLOAD) == (paused.state, paused.depth)


@pytest.mark.parametrize("by_hand", ["once", "again"])
@pytest.mark.parametrize("state", ["running", "pausing", "paused", "resuming"])
def test_an_end_that_nobody_here_asked_for_is_the_end_of_the_job(by_hand, state):
    """
    Its person ended it, or it was through: it does not come back by itself, whatever its state.
    """
    job = taken_up(by_hand)
    events = {
        "running": (),
        "pausing": (pause(Depth.HOLD),),
        "paused": (pause(Depth.HOLD), PauseReached(request="r", depth=Depth.HOLD, checkpoint=PLACE)),
    }
    events["resuming"] = (*events["paused"], ResumeAsked(request="s", by=ADA, start_grace_s=1.0))
    job = told(job, *events[state])
    after, effects = core.apply(job, ended(job), 9.0)

    assert (state, JobState.STOPPED, UNSEEN, ()) == (job.state, after.state, after.problem, effects)
    assert UNSEEN == after.exit.error


def test_an_end_for_a_pause_leaves_it_paused_and_a_resume_starts_it():
    """
    From then on it is a job like those that we start.
    """
    job = told(taken_up("again"), pause(Depth.EXIT))
    paused = told(job, PauseReached(request="r", depth=Depth.EXIT, checkpoint=PLACE), ended(job))
    resumed, effects = core.apply(paused, ResumeAsked(request="s", by=ADA, start_grace_s=1.0), 9.0)
    failed = told(resumed, ProcessEnded(incarnation=2, exit=Exit(code=1)))

    assert (JobState.PAUSED, Depth.EXIT, True) == (paused.state, paused.depth, paused.is_by_hand)
    assert (Launch(resumed),) == effects
    assert (2, False) == (resumed.incarnation, resumed.is_by_hand)
    assert (JobState.FAILED, "exit code 1") == (failed.state, failed.problem)


def test_a_late_pause_that_ends_it_is_a_pause():
    """
    `--if-late terminate` was asked for; where it cannot be started again the job is over.
    """
    found = {}
    for by_hand in ("once", "again"):
        asked = replace(pause(Depth.HOLD), at_deadline="terminate")
        job = told(told(taken_up(by_hand), asked), TimerFired(timer="deadline"), at=100.0)
        found[by_hand] = told(job, ended(job)).state

    assert {"once": JobState.STOPPED, "again": JobState.PAUSED} == found


def test_a_stop_stops_it():
    """
    Nothing is wrong with an end that was asked for.
    """
    asked = StopAsked(request="r", by=ADA, how="checkpoint", stop_grace_s=1.0, kill_grace_s=1.0)
    job = told(taken_up(), asked)
    after = told(job, ended(job))

    assert (JobState.STOPPED, "") == (after.state, after.problem)


def test_a_restart_is_for_what_can_be_started_again():
    """
    While it runs and when it is over.
    """
    asked = RestartAsked(request="r", by=ADA, stop_grace_s=1.0, kill_grace_s=1.0)
    once, again = taken_up(), taken_up("again")
    for job in (once, told(once, ended(once))):
        with pytest.raises(Refused, match="cannot restart job `train`: it was started by hand"):
            core.apply(job, asked, 9.0)

    assert JobState.QUEUED == told(told(again, ended(again)), asked).state
    assert JobState.STOPPING == told(again, asked).state
