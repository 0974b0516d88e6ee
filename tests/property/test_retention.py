"""Retention: whatever there is and whatever is asked, what must stay stays, and each fate has its reason."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from trainer_shim.checkpoint.layout import Name
from trainer_shim.checkpoint.retention import Keep, Known, best_first, decide

NAMES = st.builds(Name, st.integers(0, 12) | st.integers(0, 10**12), st.integers(0, 2))
# Few values, so that equal ones are common.
VALUES = st.sampled_from([0.0, -0.0, 0.25, 0.5, math.inf, -math.inf, math.nan])
KNOWN = st.builds(
    Known,
    NAMES,
    saved_s=st.none() | st.integers(0, 40).map(lambda hours: 1800.0 * hours),
    metrics=st.fixed_dictionaries({}, optional={"loss": VALUES}),
    is_damaged=st.sampled_from([False, False, False, True]),
    doubt=st.sampled_from(["", "", "", "permission denied"]),
    pin=st.sampled_from([None, None, "", "for the paper"]),
    is_read=st.sampled_from([False, False, True]),
)
FOLDERS = st.lists(KNOWN, unique_by=lambda one: one.name, min_size=5, max_size=14) | st.lists(
    KNOWN, max_size=1
)
KEEPS = st.builds(
    lambda last, best, mode, every_h: Keep(
        last=last, best=best, metric="loss" if best else "", mode=mode, every_h=every_h
    ),
    st.integers(1, 4), st.integers(0, 3), st.sampled_from(["min", "max"]), st.sampled_from([None, 1.0, 6.0]),
)  # fmt: skip


def staying(known, keep, saved=None):
    return {verdict.name for verdict in decide(known, keep, saved=saved) if verdict.stays}


def usable(known):
    return [one for one in known if not one.is_damaged and not one.doubt]


def candidates(known):
    """The newest usable checkpoint of each step."""
    return [max(group, key=lambda one: one.name) for group in by_step(usable(known)).values()]


def by_step(known):
    groups = {}
    for one in known:
        groups.setdefault(one.name.step, []).append(one)
    return groups


@given(FOLDERS, KEEPS, st.data())
def test_what_must_never_go_stays(known, keep, data):
    """
    The one just saved, the newest good one, pinned ones, those being read, and those nobody can judge now.
    """
    saved = data.draw(st.sampled_from([None, *(one.name for one in known)]))
    must = {one.name for one in known if one.pin is not None or one.is_read or one.doubt}
    must |= {max(one.name for one in usable(known))} if usable(known) else set()
    must |= {saved} - {None}

    assert must <= staying(known, keep, saved)


@given(FOLDERS, KEEPS)
def test_every_checkpoint_has_one_fate_and_a_reason(known, keep):
    """
    Newest first, none left out, none without a word.
    """
    verdicts = decide(known, keep)

    assert sorted((one.name for one in known), reverse=True) == [verdict.name for verdict in verdicts]
    assert all(verdict.why for verdict in verdicts)


@given(FOLDERS, KEEPS)
def test_the_last_steps_stay_and_damaged_ones_take_no_place(known, keep):
    """
    As many steps as were asked for can be gone back to; a step that was saved twice counts once.
    """
    newest = sorted((one.name for one in candidates(known)), reverse=True)[: keep.last]

    assert set(newest) <= staying(known, keep)


@settings(max_examples=200)
@given(FOLDERS, KEEPS)
def test_the_best_stay_and_a_number_that_says_nothing_is_never_best(known, keep):
    """
    As many values as were asked for, each with the checkpoint nearest to its evaluation.
    """
    numbers = {one.metrics.get("loss", math.nan) for one in candidates(known)}
    values = sorted({value for value in numbers if math.isfinite(value)}, reverse=keep.mode == "max")
    nearest = {
        min(one.name for one in candidates(known) if one.metrics.get("loss") == value)
        for value in values[: keep.best]
    }

    assert nearest <= staying(known, keep)
    assert not keep.best or nearest == {one.name for one in best_first(candidates(known), keep)[: keep.best]}


@given(FOLDERS, KEEPS)
def test_nothing_stays_without_need(known, keep):
    """
    What no rule and nobody wants goes, so that a disk does not fill up.
    """
    quiet = [replace(one, pin=None, is_read=False, doubt="", is_damaged=False) for one in known]
    slots = {
        one.saved_s // (keep.every_h * 3600) for one in quiet if one.saved_s is not None and keep.every_h
    }

    assert len(staying(quiet, keep)) <= keep.last + keep.best + len(slots)


@given(FOLDERS, KEEPS)
def test_deciding_again_removes_no_more(known, keep):
    """
    What stayed was not kept by what went.
    """
    left = [one for one in known if one.name in staying(known, keep)]

    assert staying(known, keep) == staying(left, keep)


@given(FOLDERS, KEEPS, st.integers(0, 3), st.integers(0, 3))
def test_keeping_more_never_removes_what_less_would_keep(known, keep, more_last, more_best):
    """
    A person who raises a number loses nothing by it.
    """
    more = Keep(
        last=keep.last + more_last,
        best=keep.best + more_best,
        metric="loss" if keep.best + more_best else "",
        mode=keep.mode,
        every_h=keep.every_h,
    )

    assert staying(known, keep) <= staying(known, more)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30).map(sorted))
def test_the_first_of_each_slot_stays_for_ever(half_hours):
    """
    A run of many days leaves one of every six hours, and no later one takes its place.
    """
    keep, there, firsts = Keep(last=1, every_h=6), [], {}
    for step, half_hour in enumerate(half_hours):
        one = Known(Name(step), saved_s=1800.0 * half_hour)
        firsts.setdefault(half_hour // 12, one.name)
        there = [*there, one]
        stays = staying(there, keep, one.name)
        there = [other for other in there if other.name in stays]

        assert set(firsts.values()) | {one.name} == stays


def why(known, keep, name, saved=None):
    (verdict,) = [verdict for verdict in decide(known, keep, saved=saved) if verdict.name == name]
    return verdict.stays, verdict.why


def test_reasons_are_words_for_a_person():
    """
    Each one says which rule keeps it, or which no longer does.
    """
    keep = Keep(last=1, best=1, metric="loss", every_h=6)
    known = [
        Known(Name(9), is_damaged=True),
        Known(Name(8, 1)),
        Known(Name(8)),
        Known(Name(7), pin="for the paper"),
        Known(Name(6), is_read=True, pin=""),
        Known(Name(5), doubt="permission denied"),
        Known(Name(4), metrics={"loss": 0.5}),
        Known(Name(3), metrics={"loss": 0.25}),
        Known(Name(2), metrics={"loss": math.nan}),
        Known(Name(1), saved_s=0.0),
        Known(Name(0), is_damaged=True),
    ]

    assert (True, "damaged, and not older than the last 1") == why(known, keep, Name(9))
    assert (True, "saved last; newest; among the last 1") == why(known, keep, Name(8, 1), Name(8, 1))
    assert (False, "saved again as `step-000000008.1`") == why(known, keep, Name(8))
    assert (True, "pinned: for the paper") == why(known, keep, Name(7))
    assert (True, "pinned; being read") == why(known, keep, Name(6))
    assert (True, "cannot be judged: permission denied") == why(known, keep, Name(5))
    assert (False, "older than the last 1, not among the best by loss") == why(known, keep, Name(4))
    assert (True, "best 1 of 1 by loss (0.25)") == why(known, keep, Name(3))
    assert (True, "best 1 of 1 by loss (0.5)") == why(known, replace(keep, mode="max"), Name(4))
    assert (False, "older than the last 1, no loss") == why(known, keep, Name(2))
    assert (True, "first of its 6 h") == why(known, keep, Name(1))
    assert (False, "damaged, and older than the last 1") == why(known, keep, Name(0))
    assert (False, "older than the last 1") == why(known, Keep(last=1), Name(4))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"last": 0}, "the newest one always stays"),
        ({"best": 2}, "give both, or neither"),
        ({"metric": "loss"}, "give both, or neither"),
        ({"best": -1, "metric": "loss"}, "give both, or neither"),
        ({"best": 1, "metric": "loss", "mode": "least"}, "it is `min` or `max`"),
        ({"every_h": 0.0}, "every 0.0 hours"),
        ({"every_h": math.nan}, "every nan hours"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(wrong, words):
    """
    At attach(), before anything is removed by it.
    """
    with pytest.raises(ValueError, match=words):
        Keep(**wrong)
