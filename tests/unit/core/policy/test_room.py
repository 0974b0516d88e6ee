"""What is left of the machine for one more job, and whether it fits."""

from __future__ import annotations

from msgspec.structs import replace

from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.policy.rules import Condition, PolicyConfig, QueueConfig, Rule
from supervisor.core.readings.sample import Gpu, Missing
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
