"""Amounts of bytes, as the daemon, the command line and the shim write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.cli.output.text import size
from supervisor.core import units
from trainer_shim import units as units_of_the_shim


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (123_400_000, "117.7 MiB"),
        (1023 << 20, "1023.0 MiB"),
        (10 << 30, "10.0 GiB"),
        (5 << 40, "5.0 TiB"),
        (5000 << 40, "4.9 PiB"),
        (2**63, "8.0 EiB"),
        (1e308, "8.67e+289 EiB"),
    ],
)
def test_amounts_are_binary_with_one_decimal(num_bytes, text):
    """
    Never 1024.0 of a unit, and never so round that two amounts look the same for long.
    """
    assert text == units.format_bytes(num_bytes)


@given(st.integers(0, 1 << 70) | st.floats(0, 1e308))
def test_whoever_writes_an_amount_writes_it_the_same_way(num_bytes):
    """
    What a job says it waits for can be compared with what `status` and `why` show.
    """
    assert units.format_bytes(num_bytes) == units_of_the_shim.format_bytes(num_bytes)
    assert units.format_bytes(num_bytes) == size(num_bytes)


@pytest.mark.parametrize("value", [1e308, -1e308, 12345678.9])
def test_a_value_beside_its_threshold_stays_short(value):
    """
    A threshold of 1e300 in a rule is allowed where a metric has no upper end.
    """
    assert units.format_number(value) == units.format_tenths(value) == f"{value:.3g}"
    assert ["8.3", "90.0"] == [units.format_tenths(8.33), units.format_tenths(90)]


def test_an_amount_that_nobody_knows_is_a_dash():
    """
    It is not zero.
    """
    assert "-" == size(None)
