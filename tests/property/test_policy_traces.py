"""Days of load, our policy beside those of BOINC and HTCondor: fewer flaps, and not bought with idling.

The table with all figures is printed by `python -m benchmarks.policy`.
"""

from __future__ import annotations

import functools

import pytest

from benchmarks.policy import NAMES, day, trace_of

OTHERS = ("BOINC", "HTCondor")

#: Half an hour of load has to be seen as it is, and no more: the suite is run often.
TICK_S = 10.0


@functools.cache
def report(name, who):
    return day(trace_of(name, who), who, tick_s=TICK_S)


@pytest.mark.parametrize("name", NAMES)
def test_it_flaps_less_than_others_on_every_day(name):
    """
    Each policy also meets the oscillation that is the worst for it.
    """
    ours = report(name, "ours").total("num_flaps")

    for other in OTHERS:
        theirs = report(name, other).total("num_flaps")
        assert ours < theirs or 0 == ours == theirs, other


@pytest.mark.parametrize("other", OTHERS)
def test_on_most_days_jobs_are_paused_needlessly_for_less_time(other):
    """
    To flap less by never coming back would be no art.
    """
    better = [
        name
        for name in NAMES
        if report(name, "ours").total("needless_s") < report(name, other).total("needless_s")
    ]

    assert len(better) > len(NAMES) / 2, better


def test_what_others_need_they_get_soon():
    """
    Of the time in which others are short, a job of ours runs for less than a third; one that
    never pauses would have no flaps either.
    """
    for name in ("build server", "night batch", "base load", "memory sawtooth"):
        told = report(name, "ours")
        yielded_s = told.total("paused_s") - told.total("needless_s")

        assert told.total("late_s") < (told.total("late_s") + yielded_s) / 3, name
