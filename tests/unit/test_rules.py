"""Rules as the owner of a machine writes them: what is wrong is named, what is right is in force."""

from __future__ import annotations

import msgspec
import pytest

from supervisor.core import windows
from supervisor.core.policy.default_rules import DEFAULT_RULES
from supervisor.core.policy.hysteresis import Side, Trend, Trigger
from supervisor.core.policy.rule_check import check_rules, unreachable
from supervisor.core.policy.rules import Rule
from supervisor.errors import ConfigError
from supervisor.settings.config import Config, load

GPU_RULE = "gpu-foreign-process"
TIMES = "pause_after_s = 1\nresume_after_s = 1\n"


def rule(when, name="mine", more=""):
    return f'[[rules]]\nname = "{name}"\n{TIMES}when = [{when}]\n{more}\n'


@pytest.fixture
def file(tmp_path):
    return tmp_path / "config.toml"


def names(config):
    return [rule.name for rule in config.rules]


def test_the_default_rules_are_in_force_and_sound():
    """
    After installation, without a file.
    """
    check_rules(Config().rules)

    assert DEFAULT_RULES == Config().settings.rules
    assert all(rule.about for rule in DEFAULT_RULES)


def test_a_rule_of_its_own_stands_behind_the_default_ones(file):
    """
    The order is that of importance.
    """
    file.write_text(rule('{ program = "steam" }'))

    assert [*names(Config()), "mine"] == names(load(file))


def test_a_default_rule_can_be_changed_in_part_replaced_or_switched_off(file):
    """
    In its place among the others. One with a `when` of its own takes nothing over.
    """
    whole = rule(
        '{ metric = "gpu_foreign_processes", above = 2.5, clear_below = 1.5 }', "gpu-foreign-process"
    )
    file.write_text(
        '[[rules]]\nname = "gpu-hot"\nenabled = false\n[[rules]]\nname = "cpu-foreign"\npause_after_s = 90\n'
        + whole
    )
    config = load(file)
    by_name = {rule.name: rule for rule in config.rules}

    assert names(Config()) == names(config)
    assert not by_name["gpu-hot"].enabled
    assert 90.0 == by_name["cpu-foreign"].pause_after_s
    assert DEFAULT_RULES[-1].when == by_name["cpu-foreign"].when
    assert by_name[GPU_RULE].escalate_after_s is None


def test_without_the_default_rules_only_those_of_the_file_hold(file):
    """
    None, if it has none.
    """
    file.write_text("[policy]\ndefault_rules = false\n")
    assert () == load(file).rules
    file.write_text("[policy]\ndefault_rules = false\n" + rule('{ clock = "sat,sun" }'))

    assert ["mine"] == names(load(file))


