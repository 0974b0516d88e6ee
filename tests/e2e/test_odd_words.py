"""Every command with every odd word: an answer or an error in words, never a traceback.

Covers: each option and argument of each command, with a daemon that answers and with none.
Does not cover: what each command does with good words (test_commands.py and its neighbours).

In the test's own process: there are some thousand calls.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import click
import pytest

from supervisor import api
from supervisor.cli.main import main
from supervisor.cli.parser import cli
from tests.fakes.daemon import FakeDaemon

#: What click itself reads (whole numbers, choices) needs few of them.
FEW = ("", "\udcff", "9" * 400, "nan")
NAMES = ("", "\udcff", "9" * 400, "x" * 5000, "a\nb\x1b[31m", "../..", "/", "odd.toml", "step-000000001")
ODD = (
    *FEW, *NAMES, "a\udcff=b", "a=\udcff", "=", "a=b", "-1", "1e999", "9" * 5000, "9" * 400 + "G",
    "9" * 400 + "d", "\u00b2", "bytes.toml",
)  # fmt: skip
BY_CLICK = (
    click.IntRange,
    click.FloatRange,
    click.Choice,
    click.types.IntParamType,
    click.types.FloatParamType,
)


def commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        elif command is not None:
            yield (*path, name), command


COMMANDS = dict(commands(cli))


def groups(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Group]]:
    yield path, group
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from groups(command, (*path, name))


@pytest.mark.parametrize("path", [path for path, _ in groups(cli)], ids=" ".join)
def test_what_a_command_does_is_said_in_a_line(path, monkeypatch, capsys):
    """
    2026-11-29: eleven of them ended in three dots at 80 columns, as did the words beside a completion.
    """
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["supervisorctl", *path, "--help"])
    main()
    _, _, listed = capsys.readouterr().out.partition("Commands:\n")
    group = dict(groups(cli))[path]
    context = click.Context(group)
    known = [(name, group.get_command(context, name)) for name in group.list_commands(context)]
    lines = [line.split(maxsplit=1) for line in listed.splitlines()]

    assert lines == [[name, command.get_short_help_str()] for name, command in known]
    assert [] == [text for _, text in lines if text.endswith("...")]


def calls(path: tuple[str, ...], command: click.Command) -> Iterator[list[str]]:
    """Every parameter in turn with every odd word; the others are plain, and nothing waits."""
    plain = {"completion": ["bash"], "run": ["--", "true"], "prove": ["--", "no-such-program"]}
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    needed = plain.get(path[0], ["job"] * sum(one.required or one.nargs == -1 for one in arguments))
    for option in (one for one in command.params if isinstance(one, click.Option) and not one.is_flag):
        for word in FEW if isinstance(option.type, BY_CLICK) else ODD:
            yield [*path, option.opts[0], word, *needed]
    for word in NAMES if arguments else ():
        yield [*path, "--", *[word] * max(1, len(needed))]
    yield [*path, *["x"] * (len(arguments) + 1)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.toml").write_text("rules = [1]\n[[rules]]\nname = []\n")
    (tmp_path / "bytes.toml").write_bytes(os.urandom(50))
    return tmp_path


def said(words: list[str], monkeypatch, capfd) -> str:
    """What a call printed; an error of any other kind than those that people get ends the test."""
    monkeypatch.setattr(sys, "argv", ["supervisorctl", *words])
    try:
        code = main()
    except Exception as error:
        raise AssertionError(f"a traceback, for {[word[:80] for word in words]!a}") from error
    out, err = capfd.readouterr()
    assert code in (0, 1, 2, 3, 4), (words, code)
    assert code == 0 or err.startswith("error: ") or out or "Usage" in err, (words, code, err)
    return err


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_no_word_of_any_command_makes_a_traceback(path, folder, home, monkeypatch, capfd):
    """
    With a daemon that knows one job.
    """
    with FakeDaemon(home) as daemon:
        daemon.rows = {"job": api.JobRow(name="job", state="completed", since_s=1.0)}
        monkeypatch.setenv("TRAINING_SUPERVISOR_HOME", str(home))
        for words in calls(path, COMMANDS[path]):
            said(words, monkeypatch, capfd)


@pytest.mark.parametrize("home_word", NAMES)
def test_no_home_makes_a_traceback(home_word, folder, monkeypatch, capfd):
    """
    Where no daemon can be.
    """
    for words in (["status"], ["logs", "job"], ["doctor"]):
        said(["--home", home_word, *words], monkeypatch, capfd)


@pytest.mark.parametrize("rows", [(), (api.JobRow(name="job", state="x", since_s=0.0, log="/a\0b"),)])
def test_logs_take_no_word_of_a_daemon_for_granted(rows, folder, home, monkeypatch, capfd):
    """
    No row, and a path that no file can have.
    """
    with FakeDaemon(home) as daemon:
        daemon.answers[api.StatusRequest] = lambda request: [api.JobRows(id=request.id, rows=rows)]
        for words in (["logs", "job"], ["logs", "-f", "job"]):
            assert "cannot understand" in said(["--home", str(home), *words], monkeypatch, capfd)
