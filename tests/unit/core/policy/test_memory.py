"""What is remembered from one decision to the next, and what becomes of it when it is lost."""

from __future__ import annotations

import msgspec

from supervisor.core.jobs.states import JobState
from supervisor.core.policy.hysteresis import Trend
from supervisor.core.policy.memory import Memory
from tests.fakes.steered_machine import Machine

BUSY = {"cpu_foreign_pct": 80.0}
CALM = {"cpu_foreign_pct": 5.0}


def test_a_memory_that_is_lost_does_no_harm():
    """
    A rule that paused a job counts as on until it has been clear for its time.
    """
    machine = Machine().submit("a").run(100).run(40, **BUSY)
    machine.memory = Memory()
    machine.run(170, cpu_foreign_pct=30.0)
    assert JobState.PAUSED is machine.state("a")
    machine.run(185, **CALM)

    assert JobState.RUNNING is machine.state("a")


def test_what_an_older_version_remembered_is_read():
    """
    And an older one reads what this one remembers: it ignores what it does not know.
    """
    stored = b'{"short": 1.0, "long": 1.5, "at": 9.0}'

    assert Trend(1.0, 1.5, 9.0) == msgspec.json.decode(stored, type=Trend)
