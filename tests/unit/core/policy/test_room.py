"""What is left of the machine for one more job, and whether it fits."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.policy.memory import Footprint
from supervisor.core.policy.room import Needs, asked, fit, least_wrong, needs_of
from supervisor.core.policy.rules import Condition, PolicyConfig, QueueConfig, Rule
from supervisor.core.readings.sample import Gpu, Missing
from tests.fakes.moment import a_job, moment, paused
from tests.fakes.steered_machine import GIB, GPU, MEMORY, Machine, gpu

BYTES = int(GIB)
TWO = {"gpus": (gpu("G1"), gpu("G2"))}


def test_gpus_are_given_by_uuid_and_never_twice():
    """
    The emptiest first; a third job waits, and says for what.
    """
    machine = Machine(GPU)
    for name in ("a", "b", "c"):
        machine.submit(name, num_gpus=1)
    machine.run(60, gpus=(gpu("G1", used_gib=1.0), gpu("G2")))

    assert ("G2",) == machine.jobs["a"].gpus
    assert ("G1",) == machine.jobs["b"].gpus
    assert "needs 1 GPU, 0 of 2 are free: G1 has b; G2 has a" in machine.why("c").waits_for[0]
    machine.end("a")
    machine.run(20)

    assert ("G2",) == machine.jobs["c"].gpus


def test_a_gpu_with_somebody_else_on_it_is_not_given():
    """
    Nor one that cannot be read, nor one on which a rule is still on, nor one with too little left.
    """
    silent = Gpu(uuid="G3", processes=Missing("no answer"), memory_total_bytes=16 * GIB)
    hidden = Gpu(uuid="G4", processes=(), memory_total_bytes=16 * GIB)
    full = gpu("G5", used_gib=10.0)
    machine = Machine(GPU).submit("a", num_gpus=1, gpu_memory_bytes=8 * BYTES)
    machine.run(15, gpus=(gpu("G1", foreign_gib=0.4), gpu("G2", foreign_gib=3.0), silent, hidden, full))
    (why,) = machine.why("a").waits_for

    assert "needs 1 GPU with 8.0 GiB, 0 of 5 are free" in why
    assert "G1 has somebody else" in why
    assert "G3 cannot be read: no answer" in why
    assert "G4 cannot be read" in why
    assert "G5 has 6.0 GiB free" in why
    machine.run(5, gpus=(gpu("G2"),))
    assert "G2 rule gpu is on" in machine.why("a").waits_for[0]


def test_unreadable_means_wait_for_what_is_asked():
    """
    With the reason why it cannot be read.
    """
    machine = Machine().submit("a", num_gpus=1).submit("b", memory_bytes=BYTES)
    machine.run(20, gpus=Missing("no driver"), memory_available_bytes=Missing("no file"))

    assert "GPUs cannot be read: no driver" in machine.why("a").next
    assert "memory cannot be read: no file" in machine.why("b").next


def test_memory_that_is_promised_is_not_promised_twice():
    """
    A job that has just started has not filled its memory yet.
    """
    machine = Machine(MEMORY, policy=PolicyConfig(settle_s=1.0))
    machine.submit("a", memory_bytes=12 * BYTES, rss_gib=0.5).submit("b", memory_bytes=12 * BYTES)
    machine.run(10)

    assert ["a"] == machine.running
    assert "promised to others" in machine.why("b").next
    machine.run(400)
    assert ["a", "b"] == machine.running


def test_cpus_are_counted_against_running_jobs():
    """
    What they asked for, not what they use.
    """
    machine = Machine(policy=PolicyConfig(settle_s=1.0)).submit("a", num_cpus=3.0).submit("b", num_cpus=2.0)
    machine.run(10)

    assert "needs 2 CPUs, 1 are not given away" in machine.why("b").next


def test_a_job_that_made_room_does_not_lose_its_gpu_to_a_newcomer():
    """
    Not for `ageing_s`; one of higher priority may have it.
    """
    machine = Machine(MEMORY, queue=QueueConfig(ageing_s=200.0), policy=PolicyConfig(settle_s=1.0))
    machine.submit("old", num_gpus=1, rss_gib=8.0).run(100, **TWO).run(8, memory_available_bytes=1.0 * GIB)
    assert JobState.PAUSED is machine.state("old")
    machine.run(70, memory_available_bytes=6.0 * GIB)
    (kept,) = machine.jobs["old"].gpus
    machine.submit("both", num_gpus=2).run(5)
    assert f"{kept} is kept for old, which a rule has paused" in machine.why("both").next
    machine.submit("first", num_gpus=2, priority=1).run(5)
    assert ["first"] == machine.running
    machine.end("first")
    machine.run(5)
    assert [] == machine.running
    machine.run(130)

    assert ["both"] == machine.running


def test_gpu_memory_has_to_be_free_for_a_return():
    """
    A job that offloaded comes back to its own GPU, as soon as there is room, and not before that can be read.
    """
    machine = Machine(GPU).submit("a", depths=tuple(Depth), gpus=("G1",)).run(100, gpus=(gpu("G1"),))
    machine.run(15, gpus=(gpu("G1", foreign_gib=14.0),))
    assert Depth.OFFLOAD is machine.jobs["a"].depth
    machine.uses["a"] = replace(machine.uses["a"], gpu_bytes={})
    machine.run(100, gpus=(gpu("G1", used_gib=14.0),))
    assert "needs 4.0 GiB of GPU G1, 2.0 GiB are free" in machine.why("a").next
    machine.run(5, gpus=(Gpu(uuid="G1", processes=(), memory_total_bytes=16 * GIB),))
    assert "memory of GPU G1 cannot be read" in machine.why("a").next
    machine.run(5, gpus=())
    assert "it is gone" in machine.why("a").next or "rule gpu" in machine.why("a").next
    machine.run(120, gpus=(gpu("G1"),))

    assert JobState.RUNNING is machine.state("a")


def test_gpus_that_answer_no_more_are_waited_for():
    """
    A job that was on one does not come back blindly.
    """
    full = Rule(
        name="full",
        when=(Condition(metric="gpu_memory_used_pct", above=90.0, clear_below=70.0),),
        pause_after_s=5.0,
        resume_after_s=1.0,
        depth="exit",
    )
    machine = Machine(full).submit("a", gpus=("G1",)).run(70, gpus=(gpu("G1"),))
    machine.run(8, gpus=(gpu("G1", used_gib=15.0),)).run(1, gpus=(gpu("G1"),)).run(1, gpus=(gpu("G1"),))
    machine.memory = replace(machine.memory, triggers={})
    machine.settings = replace(machine.settings, rules=())
    machine.run(20, gpus=Missing("it hangs"))
    assert "memory of GPU G1 cannot be read: it hangs" in machine.why("a").next


KNOWN = Footprint(cpu_pct=150.0, rss_bytes=5 * GIB, gpu_bytes={"G1": 3 * GIB})


@pytest.mark.parametrize(
    ("job", "needs"),
    [
        (a_job(state=JobState.QUEUED), Needs(gpu_bytes={})),
        # What an earlier life used says nothing of one that is queued anew.
        (
            a_job(state=JobState.QUEUED, num_cpus=2.0, memory_bytes=7, num_gpus=1, gpu_memory_bytes=9),
            Needs(0.0, 2.0, 7, {}, 1, 9),
        ),
        # A job that holds has its memory still, on the host and on the GPU.
        (paused(num_cpus=2.0), Needs(150.0, 2.0, gpu_bytes={})),
        (paused(depth=Depth.OFFLOAD), Needs(150.0, gpu_bytes={"G1": 3 * GIB})),
        (paused(depth=Depth.EXIT), Needs(150.0, 0.0, 5 * GIB, {"G1": 3 * GIB})),
        (paused(depth=Depth.EXIT, memory_bytes=9 * BYTES), Needs(150.0, 0.0, 9 * GIB, {"G1": 3 * GIB})),
        # It asked for any GPU, and needs as much of it as it used of the one that it had.
        (paused(depth=Depth.EXIT, num_gpus=1), Needs(150.0, 0.0, 5 * GIB, {}, 1, 3 * GIB)),
        (
            paused(depth=Depth.EXIT, num_gpus=1, gpu_memory_bytes=4 * BYTES),
            Needs(150.0, 0.0, 5 * GIB, {}, 1, 4 * GIB),
        ),
    ],
)
def test_a_job_needs_what_it_asked_for_or_what_it_used(job, needs):
    """
    Whichever is more; what it has not given back it has.
    """
    assert needs == needs_of(job, KNOWN)


@pytest.mark.parametrize(
    ("needs", "what"),
    [
        (Needs(cpu_pct=100.0), set()),
        (Needs(num_cpus=0.5, memory_bytes=1.0), {"cpus", "memory"}),
        (Needs(num_gpus=1), {"gpu"}),
        (Needs(gpu_bytes={"G": 0.0}), {"gpu"}),
    ],
)
def test_what_is_asked_for_is_named(needs, what):
    """
    CPU time that nobody named is not asked for.
    """
    assert what == asked(needs)


@pytest.mark.parametrize(
    ("needs", "why", "lacks"),
    [
        (Needs(), "", set()),
        (Needs(num_cpus=3.0), "", set()),
        (Needs(num_cpus=3.5), "needs 3.5 CPUs, 3 are not given away", {"cpus"}),
        (Needs(num_cpus=4.5), "needs 4.5 CPUs, there are 4", {"cpus"}),
        (Needs(memory_bytes=20 * GIB), "", set()),
        (Needs(memory_bytes=21 * GIB), "needs 21.0 GiB of memory, 20.0 GiB are available", {"memory"}),
        (Needs(memory_bytes=25 * GIB), "needs 25.0 GiB of memory, the machine has 24.0 GiB", {"memory"}),
        (Needs(gpu_bytes={"G1": 10 * GIB}), "", set()),
        (Needs(gpu_bytes={"G1": 11 * GIB}), "needs 11.0 GiB of GPU G1, 10.0 GiB are free", {"gpu"}),
        (Needs(gpu_bytes={"G9": 1.0}), "memory of GPU G9 cannot be read: it is gone", {"gpu"}),
        (
            Needs(num_gpus=2, gpu_memory_bytes=16 * GIB),
            "needs 2 GPUs with 16.0 GiB, this machine has 1",
            {"gpu"},
        ),
        # What it never gets comes before what it waits for.
        (Needs(num_cpus=3.5, memory_bytes=25 * GIB), "needs 25.0 GiB of memory, the machine has", {"memory"}),
    ],
)
def test_what_fits_exactly_fits(needs, why, lacks):
    """
    What does not says how much there is, and whether it ever will.
    """
    gpus = (gpu("G1", used_gib=6.0), gpu("G2", total_gib=8.0))
    runs = a_job("runs", num_cpus=1.0)
    answer = fit(a_job(state=JobState.QUEUED), needs, moment(runs, paused("holds", num_cpus=2.0), gpus=gpus))

    assert answer.why_not.startswith(why)
    assert (bool(why), lacks) == (bool(answer.why_not), answer.lacks)
    assert answer.is_hopeless is ("there are 4" in why or "machine has" in why)


def test_the_emptiest_gpus_are_given_and_rather_those_that_it_had():
    """
    One whose use cannot be read comes last; among equals the order of the driver counts.
    """
    blind = Gpu(uuid="G3", processes=(), memory_total_bytes=16 * GIB)
    gpus = (gpu("G1", used_gib=2.0), gpu("G2", used_gib=1.0), blind, gpu("G4", used_gib=1.0))
    job = a_job(state=JobState.QUEUED)
    had = paused(depth=Depth.EXIT, gpus=("G1",))

    assert ("G2", "G4", "G1", "G3") == fit(job, Needs(num_gpus=4), moment(gpus=gpus)).gpus
    assert ("G1", "G2") == fit(had, Needs(num_gpus=2), moment(had, gpus=gpus)).gpus


@pytest.mark.parametrize(
    ("needs", "gpus"),
    [
        (Needs(num_gpus=1), ("G2",)),
        (Needs(num_gpus=2), ("G2", "G1")),
        (Needs(num_gpus=1, gpu_memory_bytes=12 * GIB), ("G1",)),
        (Needs(num_gpus=3), ()),
    ],
)
def test_a_job_that_has_to_start_gets_those_that_disturb_least(needs, gpus):
    """
    Rather a GPU with a stranger on it than one with a job of ours; none where there are not enough.
    """
    scene = moment(a_job("ours", gpus=("G1",)), gpus=(gpu("G1"), gpu("G2", foreign_gib=3.0, total_gib=8.0)))

    assert gpus == least_wrong(a_job(), needs, scene)
    assert () == least_wrong(a_job(), needs, moment(gpus=Missing("no driver")))


def test_neither_the_job_itself_nor_one_without_a_process_is_in_its_own_way():
    """
    Where it has to start although no GPU is free.
    """
    own, gone = a_job(gpus=("G1",)), paused("gone", depth=Depth.EXIT, gpus=("G1",))
    scene = moment(own, gone, gpus=(gpu("G1"), gpu("G2", used_gib=1.0)))

    assert ("G1",) == least_wrong(own, Needs(num_gpus=1), scene)
