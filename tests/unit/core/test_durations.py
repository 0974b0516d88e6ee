"""Times as people type them, on the command line and in their files."""

from __future__ import annotations

import pytest

from supervisor.core.durations import LEAST_PERIOD_S, LONGEST_S, parse_duration, parse_period


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("0.5", 0.5),
        ("30s", 30.0),
        ("10m", 600.0),
        ("2h", 7200.0),
        ("1d", 86400.0),
        ("1.5h", 5400.0),
        ("1h30m", 5400.0),
        ("1d2h3m4s", 93784.0),
        # Nobody means anything else by it.
        ("30m1h", 5400.0),
        ("10m10m", 1200.0),
    ],
)
def test_a_time_is_seconds_or_amounts_with_units(text, seconds):
    """
    The units add up, in whatever order they come.
    """
    assert seconds == parse_duration(text)


@pytest.mark.parametrize(
    "text",
    ["", " ", "soon", "h", "-5", "+5", "1e3", "nan", "inf", "5 m", " 5m", "5m ", "1h30", "5x", "1.2.3", "."],
)
def test_what_is_no_time_is_named_with_what_would_be(text):
    """
    A half of it that could be read is not taken for the whole: `1h30` may be minutes or seconds.
    """
    with pytest.raises(ValueError) as caught:
        parse_duration(text)

    assert f"`{text}` is not a time such as 90, 30s, 10m, 2h or 1h30m" == str(caught.value)


@pytest.mark.parametrize("text", ["0", "0s", "0h0m", "3651d", "9" * 400, "9" * 400 + "d"])
def test_no_time_at_all_and_longer_than_anybody_waits_are_refused(text):
    """
    The wire takes no longer one; a number beyond all bounds is one of them, not an accident.
    """
    with pytest.raises(ValueError, match="is not between 0 and 10 years"):
        parse_duration(text)


def test_ten_years_are_the_longest():
    """
    To the second.
    """
    assert LONGEST_S == parse_duration("3650d") == parse_duration("315360000")
    with pytest.raises(ValueError, match="10 years"):
        parse_duration("315360001")


@pytest.mark.parametrize("text", ["1", "1s", "1.0s"])
def test_a_run_may_save_every_second(text):
    """
    Exactly so often, and not more often.
    """
    assert LEAST_PERIOD_S == parse_period(text)
    with pytest.raises(ValueError, match=r"`0\.9` is too often: 1s is the least"):
        parse_period("0.9")


def test_a_period_is_typed_like_any_time():
    """
    With the same words where it is none.
    """
    assert 5400.0 == parse_period("1h30m")
    with pytest.raises(ValueError, match="is not a time such as"):
        parse_period("often")
    with pytest.raises(ValueError, match="is not between 0 and 10 years"):
        parse_period("0")
