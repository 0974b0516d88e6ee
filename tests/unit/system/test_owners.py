"""Whose a process is, and which one is signalled for a job that a person started."""

import os

from msgspec.structs import replace

from supervisor.core.jobs import apply as core
from supervisor.core.jobs.events import Adopted, Submitted
from supervisor.core.jobs.job import JobSpec, Owner, Pid
from supervisor.system.owners import is_users_to_signal
from tests.other_user import OTHER, needs_root, run_as


def job_of(pid, uid, by_hand="once"):
    owner = None if uid is None else Owner(uid, "ada")
    spec = JobSpec(argv=("train",), cwd="/", by_hand=by_hand, owner=owner)
    new = core.create("train", Submitted(id="j-1", spec=spec), 1.0)
    return core.apply(new, Adopted(process=Pid(pid, 1, "boot")), 2.0)[0]


@needs_root
def test_a_process_that_became_roots_is_not_signalled_for_its_user():
    """
    He could not do that himself; what is his, and what we started, is.
    """
    mine = os.getpid()
    his = run_as(OTHER, lambda: is_users_to_signal(job_of(os.getpid(), OTHER)))
    ours = job_of(mine, OTHER, by_hand="")

    assert his
    assert not is_users_to_signal(job_of(mine, OTHER))
    assert is_users_to_signal(job_of(mine, None))
    assert is_users_to_signal(ours)
    assert is_users_to_signal(replace(job_of(mine, OTHER), run=None))
