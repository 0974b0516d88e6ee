"""Times as people type them."""

from __future__ import annotations

import click
import pytest

from supervisor.cli.options import DURATION


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("1.5", 1.5),
        ("30s", 30.0),
        ("10m", 600.0),
        ("2h", 7200.0),
        ("1d", 86400.0),
        ("1h30m", 5400.0),
    ],
)
def test_times_are_typed_as_people_do(text, seconds):
    """
    A number is seconds; units may be joined.
    """
    assert seconds == DURATION.convert(text, None, None)


@pytest.mark.parametrize("text", ["", "0", "m", "10 m", "10x", "-5", "1h30", "99999d", "1.2.3"])
def test_what_is_no_time_is_refused(text):
    """
    A pause of a misread length would be worse than none.
    """
    with pytest.raises(click.BadParameter, match="is not"):
        DURATION.convert(text, None, None)