@pytest.mark.parametrize(
    ("text", "says", "hints"),
    [
        (
            rule('{ metric = "cpu_foreign", above = 5, clear_below = 4 }'),
            "no `cpu_foreign`",
            "cpu_foreign_pct",
        ),
        (rule('{ metric = "zzz", above = 5, clear_below = 4 }'), "there is no `zzz`", "metrics are: cpu_"),
        (rule("{ }"), "rule `mine`, when: says nothing", "one of metric, clock, program"),
        (rule('{ metric = "cpu_pct", program = "x" }'), "has metric and program", "one of metric"),
        (rule('{ metric = "cpu_pct" }'), "needs above and clear_below, or below", "two thresholds"),
        (rule('{ metric = "cpu_pct", above = 5 }'), "needs above and clear_below", "two thresholds"),
        (
            rule('{ metric = "cpu_pct", below = 5, above = 3 }'),
            "needs above and clear_below",
            "two thresholds",
        ),
        (
            rule('{ metric = "cpu_pct", above = 5, clear_below = 5 }'),
            "clear_below: 5 is not below above = 5",
            "clearly less",
        ),
        (
            rule('{ metric = "disk_free_gib", below = 5, clear_above = 4 }'),
            "clear_above: 4 is not above below = 5",
            "clearly more",
        ),
        (rule('{ program = "x", above = 3 }'), "above: a program has no thresholds", "only a metric"),
        (rule('{ clock = "late" }'), "clock: `late` is no window", "mon-fri 09:00-18:00"),
        (rule('{ clock = "mon-fry" }'), "clock: `fry` is no day", "mon-fri 09:00-18:00"),
        (rule('{ clock = "09:00-09:00" }'), "begins when it ends", "mon-fri"),
        (rule('{ clock = "09:75-10:00" }'), "`09:75` is no time of day", "mon-fri"),
        (rule('{ program = "x" }') * 2, "rule `mine`: name: two rules have it", "which rule paused"),
        (rule('{ program = "x" }', "queue"), "`queue` stands for the queue", "another name"),
        (
            rule(
                '{ metric = "gpu_power_w", above = 5, clear_below = 4 },'
                '{ metric = "disk_free_gib", below = 5, clear_above = 9 }'
            ),
            "rule `mine`: when: has metrics of GPUs and of jobs",
            "write two rules",
        ),
        (
            rule('{ clock = "sat" }, { clock = "x" }'),
            "rule `mine`, when 2: clock: `x` is no window",
            "mon-fri",
        ),
        (
            rule('{ clock = "sat" }', more='depht = "hold"'),
            "unknown key `rules[mine].depht`",
            "rules[mine].depth",
        ),
        (
            rule('{ clock = "sat" }', more='depth = "deep"'),
            'rules[mine].depth is "',
            "--print-config",
        ),
        (
            rule('{ metric = "cpu_pct", above = nan, clear_below = 4 }'),
            "above: nan is no threshold",
            "number",
        ),
        (rule('{ metric = "cpu_pct", above = 4, clear_below = -inf }'), "clear_below: -inf is no", "number"),
        (rule('{ metric = "gpu_power_w", above = inf, clear_below = 4 }'), "above: inf is no", "number"),
        (rule('{ clok = "sat" }'), "unknown key `rules[mine].when[1].clok`", "clock"),
        (
            '[[rules]]\nname = "mine"\nenabled = false\n',
            "rules[mine].when is missing; it is a list of at least 1",
            "--print-config",
        ),
        ("rules = 3\n", "rules is 3, and may only be a list", "--print-config"),
        ("policy = 3\n", "policy is 3, and may only be a table", "--print-config"),
    ],
)
def test_what_is_wrong_with_a_rule_is_named_with_rule_and_key(file, text, says, hints):
    """
    And what would be right.
    """
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file)

    assert str(file) in str(caught.value)
    assert says in str(caught.value)
    assert hints in caught.value.hint


def never(*conditions):
    """What can never be so in a rule with these conditions."""
    rule = msgspec.convert(
        {"name": "mine", "when": conditions, "pause_after_s": 1.0, "resume_after_s": 1.0}, Rule
    )
    check_rules([rule])
    return [f"{error} ({error.hint})" for error in unreachable([rule])]


def metric(name, above=None, clear_below=None, **other):
    return {"metric": name, "above": above, "clear_below": clear_below} | other


@pytest.mark.parametrize(
    ("conditions", "says"),
    [
        ([{"program": "/usr/games/steam"}], "no program is called `/usr/games/steam` (write the name as"),
        ([{"program": "games/steam"}], "`ps -o comm` shows it: `steam`"),
        ([{"program": "steam*"}], "no program is called `steam*`"),
        ([{"program": " steam"}], "no program is called ` steam`"),
        ([metric("cpu_foreign_pct", 150.0, 20.0)], "cpu_foreign_pct is never more than 150"),
        ([metric("cpu_pct", 100.0, 20.0)], "no job would ever yield: above: cpu_pct is never more than 100"),
        ([metric("on_battery", 1.0, 0.5)], "on_battery is never more than 1, it goes from 0 to 1"),
        ([metric("load_per_cpu", 2.0, 0.0)], "no job would ever come back: clear_below"),
        ([metric("disk_free_gib", below=0.0, clear_above=9.0)], "below: disk_free_gib is never less than 0"),
        ([metric("battery_pct", below=9.0, clear_above=100.0)], "clear_above: battery_pct is never more"),
        ([{"clock": "mon"}, {"clock": "tue 09:00-12:00"}], "have no moment in common"),
        (
            [metric("cpu_pct", 80.0, 70.0), metric("cpu_pct", below=20.0, clear_above=30.0)],
            "cpu_pct is never above 80 and below 20 at once",
        ),
    ],
)
def test_what_can_never_be_met_is_named(conditions, says):
    """
    With what it would lead to, the key, and what would be right.
    """
    (told,) = never(*conditions)

    assert told.startswith("rule `mine`, when")
    assert says in told


