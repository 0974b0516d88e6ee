"""`supervisorctl prove` as a process, on whole training scripts with and without a flaw."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.harness import is_running, until

ROOT = Path(__file__).parents[2]
TRAINERS = ROOT / "tests" / "trainers"
COMMAND = (sys.executable, "-m", "supervisor.cli.main", "prove")


def shell():
    """
    The environment of a plain shell.
    """
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def prove(tmp_path):
    """
    Runs the command in a folder of its own.
    """

    def run(*args, script="proved.py", seed=4, pauses=2, before=()):
        options = [f"--seed={seed}", f"--pauses={pauses}"]
        while args and str(args[0]).startswith("--"):
            options, args = [*options, args[0]], args[1:]
        return subprocess.run(
            [*COMMAND, *options, "--", *before, sys.executable, TRAINERS / script, *args],
            env=shell(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run


def test_a_script_that_hands_over_everything_is_told_what_was_tried(prove, tmp_path):
    """
    Exit code 0, one line that says what was compared and where, which is no guarantee. Checkpoints of the
    real run are neither read nor written; what --keep keeps is kept, in an empty folder only.
    """
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "step-000000004").write_text("precious")
    kept = tmp_path / "kept"
    done = prove(f"--keep={kept}", "none", pauses=5)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == (
        "nothing differed at 3 exits and 2 holds of 18 steps: 24 reported numbers, 0 tensors and 6 values of "
        "the final state\n"
    )
    assert "chosen by --seed 4" in done.stderr
    assert {"kept", "mine"} == {path.name for path in tmp_path.iterdir()}
    assert "precious" == (tmp_path / "mine" / "step-000000004").read_text()
    assert {"reference", "paused"} == {path.name for path in kept.iterdir()}
    assert "True\n" in (kept / "paused" / "output.txt").read_text()
    again = prove(f"--keep={kept}", "none")
    assert (2, True) == (again.returncode, "it is not empty" in again.stderr)


def test_a_program_gets_a_row_and_the_depth_that_was_asked_for(prove):
    """
    `--depth hold` never starts the script again.
    """
    (row,) = json.loads(prove("--depth=hold", "--json", "none").stdout)

    assert ("identical", 2, []) == (row["verdict"], row["num_reached"], row["said"])
    assert {"hold"} == {pause["depth"] for pause in row["pauses"]}


@pytest.mark.parametrize(
    ("flaw", "verdict", "clues"),
    [
        (
            "own generator",
            "different",
            ["`own` draws random numbers", "all that was handed over is the same after the pause"],
        ),
        ("hidden data", "different", ["the data is another already in the first step"]),
        ("forgets", "different", ["`average.num`", "load_state_dict() does not take over"]),
        (
            "worst",
            "different",
            ["likely cause: the shim said: `worst` (line 6", "`state = shim.state(worst=...)`"],
        ),
        (
            "own iterator",
            "different",
            ["no batch came by shim.batches()", "an iterator that it makes itself"],
        ),
        ("no seed", "not repeatable", ["generator `python` starts elsewhere", "random.seed()"]),
        ("time", "not repeatable", ["two runs without a pause differ too", "first at step 1 in `loss`"]),
        (
            "clock",
            "not repeatable",
            ["a clock, or something else from outside", "`average.seconds` is another"],
        ),
    ],
)
def test_a_flaw_is_found_and_named(prove, flaw, verdict, clues):
    """
    Exit code 1, what differs first, and the likely cause in words that lead to it.
    """
    done = prove(flaw)
    said = done.stdout + done.stderr

    assert done.returncode == 1, said
    assert done.stdout.startswith(f"{verdict}: ")
    assert ": loss is " in done.stdout or flaw == "clock"
    assert "final state: " in done.stdout
    assert [] == [clue for clue in clues if clue not in said], said


def test_what_the_shim_said_is_told_where_nothing_differed(prove):
    """
    A variable of the loop was lost, and did not matter at these steps: that is no all-clear.
    """
    done = prove("hardly", pauses=1)

    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("doubtful: nothing differed at 1 exit of 18 steps: ")
    assert "\nthe shim said: `worst` (line 6" in done.stdout


def test_pauses_at_the_last_steps_of_epochs_are_no_difference_by_themselves(prove):
    """
    The next boundary is the epoch's end, which has no data, and the head of an epoch reports again.
    """
    done = prove("--depth=exit", "--json", "none", pauses=4, seed=31)
    (row,) = json.loads(done.stdout)

    assert {(6, 0), (12, 2)} <= {(one["step"], one["epoch"]) for one in row["pauses"]}
    assert "identical" == row["verdict"], done.stdout


@pytest.mark.parametrize(
    ("flaw", "errors"),
    [
        ("no attach", ["never called trainer_shim.attach()"]),
        (
            "fails",
            [
                "the reference run failed, it ended with exit code 1, before its first step",
                "    proved.py: no such data set",
            ],
        ),
        ("no report", ["reports nothing"]),
        ("no step", ["passed no batch boundary"]),
        ("no state", ["could not be paused"]),
        ("attaches twice", ["the reference run failed", "attach() is called more than once"]),
    ],
)
def test_a_script_that_proves_nothing_is_told_so(prove, flaw, errors):
    """
    An error with a hint, and the end of what the script printed; never a verdict about nothing.
    """
    done = prove(flaw)

    assert (1, "") == (done.returncode, done.stdout)
    assert "error: cannot prove anything: " in done.stderr
    assert [] == [error for error in errors if error not in done.stderr], done.stderr
    assert "\nhint: " in done.stderr


def test_a_script_that_dies_of_its_pause_is_a_verdict(prove):
    """
    It works by itself and not when it is paused: that is what was asked.
    """
    done = prove("--depth=exit", "dies when paused")

    assert done.returncode == 1
    assert "failed: at 2 exits" in done.stdout
    assert "proved.py: the log of this run is there already" in done.stderr


class TestEnding:
    """
    A proof that is ended ends its training, with the workers, and leaves nothing.
    """

    @pytest.fixture
    def proof(self, tmp_path):
        """
        One whose training never ends, in a session of its own at a terminal of its own.
        """
        (tmp_path / "tmp").mkdir()
        master, slave = pty.openpty()
        process = subprocess.Popen(
            # Its standard input is its controlling terminal.
            ["setsid", "--ctty", *COMMAND, "--", sys.executable, TRAINERS / "proved.py", "no end"],
            env=shell() | {"TMPDIR": str(tmp_path / "tmp")},
            cwd=tmp_path,
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        terminal = [master]
        try:
            until((tmp_path / "pids").exists)
            yield process, terminal
        finally:
            process.kill()
            process.wait()
            for one in terminal:
                os.close(one)

    @pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "closed terminal"])
    def test_nothing_is_left(self, proof, tmp_path, how):
        """
        Exit code 128 and the number of the signal.
        """
        process, terminal = proof
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        if how == "closed terminal":
            os.close(terminal.pop())
            number = signal.SIGHUP
        else:
            number = signal.Signals[how]
            process.send_signal(number)

        assert 128 + number == process.wait(20)
        until(lambda: not any(map(is_running, pids)))
        assert [] == list((tmp_path / "tmp").iterdir())


class TestGivingBackMemory:
    """
    Depth `offload`, on CPU tensors that count as a GPU's.
    """

    @pytest.fixture
    def prove(self, prove):
        before = ("env", "TRAINING_SUPERVISOR_OFFLOAD=cpu")
        return partial(prove, script="proved_offload.py", before=before)

    def test_a_run_that_gives_its_memory_back_is_the_same(self, prove, tmp_path):
        """
        `--depth offload` pauses by nothing else, and every loss and every tensor is the same; a return that
        finds no memory waits for it.
        """
        done = prove("--depth=offload", f"--keep={tmp_path / 'kept'}", "full", pauses=3)

        assert done.returncode == 0, done.stdout + done.stderr
        assert "nothing differed at 3 offloads of 18 steps: 18 reported numbers, 8 tensors" in done.stdout
        assert 1 == (tmp_path / "kept" / "paused" / "trace.jsonl").read_text().count("waiting for GPU memory")

    def test_a_bit_that_changed_is_found(self, prove):
        """
        The step at which memory was given back is named.
        """
        done = prove("--depth=offload", "damaged", pauses=1)
        said = done.stdout + done.stderr

        assert done.returncode == 1, said
        assert done.stdout.startswith("different: "), said
        assert "was not the same when it had returned: `" in done.stdout, said

    def test_what_refuses_it_is_told_and_not_proved_by_another_depth(self, prove):
        """
        Nobody has to know that a run has this depth: it is among the pauses by default. The verdict says what
        it is about, and the reason why that is not all. The batches are made by two workers.
        """
        done = prove("graphs", pauses=3)

        assert done.returncode == 0, done.stdout + done.stderr
        assert "nothing differed at 2 exits of 18 steps" in done.stdout
        assert "; none by offload: cannot give back" in done.stdout
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
