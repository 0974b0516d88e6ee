"""The diagram of the documents shows the whole table."""

import runpy

from supervisor.core.jobs import diagram
from supervisor.core.jobs.diagram import mermaid
from supervisor.core.jobs.states import TRANSITIONS


def test_the_diagram_shows_every_arrow():
    """
    One line for each pair of states, with all events that lead along it.
    """
    lines = mermaid().splitlines()

    assert ["stateDiagram-v2", "    [*] --> queued"] == lines[:2]
    assert len({(a, b) for a, row in TRANSITIONS.items() for b in row.values()}) == len(lines) - 2
    assert "    paused --> stopped: stop-idle, ended-unseen" in lines


def test_the_diagram_is_printed(capsys):
    """
    `python -m supervisor.core.jobs.diagram` is how the documents get it.
    """
    runpy.run_path(diagram.__file__, run_name="__main__")

    assert mermaid() == capsys.readouterr().out
