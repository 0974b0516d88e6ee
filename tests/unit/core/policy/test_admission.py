"""Whose turn it is where there is not room for all: the line, and who passes whom."""

from __future__ import annotations

import pytest

from supervisor.core.jobs.job import Asker
from supervisor.core.jobs.states import JobState
from supervisor.core.policy.admission import asks_for_nothing, holding, line
from supervisor.core.policy.rules import PolicyConfig, QueueConfig, Selector
from supervisor.core.readings.sample import Missing
from tests.fakes.moment import NOW, a_job, a_rule, above, moment, on, paused, remembered
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


def a_queued(name, **of):
    return a_job(name, JobState.QUEUED, **{"since": NOW - 10.0} | of)


def standings(*jobs, **of):
    return {standing.job.name: standing for standing in line(moment(*jobs, **of))}


@pytest.mark.parametrize(
    ("needs", "nothing"),
    [
        ({}, True),
        ({"priority": 9, "labels": {"a": "b"}}, True),
        ({"num_gpus": 1}, False),
        ({"memory_bytes": 1}, False),
        ({"num_cpus": 0.5}, False),
        ({"gpu_memory_bytes": 1}, False),
    ],
)
def test_a_job_that_names_no_needs_asks_for_nothing(needs, nothing):
    """
    There is nothing to measure that could keep it.
    """
    assert nothing is asks_for_nothing(a_queued("a", **needs))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (a_queued("z", priority=1), a_queued("a")),
        # An hour of waiting is a point of priority.
        (a_queued("z", since=NOW - 3601.0), a_queued("a", priority=1, since=NOW)),
        (a_queued("z", priority=1, since=NOW), a_queued("a", since=NOW - 3599.0)),
        (paused("z", since=NOW - 10.0), a_queued("a")),
        (a_queued("z", since=NOW - 11.0), a_queued("a")),
        (a_queued("a"), a_queued("z")),
    ],
)
def test_the_line_is_in_order_of_priority_then_of_waiting(first, second):
    """
    Among equals who was paused comes before who never ran; at last the name decides.
    """
    assert [first.name, second.name] == [*standings(first, second)] == [*standings(second, first)]


def test_in_the_line_is_who_may_go_on_by_itself():
    """
    Neither who runs, nor who is over, nor whom a person paused.
    """
    by_person = a_job("person", JobState.PAUSED, by=Asker("person", "ada"))

    assert {} == standings()
    assert ["held", "new"] == [
        *standings(
            by_person, a_job("runs"), a_job("over", JobState.COMPLETED), paused("held"), a_queued("new")
        )
    ]


@pytest.mark.parametrize(("most", "may_go"), [(0, ["a", "b"]), (3, ["a", "b"]), (2, ["a"]), (1, [])])
def test_whoever_may_go_takes_a_place(most, may_go):
    """
    One that stands still because its pause is late counts as none; 0 is no limit.
    """
    frozen = a_job("frozen", JobState.PAUSING, by=Asker("person", "ada"), frozen_at=5.0)
    found = standings(
        a_job("runs"), frozen, a_queued("a"), a_queued("b"), queue=QueueConfig(max_running=most)
    )

    assert may_go == [name for name, standing in found.items() if standing.may_go]
    assert all({"running"} == standing.lacks for standing in found.values() if not standing.may_go)


@pytest.mark.parametrize(
    ("waited_s", "preempt", "passes"), [(3599.0, False, True), (3600.0, False, False), (0.0, True, False)]
)
def test_what_a_job_lacks_is_kept_for_it_after_a_while(waited_s, preempt, passes):
    """
    Or at once where the queue may pause jobs; what is asked besides is not.
    """
    big = a_queued("big", priority=5, memory_bytes=21 * BYTES, since=NOW - waited_s)
    jobs = (big, a_queued("small", memory_bytes=BYTES), a_queued("cpu", num_cpus=1.0))
    found = standings(*jobs, queue=QueueConfig(preempt=preempt))

    assert [False, passes, True] == [found[name].may_go for name in ("big", "small", "cpu")]
    assert {"memory"} == found["big"].lacks


def test_nothing_is_kept_for_a_job_that_a_rule_keeps_or_that_never_fits():
    """
    Else others would wait for nothing.
    """
    rule = a_rule(jobs=Selector(names=("held",)))
    held = a_queued("held", priority=5, memory_bytes=21 * BYTES, since=0.0)
    huge = a_queued("huge", priority=5, memory_bytes=99 * BYTES, since=0.0)
    found = standings(
        held, huge, a_queued("small", memory_bytes=BYTES), rules=(rule,), memory=remembered(on("mine"))
    )

    assert [("rule mine is on", frozenset()), True] == [
        (found["held"].why_not, found["held"].lacks), found["small"].may_go,
    ]  # fmt: skip
    assert frozenset() == found["huge"].lacks


@pytest.mark.parametrize(
    ("job", "held_by"),
    [
        (a_queued("a"), ["mine"]),
        (a_queued("a", protected=True), []),
        (a_queued("a", gpus=("G1",)), ["mine", "gpu@G1"]),
        # A GPU is found for it, and not that one.
        (a_queued("a", gpus=("G1",), num_gpus=1), ["mine"]),
    ],
)
def test_the_rules_that_are_on_hold_a_queued_job(job, held_by):
    """
    Those that would pause it at once.
    """
    rules = (a_rule(), a_rule(above("gpu_power_w", 9.0, 5.0), name="gpu"))
    scene = moment(job, rules=rules, memory=remembered(on("mine", "gpu@G1", "gpu@G2")))

    assert held_by == [instance.key for instance in holding(job, scene)]
