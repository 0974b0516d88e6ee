"""When a job that a rule paused comes back, and what stands in its way."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from supervisor.core.jobs.job import Asker
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.policy.hysteresis import Trigger
from supervisor.core.policy.memory import Footprint
from supervisor.core.policy.returning import crossing, keepers, may_come_back, obstacle, resume_after_s
from supervisor.core.policy.rules import Condition, PolicyConfig, Rule
from supervisor.core.readings.sample import Gpu, GpuProcess, Missing
from tests.fakes.moment import NOW, a_job, a_rule, above, below, moment, on, paused, remembered
from tests.fakes.steered_machine import CPU, GIB, GPU, MEMORY, Machine, gpu

BYTES = int(GIB)


def test_a_start_that_would_cross_a_threshold_waits():
    """
    Else the rule would pause somebody for it at once.
    """
    machine = Machine(MEMORY).submit("a", memory_bytes=18 * BYTES).run(20)

    assert "with it memory_available_pct would be 8.3 < 11.0" in machine.why("a").next


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


PAUSED = {"last_state": JobState.PAUSED}
AGAIN = "it was paused again soon after a return, so it waits 50 s longer"


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (paused(), True),
        (paused(rule="queue"), True),
        (a_job(state=JobState.PAUSING, by=Asker("rule", "cpu")), False),
        # It stands still on the way there; nobody else would wake it.
        (a_job(state=JobState.PAUSING, by=Asker("rule", "cpu"), frozen_at=5.0), True),
        (a_job(state=JobState.PAUSED, by=Asker("person", "ada")), False),
        (a_job(), False),
    ],
)
def test_only_what_a_rule_paused_comes_back_by_itself(job, expected):
    """
    A person's pause is a person's.
    """
    assert expected is may_come_back(job)


def test_without_memory_every_place_of_its_rule_keeps_a_job():
    """
    With it only the places that paused it do.
    """
    gpus, rule = (gpu("G1"), gpu("G2")), replace(GPU, name="cpu")
    known = remembered(a={"paused_by": ("cpu@G2", "memory"), **PAUSED})

    assert ["cpu@G1", "cpu@G2"] == keepers(paused(), moment(paused(), rules=(rule,), gpus=gpus))
    assert ["cpu@G2", "memory"] == keepers(paused(), moment(paused(), rules=(rule,), gpus=gpus, memory=known))
    assert [] == keepers(a_job(), moment(a_job(), rules=(rule,), gpus=gpus))


@pytest.mark.parametrize(
    ("after_s", "num_flaps", "waits_s"),
    [
        (60.0, 0, 60.0),
        (60.0, 1, 120.0),
        (60.0, 3, 480.0),
        (60.0, 9, 960.0),
        (60.0, 500, 960.0),
        (0.0, 0, 0.0),
        (0.0, 1, 30.0),
    ],
)
def test_each_flap_doubles_the_wait_up_to_sixteen_times(after_s, num_flaps, waits_s):
    """
    Of a rule without a wait the settle time is doubled.
    """
    memory = remembered(a={"num_flaps": num_flaps, "flapped_at": NOW})
    scene = moment(paused(), rules=(a_rule(resume_after_s=after_s),), memory=memory)

    assert waits_s == resume_after_s(scene.instances["mine"], paused(), scene)


@pytest.mark.parametrize(
    ("trigger", "known", "says"),
    [
        (Trigger(), {}, ""),
        (Trigger(is_on=True, turned_at=1.0), {}, "rule mine is on"),
        (Trigger(is_on=True, turned_at=1.0), {"overruled": ("mine",)}, ""),
        (Trigger(turned_at=NOW - 10.0), {}, ""),
        (
            Trigger(turned_at=NOW - 10.0),
            {"num_flaps": 1},
            "it was paused again soon after a return, so it waits 50",
        ),
        (Trigger(turned_at=NOW - 60.0), {"num_flaps": 1}, ""),
        (Trigger(turned_at=None), {"num_flaps": 1}, ""),
    ],
)
def test_what_keeps_a_job_is_said_or_nothing_does(trigger, known, says):
    """
    A wait that is over to the second is over.
    """
    job = paused(rule="mine")
    memory = remembered({"mine": trigger}, a={"paused_by": ("mine",), "flapped_at": NOW, **PAUSED, **known})

    assert obstacle(job, moment(job, rules=(a_rule(),), memory=memory)).startswith(says)
    assert bool(says) is bool(obstacle(job, moment(job, rules=(a_rule(),), memory=memory)))


def test_a_protected_job_waits_for_the_rule_that_paused_it_only():
    """
    It was protected afterwards; no other rule would pause it again.
    """
    rules = (a_rule(), a_rule(name="other"))
    triggers = {"mine": Trigger(turned_at=1.0), **on("other")}
    memory = remembered(triggers, a={"paused_by": ("mine",), **PAUSED})
    told = [
        obstacle(job, moment(job, rules=rules, memory=memory))
        for job in (paused(rule="mine"), paused(rule="mine", protected=True))
    ]

    assert ["rule other is on", ""] == told


@pytest.mark.parametrize(
    ("available_gib", "crosses"), [(13.0, False), (12.9, True), (5.0, True), (Missing("no file"), False)]
)
def test_a_return_that_would_come_within_the_margin_waits(available_gib, crosses):
    """
    Half as much again as the threshold is kept free, and exactly that is enough. Nothing is foretold
    without a reading.
    """
    rule = a_rule(below("memory_available_gib", 2.0, 4.0))
    job = a_job(state=JobState.QUEUED, memory_bytes=10 * BYTES)
    available = available_gib if isinstance(available_gib, Missing) else available_gib * GIB
    given = {"rules": (rule,), "policy": PolicyConfig(margin_pct=50.0), "memory_available_bytes": available}
    answer = crossing(job, moment(job, **given))

    assert crosses is ("with it memory_available_gib would be" in answer.why_not)
    assert (frozenset({"memory"}) if crosses else frozenset()) == answer.lacks
    protected = replace(job, spec=replace(job.spec, protected=True))
    assert (
        "" == crossing(protected, moment(protected, rules=(rule,), memory_available_bytes=available)).why_not
    )


@pytest.mark.parametrize(("load", "crosses"), [(9.0, True), (7.0, False)])
def test_of_several_conditions_all_have_to_be_crossed(load, crosses):
    """
    What cannot be foretold counts as it is now.
    """
    rule = a_rule(below("memory_available_gib", 2.0, 4.0), above("load_per_cpu", 2.0, 1.0))
    job = a_job(state=JobState.QUEUED, memory_bytes=int(19 * GIB))

    assert crosses is bool(crossing(job, moment(job, rules=(rule,), load_1min=load)).why_not)


@pytest.mark.parametrize(
    ("card", "crosses"),
    [
        (gpu("G1", used_gib=10.0), True),
        (gpu("G1", used_gib=9.0), False),
        # Without a reading nothing is foretold, and what is so now counts.
        (Gpu(uuid="G1", memory_total_bytes=16 * GIB), False),
        (Gpu(uuid="G1", memory_used_bytes=10 * GIB), False),
        (gpu("G2", used_gib=10.0), False),
        (gpu("G1", used_gib=15.0, total_gib=16.0), True),
    ],
)
def test_how_full_its_gpu_would_be_is_foretold(card, crosses):
    """
    With the 3 GiB that it gave back when it was paused.
    """
    rule = a_rule(above("gpu_memory_used_pct", 90.0, 70.0))
    job = paused(depth=Depth.OFFLOAD)
    memory = remembered(a={"footprint": Footprint(gpu_bytes={"G1": 3 * GIB}), **PAUSED})

    assert crosses is bool(crossing(job, moment(job, rules=(rule,), memory=memory, gpus=(card,))).why_not)
