"""Which jobs are there, and which of them something can happen to; world.py checks it after each step."""

import msgspec

from supervisor.core.jobs.job import Job, JobSpec
from supervisor.core.jobs.states import State
from supervisor.job_table import Roster, sharing


def job(name, **fields):
    spec = JobSpec(argv=("true",), cwd="/", env={"LONG": "a value " * 10})
    return Job(name=name, spec=spec, created_at=1.0, **fields)


def test_who_is_over_is_not_looked_at():
    """
    Whoever waits for a restart is not over; the earliest timer counts.
    """
    roster = Roster(
        [
            job("night", state=State.RUNNING, start_grace_at=9.0),
            job("again", state=State.FAILED, restart_at=5.0),
            job("done", state=State.COMPLETED),
        ]
    )

    assert (["night", "again"], 5.0) == (list(roster.present), roster.next_due())
    assert ["again"] == [one.name for one in roster.due(5.0)]

    roster.put(job("again", state=State.COMPLETED))
    roster.drop("night")

    assert ({}, None) == (roster.present, roster.next_due())
    assert ["again", "done"] == list(roster.all)


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
    pausing = job("night", state=State.PAUSING, alive=True, deadline_at=90.0)
    roster = Roster([pausing], 100.0)

    assert ([], 105.0) == (roster.due(100.0), roster.next_due())
    assert [pausing] == roster.due(105.0)
    assert 90.0 == Roster([job("again", state=State.FAILED, restart_at=90.0)], 100.0).next_due()
