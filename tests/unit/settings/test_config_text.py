"""The settings as the daemon prints them: the defaults, each with what it is there for."""

import itertools
import tomllib
from pathlib import Path

import msgspec

from supervisor.core.policy.default_rules import DEFAULT_RULES
from supervisor.settings.config import Config
from supervisor.settings.config_text import annotated_toml


def test_the_printed_settings_are_the_defaults():
    """
    `--print-config > config.toml` is a good start: it is read back as what it says.
    """
    text = annotated_toml()
    data = tomllib.loads(text)

    assert set(Config.__struct_fields__) == set(data)
    assert [rule.name for rule in DEFAULT_RULES] == [rule["name"] for rule in data.pop("rules")]
    for section, values in data.items():
        assert values == msgspec.json.decode(msgspec.json.encode(getattr(Config(), section)))


def test_every_setting_is_documented_with_unit_and_bounds():
    """
    Above each line: what it is, in which unit, from what to what.
    """
    lines = annotated_toml().splitlines()
    for above, line in itertools.pairwise(lines[: lines.index("[[rules]]")]):
        if " = " in line and not line.startswith("#"):
            assert above.startswith("# ")
            assert line.endswith(('"', "[]", "true", "false")) or " to " in above
            assert not line.split(" = ")[0].endswith("_s") or "econds" in above


def test_the_example_is_what_the_daemon_prints():
    """
    It cannot grow old.
    """
    example = Path(__file__).parents[3] / "examples/supervisor.toml"

    assert annotated_toml() == example.read_text()
