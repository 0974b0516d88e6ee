"""Who starts and who comes back when there is not room for all: the line, the room, preemption."""

from __future__ import annotations

from msgspec.structs import replace

from supervisor.core.jobs.events import ProcessEnded
from supervisor.core.jobs.job import Asker, Exit
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.policy.rules import Condition, PolicyConfig, QueueConfig, Rule, Selector
from supervisor.core.readings.sample import Gpu, GpuProcess, Missing
from tests.fakes.steered_machine import CPU, GIB, GPU, MEMORY, Machine, gpu

BYTES = int(GIB)
TWO = {"gpus": (gpu("G1"), gpu("G2"))}


def running(machine):
    return sorted(name for name in machine.jobs if machine.state(name) is JobState.RUNNING)


def end(machine, name):
    machine.happen(name, ProcessEnded(incarnation=machine.jobs[name].incarnation, exit=Exit(code=0)))


def test_jobs_that_ask_for_nothing_start_at_once():
    """
    All of them, and also where nothing can be read.
    """
    machine = Machine().submit("a").submit("b").submit("c")
    machine.run(1, gpus=Missing("x"), memory_available_bytes=Missing("x"), cpu_foreign_pct=Missing("x"))

    assert ["a", "b", "c"] == running(machine)


def test_a_rule_that_is_on_keeps_jobs_queued_and_why_says_so():
    """
    What it would pause at once is not started first; a protected job starts.
    """
    machine = Machine(CPU).run(40, cpu_foreign_pct=90.0).submit("a").submit("kept", protected=True).run(5)

    assert ["kept"] == running(machine)
    assert ("rule cpu is on",) == machine.why("a").waits_for
    assert ["cpu"] == [state.rule for state in machine.why("a").rules]
    assert "cpu_foreign_pct < 20 for 180 s" == machine.why("a").next
    assert (1, 1) == (machine.why("a").position, machine.why("a").line_length)


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
    end(machine, "a")
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


def test_what_the_machine_never_can_blocks_nobody():
    """
    It says so, and others pass.
    """
    machine = Machine(queue=QueueConfig(ageing_s=0.0), policy=PolicyConfig(settle_s=0.0))
    machine.submit("gpus", num_gpus=4, priority=9).submit("cpus", num_cpus=64.0, priority=9)
    machine.submit("memory", memory_bytes=100 * BYTES, priority=9)
    machine.submit("a", num_gpus=2).submit("b", num_cpus=4.0).submit("c", memory_bytes=BYTES).run(10, **TWO)

    assert ["a", "b", "c"] == running(machine)
    assert "needs 4 GPUs, this machine has 2" in machine.why("gpus").next
    assert "needs 64 CPUs, there are 4" in machine.why("cpus").next
    assert "needs 100.0 GiB of memory, the machine has 24.0 GiB" in machine.why("memory").next


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

    assert ["a"] == running(machine)
    assert "promised to others" in machine.why("b").next
    machine.run(400)
    assert ["a", "b"] == running(machine)


def test_a_start_that_would_cross_a_threshold_waits():
    """
    Else the rule would pause somebody for it at once.
    """
    machine = Machine(MEMORY).submit("a", memory_bytes=18 * BYTES).run(20)

    assert "with it memory_available_pct would be 8.3 < 11.0" in machine.why("a").next


def test_cpus_are_counted_against_running_jobs():
    """
    What they asked for, not what they use.
    """
    machine = Machine(policy=PolicyConfig(settle_s=1.0)).submit("a", num_cpus=3.0).submit("b", num_cpus=2.0)
    machine.run(10)

    assert "needs 2 CPUs, 1 are not given away" in machine.why("b").next


def test_no_more_run_than_may():
    """
    Whoever is before in the line takes a place, though it does not run yet.
    """
    machine = Machine(queue=QueueConfig(max_running=2)).submit("a").submit("b").submit("c").run(3)
    assert ["a", "b"] == running(machine)
    assert "2 jobs run or are about to, of 2 that may" in machine.why("c").next
    end(machine, "a")
    machine.run(2)

    assert ["b", "c"] == running(machine)


