"""A record with other values in some of its fields."""

from __future__ import annotations

import pytest

from supervisor.core.jobs.job import JobStop
from supervisor.core.replacing import replace


def test_a_record_is_made_anew_with_what_is_given():
    """
    The one before stays as it was.
    """
    stop = JobStop()

    assert JobStop(is_restart=True) == replace(stop, is_restart=True)
    assert JobStop() == stop


def test_a_misspelt_field_is_found_when_it_runs_too():
    """
    mypy finds it before (tests/typing/records.py).
    """
    with pytest.raises(TypeError, match="is_restarted"):
        replace(JobStop(), is_restarted=True)