@pytest.mark.parametrize(
    "conditions",
    [
        [{"program": "a-name-longer-than-fifteen"}],
        [{"program": "Web Content"}],
        [metric("gpu_temperature_c", 150.0, -5.0)],
        [metric("load_per_cpu", 1e6, 0.5)],
        [metric("cpu_foreign_pct", 99.9, 0.1)],
        # A window ends the rule, so nothing has to be clear.
        [{"clock": "mon"}, metric("cpu_pct", 0.0, -1.0)],
        [{"clock": "22:00-06:00"}, {"clock": "tue 05:59-12:00"}],
        [metric("cpu_pct", 20.0, 10.0), metric("cpu_pct", below=80.0, clear_above=90.0)],
    ],
)
def test_what_can_be_met_is_not_complained_about(conditions):
    """
    However odd it is.
    """
    assert [] == never(*conditions)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("mon-fri 09:00-18:00", [(0, "09:00"), (4, "17:59")], [(0, "08:59"), (0, "18:00"), (5, "12:00")]),
        ("22:00-06:00", [(3, "22:00"), (3, "05:59")], [(3, "06:00"), (3, "21:59")]),
        ("fri 22:00-06:00", [(4, "23:00"), (5, "05:00")], [(4, "05:00"), (5, "23:00")]),
        ("sat,sun", [(5, "00:00"), (6, "23:59")], [(0, "00:00")]),
        ("FRI-MON", [(4, "12:00"), (6, "12:00"), (0, "12:00")], [(1, "12:00")]),
        ("00:00-24:00", [(2, "23:59")], []),
    ],
)
def test_windows_of_time(text, inside, outside):
    """
    The end belongs to it no more; a night belongs to the day on which it begins.
    """
    window = windows.parse(text)

    def is_open(day, time):
        return window.contains(day, int(time[:2]) * 3600 + int(time[3:]) * 60)

    assert all(is_open(*moment) for moment in inside)
    assert not any(is_open(*moment) for moment in outside)


def stepped(trigger, sides, gap_s=1.0):
    for number, side in enumerate(sides):
        trigger = trigger.step(side, 100.0 + number * gap_s, rise_s=3.0, fall_s=6.0)
    return trigger


SHORT, BETWEEN, CLEAR, UNKNOWN = Side


def test_a_trigger_turns_after_its_time_and_not_before():
    """
    Three seconds short: on. One reading that is not short begins that anew.
    """
    assert not stepped(Trigger(), [SHORT] * 3).is_on
    assert stepped(Trigger(), [SHORT] * 4).is_on
    assert not stepped(Trigger(), [SHORT] * 3 + [BETWEEN] + [SHORT] * 3).is_on
    assert not stepped(Trigger(), [SHORT] * 3 + [CLEAR] + [SHORT] * 3).is_on


def test_a_spike_too_short_to_pause_does_not_begin_the_wait_anew():
    """
    It sets it back by its share; one as long as `rise_s` begins it anew. Between, the clock stands.
    """
    on = Trigger(is_on=True, side=SHORT)

    assert stepped(on, [CLEAR] * 6).is_on
    assert not stepped(on, [CLEAR] * 7).is_on
    assert not stepped(on, [CLEAR] * 4 + [BETWEEN] * 50 + [CLEAR] * 4).is_on
    assert stepped(on, [CLEAR] * 6 + [SHORT] * 3 + [CLEAR] * 2).is_on
    assert 1.0 == stepped(on, [CLEAR] * 6 + [SHORT] * 2).held_s
    assert 0.0 == stepped(on, [CLEAR] * 6 + [SHORT] * 4).held_s
    assert 0.0 == Trigger(is_on=True, held_s=5.0).step(SHORT, 1.0, rise_s=0.0, fall_s=6.0).held_s


