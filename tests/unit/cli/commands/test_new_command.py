"""The small parts of the command line: times, commands of new jobs, logs, progress lines, the reference."""

from __future__ import annotations

import io
from pathlib import Path

import click
import pytest

from supervisor.api import RunRequest
from supervisor.cli.commands.new_command import check_request, find_command, job_environment
from supervisor.cli.main import COMMANDS, cli
from supervisor.cli.options import DURATION
from supervisor.cli.output.progress import Progress
from supervisor.cli.output.screen import Screen
from supervisor.cli.output.tail import Tail
from supervisor.errors import Refused, UsageError

DOCS = Path(__file__).parents[4] / "docs" / "COMMANDS.md"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("1.5", 1.5),
        ("30s", 30.0),
        ("10m", 600.0),
        ("2h", 7200.0),
        ("1d", 86400.0),
        ("1h30m", 5400.0),
    ],
)
def test_times_are_typed_as_people_do(text, seconds):
    """
    A number is seconds; units may be joined.
    """
    assert seconds == DURATION.convert(text, None, None)


@pytest.mark.parametrize("text", ["", "0", "m", "10 m", "10x", "-5", "1h30", "99999d", "1.2.3"])
def test_what_is_no_time_is_refused(text):
    """
    A pause of a misread length would be worse than none.
    """
    with pytest.raises(click.BadParameter, match="is not"):
        DURATION.convert(text, None, None)


def request(**fields):
    return RunRequest(**{"id": "1", "argv": ("python",), "cwd": "/", "env": {}} | fields)


def test_an_environment_that_is_too_large_is_named_by_size_and_never_by_value():
    """
    The person learns which variable to leave out, and no secret reaches the screen.
    """
    env = {"SECRET": "s3cret" * 10_000, "SMALL": "x", "MIDDLE": "y" * 9000}
    with pytest.raises(UsageError) as caught:
        check_request(request(env=env))

    assert "RunRequest of 69," in str(caught.value)
    assert "`env -u SECRET supervisorctl run ...`" in caught.value.hint
    assert "SECRET (60,006 bytes), MIDDLE (9,006 bytes)" in caught.value.hint
    assert "s3cret" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize(
    ("fields", "message", "hint"),
    [
        ({"name": "-x"}, "cannot name a job", "64 letters"),
        ({"env": {"A": "\udcff"}}, "variable `'A'` is not UTF-8", "env -u 'A'"),
        ({"argv": ("a\udcff",)}, "is not UTF-8", "rename"),
        ({"argv": ("x" * 70_000,)}, "cannot send the command", "70,000 bytes: put its arguments into a file"),
    ],
)
def test_a_request_that_cannot_be_sent_says_why(fields, message, hint):
    """
    The daemon never sees it; the person learns the word that is wrong.
    """
    with pytest.raises(UsageError) as caught:
        check_request(request(**fields))

    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_the_command_is_looked_for_where_it_will_run(tmp_path):
    """
    A typing error shows at once, not as a failed job.
    """
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin" / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    (tmp_path / "train.py").write_text("")

    find_command("bin/tool", tmp_path, "")
    find_command("tool", tmp_path, f"/nowhere:{tool.parent}")
    find_command("tool", tmp_path, "bin")
    for word, hint in [
        ("./train.py", "`python ./train.py ...`"),
        ("./missing.py", "check the path"),
        ("train.py", "supervisorctl run -- python train.py"),
        ("missing", "activate the environment"),
    ]:
        with pytest.raises(UsageError) as caught:
            find_command(word, tmp_path, "/nowhere")
        assert hint in caught.value.hint


def test_our_own_settings_are_not_handed_to_jobs():
    """
    A job talks to the daemon that started it, whatever the shell had set.
    """
    assert {"A": "1"} == job_environment({"A": "1", "TRAINING_SUPERVISOR_HOME": "/x"})


def rest(tail):
    return b"".join(iter(tail.more, b""))


@pytest.mark.parametrize("ending", [b"", b"\n"])
@pytest.mark.parametrize("filler", [1, 100_000])
def test_the_last_lines_are_the_last_lines(tmp_path, ending, filler):
    """
    However long the lines are, and whether or not the last one is finished.
    """
    path = tmp_path / "log"
    lines = [b"%d" % i + b"x" * filler for i in range(5)]
    path.write_bytes(b"\n".join(lines) + ending)

    for count in range(7):
        with Tail(path) as tail:
            tail.skip_to_last(count)
            expected = b"\n".join(lines[5 - min(count, 5) :]) + (ending if count else b"")
            assert expected == rest(tail)
    with Tail(path) as tail:
        tail.skip_to_last(None)
        assert path.read_bytes() == rest(tail)


def test_a_followed_log_survives_truncation_and_rotation(tmp_path):
    """
    `logs -f` shows what is written next, whatever happens to the file.
    """
    path = tmp_path / "log"
    with Tail(path) as tail:
        tail.skip_to_last(10)
        assert b"" == rest(tail)
        path.write_bytes(b"one\ntwo\n")
        assert b"one\ntwo\n" == rest(tail)
        path.write_bytes(b"new\n")
        assert b"new\n" == rest(tail)
        with path.open("ab") as old:
            path.rename(tmp_path / "log.1")
            assert b"" == rest(tail)
            old.write(b"last of the old\n")
            old.flush()
            path.write_bytes(b"first of the new\n")
            assert b"last of the old\nfirst of the new\n" == rest(tail)


def test_a_log_that_may_not_be_read_says_so(tmp_path):
    """
    The reason is named, and whose log it is.
    """
    with pytest.raises(Refused, match="Is a directory"), Tail(tmp_path) as tail:
        tail.more()


def test_without_a_terminal_a_stage_is_one_line():
    """
    A log of a waiting command has a line per change, not a line per second.
    """
    stream = io.StringIO()
    shown = Progress(stream, Screen(None, colour=False, live=False))
    shown.update("job-1", "waiting (1.0 s ago)", key="a")
    shown.update("job-1", "waiting (2.0 s ago)", key="a")
    shown.update("job-1", "saving", key="b")
    shown.note("hint: x")
    shown.close()

    assert "job-1: waiting (1.0 s ago)\njob-1: saving\nhint: x\n" == stream.getvalue()


def test_on_a_terminal_one_line_a_job_is_rewritten():
    """
    The lines are drawn over, never wider than the screen, and gone at the end.
    """
    stream = io.StringIO()
    shown = Progress(stream, Screen(12, colour=True, live=True))
    shown.update("a", "waiting for long", key="1")
    shown.update("b", "x", key="1")
    shown.update("a", "y", key="2")
    shown.close()

    up1, up2 = "\x1b[1A\x1b[J", "\x1b[2A\x1b[J"
    assert f"a: waiti...\n{up1}a: waiti...\nb: x\n{up2}a: y\nb: x\n{up2}" == stream.getvalue()


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