def test_a_big_job_does_not_starve_behind_small_ones():
    """
    Others pass it for a while; then what it lacks is kept for it.
    """
    machine = Machine(GPU, queue=QueueConfig(ageing_s=100.0), policy=PolicyConfig(settle_s=1.0))
    machine.submit("first", num_gpus=1).run(5, **TWO).submit("big", num_gpus=2).run(2)
    machine.submit("passes", num_gpus=1).run(3)
    assert ["first", "passes"] == running(machine)
    machine.run(150).submit("waits", num_gpus=1, priority=1).submit("other", num_cpus=1.0)
    end(machine, "passes")
    machine.run(20)

    assert "gpu is kept for a job before it in the line" in machine.why("waits").next
    assert ["first", "other"] == running(machine)
    end(machine, "first")
    machine.run(5)
    assert "big" in running(machine)


def test_waiting_counts_as_priority():
    """
    One point for each `ageing_s`.
    """
    machine = Machine(GPU, queue=QueueConfig(ageing_s=10.0)).submit("runs", num_gpus=2).run(2, **TWO)
    machine.submit("old", num_gpus=2).run(25).submit("new", num_gpus=2, priority=1).run(1)

    assert (1, 2) == (machine.why("old").position, machine.why("new").position)


def test_a_job_of_higher_priority_may_pause_a_lower_one():
    """
    Where the owner allows it; the lower one comes back when the other has ended.
    """
    machine = Machine(GPU, queue=QueueConfig(preempt=True))
    machine.submit("low", num_gpus=1).submit("kept", num_gpus=1, protected=True).run(100, **TWO)
    machine.submit("high", num_gpus=1, priority=3).run(40)

    assert ("pause", "low", "queue", Depth.EXIT) == machine.told[0]
    assert ["high", "kept"] == running(machine)
    verdict = next(v for _, v in machine.verdicts if v.kind == "pause")
    assert "makes room for high" in verdict.reason
    assert {"low": True, "kept": False} == {one.job: one.is_eligible for one in verdict.candidates}
    machine.run(100)
    assert "needs 1 GPU" in machine.why("low").next
    end(machine, "high")
    machine.run(20)
    assert ["kept", "low"] == running(machine)


def test_nobody_is_paused_in_vain_for_the_queue():
    """
    Not where that is not enough, not of the same priority, and not where a job cannot give it back.
    """
    machine = Machine(GPU, MEMORY, queue=QueueConfig(preempt=True))
    machine.submit("low", num_gpus=1).submit("same", num_gpus=1, priority=3).run(100, **TWO)
    machine.submit("high", num_gpus=2, priority=3).run(40)
    assert [] == machine.told
    holds = Machine(MEMORY, queue=QueueConfig(preempt=True))
    holds.submit("low", depths=(Depth.HOLD,)).run(100, memory_available_bytes=4.0 * GIB)
    holds.submit("high", priority=1, memory_bytes=6 * BYTES).run(40)

    assert [] == holds.told


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
    assert ["first"] == running(machine)
    end(machine, "first")
    machine.run(5)
    assert [] == running(machine)
    machine.run(130)

    assert ["both"] == running(machine)


def test_one_is_enough_where_one_is_enough():
    """
    Of several of lower priority only those are paused without whom it would not fit; to run in its place
    a hold is enough.
    """
    machine = Machine(MEMORY, queue=QueueConfig(preempt=True, max_running=2))
    machine.submit("a", rss_gib=1.0).submit("b", rss_gib=8.0).run(100, memory_available_bytes=6.0 * GIB)
    machine.submit("high", priority=1).run(40)
    assert 1 == len(machine.told)
    assert Depth.HOLD is machine.told[0][3]
    more = Machine(MEMORY, queue=QueueConfig(preempt=True))
    more.submit("a", rss_gib=1.0).submit("b", rss_gib=8.0, priority=1).run(
        100, memory_available_bytes=6.0 * GIB
    )
    more.submit("high", priority=2, memory_bytes=8 * BYTES).run(20)

    assert ["b"] == [job for _, job, *_ in more.told]


def test_a_return_needs_the_footprint_that_it_had():
    """
    Remembered from when it ran: memory that is not there for it is said to be short.
    """
    machine = Machine(MEMORY).submit("a", rss_gib=10.0).run(100).run(8, memory_available_bytes=2.0 * GIB)
    assert [("pause", "a", "memory", Depth.EXIT)] == machine.told
    machine.run(200, memory_available_bytes=8.0 * GIB)
    assert "needs 10.0 GiB of memory, 8.0 GiB are available" in machine.why("a").next
    machine.run(30, memory_available_bytes=12.0 * GIB)
    assert "would be 8.3 < 11.0, the threshold of rule memory" in machine.why("a").next
    machine.run(30, memory_available_bytes=13.0 * GIB)

    assert JobState.RUNNING is machine.state("a")


