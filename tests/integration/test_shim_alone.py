"""The shim without a daemon, and with one that goes away.

Covers: signals at a real process, with and without data-loader workers; a
held loop whose daemon is gone.
Does not cover: what is saved (tests/exactness).
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from supervisor import api
from tests.harness import CHAIN, GUARD_S, PYTHON, ROOT, Run, until
from trainer_shim import protocol as wire
from trainer_shim.gate import Gate
from trainer_shim.link import Link
from trainer_shim.link_report import LinkReport
from trainer_shim.server_check import Server

TORCH = (PYTHON, str(ROOT / "tests/trainers/torch_small.py"))
BASE = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def alone(tmp_path):
    """Starts chain.py as anybody would who never heard of the daemon."""
    started = []

    def start(name="run", *, steps=60, hold=(), stderr=subprocess.STDOUT, **env):
        run = Run(tmp_path / name, steps)
        run.block(*hold)
        folder = {"CHAIN": str(run.folder), "CHAIN_STEPS": str(steps)}
        more = {key: str(value) for key, value in env.items()}
        process = subprocess.Popen(
            CHAIN, env={**BASE, **folder, **more}, cwd=run.folder, stdout=subprocess.PIPE,
            stderr=stderr, text=True, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return run, process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def checkpoints(folder):
    return sorted(path.parent.name for path in folder.glob("checkpoints/*/step-*/manifest.json"))


def state_of(process):
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_ctrl_z_stops_at_a_boundary_with_a_checkpoint_and_goes_on_exactly(alone):
    """
    A second one stops at once, in the middle of a step; SIGCONT goes on from there.
    """
    run, process = alone(hold=["step-20"])
    run.until_at("step-20")
    # Two that come at once are one.
    until(lambda: process.send_signal(signal.SIGTSTP) or state_of(process) == "T")
    assert [] == checkpoints(run.folder)

    process.send_signal(signal.SIGCONT)
    run.let_go("step-20")
    until(lambda: checkpoints(run.folder) and state_of(process) == "T")
    process.send_signal(signal.SIGCONT)
    said, _ = process.communicate(timeout=GUARD_S)

    assert 0 == process.returncode
    assert run.is_exact()
    assert "stopped, `fg` goes on" in said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_checkpoints_at_the_next_boundary_and_ends(alone, number, code):
    """
    `kill` and Ctrl-C lose nothing, the exit code says which it was, and the
    next start of the same command goes on.
    """
    run, process = alone(hold=("step-20",))
    run.until_at("step-20")
    process.send_signal(number)
    run.let_go("step-20")
    said, _ = process.communicate(timeout=GUARD_S)
    _, again = alone()
    told, _ = again.communicate(timeout=GUARD_S)

    assert code == process.returncode
    assert f"checkpoint of step 21 is durable; ending because of signal {number:d}" in said
    assert "attached at step 21" in told
    assert run.is_exact()


def test_a_second_ctrl_c_interrupts_at_once(alone):
    """
    The first one says so; the second one does not wait for a boundary.
    """
    run, process = alone(hold=("step-20",))
    run.until_at("step-20")
    process.send_signal(signal.SIGINT)
    first = ""
    while "Ctrl-C again interrupts at once" not in first:
        first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=GUARD_S)

    assert -signal.SIGINT == process.returncode
    assert "KeyboardInterrupt" in said
    assert [] == checkpoints(run.folder)


def test_sigusr1_checkpoints_and_goes_on(alone):
    """
    An early notice, as Slurm sends it: the work until now is safe.
    """
    run, process = alone(hold=("step-20", "step-40"))
    run.until_at("step-20")
    process.send_signal(signal.SIGUSR1)
    run.let_go("step-20")
    run.until_at("step-40")
    saved = checkpoints(run.folder)
    run.let_go("step-40")
    process.communicate(timeout=GUARD_S)

    assert ["step-000000021"] == saved
    assert 0 == process.returncode
    assert run.is_exact()


def test_state_that_cannot_be_stored_is_said_and_training_goes_on(alone):
    """
    Without a daemon as well: a SIGTERM that would lose the work is not obeyed.
    """
    run, process = alone(hold=("step-20",))
    run.until_at("step-20")
    (run.folder / "bad-state").touch()
    process.send_signal(signal.SIGTERM)
    run.let_go("step-20")
    said, _ = process.communicate(timeout=GUARD_S)

    assert 0 == process.returncode
    assert "parts.chain.hook: cannot store a function" in said
    assert "training goes on" in said
    assert run.is_exact()


def test_a_log_on_a_full_disk_does_not_end_training(alone):
    """
    A save that fails because the disk is full is told in a log on that disk; so is the first Ctrl-C.
    """
    with Path("/dev/full").open("wb") as full:
        run, process = alone(hold=("step-20",), stderr=full)
    run.until_at("step-20")
    (run.folder / "bad-state").touch()
    process.send_signal(signal.SIGINT)
    run.let_go("step-20")
    process.communicate(timeout=GUARD_S)

    # What Python says itself when it cannot flush at its end; an error in the loop would be 1.
    assert 120 == process.returncode
    assert run.is_exact()


class TestWithWorkers:
    """Data-loader workers get the same signals when the terminal or the group sends them."""

    @contextmanager
    def training(self, tmp_path, step_s):
        command = [*TORCH, "2", "1", "2", str(step_s)]
        process = subprocess.Popen(
            command, env=BASE, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    # Ctrl-C with workers, at the whole group as a terminal sends it: tests/crash/test_group_signals.py.
    @pytest.mark.parametrize(
        ("number", "code"),
        [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.soak)],
    )
    def test_a_signal_to_the_trainer_ends_it_exactly(self, tmp_path, number, code):
        """
        The checkpoint is durable, no worker is left, and the next start comes
        to the same bits as a run that was never ended.
        """
        with self.training(tmp_path, 0.05) as process:
            while process.stdout.readline() != "step 3\n":
                pass
            process.send_signal(number)
            _, said = process.communicate(timeout=GUARD_S)
            group = process.pid
        with self.training(tmp_path, 0) as again:
            rest, told = again.communicate(timeout=GUARD_S)
        whole = tmp_path / "whole"
        whole.mkdir()
        with self.training(whole, 0) as never:
            expected, _ = never.communicate(timeout=GUARD_S)

        assert code == process.returncode, said
        assert "is durable; ending because of signal" in said
        with pytest.raises(ProcessLookupError):
            os.killpg(group, 0)
        assert "going on from step" in told
        assert expected.split()[-1] == rest.split()[-1]


@pytest.fixture
def router():
    """A daemon's end of the wire, in the hands of the test."""
    with tempfile.TemporaryDirectory(prefix="ts-") as folder, zmq.Context() as context:
        endpoint = f"ipc://{folder}/control.sock"

        @contextmanager
        def listen():
            with context.socket(zmq.ROUTER) as socket:
                socket.linger = 0
                socket.rcvtimeo = int(GUARD_S * 1000)
                socket.bind(endpoint)
                yield socket

        listen.endpoint = endpoint
        yield listen


