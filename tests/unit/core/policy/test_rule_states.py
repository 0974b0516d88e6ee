"""Every rule as it is now, as `policy show` tells it, and the alarms of `status`."""

from __future__ import annotations

from msgspec.structs import replace

from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.policy import explain as explaining
from supervisor.core.readings.sample import Missing
from tests.fakes.steered_machine import CPU, GPU, MEMORY, Machine, gpu


def test_policy_show_tells_rules_that_are_off_or_have_no_place_here():
    """
    Each of them, in the order of importance.
    """
    away = replace(CPU, name="away", enabled=False)
    machine = Machine(GPU, CPU, away).submit("a").run(3, gpus=Missing("no driver"), cpu_foreign_pct=35.0)

    assert "no driver" == machine.rule("gpu").missing
    assert not machine.rule("away").is_enabled
    assert (50.0, ("a",)) == (machine.rule("cpu").near_pct, machine.rule("cpu").jobs)
    machine.run(2, gpus=())
    assert "there is no GPU" == machine.rule("gpu").missing
    machine.run(2, gpus=(gpu("G1", foreign_gib=0.75),))
    assert 50.0 == machine.rule("gpu", "G1").near_pct


def test_a_reading_that_went_missing_is_said_aloud_after_a_minute():
    """
    Not one that this machine never had.
    """
    machine = Machine(CPU, MEMORY).submit("a").run(50, memory_available_bytes=Missing("never"))
    machine.run(50, cpu_foreign_pct=Missing("it does not answer"))
    given = (tuple(machine.jobs.values()), machine.sample(), machine.settings, machine.memory, machine.now)
    assert () == explaining.alarms(*given)
    machine.run(20)
    given = (tuple(machine.jobs.values()), machine.sample(), machine.settings, machine.memory, machine.now)

    assert ("rule cpu has no reading: it does not answer; it stays off",) == explaining.alarms(*given)
    assert "never" == machine.rule("memory").missing


def test_a_lost_gpu_keeps_what_was_known_of_it():
    """
    The job that yielded for it stays paused, and the alarm names the GPU.
    """
    machine = Machine(GPU).submit("a", depths=tuple(Depth), gpus=("G1",)).run(100, gpus=(gpu("G1"),))
    machine.run(20, gpus=(gpu("G1", foreign_gib=3.0),)).run(70, gpus=Missing("it fell off the bus"))

    assert JobState.PAUSED is machine.state("a")
    assert "rule gpu of G1 has no reading" in machine.rule("gpu", "G1").alarm
