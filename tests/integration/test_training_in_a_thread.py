"""A training that runs in another thread than the main one, as in a web interface.

Covers: signals with and without `handle_signals()`, how the process ends, the daemon's pauses.
Does not cover: signals to a training in the main thread (test_shim_alone.py).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

import trainer_shim
from tests.harness import GUARD_S, PYTHON, ROOT, Run, RunningDaemon
from trainer_shim import NotSupported

SCRIPT = str(ROOT / "tests/trainers/threaded.py")
BASE = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
UNHEARD = "SIGTERM and Ctrl-C will end the process without a checkpoint"


@pytest.fixture
def threaded(tmp_path):
    """Starts threaded.py and returns it with the folder that steers it."""
    started = []

    def start(*words, hold=("step-20",), steps=60):
        run = Run(tmp_path / "run", steps)
        run.block(*hold)
        process = subprocess.Popen(
            [PYTHON, SCRIPT, *words], env={**BASE, "CHAIN": str(run.folder), "CHAIN_STEPS": str(steps)},
            cwd=run.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return run, process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def daemon():
    """One for all of this file."""
    with RunningDaemon() as running:
        yield running


def until_said(process, words):
    said = ""
    while words not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    return said


def checkpoints(folder):
    return sorted(path.parent.name for path in folder.glob("checkpoints/*/step-*/manifest.json"))


@pytest.mark.parametrize(
    ("main", "signals", "number", "code"),
    [
        ("join", "before", signal.SIGTERM, 143),
        ("join", "after", signal.SIGINT, 130),
        ("server", "before", signal.SIGINT, 130),
        ("server", "after", signal.SIGTERM, 143),
    ],
)
def test_a_signal_checkpoints_and_ends_the_whole_process(threaded, main, signals, number, code):
    """
    Whatever the main thread does meanwhile: it cleans up, goes no further, and the exit code is that of a
    training in the main thread. The next start goes on.
    """
    run, process = threaded(main, signals)
    run.until_at("step-20")
    said = until_said(process, "signals\n")
    process.send_signal(number)
    run.let_go("step-20")
    rest, _ = process.communicate(timeout=GUARD_S)
    _, again = threaded("join", "before", hold=())
    told, _ = again.communicate(timeout=GUARD_S)

    assert code == process.returncode, said + rest
    assert f"is durable; ending because of signal {number:d}" in rest
    assert rest.endswith("the main thread cleans up\n")
    assert "behind the training" not in rest
    assert "Traceback" not in rest
    assert "attached at step 21" in told
    assert run.is_exact()


def test_without_it_the_script_is_told_what_will_not_work(threaded):
    """
    Once, with the line to write; and so it is: the process ends at once, as it would without the shim.
    """
    run, process = threaded("join", "never", "2")
    run.until_at("step-20")
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=GUARD_S)

    assert -signal.SIGTERM == process.returncode
    assert 1 == said.count(UNHEARD)
    assert "the main thread calls `trainer_shim.handle_signals()`" in said
    assert [] == checkpoints(run.folder)


@pytest.mark.parametrize(("signals", "count"), [("never", 1), ("before", 0)])
def test_it_is_said_once_in_a_process_and_only_where_it_is_so(threaded, signals, count):
    """
    A web interface trains again and again; one that handles signals hears nothing.
    """
    _, process = threaded("join", signals, "3", hold=(), steps=3)
    said, _ = process.communicate(timeout=GUARD_S)

    assert (0, count) == (process.returncode, said.count(UNHEARD)), said


def test_sigusr1_checkpoints_and_goes_on(threaded):
    """
    The early notice reaches a thread as well.
    """
    run, process = threaded("join", "before", hold=("step-20", "step-40"))
    run.until_at("step-20")
    process.send_signal(signal.SIGUSR1)
    run.let_go("step-20")
    run.until_at("step-40")
    saved = checkpoints(run.folder)
    run.let_go("step-40")
    process.communicate(timeout=GUARD_S)

    assert (["step-000000021"], 0) == (saved, process.returncode)
    assert run.is_exact()


@pytest.mark.parametrize("main", ["join", "server"])
def test_a_second_ctrl_c_interrupts_at_once(threaded, main):
    """
    An exception in the main thread would not reach the one that trains: the process ends by the signal.
    """
    run, process = threaded(main, "before")
    run.until_at("step-20")
    process.send_signal(signal.SIGINT)
    until_said(process, "Ctrl-C again interrupts at once")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=GUARD_S)

    assert -signal.SIGINT == process.returncode
    assert [] == checkpoints(run.folder)


def test_the_signals_act_on_the_training_that_there_is(threaded):
    """
    Called once, it serves the second training as well; between two of them signals act as ever.
    """
    run, process = threaded("join", "before", "2", hold=("over-0",))
    run.until_at("over-0")
    run.block("step-20")
    run.let_go("over-0")
    run.until_at("step-20")
    process.send_signal(signal.SIGTERM)
    run.let_go("step-20")
    said, _ = process.communicate(timeout=GUARD_S)

    assert 143 == process.returncode, said
    assert ["step-000000021"] == checkpoints(run.folder)


def test_between_two_trainings_signals_act_as_ever(threaded):
    """
    There is nothing to save, and nobody who would.
    """
    run, process = threaded("server", "before", "2", hold=("over-0",))
    run.until_at("over-0")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=GUARD_S)

    assert -signal.SIGTERM == process.returncode


def test_where_the_main_thread_is_over_the_checkpoint_is_there_all_the_same(threaded):
    """
    Python takes the exit code of a main thread that has ended, so it is said.
    """
    run, process = threaded("over", "before")
    run.until_at("step-20")
    process.send_signal(signal.SIGTERM)
    run.let_go("step-20")
    said, _ = process.communicate(timeout=GUARD_S)

    assert 0 == process.returncode
    assert "not with exit code 143" in said
    assert "Exception ignored" not in said
    assert ["step-000000021"] == checkpoints(run.folder)


def test_outside_the_main_thread_it_is_an_error_that_says_where_it_belongs():
    """
    Python allows it nowhere else.
    """
    errors = []

    def call():
        try:
            trainer_shim.handle_signals()
        except NotSupported as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()

    assert ["cannot handle signals outside the main thread: Python allows it nowhere else"] == [
        str(error) for error in errors
    ]
    assert "`trainer_shim.handle_signals()` in the main thread" in errors[0].hint


def test_without_a_training_ctrl_c_is_a_keyboard_interrupt(tmp_path):
    """
    As often as it is pressed, and behind a training that ran in the main thread too.
    """
    script = f"""if True:
        import signal, trainer_shim
        trainer_shim.handle_signals()
        def press():
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                print("interrupted")
        press(); press()
        shim = trainer_shim.attach(checkpoints={str(tmp_path)!r})
        signal.raise_signal(signal.SIGUSR1)
        shim.boundary()
        print(shim._report.checkpoint.step)
        shim.detach()
        press()
        signal.raise_signal(signal.SIGTERM)
    """
    done = subprocess.run(
        [sys.executable, "-u", "-c", script],
        env=BASE,
        capture_output=True,
        text=True,
        timeout=GUARD_S,
        check=False,
    )

    assert ["interrupted", "interrupted", "1", "interrupted"] == done.stdout.split(), done.stderr
    assert -signal.SIGTERM == done.returncode


class TestWithDaemon:
    """The daemon speaks through a socket, which any thread may have."""

    @pytest.mark.parametrize(
        ("main", "signals", "ends"),
        [
            ("join", "never", (None, signal.SIGINT)),
            ("server", "never", (None, signal.SIGINT)),
            ("join", "before", (75, None)),
            ("server", "after", (75, None)),
        ],
    )
    def test_it_is_paused_and_resumed_at_every_depth(self, daemon, main, signals, ends):
        """
        Held in place, then by exit, which ends the process whatever its main thread does; started again it
        goes on to the same result.
        """
        name = f"{main}-{signals}"
        run = daemon.train(name, steps=60, hold=("step-20", "step-40"), argv=(PYTHON, SCRIPT, main, signals))
        run.until_at("step-20")
        daemon.pause(name)
        run.let_go("step-20")
        held = daemon.until(name, "paused")
        daemon.resume(name)
        run.until_at("step-40")
        daemon.pause(name, depth="exit")
        run.let_go("step-40")
        left = daemon.until(name, lambda row: row.state == "paused" and row.pid is None)
        daemon.resume(name)
        daemon.until(name, lambda row: run.is_exact())

        assert ("hold", 21) == (held.depth, held.checkpoint_step)
        assert ("exit", 41) == (left.depth, left.checkpoint_step)
        assert ends == (left.exit_code, left.exit_signal), daemon.job_log(name)
        assert "behind the training" not in daemon.job_log(name).partition("attached at step 41")[0]