def next_of(socket, kind, job):
    """Return who sent the next message of that kind for the job, and the message. Every Hello is welcomed."""
    names = {}
    while True:
        identity, frame = socket.recv_multipart()
        message = api.decode(frame)
        if isinstance(message, wire.Hello):
            names[identity] = message.job
            welcome = wire.Welcome(heartbeat_s=0.1, orphan_resume_s=0.5)
            socket.send_multipart([identity, wire.encode(welcome)])
        if isinstance(message, kind) and names.get(identity, job) == job:
            return identity, message


def test_without_a_daemon_a_rules_pause_ends_and_a_persons_does_not(alone, router):
    """
    Two held runs lose their daemon. The one that a rule paused trains on after
    a while; the other one holds on, and says so to the next daemon.
    """
    runs, held = {}, {}
    with router() as socket:
        for job, by_rule in (("person", False), ("rule", True)):
            runs[job] = alone(
                job, TRAINING_SUPERVISOR_SOCKET=router.endpoint, TRAINING_SUPERVISOR_JOB=job,
                TRAINING_SUPERVISOR_INCARNATION=1,
            )  # fmt: skip
            identity, _ = next_of(socket, wire.Hello, job)
            pause = wire.Pause(request=f"of-{job}", depth="hold", by_rule=by_rule)
            socket.send_multipart([identity, wire.encode(pause)])
            held[job] = next_of(socket, wire.Yielded, job)[1]
    rule, person = runs["rule"][1], runs["person"][1]
    code = rule.wait(GUARD_S)
    with router() as socket:
        identity, hello = next_of(socket, wire.Hello, "person")
        still_there = person.poll() is None
        socket.send_multipart([identity, wire.encode(wire.Resume(request="go"))])
        next_of(socket, wire.Resumed, "person")
        person.wait(GUARD_S)

    assert 0 == code
    assert runs["rule"][0].is_exact()
    assert still_there
    assert ("of-person", "hold") == (hello.holding, hello.holding_depth)
    assert (
        held["person"].checkpoint == hello.checkpoint or held["person"].checkpoint.step == hello.position.step
    )
    assert runs["person"][0].is_exact()


