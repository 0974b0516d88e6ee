"""What is told of a command that handed its work to somebody else and ended at once."""

import pytest

from supervisor.core.jobs.detaching import problem
from supervisor.core.jobs.job import Job, JobRun, JobSpec
from supervisor.core.jobs.states import Depth


def told(*argv, ran_s=1.0, depths=()):
    spec = JobSpec(argv=argv, cwd="/")
    run = JobRun(started_at=10.0, depths=depths)
    return problem(Job(id="j-1", name="j", spec=spec, created_at=0.0, run=run), 10.0 + ran_s)


@pytest.mark.parametrize(
    ("argv", "way_out"),
    [
        (("tmux", "new", "-d", "python train.py"), "without `tmux`"),
        (("/usr/bin/screen", "-dm", "python", "train.py"), "without `screen`"),
        (("env", "nohup", "systemd-run", "--user", "python", "train.py"), "without `systemd-run`"),
        (("env", "A=1", "nice", "-n", "tmux", "new", "-d", "x"), "without `tmux`"),
        (("sh", "-c", "cd x && echo python train.py | at now"), "without `at`"),
        (("bash", "-lc", "export A=1\nA=b tmux new -d 'python train.py; exit'"), "without `tmux`"),
        (("sh", "-c", "nohup python train.py > log 2>&1 &"), "without `&`"),
    ],
)
def test_it_is_told_with_a_way_out(argv, way_out):
    """
    Who starts it elsewhere is named.
    """
    assert told(*argv).endswith(f"run the training itself, {way_out}")


@pytest.mark.parametrize(
    "argv",
    [
        ("python", "train.py", "--at", "tmux"),
        ("sh", "-c", "python look.py at tmux && echo done"),
        ("sh", "-c", "a & b & wait"),
        ("python", "train.py", "--note", "at work; tmux & co"),
        ("sh", "-c", "echo 'not closed"),
    ],
)
def test_an_ordinary_command_is_not_suspected(argv):
    """
    A word that is no command means nothing.
    """
    assert "" == told(*argv)


@pytest.mark.parametrize("known", [{"ran_s": 100.0}, {"depths": (Depth.HOLD,)}])
def test_who_ran_a_while_or_was_heard_is_not_suspected(known):
    """
    It has done what it was to do.
    """
    assert "" == told("tmux", "new", "-d", "python train.py", **known)