def test_a_missing_reading_stops_the_clock():
    """
    It neither runs on nor begins anew.
    """
    trigger = stepped(Trigger(), [SHORT, SHORT, UNKNOWN, UNKNOWN, SHORT])

    assert (1.0, False) == (trigger.held_s, trigger.is_on)
    assert 102.0 == stepped(Trigger(), [SHORT, SHORT, UNKNOWN, UNKNOWN]).missing_since
    assert stepped(Trigger(), [SHORT, SHORT, UNKNOWN, SHORT, SHORT, SHORT]).is_on


def test_a_trigger_foretells_when_it_turns():
    """
    While its clock runs; a spike on the way down runs it back, and at rest nobody knows.
    """

    def foretold(trigger):
        return trigger.turns_at(rise_s=3.0, fall_s=6.0)

    on = stepped(Trigger(), [SHORT] * 4)

    assert 103.0 == foretold(stepped(Trigger(), [SHORT])) == foretold(stepped(Trigger(), [SHORT] * 3))
    assert 106.0 == foretold(stepped(on, [CLEAR])) == foretold(stepped(on, [CLEAR] * 4))
    assert None is foretold(on) is foretold(stepped(Trigger(), [CLEAR])) is foretold(stepped(on, [BETWEEN]))
    assert None is foretold(stepped(on, [CLEAR, CLEAR, CLEAR, CLEAR, SHORT]))
    assert None is foretold(stepped(Trigger(), [SHORT, UNKNOWN]))


def test_a_reading_that_tells_of_the_time_before_it_starts_the_clock_there():
    """
    Once: with the readings after it the gaps between them count, and on the way down nothing does.
    """
    times = {"rise_s": 3.0, "fall_s": 6.0, "before_s": 0.8}
    first = Trigger().step(SHORT, 10.0, **times)
    on = stepped(Trigger(), [SHORT] * 4)

    assert (0.8, False) == (first.held_s, first.is_on)
    assert 1.8 == first.step(SHORT, 11.0, **times).held_s
    assert 60.0 == Trigger().step(SHORT, 10.0, rise_s=99.0, fall_s=6.0, before_s=600.0).held_s
    assert 0.0 == on.step(CLEAR, 104.0, **times).held_s


def test_a_long_gap_counts_as_a_minute_at_most():
    """
    Nobody saw what was in between.
    """
    trigger = Trigger().step(SHORT, 0.0, rise_s=100.0, fall_s=1.0).step(SHORT, 9e5, rise_s=100.0, fall_s=1.0)

    assert (60.0, False) == (trigger.held_s, trigger.is_on)


def test_what_does_not_change_is_the_same_object():
    """
    So a quiet machine costs nothing to remember.
    """
    calm = stepped(Trigger(), [CLEAR])
    on = stepped(Trigger(is_on=True), [SHORT])
    lost = stepped(Trigger(), [UNKNOWN])

    assert calm is stepped(calm, [CLEAR] * 3)
    assert on is stepped(on, [SHORT] * 3)
    assert lost is stepped(lost, [UNKNOWN] * 3)


def test_a_trend_weighs_by_time():
    """
    A reading after a long gap counts more; one at the same moment not at all.
    """
    trend = Trend(1.0, 1.0, 0.0)

    assert trend is trend.step(0.0, 0.0, short_s=5.0, long_s=30.0)
    assert trend.step(0.0, 5.0, short_s=5.0, long_s=30.0).is_easing
    assert not trend.step(2.0, 5.0, short_s=5.0, long_s=30.0).is_easing
    assert 0.0 == trend.step(0.0, 5.0, short_s=0.0, long_s=30.0).short
