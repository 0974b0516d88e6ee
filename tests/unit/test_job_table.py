"""Which jobs are there, and which of them something can happen to; world.py checks it after each step."""

import msgspec

from supervisor.core.jobs.job import Job, JobPause, JobRun, JobSpec
from supervisor.core.jobs.states import Depth, JobState
from supervisor.job_table import JobTable, sharing


def job(name, **fields):
    spec = JobSpec(argv=("true",), cwd="/", env={"LONG": "a value " * 10})
    return Job(id=f"j-{name}", name=name, spec=spec, created_at=1.0, **fields)


def test_who_is_over_is_not_looked_at():
    """
    Whoever waits for a restart is not over; the earliest timer counts.
    """
    job_table = JobTable(
        [
            job("night", state=JobState.RUNNING, run=JobRun(started_at=1.0, start_grace_at=9.0)),
            job("again", state=JobState.FAILED, restart_at=5.0),
            job("done", state=JobState.COMPLETED),
        ]
    )

    assert (["night", "again"], 5.0) == (list(job_table.present), job_table.next_due())
    assert ["again"] == [one.name for one in job_table.due(5.0)]

    job_table.put(job("again", state=JobState.COMPLETED))
    job_table.drop("night")

    assert ({}, None) == (job_table.present, job_table.next_due())
    assert ["again", "done"] == list(job_table.all)


def test_equal_environments_are_kept_once():
    """
    5,000 jobs that are over take the memory of their records, not of 5,000 environments.
    """
    text = msgspec.json.encode(job("night"))
    one, other = (sharing(msgspec.json.decode(text, type=Job)) for _ in range(2))

    assert one == other
    assert one.spec.env["LONG"] is other.spec.env["LONG"]


def test_after_a_restart_jobs_are_heard_before_their_timers_fire():
    """
    2026-11-22: a pause was reached while the daemon was away; the next one found it late and ended the job.
    """
    pause = JobPause(depth=Depth.HOLD, deadline_at=90.0)
    pausing = job("night", state=JobState.PAUSING, run=JobRun(started_at=1.0), pause=pause)
    job_table = JobTable([pausing], 100.0)

    assert ([], 105.0) == (job_table.due(100.0), job_table.next_due())
    assert [pausing] == job_table.due(105.0)
    assert 90.0 == JobTable([job("again", state=JobState.FAILED, restart_at=90.0)], 100.0).next_due()
