"""Whose a job was that is no more: by the number of its user, also after a restart."""

import pytest

from supervisor.core.jobs import apply as core
from supervisor.core.jobs.events import Submitted
from supervisor.core.jobs.job import JobSpec, Owner
from supervisor.past_jobs import PastJob, PastJobs


def job(key, uid, at):
    owner = None if uid is None else Owner(uid, "ada")
    event = Submitted(id="j", spec=JobSpec(argv=("x",), cwd="/", owner=owner), incarnation=3)
    return core.create(key, event, at)


@pytest.fixture
def facts():
    return {"next_job_number": "7"}


def test_a_job_that_was_removed_is_known_by_the_number_of_its_user(facts):
    """
    The next daemon knows it as well; of the daemon's own jobs only the starts are kept.
    """
    past = PastJobs(facts, facts.update)
    past.removed(job("ada/night", 1001, 12.25))
    past.removed(job("night", None, 13.0))
    again = PastJobs(facts, facts.update)

    for one in (past, again):
        assert (3, 3, 0) == tuple(map(one.num_starts, ("ada/night", "night", "day")))
        assert (PastJob(1001, 12.25), None) == tuple(map(one.owner, ("ada/night", "night")))


def test_several_of_one_user_are_one_past_and_those_of_another_are_not_his(facts):
    """
    The name went to somebody else in between: what was before is nobody's but an admin's.
    """
    past = PastJobs(facts, facts.update)
    found = []
    for uid, at in ((1001, 1.0), (1001, 2.0), (1002, 3.0), (1002, 4.0)):
        past.removed(job("ada/night", uid, at))
        found.append(past.owner("ada/night"))

    assert [PastJob(1001, 1.0), PastJob(1001, 1.0), PastJob(1002, 3.0), PastJob(1002, 3.0)] == found
