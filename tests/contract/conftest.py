"""Prints, after contract tests, how many passed of each port on each implementation."""

from __future__ import annotations

import pytest

from tests.contract.port_table import cells, table


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, where any of them ran."""
    counts = cells(report.nodeid for report in terminalreporter.stats.get("passed", ()))
    if counts:
        terminalreporter.section("contract tests that passed, by port and implementation")
        terminalreporter.write_line(table(counts))
