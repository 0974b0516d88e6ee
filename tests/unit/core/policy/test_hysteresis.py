"""When a shortage counts as one, when it counts as over, and whether it eases."""

from __future__ import annotations

import pytest

from supervisor.core.policy.hysteresis import Side, Trend, Trigger


def stepped(trigger, sides, gap_s=1.0):
    for number, side in enumerate(sides):
        trigger = trigger.step(side, 100.0 + number * gap_s, rise_s=3.0, fall_s=6.0)
    return trigger


SHORT, BETWEEN, CLEAR, UNKNOWN = Side


def test_a_trigger_turns_after_its_time_and_not_before():
    """
    Three seconds short: on. One reading that is not short begins that anew.
    """
    assert not stepped(Trigger(), [SHORT] * 3).is_on
    assert stepped(Trigger(), [SHORT] * 4).is_on
    assert not stepped(Trigger(), [SHORT] * 3 + [BETWEEN] + [SHORT] * 3).is_on
    assert not stepped(Trigger(), [SHORT] * 3 + [CLEAR] + [SHORT] * 3).is_on


def test_a_spike_too_short_to_pause_does_not_begin_the_wait_anew():
    """
    It sets it back by its share; one as long as `rise_s` begins it anew. Between, the clock stands.
    """
    on = Trigger(is_on=True, side=SHORT)

    assert stepped(on, [CLEAR] * 6).is_on
    assert not stepped(on, [CLEAR] * 7).is_on
    assert not stepped(on, [CLEAR] * 4 + [BETWEEN] * 50 + [CLEAR] * 4).is_on
    assert stepped(on, [CLEAR] * 6 + [SHORT] * 3 + [CLEAR] * 2).is_on
    assert 1.0 == stepped(on, [CLEAR] * 6 + [SHORT] * 2).held_s
    assert 0.0 == stepped(on, [CLEAR] * 6 + [SHORT] * 4).held_s
    assert 0.0 == Trigger(is_on=True, held_s=5.0).step(SHORT, 1.0, rise_s=0.0, fall_s=6.0).held_s


def test_a_missing_reading_stops_the_clock():
    """
    It neither runs on nor begins anew.
    """
    trigger = stepped(Trigger(), [SHORT, SHORT, UNKNOWN, UNKNOWN, SHORT])

    assert (1.0, False) == (trigger.held_s, trigger.is_on)
    assert 102.0 == stepped(Trigger(), [SHORT, SHORT, UNKNOWN, UNKNOWN]).missing_since
    assert stepped(Trigger(), [SHORT, SHORT, UNKNOWN, SHORT, SHORT, SHORT]).is_on


def test_a_trigger_foretells_when_it_turns():
    """
    While its clock runs; a spike on the way down runs it back, and at rest nobody knows.
    """

    def foretold(trigger):
        return trigger.turns_at(rise_s=3.0, fall_s=6.0)

    on = stepped(Trigger(), [SHORT] * 4)

    assert 103.0 == foretold(stepped(Trigger(), [SHORT])) == foretold(stepped(Trigger(), [SHORT] * 3))
    assert 106.0 == foretold(stepped(on, [CLEAR])) == foretold(stepped(on, [CLEAR] * 4))
    assert None is foretold(on) is foretold(stepped(Trigger(), [CLEAR])) is foretold(stepped(on, [BETWEEN]))
    assert None is foretold(stepped(on, [CLEAR, CLEAR, CLEAR, CLEAR, SHORT]))
    assert None is foretold(stepped(Trigger(), [SHORT, UNKNOWN]))


def test_a_reading_that_tells_of_the_time_before_it_starts_the_clock_there():
    """
    Once: with the readings after it the gaps between them count, and on the way down nothing does.
    """
    times = {"rise_s": 3.0, "fall_s": 6.0, "before_s": 0.8}
    first = Trigger().step(SHORT, 10.0, **times)
    on = stepped(Trigger(), [SHORT] * 4)

    assert (0.8, False) == (first.held_s, first.is_on)
    assert 1.8 == first.step(SHORT, 11.0, **times).held_s
    assert 60.0 == Trigger().step(SHORT, 10.0, rise_s=99.0, fall_s=6.0, before_s=600.0).held_s
    assert 0.0 == on.step(CLEAR, 104.0, **times).held_s


