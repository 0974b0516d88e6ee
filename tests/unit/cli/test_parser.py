"""The reference of the command line has all that can be typed."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from supervisor.cli.parser import COMMANDS, cli

DOCS = Path(__file__).parents[3] / "docs" / "COMMANDS.md"


def test_the_reference_has_a_section_for_each_command():
    """
    What can be typed can be looked up, in the order of --help.
    """
    sections = [line.split("`")[1] for line in DOCS.read_text().splitlines() if line.startswith("## `")]

    assert list(COMMANDS) == sections


@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_names_each_option(name):
    """
    An option without a word about it is a secret.
    """
    text = DOCS.read_text().partition(f"## `{name}`")[2].partition("\n## ")[0]
    command = cli.get_command(click.Context(cli), name)
    verbs = list(getattr(command, "commands", {}).values())
    options = [
        opt for one in (command, *verbs) for param in one.params for opt in param.opts if opt.startswith("--")
    ]

    assert command.help
    assert [] == [option for option in options if option not in text]
    assert [] == [verb.name for verb in verbs if not verb.help or f"`{verb.name} " not in text]
