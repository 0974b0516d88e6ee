"""The command of a new job: what is refused before it is sent, its environment, earlier checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.api import RunRequest
from supervisor.cli.commands.new_command import (
    check_request,
    earlier_checkpoints,
    find_command,
)
from supervisor.core.jobs.treatment import inherited
from supervisor.errors import UsageError


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
    assert {"A": "1"} == inherited({"A": "1", "TRAINING_SUPERVISOR_HOME": "/x"})


def test_old_checkpoints_are_pointed_out_before_a_run_goes_on_from_them(tmp_path):
    """
    Nobody should find out from the loss curve that a run did not begin at the beginning.
    """
    folder = Path(tmp_path, "checkpoints", "night")
    named = request(cwd=str(tmp_path), name="night")
    before = earlier_checkpoints(named)
    (folder / "step-000000012").mkdir(parents=True)
    (folder / "step-000000012" / "manifest.json").touch()

    assert before is None
    assert folder == earlier_checkpoints(named)
    assert folder == earlier_checkpoints(request(cwd="/", checkpoints=str(folder)))
    assert earlier_checkpoints(request(cwd=str(tmp_path))) is None