def test_a_long_gap_counts_as_a_minute_at_most():
    """
    Nobody saw what was in between.
    """
    trigger = Trigger().step(SHORT, 0.0, rise_s=100.0, fall_s=1.0).step(SHORT, 9e5, rise_s=100.0, fall_s=1.0)

    assert (60.0, False) == (trigger.held_s, trigger.is_on)


def test_what_does_not_change_is_the_same_object():
    """
    So a quiet machine costs nothing to remember.
    """
    calm = stepped(Trigger(), [CLEAR])
    on = stepped(Trigger(is_on=True), [SHORT])
    lost = stepped(Trigger(), [UNKNOWN])

    assert calm is stepped(calm, [CLEAR] * 3)
    assert on is stepped(on, [SHORT] * 3)
    assert lost is stepped(lost, [UNKNOWN] * 3)


def test_a_trend_weighs_by_time():
    """
    A reading after a long gap counts more; one at the same moment not at all.
    """
    trend = Trend(1.0, 1.0, 0.0)

    assert trend is trend.step(0.0, 0.0, short_s=5.0, long_s=30.0)
    assert trend.step(0.0, 5.0, short_s=5.0, long_s=30.0).is_easing
    assert not trend.step(2.0, 5.0, short_s=5.0, long_s=30.0).is_easing
    assert 0.0 == trend.step(0.0, 5.0, short_s=0.0, long_s=30.0).short


def test_without_a_holding_time_the_first_reading_turns_it():
    """
    Both ways; it says when.
    """
    on = Trigger().step(SHORT, 5.0, rise_s=0.0, fall_s=0.0)
    off = on.step(CLEAR, 6.0, rise_s=0.0, fall_s=0.0)

    assert (True, 5.0) == (on.is_on, on.turned_at)
    assert (False, 6.0) == (off.is_on, off.turned_at)


@pytest.mark.parametrize(("turned_at", "now", "for_s"), [(None, 9.0, 0.0), (4.0, 9.0, 5.0), (9.0, 4.0, 0.0)])
def test_for_how_long_it_has_been_as_it_is(turned_at, now, for_s):
    """
    Never less than no time; one that never turned has nothing to tell.
    """
    assert for_s == Trigger(turned_at=turned_at).for_s(now)


def test_a_clock_that_goes_back_adds_nothing():
    """
    Nor does it take away what was held.
    """
    held = stepped(Trigger(), [SHORT] * 3)

    assert 2.0 == held.step(SHORT, 50.0, rise_s=9.0, fall_s=9.0).held_s


@pytest.mark.parametrize(
    ("short", "long", "is_easing"),
    [(0.98, 1.0, False), (0.97, 1.0, True), (1.0, 1.0, False), (0.0, 0.0, False)],
)
def test_only_what_is_clearly_less_is_easing(short, long, is_easing):
    """
    Two per cent are noise.
    """
    assert is_easing is Trend(short, long, 0.0).is_easing


def test_a_trend_knows_how_long_it_was_watched():
    """
    A gap without a reading does not count, and a long one as a minute.
    """
    times = {"short_s": 5.0, "long_s": 30.0}
    trend = Trend(1.0, 1.0, 0.0).step(1.0, 4.0, **times)

    assert 4.0 == trend.for_s
    assert 4.0 == trend.step(1.0, 9.0, **times, was_missing=True).for_s
    assert 64.0 == trend.step(1.0, 9000.0, **times).for_s


def test_a_reading_that_stays_is_no_trend():
    """
    Both means are that reading.
    """
    trend = Trend(2.0, 2.0, 0.0)
    for second in range(1, 50):
        trend = trend.step(2.0, float(second), short_s=5.0, long_s=30.0)

    assert (2.0, 2.0, False) == (trend.short, trend.long, trend.is_easing)
