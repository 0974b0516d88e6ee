"""What each user has had, across daemons: stored with the change that it comes from, and read again."""

import pytest

from supervisor.accounts import Accounts
from supervisor.core.jobs.states import JobState
from supervisor.core.policy.memory import Footprint, JobMemory, Memory
from supervisor.core.policy.rules import SharesConfig
from supervisor.core.policy.usage import Account
from supervisor.last_look import LastLook
from supervisor.system.procfs import boot_id
from tests.fakes.journal import FakeDisk, FakeJournal
from tests.fakes.moment import a_job

SHARES = SharesConfig(half_life_s=1e9)


def accounts(disk):
    """Those of one more daemon over the same disk."""
    look, journal = LastLook(), FakeJournal(disk)
    made = Accounts(journal, disk.facts.update, look)
    journal.close()
    return made, look


def ended(made, name, ran_s, begin=0.0):
    end = begin + ran_s
    made.note(a_job(name, since=begin), a_job(name, JobState.COMPLETED, since=end), SHARES, end)


def test_the_next_daemon_goes_on_with_what_was_stored():
    """
    And adds to it; each user has an account of his own, the daemon's own one too.
    """
    stored = FakeDisk()
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
    made, look = accounts(FakeDisk())
    seen = JobMemory(footprint=Footprint(gpu_bytes={"A": 1.0, "B": 1.0, "C": 1.0}))
    look.memory = Memory(jobs={"ada/a": seen}, usage=look.memory.usage)
    ended(made, "ada/a", 10.0)

    assert 30 == round(look.memory.usage["ada"].slot_s)


@pytest.mark.parametrize(
    ("boot", "charged_s"), [("an-earlier-boot", 60.0), (boot_id(), 1000.0), (None, 1000.0)]
)
def test_what_a_reboot_ended_is_charged_until_somebody_last_looked(boot, charged_s):
    """
    A machine that was off for days was nobody's; jobs of this boot had it, also while the daemon was away.
    """
    disk = FakeDisk()
    disk.facts |= {"policy.memory": '{"at":60.0}'} | ({} if boot is None else {"clock.boot_id": boot})
    made, look = accounts(disk)
    ended(made, "ada/a", 1000.0)
    ended(made, "bob/b", 50.0, begin=1000.0)

    assert {"ada": charged_s, "bob": 50.0} == {
        user: round(one.slot_s) for user, one in look.memory.usage.items()
    }


def test_what_ends_no_use_is_not_stored():
    """
    A job changes often; the journal hears of it when something was had.
    """
    stored = FakeDisk()
    made, look = accounts(stored)
    made.note(a_job("ada/a"), a_job("ada/a", problem="odd"), SHARES, 50.0)

    assert ({}, {}) == (stored.facts, look.memory.usage)


@pytest.mark.parametrize("text", ["no JSON", '{"ada": 7}', "[]"])
def test_accounts_that_cannot_be_read_begin_anew(text):
    """
    All users alike; a daemon that does not start would cost more.
    """
    stored = FakeDisk()
    stored.facts["users.usage"] = text
    made, look = accounts(stored)
    ended(made, "ada/a", 10.0)

    assert ["ada"] == list(look.memory.usage)
    assert Account(pytest.approx(10.0), 10.0) == accounts(stored)[1].memory.usage["ada"]
