"""Which jobs are there, and which of them something can happen to; world.py checks it after each step."""

import msgspec

from supervisor.core.job import Job, JobSpec
from supervisor.core.states import State
from supervisor.roster import Roster, sharing


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
