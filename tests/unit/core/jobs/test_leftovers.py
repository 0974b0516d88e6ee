"""Which processes of earlier starts are to end when a daemon finds them."""

import pytest
from msgspec.structs import replace

from supervisor.core.jobs.effects import EndGroup
from supervisor.core.jobs.job import Job, JobRun, JobSpec
from supervisor.core.jobs.leftovers import to_end
from supervisor.core.jobs.states import JobState

JOB = Job(
    id="j-1", name="night", spec=JobSpec(argv=("x",), cwd="/"), created_at=0.0, state=JobState.FAILED,
    since=20.0, incarnation=3, kill_grace_s=7.0,
)  # fmt: skip
RUNNING = replace(JOB, state=JobState.RUNNING, run=JobRun(started_at=10.0))


@pytest.mark.parametrize(
    ("job", "last"),
    [
        (RUNNING, 2),
        (JOB, 2),
        (replace(JOB, state=JobState.COMPLETED), 2),
        (replace(JOB, restart_at=30.0), 3),
        (replace(JOB, state=JobState.STOPPED), 3),
        (replace(JOB, state=JobState.PAUSED), 3),
    ],
    ids=["alive", "failed", "completed", "to be restarted", "stopped", "paused"],
)
def test_what_the_newest_start_left_ends_where_somebody_wanted_its_end(job, last):
    """
    A job that came to its own end may have left a server on purpose; one that was stopped or starts
    again may not.
    """
    assert [EndGroup("night", last, 7.0)] == list(to_end([job], {"night": {last}}))
    assert [] == list(to_end([job], {"night": {last + 1}}))


def test_nothing_is_ended_of_a_job_that_keeps_its_children_or_left_none():
    """
    Nor of a name that the daemon does not know.
    """
    keeps = replace(JOB, spec=replace(JOB.spec, keep_children=True))

    assert [] == list(to_end([keeps], {"night": {1, 2}}))
    assert [] == list(to_end([JOB], {"night": (), "other": {1}}))
    assert [EndGroup("night", 2, 7.0)] == list(to_end([JOB], {"night": {2, 1}}))
