"""What a shim that could not listen is asked again, state by state."""

import pytest
from msgspec.structs import replace

from supervisor.core.jobs.asking import ask_again, ask_pause
from supervisor.core.jobs.effects import AskPause, AskResume, AskStop, Signal
from supervisor.core.jobs.job import Asker, Job, JobPause, JobRun, JobSpec, JobStop
from supervisor.core.jobs.states import Depth, JobState

RUN = JobRun(started_at=10.0)
JOB = Job(
    id="j-1", name="night", spec=JobSpec(argv=("x",), cwd="/"), created_at=0.0, state=JobState.RUNNING,
    since=20.0, incarnation=3, run=RUN, request="r7",
)  # fmt: skip
PAUSING = replace(JOB, state=JobState.PAUSING, pause=JobPause(depth=Depth.OFFLOAD))
STOPPING = replace(JOB, state=JobState.STOPPING, stop=JobStop())


@pytest.mark.parametrize(
    ("job", "asked"),
    [
        (JOB, (AskResume("night", "r7"),)),
        (replace(JOB, state=JobState.RESUMING), (AskResume("night", "r7"),)),
        (PAUSING, (AskPause("night", "r7", Depth.OFFLOAD, by_rule=False),)),
        (STOPPING, (AskStop("night", "r7"),)),
        (replace(STOPPING, run=replace(RUN, insisted="TERM")), (Signal("night", 3, "TERM"),)),
        (replace(STOPPING, run=replace(RUN, insisted="KILL")), ()),
        (replace(JOB, state=JobState.STARTING), ()),
        (replace(PAUSING, state=JobState.PAUSED), ()),
    ],
    ids=["running", "resuming", "pausing", "stopping", "told to end", "killed", "starting", "paused"],
)
def test_a_shim_is_asked_for_what_the_record_wants_and_for_nothing_else(job, asked):
    """
    Under the request that is under way, so that an answer finds whoever waits for it.
    """
    assert asked == ask_again(job)


@pytest.mark.parametrize(
    ("by", "by_rule"), [(None, False), (Asker("person", "ada"), False), (Asker("rule", "cpu"), True)]
)
def test_a_shim_learns_whether_a_rule_wants_the_pause(by, by_rule):
    """
    Without a daemon it goes on by itself only where no person said stop.
    """
    job = replace(PAUSING, pause=JobPause(depth=Depth.HOLD, by=by))

    assert by_rule is ask_pause(job).by_rule
