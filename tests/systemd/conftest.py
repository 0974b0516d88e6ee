"""All tests here boot a systemd of their own: `make test-service` runs them, and .ci/run calls it."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark those of this folder; pytest hands over all that it has collected."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("service")