def test_after_a_long_wait_room_is_enough():
    """
    What it used before is no proof for ever that it crosses a threshold.
    """
    machine = Machine(MEMORY, queue=QueueConfig(ageing_s=300.0)).submit("a", rss_gib=10.0).run(100)
    machine.run(8, memory_available_bytes=2.0 * GIB).run(250, memory_available_bytes=12.0 * GIB)
    assert JobState.PAUSED is machine.state("a")
    machine.run(60)

    assert JobState.RUNNING is machine.state("a")


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


def test_total_load_is_foretold_with_the_job_in_it():
    """
    A rule about all CPU use would otherwise pause the job that it has just let back.
    """
    total = Rule(
        name="total",
        when=(Condition(metric="cpu_pct", above=80.0, clear_below=60.0),),
        pause_after_s=5.0,
        resume_after_s=10.0,
    )
    machine = Machine(total).submit("a", cpu_pct=200.0).run(100, cpu_pct=90.0)
    assert [("pause", "a", "total", Depth.HOLD)] == machine.told
    machine.run(60, cpu_pct=40.0)
    assert "with it cpu_pct would be 90.0 > 72.0" in machine.why("a").next
    machine.run(20, cpu_pct=15.0)

    assert JobState.RUNNING is machine.state("a")


def test_gpu_memory_in_all_is_foretold_too():
    """
    For a rule about how full a GPU is.
    """
    full = Rule(
        name="full",
        when=(Condition(metric="gpu_memory_used_pct", above=90.0, clear_below=70.0),),
        pause_after_s=5.0,
        resume_after_s=10.0,
    )
    machine = Machine(full).submit("a", depths=tuple(Depth), gpus=("G1",)).run(70, gpus=(gpu("G1"),))
    machine.run(40, gpus=(gpu("G1", used_gib=15.0),))
    assert Depth.OFFLOAD is machine.jobs["a"].depth
    machine.run(60, gpus=(gpu("G1", used_gib=11.0),))
    assert "would be 93.8 > 81.0" in machine.why("a").next
    machine.run(60, gpus=(gpu("G1", used_gib=2.0), Gpu(uuid="G9", processes=(GpuProcess(3),))))

    assert JobState.RUNNING is machine.state("a")


def test_a_rule_that_is_short_again_keeps_a_job_that_another_rule_paused():
    """
    It would only be paused once more.
    """
    machine = Machine().submit("a").run(100).run(8, memory_available_bytes=1.0 * GIB)
    machine.run(50, memory_available_bytes=20.0 * GIB).run(20, cpu_foreign_pct=90.0)
    assert ("rule cpu is short again",) == machine.why("a").waits_for
    machine.run(30)
    assert ("rule cpu is on",) == machine.why("a").waits_for


def test_each_flap_doubles_the_wait_and_calm_makes_up_for_it():
    """
    It is shown with the job.
    """
    machine = Machine(CPU, policy=PolicyConfig(flap_window_s=300.0)).submit("a").run(100)
    waits = []
    for _ in range(2):
        machine.run(45, cpu_foreign_pct=90.0)
        began = machine.now
        while machine.state("a") is not JobState.RUNNING:
            machine.run(1, cpu_foreign_pct=5.0)
        waits.append(machine.now - began)
        machine.run(61)

    assert 181.0 <= waits[0] <= 200.0
    # Twice as long, but a flap is forgiven after a calm flap window.
    assert 270.0 <= waits[1] <= 370.0
    machine.run(40, cpu_foreign_pct=90.0).run(185, cpu_foreign_pct=5.0)
    answer = machine.why("a")
    assert answer.num_flaps >= 1
    assert answer.wait_factor >= 2.0
    assert "it was paused again soon after a return" in answer.next


def test_a_starting_job_is_on_its_way_and_not_asked():
    """
    Its shim is still to come.
    """
    machine = Machine(CPU).submit("other", protected=True).run(1).submit("a")
    machine.attach = lambda _: None
    machine.run(40, cpu_foreign_pct=90.0)

    told = {one.job: one.why for one in machine.why("other").candidates}

    assert {"a": "it is starting", "other": "it is protected"} == told


