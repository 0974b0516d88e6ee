"""Every rule at every place where it holds: what is short, what is on, what eases."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.policy.hysteresis import Side, Trend, Trigger
from supervisor.core.policy.memory import Memory
from supervisor.core.policy.rulebook import key_of, next_turn, place_kind, rule_of
from supervisor.core.policy.rules import Condition, PolicyConfig, Rule, Settings
from supervisor.core.readings.sample import Gpu, JobUse, Missing
from tests.fakes.moment import NOW, a_job, a_rule, above, moment, on, paused, remembered
from tests.fakes.steered_machine import CPU, GIB, Machine

BUSY = {"cpu_foreign_pct": 80.0}


def test_a_shortage_that_eases_by_itself_is_given_a_moment():
    """
    But not for ever: after the longer of the two times it is acted on.
    """
    policy = PolicyConfig(easing_short_s=3.0, easing_long_s=30.0)
    machine = Machine(replace(CPU, pause_after_s=5.0), policy=policy).submit("a").run(100)
    for pct in range(99, 79, -1):
        machine.run(1, cpu_foreign_pct=float(pct))
    assert [] == machine.told
    for _ in range(25):
        machine.run(1, cpu_foreign_pct=55.0)

    assert [("pause", "a", "cpu", Depth.HOLD)] == machine.told


def test_a_shortage_that_grows_is_not_taken_for_one_that_eases():
    """
    `easing_long_s = 0` switches that off; a verdict came a tick late with it (seen 2026-11-22).
    """
    policy = PolicyConfig(easing_long_s=0.0)
    machine = Machine(replace(CPU, pause_after_s=5.0), policy=policy).submit("a").run(100)
    for pct in range(51, 57):
        machine.run(1, cpu_foreign_pct=float(pct))

    assert [("pause", "a", "cpu", Depth.HOLD)] == machine.told


def test_load_that_began_before_a_look_counts_from_where_it_must_have_begun():
    """
    Half of the second that a reading of 75 % is of; then the gaps between the looks.
    """
    rule = replace(CPU, pause_after_s=2.5)
    machine = Machine(rule).submit("a").run(100, cpu_over_s=1.0)
    machine.run(1, cpu_foreign_pct=75.0).run(1, cpu_foreign_pct=100.0)
    assert [] == machine.told
    machine.run(1)

    assert [("pause", "a", "cpu", Depth.HOLD)] == machine.told


def test_the_alarm_speaks_for_pressure_that_its_mean_does_not_show_yet():
    """
    The kernel's alarm is fresher than the average of ten seconds.
    """
    rule = Rule(
        name="pressure",
        when=(
            Condition(metric="psi_memory_full_pct", above=10.0, clear_below=1.0),
            Condition(metric="memory_available_pct", below=20.0, clear_above=25.0),
        ),
        pause_after_s=30.0,
        resume_after_s=30.0,
    )
    machine = Machine(rule).submit("a").run(100).run(1, is_urgent=True, memory_available_bytes=2 * GIB)

    assert [("pause", "a", "pressure", Depth.EXIT)] == machine.told
    # 2026-11-22: it was said to be beyond a threshold that it had not reached, for 30 s.
    alarm, memory = machine.why("a").verdict.evidence
    assert ("psi_memory_full_pct (the kernel's memory alarm)", "", 0.0) == (
        alarm.what,
        alarm.threshold,
        alarm.for_s,
    )
    assert ("< 20", 0.0) == (memory.threshold, memory.for_s)


def test_a_job_that_leaks_ends_and_comes_back_from_its_checkpoint():
    """
    A process that is gone uses no memory, so its own rule is over.
    """
    leak = Rule(
        name="leak",
        when=(Condition(metric="job_memory_gib", above=8.0, clear_below=6.0),),
        pause_after_s=5.0,
        resume_after_s=10.0,
    )
    machine = Machine(leak).submit("a", rss_gib=9.0).submit("b").run(100)
    assert [("pause", "a", "leak", Depth.EXIT)] == [one for one in machine.told if one[0] == "pause"][:1]
    assert any(kind == "resume" for kind, *_ in machine.told)


POWER = a_rule(above("gpu_power_w", 200.0, 100.0), name="power")
LEAK = a_rule(above("job_memory_gib", 8.0, 6.0), name="leak")


@pytest.mark.parametrize("place", ["", "GPU-1", "a@b"])
def test_an_instance_is_known_by_its_rule_and_its_place(place):
    """
    The rule is found again in its key, whatever the place is called.
    """
    assert "power" == rule_of(key_of("power", place))
    assert ("power" if not place else f"power@{place}") == key_of("power", place)


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        (a_rule(), "host"),
        (a_rule(Condition(clock="mon"), Condition(program="steam")), "host"),
        (POWER, "gpu"),
        (a_rule(above("cpu_pct", 9.0, 5.0), *POWER.when), "gpu"),
        (LEAK, "job"),
    ],
)
def test_a_rule_holds_where_its_metrics_are(rule, kind):
    """
    One that also looks at the host holds for each GPU.
    """
    assert kind == place_kind(rule)


def test_a_rule_holds_at_each_of_its_places():
    """
    For every GPU that answers, and every job that is not over; one that is switched off nowhere.
    """
    rules = (POWER, LEAK, a_rule(), a_rule(name="off", enabled=False))
    jobs = (a_job("a"), a_job("queued", JobState.QUEUED), a_job("over", JobState.COMPLETED))
    scene = moment(*jobs, rules=rules, gpus=(Gpu(uuid="G2"), Gpu(uuid="G1")))

    assert ["power@G2", "power@G1", "leak@a", "leak@queued", "mine"] == [*scene.instances]
    assert {} == moment(*jobs, rules=rules, policy=PolicyConfig(enabled=False)).instances
    assert {} == moment().instances


@pytest.mark.parametrize(
    ("trigger", "is_kept"),
    [
        (Trigger(is_on=True, side=Side.CLEAR, missing_since=0.0), True),
        (Trigger(side=Side.CLEAR), True),
        (Trigger(side=Side.CLEAR, missing_since=NOW - 86399.0), True),
        (Trigger(side=Side.CLEAR, missing_since=NOW - 86400.0), False),
        # It has never been read there.
        (Trigger(), False),
    ],
)
def test_a_gpu_that_is_gone_is_remembered_for_a_day(trigger, is_kept):
    """
    Or for as long as its rule is on: somebody may be paused by it.
    """
    memory = remembered({"power@G9": trigger})

    for gpus in ((), Missing("no driver")):
        assert is_kept is ("power@G9" in moment(rules=(POWER,), memory=memory, gpus=gpus).instances)


@pytest.mark.parametrize(
    ("reading", "is_on", "held_s"),
    [(95.0, True, 0.0), (70.0, False, 0.0), (5.0, False, 0.0), (Missing("x"), True, 9.0)],
)
def test_other_thresholds_begin_anew(reading, is_on, held_s):
    """
    A rule that is on stays so only where it is short by the new ones too; without a reading nobody knows yet.
    """
    rule = a_rule(above("cpu_foreign_pct", 90.0, 60.0))
    memory = Memory(
        at=NOW,
        triggers={"mine": Trigger(is_on=True, turned_at=5.0, held_s=9.0)},
        conditions={"mine": "0badcafe"},
    )
    instance = moment(rules=(rule,), memory=memory, cpu_foreign_pct=reading).instances["mine"]

    assert (is_on, held_s) == (instance.is_on, instance.trigger.held_s)
    assert isinstance(reading, Missing) is (instance.conditions == "0badcafe")


def test_a_rule_that_nobody_remembers_is_on_where_it_paused_somebody():
    """
    Only at the place that did, where that is known.
    """
    lost = moment(paused(rule="mine"), rules=(a_rule(),), memory=Memory(at=NOW))
    known = remembered(a={"paused_by": ("power@G1",), "last_state": JobState.PAUSED})
    gpus = (Gpu(uuid="G1"), Gpu(uuid="G2"))
    at_one = moment(paused(rule="power"), rules=(POWER,), memory=known, gpus=gpus)

    assert [True] == [instance.is_on for instance in lost.instances.values()]
    assert [True, False] == [instance.is_on for instance in at_one.instances.values()]
    assert not moment(a_job(), rules=(a_rule(),)).instances["mine"].is_on


def test_a_job_without_a_process_leaks_no_memory():
    """
    There is nothing to read, and that is known: the rule that ended it is over.
    """
    gone = moment(paused(depth=Depth.EXIT), rules=(LEAK,), jobs={"a": JobUse()})
    there = moment(a_job(), rules=(LEAK,), jobs={"a": JobUse()})

    assert (Side.CLEAR, Side.UNKNOWN) == (gone.instances["leak@a"].side, there.instances["leak@a"].side)


@pytest.mark.parametrize(
    ("reading", "is_on", "is_short"), [(80.0, True, True), (50.0, True, False), (5.0, True, False)]
)
def test_a_rule_that_is_on_acts_only_while_it_is_short(reading, is_on, is_short):
    """
    Exactly at the threshold it does not.
    """
    scene = moment(rules=(a_rule(),), memory=remembered(on("mine")), cpu_foreign_pct=reading)

    assert (is_on, is_short) == (scene.instances["mine"].is_on, scene.instances["mine"].is_short)


@pytest.mark.parametrize(
    ("ago_s", "urgent", "policy", "is_easing"),
    [
        (30.0, False, PolicyConfig(), True),
        (31.0, False, PolicyConfig(), False),
        (5.0, True, PolicyConfig(), False),
        (5.0, False, PolicyConfig(easing_short_s=30.0), False),
    ],
)
def test_what_eases_is_given_the_longer_of_two_times(ago_s, urgent, policy, is_easing):
    """
    An emergency is not; and the short time has to be the shorter one.
    """
    memory = Memory(at=NOW, triggers=on("mine", ago_s=ago_s), trends={"mine": Trend(1.0, 2.0, NOW)})
    instance = moment(rules=(a_rule(),), memory=memory, cpu_foreign_pct=80.0).instances["mine"]

    assert is_easing is instance._replace(is_urgent=urgent).is_easing(policy, NOW)


def test_the_next_turn_is_that_of_the_first_clock_that_runs():
    """
    None where none does.
    """
    settings = Settings(rules=(a_rule(), POWER))
    up = Trigger(side=Side.SHORT, held_s=4.0, held_at=NOW)
    down = Trigger(is_on=True, side=Side.CLEAR, held_s=55.0, held_at=NOW)

    assert next_turn(settings, remembered(on("mine"))) is None
    assert NOW + 6.0 == next_turn(settings, remembered({"mine": up, "power@G1": Trigger()}))
    assert NOW + 5.0 == next_turn(settings, remembered({"mine": up, "power@G1": down}))


@pytest.mark.parametrize(
    ("when", "missing_since", "short_s"),
    [
        (a_rule().when, None, 41.0),
        # Nobody has seen the second before a reading that comes after a gap.
        (a_rule().when, NOW - 1.0, 40.0),
        # What is so or not so has been so since the rule turned on, and for its holding time before.
        ((Condition(program="steam"),), None, 15.0),
    ],
)
def test_how_long_it_has_been_short_is_what_was_seen_of_it(when, missing_since, short_s):
    """
    Without a break.
    """
    trigger = replace(on("mine", ago_s=5.0)["mine"], missing_since=missing_since)
    memory = Memory(
        at=NOW - 1.0, triggers={"mine": trigger}, trends={"mine": Trend(1.0, 1.0, NOW - 1.0, 40.0)}
    )
    scene = moment(rules=(a_rule(*when),), memory=memory, cpu_foreign_pct=80.0, programs=("steam",))

    assert short_s == scene.instances["mine"].short_s(NOW)
