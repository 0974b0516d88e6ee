"""Rules as the owner of a machine writes them: what is wrong is named, what is right is in force."""

from __future__ import annotations

import msgspec
import pytest

from supervisor.core.policy.default_rules import DEFAULT_RULES
from supervisor.core.policy.rules import Condition, PolicyConfig, QueueConfig, Rule, Selector
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


def converted(kind, **fields):
    return msgspec.convert(fields, kind)


WHOLE = {"name": "mine", "when": [{"program": "steam"}], "pause_after_s": 0, "resume_after_s": 0}


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("name", ["a", "0-a", "a" * 40], ["", "-a", "A", "a b", "a" * 41, "a\n", "\u00e9"]),
        ("when", [[{}], [{}] * 8], [[], [{}] * 9]),
        ("pause_after_s", [0, 2592000], [-1, 2592001]),
        ("resume_after_s", [0, 2592000], [-0.1, 2592001]),
        ("escalate_after_s", [None, 0], [-1]),
        ("depth", ["auto", "hold", "offload", "exit"], ["deep", ""]),
        ("at_deadline", ["wait", "freeze", "terminate"], ["kill"]),
    ],
)
def test_each_field_of_a_rule_has_bounds(key, good, bad):
    """
    What is a number beyond them, or a name that no command line takes, is refused when it is read.
    """
    assert all(converted(Rule, **WHOLE | {key: value}) for value in good)
    for value in bad:
        with pytest.raises(msgspec.ValidationError):
            converted(Rule, **WHOLE | {key: value})


@pytest.mark.parametrize(
    ("kind", "key", "least", "most"),
    [
        (PolicyConfig, "settle_s", 0, 3600),
        (PolicyConfig, "margin_pct", 0, 90),
        (PolicyConfig, "max_backoff", 1, 256),
        (QueueConfig, "max_running", 0, 10000),
        (QueueConfig, "ageing_s", 0, 2592000),
    ],
)
def test_each_setting_has_bounds(kind, key, least, most):
    """
    Both of them are allowed.
    """
    assert [least, most] == [getattr(converted(kind, **{key: value}), key) for value in (least, most)]
    for value in (least - 1, most + 1):
        with pytest.raises(msgspec.ValidationError):
            converted(kind, **{key: value})


@pytest.mark.parametrize("kind", [Condition, Selector, PolicyConfig, QueueConfig])
def test_a_word_that_is_none_of_its_own_is_refused(kind):
    """
    A typing error is no rule that says nothing.
    """
    with pytest.raises(msgspec.ValidationError, match="unknown field `enabeld`"):
        converted(kind, enabeld=True)


def test_a_rule_that_says_little_is_a_careful_one():
    """
    It is for all jobs, waits for the boundary however late, and goes no deeper by itself.
    """
    rule = converted(Rule, **WHOLE)

    assert (Selector(), "auto", "wait", None, True) == (
        rule.jobs, rule.depth, rule.at_deadline, rule.escalate_after_s, rule.enabled,
    )  # fmt: skip
