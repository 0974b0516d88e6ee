"""Days of load, our policy beside BOINC's and HTCondor's: what holds on days it was made with and on others.

Covers: days of both kinds, one seed each. Does not cover: whatever differs from day to day; the tables
with all figures, also where we lose, are printed by `python -m benchmarks.policy`.
"""

from __future__ import annotations

import functools

import pytest

from tests.days.heldout import HELD_OUT, SEEDS
from tests.days.policies import NAMES, day, trace_of
from tests.days.traces import TRACES

#: Half an hour of load has to be seen as it is, and no more: the suite is run often.
TICK_S = 15.0

#: Neither of the others looks at memory: who never yields for it cannot flap for it.
OF_MEMORY = ("memory sawtooth", "big tables")
DAYS = (*NAMES, *HELD_OUT)


@functools.cache
def report(name, who):
    trace = HELD_OUT[name](SEEDS[0]) if name in HELD_OUT else trace_of(name, who)
    return day(trace, who, tick_s=TICK_S)


@pytest.mark.parametrize("name", [name for name in DAYS if name not in OF_MEMORY])
def test_it_flaps_less_than_a_policy_that_follows_the_load(name):
    """
    BOINC's, also where that is worst for us and where the days are new.
    """
    ours, theirs = (report(name, who).total("num_flaps") for who in ("ours", "BOINC"))

    assert ours < theirs or 0 == ours == theirs


@pytest.mark.parametrize("name", [*TRACES, "notebook", "continuous integration", "lab sessions", "mixture"])
def test_it_flaps_no_more_than_a_policy_that_looks_for_minutes(name):
    """
    HTCondor's. On the days that are not here it does on some seeds.
    """
    ours, theirs = (report(name, who).total("num_flaps") for who in ("ours", "HTCondor"))

    assert ours <= theirs


#: A load that crosses every threshold for hours, and loads that come again soon after a return.
LATER = ("slow ramp", "lab sessions", "backup night")


@pytest.mark.parametrize("name", [name for name in DAYS if name not in LATER])
def test_others_get_what_they_need_sooner_than_from_a_policy_that_looks_for_minutes(name):
    """
    Than from HTCondor's.
    """
    ours, theirs = (report(name, who).total("late_s") for who in ("ours", "HTCondor"))

    assert ours < theirs


@pytest.mark.parametrize("name", OF_MEMORY)
def test_memory_that_is_short_is_given_back(name):
    """
    Under the others, which do not look at it, jobs run on for half as long again and more.
    """
    ours = report(name, "ours").total("late_s")

    assert all(ours < report(name, who).total("late_s") / 1.5 for who in ("BOINC", "HTCondor"))
