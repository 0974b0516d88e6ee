"""What each user has had, across daemons: stored with the change that it comes from, and read again."""

import pytest

from supervisor.accounts import Accounts
from supervisor.core.jobs.job import Pid
from supervisor.core.jobs.states import JobState
from supervisor.core.policy.memory import Footprint, JobMemory, Memory
from supervisor.core.policy.rules import SharesConfig
from supervisor.core.policy.usage import Account
from supervisor.last_look import LastLook
from supervisor.system.procfs import boot_id
from tests.fakes.moment import a_job

SHARES = SharesConfig(half_life_s=1e9)


def accounts(stored, look=None):
    look = look or LastLook()
    return Accounts(stored, stored.update, look), look


def ended(made, name, ran_s):
    made.note(a_job(name, since=0.0), a_job(name, JobState.COMPLETED, since=ran_s), SHARES, ran_s)


def test_the_next_daemon_goes_on_with_what_was_stored():
    """
    And adds to it; each user has an account of his own, the daemon's own one too.
    """
    stored = {}
    made, _ = accounts(stored)
    for name in ("ada/a", "bob/b", "own"):
        ended(made, name, 100.0)
    again, look = accounts(stored)
    ended(again, "ada/c", 100.0)

    assert {"ada": 200, "bob": 100, "": 100} == {
        user: round(one.slot_s) for user, one in look.memory.usage.items()
    }
    assert look.memory.usage == accounts(stored)[1].memory.usage


def test_gpus_that_the_policy_saw_it_on_count():
    """
    A job that asked for none and took three had three.
    """
    made, look = accounts({})
    seen = JobMemory(footprint=Footprint(gpu_bytes={"A": 1.0, "B": 1.0, "C": 1.0}))
    look.memory = Memory(jobs={"ada/a": seen}, usage=look.memory.usage)
    ended(made, "ada/a", 10.0)

    assert 30 == round(look.memory.usage["ada"].slot_s)


def test_what_a_reboot_ended_is_charged_until_somebody_last_looked():
    """
    A machine that was off for days was nobody's; a daemon that was away from jobs of this boot charges it all.
    """
    had = {}
    for boot in ("an-earlier-boot", boot_id()):
        made, look = accounts({})
        look.memory = Memory(at=60.0)
        ran = a_job("ada/a", since=0.0, process=Pid(7, 8, boot))
        made.note(ran, a_job("ada/a", JobState.FAILED, since=1000.0), SHARES, 1000.0)
        had[boot] = round(look.memory.usage["ada"].slot_s)

    assert {"an-earlier-boot": 60, boot_id(): 1000} == had


def test_what_ends_no_use_is_not_stored():
    """
    A job changes often; the journal hears of it when something was had.
    """
    stored = {}
    made, look = accounts(stored)
    made.note(a_job("ada/a"), a_job("ada/a", problem="odd"), SHARES, 50.0)

    assert ({}, {}) == (stored, look.memory.usage)


@pytest.mark.parametrize("text", ["no JSON", '{"ada": 7}', "[]"])
def test_accounts_that_cannot_be_read_begin_anew(text):
    """
    All users alike; a daemon that does not start would cost more.
    """
    stored = {"users.usage": text}
    made, look = accounts(stored)
    ended(made, "ada/a", 10.0)

    assert ["ada"] == list(look.memory.usage)
    assert Account(pytest.approx(10.0), 10.0) == accounts(stored)[1].memory.usage["ada"]
