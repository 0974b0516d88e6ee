"""What is remembered from one decision to the next, and what becomes of it when it is lost."""

from __future__ import annotations

import msgspec
import pytest

from supervisor.core.jobs.states import JobState
from supervisor.core.jobs.verdict import Verdict
from supervisor.core.policy.hysteresis import Side, Trend, Trigger
from supervisor.core.policy.memory import Footprint, JobMemory, Memory
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


FULL = Memory(
    at=9.0,
    acted_at=8.0,
    urgent_at=7.0,
    last={"a": Verdict(kind="pause", job="a", rule="cpu", reason="because")},
    triggers={"cpu": Trigger(is_on=True, turned_at=1.0, side=Side.SHORT, held_s=2.0, held_at=3.0)},
    trends={"cpu": Trend(1.0, 2.0, 3.0, 4.0)},
    conditions={"cpu": "0badcafe"},
    jobs={
        "a": JobMemory(
            last_state=JobState.PAUSED,
            footprint=Footprint(100.0, 5.0, {"G": 1.0}, 2.0),
            paused_by=("cpu",),
            paused_at=3.0,
            asked_at=2.0,
            returned_at=1.0,
            num_flaps=2,
            flapped_at=1.0,
            wakes_at=50.0,
            overruled=("memory",),
            num_refusals=1,
            ask_again_at=40.0,
        )
    },
)

#: As a daemon of November 2026 has stored it: its successors read it.
STORED = (
    b'{"at":9.0,"acted_at":8.0,"urgent_at":7.0,"last":{"a":{"kind":"pause","job":"a","rule":"cpu",'
    b'"reason":"because"}},"triggers":{"cpu":{"is_on":true,"turned_at":1.0,"side":"short","held_s":2.0,'
    b'"held_at":3.0}},"trends":{"cpu":{"short":1.0,"long":2.0,"at":3.0,"for_s":4.0}},"conditions":'
    b'{"cpu":"0badcafe"},"jobs":{"a":{"last_state":"paused","footprint":{"cpu_pct":100.0,"rss_bytes":5.0,'
    b'"gpu_bytes":{"G":1.0},"since":2.0},"paused_by":["cpu"],"paused_at":3.0,"asked_at":2.0,'
    b'"returned_at":1.0,"num_flaps":2,"flapped_at":1.0,"wakes_at":50.0,"overruled":["memory"],'
    b'"num_refusals":1,"ask_again_at":40.0}}}'
)


def test_what_is_stored_comes_back_as_it_was():
    """
    A restart of the daemon changes no decision; what was stored by this version is read by the next.
    """
    assert STORED == msgspec.json.encode(FULL)
    assert FULL == msgspec.json.decode(STORED, type=Memory)


@pytest.mark.parametrize("kind", [Memory, JobMemory, Footprint, Trigger])
def test_one_of_which_nothing_is_known_is_empty(kind):
    """
    It takes no room, and an older one that lacks everything is read as it.
    """
    assert b"{}" == msgspec.json.encode(kind())
    assert kind() == msgspec.json.decode(b"{}", type=kind)


def test_what_a_later_version_remembers_besides_is_passed_over():
    """
    Whoever goes back to an older version keeps what that one knows.
    """
    later = b'{"at": 5.0, "moods": [1], "jobs": {"a": {"num_flaps": 3, "mood": "fine"}}}'

    assert Memory(at=5.0, jobs={"a": JobMemory(num_flaps=3)}) == msgspec.json.decode(later, type=Memory)
