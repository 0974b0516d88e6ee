"""Windows of local time: read as people write them, open when they mean it."""

from __future__ import annotations

import pytest

from supervisor.core import windows


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("mon-fri 09:00-18:00", [(0, "09:00"), (4, "17:59")], [(0, "08:59"), (0, "18:00"), (5, "12:00")]),
        ("22:00-06:00", [(3, "22:00"), (3, "05:59")], [(3, "06:00"), (3, "21:59")]),
        ("fri 22:00-06:00", [(4, "23:00"), (5, "05:00")], [(4, "05:00"), (5, "23:00")]),
        ("sat,sun", [(5, "00:00"), (6, "23:59")], [(0, "00:00")]),
        ("FRI-MON", [(4, "12:00"), (6, "12:00"), (0, "12:00")], [(1, "12:00")]),
        ("00:00-24:00", [(2, "23:59")], []),
    ],
)
def test_windows_of_time(text, inside, outside):
    """
    The end belongs to it no more; a night belongs to the day on which it begins.
    """
    window = windows.parse(text)

    def is_open(day, time):
        return window.contains(day, int(time[:2]) * 3600 + int(time[3:]) * 60)

    assert all(is_open(*moment) for moment in inside)
    assert not any(is_open(*moment) for moment in outside)


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("mon", ({0}, 0, 86400)),
        ("tue-tue", ({1}, 0, 86400)),
        ("fri-mon", ({4, 5, 6, 0}, 0, 86400)),
        ("mon,wed-thu", ({0, 2, 3}, 0, 86400)),
        (" Sat 08:00-12:30 ", ({5}, 28800, 45000)),
        ("08:00-12:30", ({*range(7)}, 28800, 45000)),
        ("20:00-24:00", ({*range(7)}, 72000, 86400)),
        ("00:00-24:00", ({*range(7)}, 0, 86400)),
    ],
)
def test_a_window_is_read_as_it_was_meant(text, window):
    """
    Days, times, or both; without days every day, without times all day.
    """
    assert window == windows.parse(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "`` is no window of time"),
        ("late", "`late` is no window of time"),
        ("9:00-18:00", "`9:00-18:00` is no window of time"),
        ("09:00", "`09:00` is no window of time"),
        ("mon,", "`mon,` is no window of time"),
        ("mon-fri 09:00-18:00 x", "`mon-fri 09:00-18:00 x` is no window of time"),
        ("mon-xyz", "`xyz` is no day; days are mon, tue, wed, thu, fri, sat, sun"),
        ("25:00-26:00", "`25:00` is no time of day"),
        ("09:00-24:01", "`24:01` is no time of day"),
        ("09:60-10:00", "`09:60` is no time of day"),
        ("12:00-12:00", "`12:00-12:00` begins when it ends"),
        # 2026-11-29: it was taken for a window, and is never open.
        ("24:00-00:00", "`24:00-00:00` begins when it ends"),
    ],
)
def test_what_is_no_window_is_said_in_words(text, says):
    """
    With the part that is wrong.
    """
    with pytest.raises(ValueError) as caught:
        windows.parse(text)

    assert says == str(caught.value)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], True),
        (["mon"], True),
        (["mon-fri", "fri-sun"], True),
        (["mon-fri", "sat,sun"], False),
        (["09:00-12:00", "12:00-15:00"], False),
        (["09:00-12:01", "12:00-15:00"], True),
        # The night of Sunday ends on Monday.
        (["sun 22:00-06:00", "mon 05:00-07:00"], True),
        (["sun 22:00-06:00", "mon 06:00-07:00"], False),
        (["mon-wed", "wed-fri", "fri-mon"], False),
    ],
)
def test_windows_meet_or_they_never_do(texts, expected):
    """
    A minute in common is enough; two that touch have none. Each two of three may meet, and all never.
    """
    assert expected is windows.overlap([windows.parse(text) for text in texts])


@pytest.mark.parametrize(
    ("text", "how", "clause"),
    [
        ("mon-fri", "", "it is mon-fri"),
        ("mon-fri", "not", "it is not mon-fri"),
        ("22:00-06:00", "no longer", "it is no longer 22:00-06:00"),
        ("steam", "", "`steam` runs"),
        ("steam", "not", "`steam` does not run"),
        ("Web Content", "no longer", "`Web Content` no longer runs"),
    ],
)
def test_a_circumstance_is_a_clause(text, how, clause):
    """
    Whether it is a window or a program.
    """
    assert clause == windows.circumstance(text, how)
