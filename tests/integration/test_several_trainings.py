"""One process that trains several times: none begins with the weights of another.

Covers: the folder of each, a pause in each, what is said, attach() again in a notebook.
Does not cover: several processes, each of which has a folder of its own or is told that it is in use.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.harness import GUARD_S, PYTHON, ROOT, RunningDaemon

SCRIPT = str(ROOT / "tests/trainers/folds.py")
BASE = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
NUM_STEPS = 10
SHARED = "this very process trained into"


def start(folder, *words):
    return subprocess.run(
        [PYTHON, *words], env=BASE, cwd=folder, capture_output=True, text=True, timeout=GUARD_S, check=False
    )


@cache
def expected():
    return start("/", SCRIPT, "plain").stdout


def result(done):
    return "".join(line for line in done.stdout.splitlines(keepends=True) if line.startswith("RESULT"))


def folders(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.glob("checkpoints/*") if path.is_dir())


@pytest.mark.parametrize("how", ["epochs", "saves", "loop", "bare", "apart"])
def test_every_training_begins_with_its_own_weights(tmp_path, how):
    """
    The result is that of a script without the shim, and each training has its folder.
    """
    done = start(tmp_path, SCRIPT, how)

    assert expected() == result(done), done.stderr
    assert SHARED not in done.stderr
    if how != "apart":
        assert ["checkpoints/folds", "checkpoints/folds+2", "checkpoints/folds+3"] == folders(tmp_path)


@pytest.mark.parametrize(
    ("how", "step"),
    [
        *itertools.product(["epochs", "saves", "loop"], [3, NUM_STEPS, NUM_STEPS + 1, 2 * NUM_STEPS + 7]),
        # In its last step it is that of test_a_loop_that_never_says_that_it_is_over_...
        *itertools.product(["kept"], [NUM_STEPS + 1, 2 * NUM_STEPS + 7]),
    ],
)
def test_a_pause_in_any_of_them_changes_nothing(tmp_path, how, step):
    """
    In the middle of a training, in its first step and in its last. The process that is started again is
    through the ones before quickly, from their own checkpoints, and takes this one up where it was.
    """
    first = start(tmp_path, SCRIPT, how, str(step))
    again = start(tmp_path, SCRIPT, how)

    assert 143 == first.returncode, first.stderr
    assert "" == result(first)
    fold, begun = divmod(step - 1, NUM_STEPS)
    assert f"fold {fold} begins at step {begun + 1}\n" in again.stdout
    assert expected() == result(again), again.stderr


def test_several_pauses_one_after_the_other_change_nothing(tmp_path):
    """
    A restarted process that is paused again, in another training.
    """
    ends = [start(tmp_path, SCRIPT, "epochs", str(step)).returncode for step in (4, 9, 12, 6)]
    done = start(tmp_path, SCRIPT, "epochs")

    assert [143] * 4 == ends
    assert expected() == result(done), done.stderr


def test_a_shared_folder_is_obeyed_and_said(tmp_path):
    """
    A script that names one folder for all gets what it asks for, and hears what that is.
    """
    first = start(tmp_path, SCRIPT, "shared", "3")
    again = start(tmp_path, SCRIPT, "shared")

    assert SHARED not in first.stderr
    assert expected() != result(again)
    assert 2 == again.stderr.count(f"{SHARED} `{tmp_path}/mine` before, up to step 10: the weights of that")
    assert "give each training a folder of its own, checkpoints=" in again.stderr


def test_a_loop_that_never_says_that_it_is_over_is_told_when_its_checkpoint_is_taken_twice(tmp_path):
    """
    Paused in its very last step, it cannot be told from a notebook that attaches again.
    """
    start(tmp_path, SCRIPT, "bare", str(NUM_STEPS))
    again = start(tmp_path, SCRIPT, "bare")

    assert "attached again, and nothing was trained in between" in again.stderr


def notebook(folder, *cells):
    """Runs cells one after the other in one process; one that raises does not keep the next from running."""
    script = folder.with_name("training.py")
    text = f"""if True:
        import os, signal, trainer_shim
        class Part:
            n = 0
            def state_dict(self): return {{"n": self.n}}
            def load_state_dict(self, state): self.n = state["n"]
        def attach(**more):
            global shim, part
            part = Part()
            shim = trainer_shim.attach(part=part, **more)
        def train(num):
            for _ in range(num):
                part.n += 1
                shim.boundary()
        def loop():
            for _ in shim.epochs(1):
                for _ in shim.batches([1, 2]):
                    part.n += 1
        def interrupt(): os.kill(os.getpid(), signal.SIGINT)
        for cell in {cells!r}:
            try:
                exec(cell)
            except BaseException as error:
                print(type(error).__name__, flush=True)
    """
    script.write_text(text)
    done = start(folder, script)
    assert 0 == done.returncode, done.stderr
    return done


SHOW = "print(shim._store._root.name, part.n)"


def test_a_notebook_that_attaches_again_before_it_trains_has_the_same_folder(tmp_path):
    """
    Nothing was trained, so nothing is over.
    """
    done = notebook(tmp_path, "attach()", "attach()", "train(3); shim.checkpoint()", SHOW)
    again = notebook(tmp_path, "attach()", SHOW, "attach()", SHOW)

    assert ["training 3"] == done.stdout.splitlines()
    assert "" == done.stderr
    assert ["training 3", "training 3"] == again.stdout.splitlines()
    assert 1 == again.stderr.count("attached again, and nothing was trained in between")


def test_a_notebook_that_was_interrupted_goes_on_where_it_was(tmp_path):
    """
    Ctrl-C checkpoints and ends the cell, not the process: that training is not over.
    """
    done = notebook(tmp_path, "attach()", "train(3); interrupt(); train(1)", "attach()", "train(2)", SHOW)

    assert ["SystemExit", "training 6"] == done.stdout.splitlines(), done.stderr
    assert "going on from step 4" in done.stderr


def test_a_loop_that_finds_nothing_left_to_do_is_over(tmp_path):
    """
    Its checkpoint is of its very end; what is attached after it is another training.
    """
    notebook(tmp_path, "attach()", "loop(); shim.checkpoint()")
    again = notebook(tmp_path, "attach()", "loop()", SHOW, "attach()", SHOW)

    assert ["training 2", "training+2 0"] == again.stdout.splitlines(), again.stderr


def test_a_notebook_that_trains_anew_is_told_so_and_how_to_go_on(tmp_path):
    """
    A cell that is run again is another training; with the folder of the first it goes on with that.
    """
    done = notebook(
        tmp_path, "attach()", "train(3); shim.checkpoint()", "attach()", SHOW,
        "attach(checkpoints='checkpoints/training')", SHOW,
    )  # fmt: skip

    assert ["training+2 0", "training 3"] == done.stdout.splitlines(), done.stderr
    assert "training 2 of this process begins anew, not going on from step 3" in done.stderr
    assert f"its checkpoints go to `{tmp_path}/checkpoints/training+2`" in done.stderr
    assert 1 == done.stderr.count(SHARED)


def test_trainings_that_the_script_ends_itself_are_not_mentioned(tmp_path):
    """
    Folds and sweeps call detach(): the next one is another training on purpose.
    """
    done = notebook(tmp_path, "attach()", "train(3); shim.detach()", "attach()", SHOW)

    assert ["training+2 0"] == done.stdout.splitlines(), done.stderr
    assert "begins anew" not in done.stderr


def test_a_script_that_changes_its_folder_does_not_mix_them_up(tmp_path):
    """
    What is one folder by two names is one; what is two by one name are two.
    """
    (tmp_path / "link").symlink_to(tmp_path)
    done = notebook(
        tmp_path, "attach(checkpoints='mine')", "train(2); shim.checkpoint()", "shim.detach()",
        "os.mkdir('other'); os.chdir('other')", "attach(checkpoints='mine')", SHOW, "shim.detach()",
        "attach(checkpoints='../link/mine')", SHOW,
    )  # fmt: skip

    assert ["mine 0", "mine 2"] == done.stdout.splitlines(), done.stderr
    assert 1 == done.stderr.count(SHARED)


def test_a_forked_child_does_not_end_the_training_of_its_parent(tmp_path):
    """
    It has a copy of the session, but the training goes on elsewhere: its folder is in use.
    """
    child = "pid = os.fork()\nif pid == 0:\n    attach()\nelse: os.waitpid(pid, 0)"
    done = notebook(tmp_path, "attach()", "train(2)", child, "train(2)", "if pid == 0: os._exit(0)", SHOW)

    assert ["FolderInUse", "training 4"] == sorted(done.stdout.splitlines()), done.stderr


@pytest.fixture(scope="module")
def daemon():
    """One for all of this file."""
    with RunningDaemon() as running:
        yield running


def test_a_job_that_trains_several_times_is_paused_in_its_second_training(daemon):
    """
    Status tells of the training that there is; a pause by exit in the second one is taken up there, and the
    checkpoints of each are listed under its number.
    """
    env = daemon.job_env(CHAIN_STEP_S="0.1")
    daemon.command("cv", PYTHON, SCRIPT, "epochs", env=env)
    seen = daemon.until("cv", lambda row: "fold 1 begins" in daemon.job_log("cv") and row.step in (2, 3, 4))
    daemon.pause("cv", depth="exit")
    paused = daemon.until("cv", lambda row: row.state == "paused" and row.pid is None)
    told = json.loads(daemon.ctl("status", "--json", "cv").out)
    daemon.resume("cv")
    row = daemon.until("cv", "completed")
    listed, first = (
        daemon.ctl("checkpoints", "list", "--json", "cv+2"),
        daemon.ctl("checkpoints", "list", "cv"),
    )

    assert (NUM_STEPS, 2) == (seen.num_steps, seen.num_epochs)
    assert paused.checkpoint_step == told[0]["checkpoint_step"] <= 6
    assert f"fold 1 begins at step {paused.checkpoint_step}\n" in daemon.job_log("cv")
    assert (NUM_STEPS, NUM_STEPS) == (row.step, row.num_steps)
    assert expected() in daemon.job_log("cv")
    assert [paused.checkpoint_step] == [one["step"] for one in json.loads(listed.out)]
    assert "the others are cv+2, cv+3" in first.err
    assert (daemon.work / "checkpoints/cv+2").is_dir()
    assert not Path(daemon.work / "checkpoints/folds").exists()
    assert signal.SIGTERM.name not in daemon.job_log("cv")
