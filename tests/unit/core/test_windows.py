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
