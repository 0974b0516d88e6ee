"""Every way in which a settings file can be wrong, in the words that people read."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from supervisor.core.policy.rules import Condition, Rule, Selector
from supervisor.core.readings.metrics import METRICS
from supervisor.errors import ConfigError
from supervisor.settings.config import RULE_EXAMPLES, Config, load


@pytest.fixture
def file(tmp_path):
    return tmp_path / "config.toml"


def refusal(file):
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert caught.value.hint
    assert str(file) in str(caught.value)
    return str(caught.value), caught.value.hint


def test_without_a_file_the_defaults_hold(file):
    """
    A first start needs no settings.
    """
    assert Config() == load(file)


def test_what_a_file_says_counts_and_the_rest_is_default(file):
    """
    Whole numbers are fine where seconds are wanted.
    """
    file.write_text('[daemon]\nlog_level = "debug"\n[jobs]\npause_deadline_s = 90\n')
    config = load(file)

    assert ("debug", 90.0, 60.0) == (
        config.daemon.log_level,
        config.jobs.pause_deadline_s,
        config.jobs.start_grace_s,
    )


@pytest.mark.parametrize(
    ("text", "says", "hints"),
    [
        ("[jobs]\nstart_grace = 5", "unknown key `jobs.start_grace`", "did you mean `jobs.start_grace_s`?"),
        ("[job]\nstart_grace_s = 5", "unknown key `job`", "did you mean `jobs`?"),
        ("[daemon]\nzzz = 1", "unknown key `daemon.zzz`", "known here: log_level, launcher, sample_s"),
        ("jobs = 3", "jobs is 3, and may only be a table", "--print-config"),
        (
            '[jobs]\nstart_grace_s = "1m"',
            'jobs.start_grace_s is "1m", and may only be a number from',
            "--print-config",
        ),
        (
            "[jobs]\nkill_grace_s = 0",
            "jobs.kill_grace_s is 0, and may only be a number from 1 to",
            "--print-config",
        ),
        (
            "[shim]\nheartbeat_s = 1e9",
            "shim.heartbeat_s is 1000000000.0, and may only be a number from",
            "--print-config",
        ),
        (
            "[daemon]\nsample_s = nan",
            "daemon.sample_s is nan, and may only be a number from 0.2 to 3600",
            "--print-config",
        ),
        (
            "[daemon]\nsample_s = inf",
            "daemon.sample_s is inf, and may only be a number from 0.2 to 3600",
            "--print-config",
        ),
        (
            '[daemon]\nlog_level = "loud"',
            'daemon.log_level is "loud", and may only be "debug", "error", "info" or "warning"',
            "--print-config",
        ),
        ("[jobs\n", "not valid TOML", "correct that place"),
        ("[jobs]\n[jobs]\n", "not valid TOML", "correct that place"),
        # Python's reader would need gigabytes for the first: time and memory go by the square of the parts.
        (".".join("a" * 60_000) + " = 1", "a key of more than 64 parts", "correct that place"),
        (
            "[" + " . ".join(["'b c'"] * 2000) + "]",
            "a key of more than 64 parts",
            "correct that place",
        ),
        ("x = {" + ".".join(['"b"'] * 2000) + " = 1}", "a key of more than 64 parts", "correct that place"),
        ("x = " + "[" * 5000, "not valid TOML", "correct that place"),
    ],
)
def test_what_is_wrong_is_named_with_its_key_and_what_to_do(file, text, says, hints):
    """
    A typo never leaves a default silently in force.
    """
    file.write_text(text)
    message, hint = refusal(file)

    assert says in message
    assert hints in hint


SECTIONS = [
    (section.name, key)
    for section in msgspec.structs.fields(Config)
    if section.name != "rules"
    for key in section.type.__struct_fields__
]


@pytest.mark.parametrize(("section", "key"), SECTIONS)
def test_the_hint_says_what_the_setting_is_there_for(file, section, key):
    """
    2026-11-29: whatever was wrong, the hint was the same.
    """
    file.write_text(f"[{section}]\n{key} = [[]]\n")
    hint = refusal(file)[1]

    assert re.match(rf"{key}: .{{15,}}\. By default \S+; `training-supervisord --print-config`", hint), hint


RULE = {
    "name": 'name = "busy"',
    "when": 'when = [{ metric = "cpu_pct", above = 50, clear_below = 40 }]',
    "pause_after_s": "pause_after_s = 1",
    "resume_after_s": "resume_after_s = 2",
}


@pytest.mark.parametrize(
    ("place", "key"),
    [
        *(("", key) for key in Rule.__struct_fields__),
        *(("when", key) for key in Condition.__struct_fields__),
        *(("jobs", key) for key in Selector.__struct_fields__),
    ],
)
def test_the_hint_for_a_rule_is_about_the_key_that_is_wrong(file, place, key):
    """
    An example that can be used as it is.
    """
    odd = f"{key} = 1979-05-27"
    wrong = {"": odd, "when": f"when = [{{ {odd} }}]", "jobs": f"jobs = {{ {odd} }}"}[place]
    file.write_text("[[rules]]\n" + "\n".join((RULE | {place or key: wrong}).values()))
    hint = refusal(file)[1]

    assert hint.startswith(f"for example: {RULE_EXAMPLES[key]}; ")


def test_the_examples_for_a_rule_are_a_rule(file):
    """
    Those of a condition and of a selection stand in the examples of the whole.
    """
    lines = [RULE_EXAMPLES[key] for key in Rule.__struct_fields__]
    file.write_text("\n".join(["[[rules]]", *lines]))
    (rule,) = [rule for rule in load(file).rules if rule.name == "office-hours"]
    inner = tomllib.loads("\n".join(RULE_EXAMPLES[key] for key in Condition.__struct_fields__))
    selected = tomllib.loads("\n".join(RULE_EXAMPLES[key] for key in Selector.__struct_fields__))

    assert not rule.enabled
    assert msgspec.convert(inner, Condition).metric in METRICS
    assert msgspec.convert(selected, Selector).users


@pytest.mark.parametrize("name", ["Night", "-x", "", "x" * 41, "a b", "\u00e4"])
def test_what_a_rule_may_be_called_is_said_in_words(file, name):
    """
    2026-11-29: it was a regular expression.
    """
    file.write_text("[[rules]]\n" + "\n".join((RULE | {"name": f'name = "{name}"'}).values()))
    message, hint = refusal(file)

    assert "may only be a text of 1 to 40 small letters, digits and dashes, the first no dash" in message
    assert hint.startswith('for example: name = "office-hours"; ')


def test_bytes_that_are_no_text_are_refused(file):
    """
    TOML is UTF-8.
    """
    file.write_bytes(b'[daemon]\nlog_level = "\xff"\n')

    assert "not valid TOML" in refusal(file)[0]


def test_a_file_that_cannot_be_read_is_refused(file):
    """
    With the reason of the operating system.
    """
    file.mkdir()

    assert "cannot read" in refusal(file)[0]
    assert "Is a directory" in refusal(file)[0]


def test_the_example_read_back_is_the_defaults():
    """
    Also the rules, which it lists as they are: to start from the example changes nothing.
    """
    example = Path(__file__).parents[3] / "examples/supervisor.toml"

    assert Config() == load(example)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[[rules]]\nname = "cpu-foreign"\n\n[[rules]]\npause_after_s = 1\n', "rules[2].name is missing"),
        ('[[rules]]\npause_after_s = "1"\n', 'rules[1].pause_after_s is "1", and may only be a number'),
        (
            '[jobs]\nlog_max_bytes = "64M"\n',
            '"64M", and may only be a whole number from 0 to 4611686018427387904 (line 2)',
        ),
    ],
)
def test_a_wrong_value_is_told_with_its_place_and_what_is_allowed(tmp_path, text, problem):
    """
    Rules are counted as in the person's file, not with the default ones before them.
    """
    file = tmp_path / "config.toml"
    file.write_text(text)

    with pytest.raises(ConfigError) as refused:
        load(file)

    assert problem in str(refused.value)