class Index:
    """A number as NumPy has them: not an int, and MessagePack does not know it."""

    def __index__(self):
        return 7


def test_odd_numbers_of_a_script_do_not_end_the_line(router):
    """
    `epochs()` with a NumPy number or without an end, a metric beyond every float: the rest is still told,
    and a session that is over leaves no descriptor behind.
    """

    def num_open():
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    report = LinkReport()
    report.num_epochs, report.num_steps = math.inf, Index()
    report.metrics.update(huge=10**400, loss=0.5)
    with router() as socket:
        before = num_open()
        link = Link(
            Server(router.endpoint),
            lambda: wire.Hello(job="odd", incarnation=1, position=report.position()),
            report,
            Gate(),
        )
        _, beat = next_of(socket, wire.Heartbeat, "odd")
        link.close(wait_s=GUARD_S)
        # The other end of the connection is closed a moment later.
        until(lambda: before == num_open())

    assert wire.PositionReport(num_steps=7, num_epochs=None) == beat.position
    assert {"loss": 0.5} == beat.metrics


def test_a_script_on_a_machine_whose_daemon_is_gone_trains(alone, router):
    """
    The environment names a socket that nobody listens on: that is no error.
    """
    run, process = alone(TRAINING_SUPERVISOR_SOCKET=router.endpoint, TRAINING_SUPERVISOR_JOB="x")
    said, _ = process.communicate(timeout=GUARD_S)

    assert (0, "attached at step 0\ndone\n") == (process.returncode, said)
    assert run.is_exact()


def test_a_folder_of_checkpoints_has_one_writer(alone):
    """
    The same command started twice: the second one is told who is there.
    """
    run, process = alone(hold=("step-20",))
    run.until_at("step-20")
    _, second = alone()
    said, _ = second.communicate(timeout=GUARD_S)
    run.let_go("step-20")
    process.communicate(timeout=GUARD_S)

    assert 1 == second.returncode
    assert "FolderInUse" in said
    assert str(process.pid) in said
    assert Path(run.folder).is_dir()
    assert run.is_exact()


def test_a_line_that_breaks_from_within_is_said_and_training_goes_on():
    """
    A mistake of ours in the link's thread must neither end the run nor stay unsaid.
    """
    said = []

    def broken():
        raise ZeroDivisionError("a bug")

    with (
        tempfile.TemporaryDirectory() as folder,
        zmq.Context() as context,
        context.socket(zmq.ROUTER) as router,
    ):
        router.bind(f"ipc://{folder}/s")
        link = Link(Server(f"ipc://{folder}/s"), broken, LinkReport(), Gate(), said.append)
        link._thread.join(30)
        link.close(wait_s=1)

    assert [
        "internal error of the line to the daemon (ZeroDivisionError: a bug); training goes on without it"
    ] == said
