"""Every rule as it is now, as `policy show` tells it, and the alarms of `status`."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.policy import explain as explaining
from supervisor.core.policy.hysteresis import Side, Trigger
from supervisor.core.policy.rule_states import alarms, clear_at, name_of, rule_state, rule_states
from supervisor.core.policy.rules import Condition, PolicyConfig
from supervisor.core.readings.sample import Gpu, Missing
from tests.fakes.moment import NOW, a_job, a_rule, above, below, moment, paused, remembered
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


POWER = a_rule(above("gpu_power_w", 200.0, 100.0), name="power", about="it is dear")
LOST = Missing("no driver")


def of(scene, tell):
    return tell(tuple(scene.jobs.values()), scene.sample, scene.settings, scene.memory, scene.now)


@pytest.mark.parametrize(
    ("condition", "name", "clear"),
    [
        (above("cpu_pct", 50.0, 20.5), "cpu_pct", "< 20.5"),
        (below("disk_free_gib", 5.0, 8.0), "disk_free_gib", "> 8"),
        (Condition(clock="mon"), "mon", ""),
        (Condition(program="steam"), "steam", ""),
    ],
)
def test_a_condition_is_called_by_what_it_looks_at(condition, name, clear):
    """
    Only a metric is clear beyond some number.
    """
    assert (name, clear) == (name_of(condition), clear_at(condition))


@pytest.mark.parametrize(
    ("pct", "near_pct", "side"),
    [
        (500.0, 100.0, "short"),
        (50.0, 100.0, "between"),
        (35.0, 50.0, "between"),
        (20.0, 0.0, "between"),
        (0.0, 0.0, "clear"),
    ],
)
def test_how_near_a_rule_is_stays_between_nothing_and_all_of_the_way(pct, near_pct, side):
    """
    However far beyond a threshold the reading is.
    """
    (state,) = of(moment(rules=(a_rule(),), cpu_foreign_pct=pct), rule_states)
    (condition,) = state.conditions

    assert (near_pct, side) == (state.near_pct, state.side)
    assert ("cpu_foreign_pct", "%", pct, "> 50", "< 20") == (
        condition.what, condition.unit, condition.reading, condition.short, condition.clear,
    )  # fmt: skip


def test_of_several_conditions_the_least_near_one_counts():
    """
    All of them have to be short.
    """
    rule = a_rule(above("cpu_foreign_pct", 50.0, 20.0), above("load_per_cpu", 2.0, 1.0))
    (state,) = of(moment(rules=(rule,), cpu_foreign_pct=90.0, load_1min=5.0), rule_states)

    assert (25.0, [100.0, 25.0]) == (state.near_pct, [one.near_pct for one in state.conditions])


def test_rules_are_told_in_their_order_whether_they_hold_or_not():
    """
    One that is switched off, one without a place, one with two.
    """
    rules = (a_rule(name="off", enabled=False), a_rule(above("job_memory_gib", 9.0, 5.0), name="leak"), POWER)
    here = of(moment(rules=rules, gpus=(Gpu(uuid="G2"), Gpu(uuid="G1"))), rule_states)
    nowhere = of(moment(rules=rules, policy=PolicyConfig(enabled=False)), rule_states)

    assert ["off", "leak", "power", "power"] == [one.rule for one in here]
    assert ["", "", "G2", "G1"] == [one.place for one in here]
    assert [False, True, True, True] == [one.is_enabled for one in here]
    assert ["", "there is no job", "not measured", "not measured"] == [one.missing for one in here]
    assert [False] * 3 == [one.is_enabled for one in nowhere]
    assert () == of(moment(), rule_states)


@pytest.mark.parametrize(
    ("trigger", "held_s", "hold_s", "for_s"),
    [
        (Trigger(side=Side.SHORT, held_s=4.0, held_at=NOW - 1.0), 5.0, 10.0, 0.0),
        (Trigger(is_on=True, turned_at=NOW - 30.0), 0.0, 60.0, 30.0),
    ],
)
def test_how_long_it_has_held_is_told_with_how_long_it_has_to(trigger, held_s, hold_s, for_s):
    """
    On the way up and on the way down.
    """
    scene = moment(
        paused(rule="mine"), rules=(a_rule(),), memory=remembered({"mine": trigger}), cpu_foreign_pct=90.0
    )
    state = rule_state(scene.instances["mine"], scene)

    assert (held_s, hold_s, for_s, ("a",)) == (state.held_s, state.hold_s, state.for_s, state.jobs)


@pytest.mark.parametrize(
    ("trigger", "alarm"),
    [
        (Trigger(side=Side.CLEAR, missing_since=NOW - 59.0), None),
        (Trigger(side=Side.CLEAR, missing_since=NOW - 60.0), "off"),
        (Trigger(is_on=True, side=Side.SHORT, missing_since=NOW - 60.0), "on"),
        (Trigger(is_on=True, missing_since=NOW - 60.0), "on"),
        # This machine never had such a reading.
        (Trigger(missing_since=NOW - 60.0), None),
        (Trigger(side=Side.CLEAR), None),
    ],
)
def test_a_minute_without_a_reading_is_an_alarm_where_there_was_one(trigger, alarm):
    """
    It says how the rule stays.
    """
    scene = moment(a_job(), rules=(a_rule(),), memory=remembered({"mine": trigger}), cpu_foreign_pct=LOST)
    told = f"rule mine has no reading: no driver; it stays {alarm}"

    assert ((told,) if alarm else ()) == of(scene, alarms)


def gone(*keys):
    return {key: Trigger(is_on=True, side=Side.SHORT, missing_since=NOW - 99.0) for key in keys}


@pytest.mark.parametrize(
    ("triggers", "told"),
    [
        (gone("power@G1"), "rule power of G1 has no reading: no driver; it stays on"),
        (gone("power@G1", "power@G2"), "rule power of G1, G2 has no reading: no driver; it stays on"),
        (
            gone(*(f"power@G{n}" for n in range(4))),
            "rule power of 4 GPUs has no reading: no driver; it stays on",
        ),
        (gone("power@G1", "heat@G1"), "rules power and heat of G1 have no reading: no driver; they stay on"),
        (
            gone("power@G1") | {"power@G2": Trigger(side=Side.CLEAR, missing_since=NOW - 99.0)},
            "rule power of G1, G2 has no reading: no driver; it stays what it was at each place",
        ),
    ],
)
def test_one_reason_is_one_alarm(triggers, told):
    """
    A lost driver is not as many as there are rules and GPUs.
    """
    rules = (POWER, a_rule(above("gpu_temperature_c", 90.0, 70.0), name="heat"))

    assert (told,) == of(moment(rules=rules, memory=remembered(triggers), gpus=LOST), alarms)


def test_a_gpu_that_tells_nothing_at_all_is_not_waited_for():
    """
    Where the driver answers for the others, it does not come back in a minute.
    """
    rules, memory = (POWER,), remembered({"power@G1": Trigger(side=Side.CLEAR)})
    silent, busy = Gpu(uuid="G1"), Gpu(uuid="G1", temperature_c=50.0)

    assert 1 == len(of(moment(rules=rules, memory=memory, gpus=(silent,)), alarms))
    assert () == of(moment(rules=rules, memory=memory, gpus=(busy,)), alarms)
