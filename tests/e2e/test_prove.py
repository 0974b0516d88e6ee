"""`supervisorctl prove` as a process, on whole training scripts with and without a flaw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRAINERS = ROOT / "tests" / "trainers"


@pytest.fixture
def prove(tmp_path):
    """
    Runs the command in a folder of its own, with the environment of a plain shell.
    """

    def run(*args, script="proved.py", seed=4, pauses=2, before=()):
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        options = [f"--seed={seed}", f"--pauses={pauses}"]
        while args and str(args[0]).startswith("--"):
            options, args = [*options, args[0]], args[1:]
        return subprocess.run(
            [
                *(sys.executable, "-m", "supervisor.cli.main", "prove"),
                *(*options, "--", *before, sys.executable, TRAINERS / script, *args),
            ],
            env=kept | {"PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run


def test_a_script_that_hands_over_everything_is_identical(prove):
    """
    Exit code 0, one line that says what was compared, and where it was paused on stderr.
    """
    done = prove("none", pauses=4)

    assert done.returncode == 0, done.stderr
    assert "identical: 24 reported numbers in 18 steps" in done.stdout
    assert "4 pauses, 2 by exit and 2 by hold" in done.stdout
    assert "chosen by --seed 4" in done.stderr


def test_the_same_seed_pauses_at_the_same_steps(prove):
    """
    A difference that was found can be found again.
    """
    first = json.loads(prove("--json", "none", seed=9).stdout)
    second = json.loads(prove("--json", "none", seed=9).stdout)

    assert len(first) == 1
    assert first == second
    assert first[0]["verdict"] == "identical"


@pytest.mark.parametrize("depth", ["hold", "exit"])
def test_every_depth_is_what_was_asked_for(prove, depth):
    """
    `--depth exit` starts the script again at each pause, `--depth hold` never.
    """
    done = prove(f"--depth={depth}", "--json", "none")

    assert done.returncode == 0, done.stderr
    assert {pause["depth"] for pause in json.loads(done.stdout)[0]["pauses"]} == {depth}


@pytest.mark.parametrize(
    ("flaw", "verdict", "clues"),
    [
        ("own generator", "different", ["all that was handed over is the same", "generator of the script's"]),
        ("hidden data", "different", ["the data is another already in the first step"]),
        ("forgets", "different", ["`average.num`", "load_state_dict() does not take over"]),
        ("no seed", "not repeatable", ["generator `python` starts elsewhere", "random.seed()"]),
        ("time", "not repeatable", ["two runs without a pause differ too", "first at step 1 in `loss`"]),
    ],
)
def test_a_flaw_is_found_and_named(prove, flaw, verdict, clues):
    """
    Exit code 1, what differs first, and the likely cause in words that lead to it.
    """
    done = prove("--depth=exit", flaw, pauses=3)
    said = done.stdout + done.stderr

    assert done.returncode == 1, said
    assert done.stdout.startswith(f"{verdict}: ")
    assert ": loss is " in done.stdout
    assert "final state: model.weight is " in done.stdout
    assert [] == [clue for clue in clues if clue not in said], said


@pytest.mark.parametrize(
    ("seed", "flaw", "clue"),
    [
        # The last step of an epoch, and the boundary at its end.
        (18, "none", "identical"),
        (18, "own generator", "and so are data and generators"),
        (0, "hidden data", "the data is another already in the first step after the pause at step 12 (exit)"),
        (
            44,
            "hidden data",
            "the data is another already in the first step after the pause at step 12 (exit)",
        ),
        # The last step of the run.
        (5, "hidden data", "identical"),
    ],
)
def test_a_pause_at_the_last_step_of_an_epoch_is_told_as_what_it_is(prove, seed, flaw, clue):
    """
    The next boundary is the epoch's end, which has no data; what the head of an epoch reports again is
    no difference, and other data in the next epoch is found.
    """
    done = prove("--depth=exit", flaw, seed=seed, pauses=1)

    assert clue in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("flaw", "error"),
    [
        ("no attach", "never called trainer_shim.attach()"),
        ("fails", "the reference run failed, it ended with exit code 1, before its first step"),
        ("no report", "reports nothing"),
        ("no step", "passed no batch boundary"),
        ("no state", "could not be paused"),
        ("attaches twice", "the reference run failed"),
    ],
)
def test_a_script_that_proves_nothing_is_told_so(prove, flaw, error):
    """
    An error with a hint, never a verdict about nothing.
    """
    done = prove(flaw)

    assert done.returncode == 1
    assert done.stdout == ""
    assert "error: cannot prove anything: " in done.stderr
    assert error in done.stderr
    assert "\nhint: " in done.stderr


@pytest.mark.parametrize(
    ("flaw", "words"),
    [("fails", "    proved.py: no such data set"), ("attaches twice", "attach() is called more than once")],
)
def test_the_end_of_the_output_of_a_script_that_fails_is_shown(prove, flaw, words):
    """
    What it printed last is what a person needs to see.
    """
    assert words in prove(flaw).stderr


def test_a_script_that_dies_of_its_pause_is_a_verdict(prove):
    """
    It works by itself and not when it is paused: that is what was asked.
    """
    done = prove("--depth=exit", "dies when paused")

    assert done.returncode == 1
    assert "failed: 2 pauses" in done.stdout
    assert "proved.py: the log of this run is there already" in done.stderr


def test_the_real_checkpoints_of_the_script_are_left_alone(prove, tmp_path):
    """
    A proof begins at the beginning, whatever the run has saved, and saves nothing there.
    """
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "step-000000004").write_text("precious")

    assert prove("none").returncode == 0
    assert ["mine"] == [path.name for path in tmp_path.iterdir()]
    assert "precious" == (tmp_path / "mine" / "step-000000004").read_text()


def test_what_is_kept_is_kept_in_an_empty_folder_only(prove, tmp_path):
    """
    Traces and output of all runs stay where --keep says; nothing that is there already is touched.
    """
    kept = tmp_path / "kept"

    assert prove(f"--keep={kept}", "none").returncode == 0
    assert {"reference", "paused"} == {path.name for path in kept.iterdir()}
    assert "True\n" in (kept / "paused" / "output.txt").read_text()
    again = prove(f"--keep={kept}", "none")
    assert again.returncode == 2
    assert "it is not empty" in again.stderr


def test_a_torch_script_with_workers_is_identical(prove):
    """
    A script as people write them: dropout, AdamW, a scheduler, two workers.
    """
    done = prove("", script="proved_torch.py")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "18 reported numbers in 18 steps, 16 tensors" in done.stdout


class TestGivingBackMemory:
    """
    Depth `offload`, on CPU tensors that count as a GPU's.
    """

    @pytest.fixture
    def prove(self, prove):
        before = ("env", "TRAINING_SUPERVISOR_OFFLOAD=cpu")
        return partial(prove, script="proved_offload.py", before=before, pauses=3)

    def test_a_run_that_gives_its_memory_back_is_identical(self, prove, tmp_path):
        """
        `--depth offload` pauses by nothing else, and every loss and every tensor is the same; a return that
        finds no memory waits for it.
        """
        done = prove("--depth=offload", f"--keep={tmp_path / 'kept'}", "full")

        assert done.returncode == 0, done.stdout + done.stderr
        assert "identical: 18 reported numbers in 18 steps, 8 tensors" in done.stdout
        assert "3 pauses, 3 by offload\n" in done.stdout
        assert 1 == (tmp_path / "kept" / "paused" / "trace.jsonl").read_text().count("waiting for GPU memory")

    def test_it_is_among_the_pauses_by_default_and_a_bit_that_changed_is_found(self, prove):
        """
        Nobody has to know that a run has this depth; the step at which memory was given back is named.
        """
        done = prove("damaged")
        said = done.stdout + done.stderr

        assert done.returncode == 1, said
        assert done.stdout.startswith("different: "), said
        assert "3 pauses, 1 by exit, 1 by offload and 1 by hold\n" in done.stdout
        assert "was not the same when it had returned: `" in done.stdout, said

    def test_what_refuses_it_is_told_and_not_proved_by_another_depth(self, prove):
        """
        The verdict says what it is about, and the reason why that is not all.
        """
        done = prove("graphs")

        assert done.returncode == 0, done.stdout + done.stderr
        assert "2 pauses, 1 by exit and 1 by hold; none by offload: cannot give back" in done.stdout
        assert "captured CUDA graphs" in done.stdout


def test_a_run_without_a_gpu_is_told_before_it_is_paused(prove):
    """
    There is nothing that depth `offload` could give back, and no other depth is proved in its place.
    """
    done = prove("--depth=offload", "none")

    assert (1, "") == (done.returncode, done.stdout)
    assert "error: cannot prove anything: no tensor of this run" in done.stderr
    assert "\nhint: such a run is never paused by `offload`" in done.stderr
    assert "paused after steps" not in done.stderr


def test_another_memory_layout_after_a_pause_is_named_as_the_cause(prove):
    """
    The numbers are the same, and yet a kernel that walks raw memory gives others.
    """
    done = prove("--depth=exit", script="proved_layout.py", pauses=1)

    assert done.returncode == 1, done.stderr
    assert "the same numbers in another memory layout: `average.mean`" in done.stdout + done.stderr
