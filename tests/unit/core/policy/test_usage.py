"""What users have had: how many slots a job counts as, when it has them, and how that is forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from supervisor.core.jobs.job import Asker
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.policy.rules import SharesConfig
from supervisor.core.policy.usage import (
    Account,
    Use,
    charged,
    had,
    is_over,
    mean_slots,
    num_slots,
    takes,
    use_of,
)
from tests.fakes.moment import a_job, paused

SHARES = SharesConfig(half_life_s=1000.0, slot_cpus=4.0)
PERSON = Asker("person", "ada")


@pytest.mark.parametrize(
    ("asked", "seen_on", "slots"),
    [
        ({}, (), 1.0),
        ({"num_gpus": 2}, (), 2.0),
        ({"num_gpus": 2, "gpus": ("A", "B")}, ("A", "B"), 2.0),
        ({}, ("A", "B", "C"), 3.0),
        ({"num_cpus": 2.0}, (), 1.0),
        ({"num_cpus": 10.0}, (), 2.5),
        ({"num_cpus": 10.0, "num_gpus": 4}, (), 4.0),
    ],
)
def test_a_job_counts_by_its_gpus_or_its_cpus(asked, seen_on, slots):
    """
    GPUs that it took without asking are GPUs; what asks for little or nothing is one slot.
    """
    assert slots == num_slots(a_job(**asked), seen_on, SHARES)


@pytest.mark.parametrize(
    ("job", "has_them"),
    [
        (a_job(), True),
        (a_job(state=JobState.STARTING), True),
        (a_job(state=JobState.PAUSING), True),
        (a_job(state=JobState.STOPPING), True),
        (a_job(state=JobState.QUEUED), False),
        (a_job(state=JobState.COMPLETED), False),
        (paused(depth=Depth.HOLD), False),
        (paused(depth=Depth.EXIT), False),
        (paused(depth=Depth.HOLD, by=PERSON), True),
        (paused(depth=Depth.EXIT, by=PERSON), False),
    ],
)
def test_when_a_job_has_its_slots(job, has_them):
    """
    Who pauses his own job keeps its GPU from others as long as its process is there; a rule's pause is no
    use of his.
    """
    assert has_them == takes(job)


def ran(usage, begin, end, user="bob", slots=1.0):
    """The accounts after a user has had slots from one moment to another."""
    return charged(usage, Use(user, slots, begin, end), SHARES, end)


def counted(usage, now, user="bob"):
    return had(usage, (), SHARES, now).get(user, 0.0)


def test_what_was_had_counts_half_after_the_half_life():
    """
    And a quarter after two; nobody else's account is touched by the time of one.
    """
    usage = ran({"ada": Account(64.0, 0.0)}, 0.0, 1000.0)
    at_once = counted(usage, 1000.0)

    assert pytest.approx(32.0) == counted(usage, 1000.0, "ada")
    assert 500.0 < at_once < 1000.0
    assert pytest.approx(at_once / 2) == counted(usage, 2000.0)
    assert pytest.approx(at_once / 4) == counted(usage, 3000.0)


@given(st.lists(st.floats(1.0, 5000.0), min_size=1, max_size=6), st.floats(0.0, 3000.0))
def test_in_how_many_pieces_it_was_had_does_not_matter(pieces, later_s):
    """
    One job, or one after the other: the account is the same, and what still runs counts as what has ended.
    """
    total, usage, at = sum(pieces), {}, 0.0
    for piece in pieces:
        usage = ran(usage, at, at + piece)
        at += piece
    whole = ran({}, 0.0, total)
    runs = had({}, [use_of(a_job("bob/a", since=0.0), 1.0, total)], SHARES, total)

    assert pytest.approx(counted(whole, total + later_s)) == counted(usage, total + later_s)
    assert pytest.approx(counted(whole, total)) == runs["bob"]


def test_who_always_has_two_slots_comes_to_a_mean_of_two():
    """
    That is what a share is compared by.
    """
    usage = ran({}, 0.0, 20_000.0, slots=2.0)

    assert pytest.approx(2.0, rel=1e-3) == mean_slots(counted(usage, 20_000.0), SHARES)


def test_a_use_ends_with_its_state_or_its_process():
    """
    Each second is charged once, and a change that leaves both ends none.
    """
    runs = a_job("bob/a", since=100.0)
    labelled = replace(runs, problem="odd")
    held = paused("bob/a", by=PERSON, since=100.0)
    dead = replace(held, run=None)

    again = a_job("bob/a", JobState.RESUMING, since=600.0)

    assert [False, True, True, False] == [
        is_over(before, after)
        for before, after in (
            (runs, labelled),
            (runs, replace(runs, since=200.0)),
            (held, dead),
            (dead, again),
        )
    ]
    assert Use("bob", 2.0, 100.0, 500.0) == use_of(runs, 2.0, 500.0)


def test_who_was_here_long_ago_is_forgotten():
    """
    A daemon that runs for years does not remember everybody who ever came.
    """
    usage = ran({"ada": Account(1.0, 0.0), "eve": Account(1e9, 0.0)}, 20_000.0, 20_100.0)

    assert {"bob", "eve"} == set(usage)