def test_a_rule_that_a_person_overruled_does_not_keep_a_job_that_another_paused():
    """
    It has had its say for this job.
    """
    machine = Machine(MEMORY, CPU).submit("a").run(100).run(40, cpu_foreign_pct=90.0)
    machine.resume("a", Asker("person", "ada"))
    machine.run(70).run(8, memory_available_bytes=1.0 * GIB)
    assert ("pause", "a", "memory", Depth.EXIT) == machine.told[-1]
    machine.run(90, memory_available_bytes=20.0 * GIB)

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


def test_a_held_job_answers_for_what_it_has_when_total_cpu_is_short():
    """
    A rule about all CPU use says how much is missing.
    """
    total = Rule(
        name="total",
        when=(Condition(metric="cpu_pct", above=80.0, clear_below=60.0),),
        pause_after_s=5.0,
        resume_after_s=10.0,
    )
    machine = Machine(total).submit("idle", cpu_pct=0.1).submit("busy", cpu_pct=200.0)
    machine.run(70, cpu_pct=90.0)
    told = {one.job: one.why for one in machine.verdicts[-1][1].candidates}

    assert [("pause", "busy", "total", Depth.HOLD)] == machine.told
    assert "too little to help" in told["idle"]


def test_a_person_may_start_a_queued_job_whatever_keeps_it():
    """
    A rule that is on then leaves it alone until it has been off once, as with any job that a person resumed.
    """
    machine = Machine(CPU).run(40, cpu_foreign_pct=90.0).submit("night").run(5)
    assert JobState.QUEUED is machine.state("night")
    machine.resume("night", Asker("person", "ada"))
    machine.run(200)

    assert JobState.RUNNING is machine.state("night")
    assert [] == machine.told
    machine.run(300, cpu_foreign_pct=5.0).run(40, cpu_foreign_pct=90.0)
    assert [("pause", "night", "cpu", Depth.HOLD)] == machine.told


def test_what_the_queue_starts_has_overruled_nothing():
    """
    Only a person's word does; a job that began while no rule was on yields like any other.
    """
    machine = Machine(CPU).run(25, cpu_foreign_pct=90.0).submit("night").run(100)

    assert [("pause", "night", "cpu", Depth.HOLD)] == machine.told

    about_others = Machine(replace(CPU, jobs=Selector(names=("x*",)))).run(40, cpu_foreign_pct=90.0)
    about_others.submit("night").run(5)
    assert ["night"] == running(about_others)
    assert () == about_others.memory.jobs["night"].overruled


def test_a_job_that_asked_for_a_gpu_moves_to_another_one_when_its_own_is_taken():
    """
    Not at once, and each flap doubles the wait; one that chose its GPU itself waits for that one.
    """
    taken = (gpu("G1", foreign_gib=3.0), gpu("G2"))
    free = (gpu("G1"), gpu("G2"))
    machine = Machine(replace(GPU, depth="exit")).submit("any", num_gpus=1, depths=tuple(Depth))
    machine.run(100, gpus=free)
    assert ("G1",) == machine.jobs["any"].gpus
    machine.run(15, gpus=taken)
    assert JobState.PAUSED is machine.state("any")
    assert "rule gpu is on; it may go to another GPU in " in machine.why("any").waits_for[0]
    machine.run(60)

    assert (JobState.RUNNING, ("G2",)) == (machine.state("any"), machine.jobs["any"].gpus)

    own = Machine(replace(GPU, depth="exit")).submit("own", gpus=("G1",), depths=tuple(Depth))
    own.run(100, gpus=free).run(600, gpus=taken)
    assert JobState.PAUSED is own.state("own")


def test_a_gpu_that_is_gone_for_good_keeps_nobody_for_ever():
    """
    The rule at its place stays on without a reading; a job that asked for any GPU goes to one that answers.
    """
    machine = Machine(replace(GPU, depth="exit")).submit("any", num_gpus=1, depths=tuple(Depth))
    machine.run(100, gpus=(gpu("G1"), gpu("G2"))).run(15, gpus=(gpu("G1", foreign_gib=3.0), gpu("G2")))
    assert JobState.PAUSED is machine.state("any")
    machine.run(120, gpus=(gpu("G2"),))

    assert (JobState.RUNNING, ("G2",)) == (machine.state("any"), machine.jobs["any"].gpus)
