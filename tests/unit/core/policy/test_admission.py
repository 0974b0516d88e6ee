"""Whose turn it is where there is not room for all: the line, and who passes whom."""

from __future__ import annotations

from supervisor.core.jobs.states import JobState
from supervisor.core.policy.rules import PolicyConfig, QueueConfig
from supervisor.core.readings.sample import Missing
from tests.fakes.steered_machine import CPU, GIB, GPU, MEMORY, Machine, gpu

BYTES = int(GIB)
TWO = {"gpus": (gpu("G1"), gpu("G2"))}


def test_jobs_that_ask_for_nothing_start_at_once():
    """
    All of them, and also where nothing can be read.
    """
    machine = Machine().submit("a").submit("b").submit("c")
    machine.run(1, gpus=Missing("x"), memory_available_bytes=Missing("x"), cpu_foreign_pct=Missing("x"))

    assert ["a", "b", "c"] == machine.running


def test_a_rule_that_is_on_keeps_jobs_queued_and_why_says_so():
    """
    What it would pause at once is not started first; a protected job starts.
    """
    machine = Machine(CPU).run(40, cpu_foreign_pct=90.0).submit("a").submit("kept", protected=True).run(5)

    assert ["kept"] == machine.running
    assert ("rule cpu is on",) == machine.why("a").waits_for
    assert ["cpu"] == [state.rule for state in machine.why("a").rules]
    assert "cpu_foreign_pct < 20 for 180 s" == machine.why("a").next
    assert (1, 1) == (machine.why("a").position, machine.why("a").line_length)


def test_what_the_machine_never_can_blocks_nobody():
    """
    It says so, and others pass.
    """
    machine = Machine(queue=QueueConfig(ageing_s=0.0), policy=PolicyConfig(settle_s=0.0))
    machine.submit("gpus", num_gpus=4, priority=9).submit("cpus", num_cpus=64.0, priority=9)
    machine.submit("memory", memory_bytes=100 * BYTES, priority=9)
    machine.submit("a", num_gpus=2).submit("b", num_cpus=4.0).submit("c", memory_bytes=BYTES).run(10, **TWO)

    assert ["a", "b", "c"] == machine.running
    assert "needs 4 GPUs, this machine has 2" in machine.why("gpus").next
    assert "needs 64 CPUs, there are 4" in machine.why("cpus").next
    assert "needs 100.0 GiB of memory, the machine has 24.0 GiB" in machine.why("memory").next


def test_no_more_run_than_may():
    """
    Whoever is before in the line takes a place, though it does not run yet.
    """
    machine = Machine(queue=QueueConfig(max_running=2)).submit("a").submit("b").submit("c").run(3)
    assert ["a", "b"] == machine.running
    assert "2 jobs run or are about to, of 2 that may" in machine.why("c").next
    machine.end("a")
    machine.run(2)

    assert ["b", "c"] == machine.running


def test_a_big_job_does_not_starve_behind_small_ones():
    """
    Others pass it for a while; then what it lacks is kept for it.
    """
    machine = Machine(GPU, queue=QueueConfig(ageing_s=100.0), policy=PolicyConfig(settle_s=1.0))
    machine.submit("first", num_gpus=1).run(5, **TWO).submit("big", num_gpus=2).run(2)
    machine.submit("passes", num_gpus=1).run(3)
    assert ["first", "passes"] == machine.running
    machine.run(150).submit("waits", num_gpus=1, priority=1).submit("other", num_cpus=1.0)
    machine.end("passes")
    machine.run(20)

    assert "gpu is kept for a job before it in the line" in machine.why("waits").next
    assert ["first", "other"] == machine.running
    machine.end("first")
    machine.run(5)
    assert "big" in machine.running


def test_waiting_counts_as_priority():
    """
    One point for each `ageing_s`.
    """
    machine = Machine(GPU, queue=QueueConfig(ageing_s=10.0)).submit("runs", num_gpus=2).run(2, **TWO)
    machine.submit("old", num_gpus=2).run(25).submit("new", num_gpus=2, priority=1).run(1)

    assert (1, 2) == (machine.why("old").position, machine.why("new").position)


def test_after_a_long_wait_room_is_enough():
    """
    What it used before is no proof for ever that it crosses a threshold.
    """
    machine = Machine(MEMORY, queue=QueueConfig(ageing_s=300.0)).submit("a", rss_gib=10.0).run(100)
    machine.run(8, memory_available_bytes=2.0 * GIB).run(250, memory_available_bytes=12.0 * GIB)
    assert JobState.PAUSED is machine.state("a")
    machine.run(60)

    assert JobState.RUNNING is machine.state("a")
