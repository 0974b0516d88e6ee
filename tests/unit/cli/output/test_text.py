"""Numbers, times and sizes at a glance, and texts that cannot harm a terminal."""

from __future__ import annotations

import pytest

from supervisor.cli.output.text import (
    ago,
    clean,
    count_of,
    cut,
    duration,
    number,
    percent,
    size,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (-3, "0.0 s"),
        (1.23, "1.2 s"),
        (9.96, "10 s"),
        (94.2, "94 s"),
        (99.4, "99 s"),
        (99.6, "1m 40s"),
        (192, "3m 12s"),
        (3599.6, "1h 00m"),
        (7500, "2h 05m"),
        (273_600, "3d 04h"),
        (10 * 365 * 86400, "3650d 00h"),
        (1e12, "over 1000 years"),
    ],
)
def test_durations_are_read_at_a_glance(seconds, text):
    """
    Two units at most, and never 60 of one.
    """
    assert text == duration(seconds)


def test_numbers_have_three_digits():
    """
    More digits of a rate only flicker.
    """
    shown = [number(value) for value in (None, 0.31234, 12.34, 1234.6, 9_999_999, 1e308, -1e308)]

    assert ["-", "0.312", "12.3", "1235", "9999999", "1e+308", "-1e+308"] == shown


#: What a script may report, a wire may carry and a division may give.
EXTREME = (1e308, -1e308, 5e-324, 1.8e19, 2**63 - 1, -(2**63), 1e15, float("inf"), float("nan"))


@pytest.mark.parametrize("value", EXTREME)
def test_no_number_takes_more_room_than_a_glance(value):
    """
    2026-11-29: a reported loss of 1e308 filled four lines of `status` with its 309 digits.
    """
    shown = [number(value), duration(value), ago(value), size(abs(value)), percent(value)]
    of = [count_of(int(value), 10), count_of(10, int(value))] if abs(value) < 1e300 else []

    assert [] == [text for text in shown if len(text) > 20]
    assert [] == [text for text in of if len(text) > 24]


@pytest.mark.parametrize(
    ("value", "total", "text"),
    [
        (None, 10, "-"),
        (7, None, "7"),
        (7, 0, "7"),
        (7, 10, "7/10 70%"),
        (12, 10, "12/10"),
        (2**63 - 1, 10, "9.22e+18/10"),
        (2**63 - 1, 2**63 - 1, "9.22e+18/9.22e+18 100%"),
        (10**12 - 1, None, "999999999999"),
    ],
)
def test_a_share_is_one_of_what_is_at_most_the_whole(value, total, text):
    """
    2026-11-29: step 2**63 - 1 of 10 was shown as 92233720368547758070 %.
    """
    assert text == count_of(value, total)


def test_clean_keeps_what_is_harmless():
    """
    Ordinary text of any language is left alone.
    """
    assert "f\u00fcr Anna" == clean("f\u00fcr Anna")
    assert ["..", "a", "", "ab..."] == [cut("abc", 2), cut("a", 1), cut("abc", 0), cut("abcdefg", 5)]
