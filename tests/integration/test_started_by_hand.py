"""A program that a person starts without us and that calls attach(): a job of its user, with a real daemon.

Covers: appearing, pausing and going on exactly, a daemon that dies meanwhile, exit with and without a way
back, ends, bounds, the switches, processes below it, a terminal, another user.
Does not cover: what the core makes of such a job (tests/unit/core/jobs/test_by_hand.py).
"""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
import zmq

from supervisor import api
from supervisor.client import Client, new_id
from supervisor.settings.config import JobsConfig
from tests.harness import CHAIN, CONFIG, GUARD_S, PYTHON, Denied, RunningDaemon, until
from tests.other_user import OTHER, needs_root, run_as
from tests.trainers.chain import Chain
from trainer_shim import attach, link, receipt
from trainer_shim import protocol as wire
from trainer_shim.late_imports import import_late

#: The other user may not be able to read what is imported when it is used.
IMPORTED = (link, receipt)

ONCE = "it was started by hand, and nobody said how it is started again"


@pytest.fixture
def daemon():
    with RunningDaemon() as running:
        yield running


@contextlib.contextmanager
def by_hand(daemon, run, *, argv=CHAIN, stdin=subprocess.DEVNULL, **env):
    """Start a training as a shell does: in its own session, with nothing of ours but the folder's name."""
    told = {"TRAINING_SUPERVISOR_HOME": daemon.home, **env}
    log = (run.folder / "out").open("w")
    process = subprocess.Popen(
        argv, cwd=run.folder, env=daemon.chain_env(run, **told), stdin=stdin, stdout=log, stderr=log
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        log.close()


def is_running(row):
    return row.state == "running" and row.pausable


def taken_up(daemon, name="chain"):
    """The row of a job by hand once it trains; before it is there its name means nothing."""
    until(lambda: name in daemon.names(), f"{name} is taken up")
    return daemon.until(name, is_running)


def test_a_script_by_hand_is_a_job_of_its_user(daemon):
    """
    Named after it, with its command and its folder; what it prints is where it was started.
    """
    run = daemon.plan("mine")
    with by_hand(daemon, run) as process:
        row = taken_up(daemon)
        shown = daemon.client.show("chain")
        logs = daemon.ctl("logs", "chain")
        status = daemon.ctl("status")
    ended = daemon.until("chain", "stopped")
    shown_by_name = daemon.ctl("show", "chain")

    assert (process.pid, True, 1) == (row.pid, row.by_hand, row.incarnation)
    assert (CHAIN, str(run.folder)) == (shown.argv, shown.cwd)
    assert str(run.folder / "checkpoints/chain") == shown.checkpoints
    assert ("hold",) == shown.depths[:1]
    assert "exit" not in shown.depths
    assert (3, True) == (logs.code, "was started by hand" in logs.err), logs
    assert "started by hand" in status.out
    assert "ended; how is not known, it was started by hand" == ended.problem
    assert 0 == shown_by_name.code


def test_it_holds_and_goes_on_exactly_also_when_the_daemon_dies_meanwhile(daemon):
    """
    The next daemon knows it by pid and start time: it is paused as it was, and is one job all the time.
    """
    run = daemon.plan("mine", steps=300, hold=("step-250",))
    with by_hand(daemon, run) as process:
        taken_up(daemon)
        daemon.pause("chain", depth="hold")
        daemon.until("chain", "paused")
        daemon.kill()
        daemon.start()
        again = daemon.until("chain", lambda row: row.state == "paused" and row.heartbeat_age_s is not None)
        daemon.resume("chain")
        daemon.until("chain", "running")
        run.until_at("step-250")
        daemon.kill()
        run.let_go("step-250")
        assert 0 == process.wait(GUARD_S)
        daemon.start()
        ended = daemon.until("chain", "stopped")

    assert process.pid == again.pid
    assert ["chain"] == daemon.names()
    assert "how is not known" in ended.problem
    assert run.is_exact()
    assert 1 == len(run.starts)


def test_it_is_paused_at_once_after_it_was_taken_up(daemon):
    """
    2026-11-29: when the journal had the new job its shim was forgotten, until its first heartbeat.
    """
    with zmq.Context() as context, context.socket(zmq.DEALER) as shim:
        shim.linger, shim.rcvtimeo = 0, int(GUARD_S * 1000)
        shim.connect(daemon.paths.control_endpoint)
        shim.send(wire.encode(wire.Hello(job="", incarnation=0, depths=("hold",), script="here")))
        assert isinstance(api.decode(shim.recv()), wire.Welcome)
        daemon.until("here", "running")
        daemon.pause("here", depth="hold")

        assert isinstance(api.decode(shim.recv()), wire.Pause)


def test_exit_is_refused_where_nobody_said_how_it_is_started_again(daemon):
    """
    In words, with what can be done; and so is a start by us once it is over.
    """
    run = daemon.plan("mine")
    with by_hand(daemon, run):
        taken_up(daemon)
        said = daemon.ctl("pause", "chain", "--depth", "exit")
        with pytest.raises(Denied, match=ONCE):
            daemon.ask(api.RestartRequest, "chain")
        row = daemon.row("chain")
    daemon.until("chain", "stopped")
    with pytest.raises(Denied, match=ONCE):
        daemon.ask(api.RestartRequest, "chain")

    assert 3 == said.code
    assert f"cannot pause job `chain` at depth exit: {ONCE}" in said.err
    assert "`supervisorctl pause chain --depth hold`" in said.err
    assert "running" == row.state
    assert 1 == len(run.starts)


def test_it_exits_and_is_started_again_where_it_says_how(daemon):
    """
    The second start is one of ours, with a log, from its checkpoint: no step is lost or done twice.
    """
    run = daemon.plan("mine", steps=300, hold=("step-200",))
    with by_hand(daemon, run, CHAIN_RESTART="yes") as process:
        taken_up(daemon)
        daemon.pause("chain", depth="exit")
        assert 75 == process.wait(GUARD_S)
        paused = daemon.until("chain", "paused")
        daemon.resume("chain")
        run.let_go("step-200")
        ended = daemon.until("chain", "completed")

    assert ("exit", True) == (paused.depth, paused.by_hand)
    assert (2, False) == (ended.incarnation, ended.by_hand)
    assert "attached at step" in daemon.job_log("chain")
    assert [0, 2] == run.incarnations
    assert run.is_exact()


def test_stop_saves_and_kill_ends_it(daemon):
    """
    Both end what a person started, because a person asked.
    """
    first, second = daemon.plan("first"), daemon.plan("second")
    with by_hand(daemon, first) as one:
        taken_up(daemon)
        daemon.ask(api.StopRequest, "chain")
        assert 75 == one.wait(GUARD_S)
        stopped = daemon.until("chain", "stopped")
    with by_hand(daemon, second) as two:
        taken_up(daemon, "chain-2")
        daemon.ask(api.KillRequest, "chain-2")
        assert -signal.SIGKILL == two.wait(GUARD_S)
        daemon.until("chain-2", "stopped")

    assert stopped.checkpoint_step


#: What a login shell does: the terminal becomes that of the session, and Ctrl-C reaches it.
IN_FRONT = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_terminal_stays_its_persons(daemon):
    """
    Ctrl-C at its terminal saves and ends it, as it does without a daemon.
    """
    run = daemon.plan("mine")
    ours, theirs = pty.openpty()
    told = daemon.chain_env(run, TRAINING_SUPERVISOR_HOME=daemon.home)
    at_terminal = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "start_new_session": True}
    process = subprocess.Popen((PYTHON, "-c", IN_FRONT, *CHAIN), cwd=run.folder, env=told, **at_terminal)
    os.close(theirs)
    try:
        taken_up(daemon)
        os.write(ours, b"\x03")
        assert 128 + signal.SIGINT == process.wait(GUARD_S)
        row = daemon.until("chain", "stopped")
    finally:
        process.kill()
        process.wait()
        os.close(ours)

    assert "how is not known" in row.problem


@pytest.mark.parametrize("switch", [{"TRAINING_SUPERVISOR_ADOPT": "0"}, {"CHAIN_ADOPT": "no"}])
def test_a_script_that_wants_no_daemon_gets_none(daemon, switch):
    """
    By its environment or its own word it trains alone.
    """
    run = daemon.plan("mine", steps=50)
    with by_hand(daemon, run, **switch) as process:
        assert 0 == process.wait(GUARD_S)

    assert [] == daemon.names()
    assert run.is_exact()


def test_a_daemon_that_takes_up_none_says_nothing(daemon):
    """
    Switched off in config.toml, a script trains on and its person reads nothing of it; nor without a daemon.
    """
    daemon.configure(f"{CONFIG}[jobs]\nadopt = false\n")
    daemon.client.reload()
    off, away = daemon.plan("off", steps=100), daemon.plan("away", steps=50)
    with by_hand(daemon, off) as process:
        assert 0 == process.wait(GUARD_S)
    names = daemon.names()
    daemon.kill()
    with by_hand(daemon, away) as process:
        assert 0 == process.wait(GUARD_S)
    told = [(run.folder / "out").read_text().splitlines() for run in (off, away)]

    assert [] == names
    assert 2 * [["attached at step 0", "done"]] == told
    assert [True, True] == [off.is_exact(), away.is_exact()]


def test_a_bound_forgets_those_that_are_over_and_refuses_more(daemon):
    """
    Whoever starts many by hand keeps the newest; those that live are never forgotten.
    """
    daemon.configure(f"{CONFIG}[jobs]\nmax_adopted = 2\n")
    daemon.client.reload()
    first, second, third, fourth = (daemon.plan(name) for name in ("a", "b", "c", "d"))
    with by_hand(daemon, first):
        taken_up(daemon)
    daemon.until("chain", "stopped")
    with by_hand(daemon, second), by_hand(daemon, third) as process:
        until(lambda: sum(map(is_running, daemon.client.status().rows)) == 2)
        with by_hand(daemon, fourth):
            refused = until(lambda: (fourth.folder / "out").read_text().partition("cannot take up")[2])
        pids = {row.pid for row in daemon.client.status().rows}

    assert 2 < JobsConfig().max_adopted
    assert 2 == len(pids)
    assert process.pid in pids
    assert "another program: you have 2" in refused


FAMILY = """
import os, subprocess, sys, time
import trainer_shim
from tests.trainers.chain import Chain

first = Chain()
shim = trainer_shim.attach(first=first, checkpoints="one")
for _ in shim.batches(range(3)):
    first.step()
shim.detach()
env = {**os.environ, "CHAIN": os.environ["OF_CHILD"], "CHAIN_STEPS": "100"}
other = subprocess.run(
    [sys.executable, os.environ["CHILD"]], env=env, timeout=60, capture_output=True, text=True
)
open("child", "w").write(other.stdout + other.stderr)
second = Chain()
shim = trainer_shim.attach(second=second, checkpoints="two")
if os.fork() == 0:
    os._exit(0)
os.wait()
for _ in shim.batches(range(100000)):
    second.step()
    time.sleep(0.01)
"""


def test_two_trainings_of_a_process_and_what_it_starts_are_one_job(daemon):
    """
    A second attach(), a fork and a script that it runs: no job of their own, and nothing is said to them.
    """
    run, child = daemon.plan("mine"), daemon.plan("child", steps=100)
    script = run.folder / "family.py"
    script.write_text(FAMILY)
    with by_hand(daemon, run, argv=(PYTHON, str(script)), CHILD=CHAIN[1], OF_CHILD=child.folder) as process:
        until((run.folder / "child").exists)
        taken_up(daemon, "family")
        row = daemon.until("family", lambda row: is_running(row) and row.step and row.step > 3)
        names = daemon.names()

    assert (["family"], process.pid) == (names, row.pid)
    assert "attached at step 0\ndone\n" == (run.folder / "child").read_text()
    assert child.is_exact()


def as_another_user(running, then):
    """Return what another user's script does with its chain, its shim and a client, in a process of his."""
    running.home.chmod(0o755)
    running.work.chmod(0o777)
    import_late()
    home, work, paths = str(running.home), str(running.work), running.paths

    def trained():
        os.chdir(work)
        os.environ |= {"TRAINING_SUPERVISOR_HOME": home, "TRAINING_SUPERVISOR_ADOPT": "1"}
        chain = Chain()
        shim = attach(chain=chain, checkpoints=f"{work}/c", restart=["touch", f"{work}/x"])
        with Client(paths, connect_s=5.0, answer_s=GUARD_S) as client:
            (row,) = until(lambda: [row for row in client.status().rows if is_running(row)])
            return then(chain, shim, client, row)

    return run_as(OTHER, trained)


@needs_root
def test_another_users_script_is_his_job_in_the_systems_daemon():
    """
    He sees and pauses it by its name, root by his; nobody can have it end for a pause, or started again.
    """
    with RunningDaemon(CONFIG, words=("--system",)) as running:
        paths = running.paths

        def trained(chain, shim, client, row):
            exit_ = client.ask_jobs(api.PauseRequest(id=new_id(), jobs=(row.name,), depth="exit"))
            client.ask_jobs(api.PauseRequest(id=new_id(), jobs=(row.name,), depth="hold"))

            def let_go():
                with Client(paths, connect_s=5.0, answer_s=GUARD_S) as other:
                    until(lambda: other.status((row.name,)).rows[0].state == "paused")
                    other.ask_jobs(api.ResumeRequest(id=new_id(), jobs=(row.name,)))

            with ThreadPoolExecutor() as pool:
                going_on = pool.submit(let_go)
                while not going_on.done():
                    chain.step()
                    shim.boundary()
            going_on.result()
            shim.detach()
            return row.name, row.pid == os.getpid(), [getattr(one, "error", "") for one in exit_]

        name, is_its, (refused,) = as_another_user(running, trained)
        of_root = running.until(f"uid-{OTHER}/{name}", "stopped")
        with pytest.raises(Denied, match=ONCE):
            running.ask(api.RestartRequest, f"uid-{OTHER}/{name}")

    assert is_its
    assert "/" not in name
    assert ONCE in refused
    assert f"uid {OTHER}" == of_root.user


@needs_root
def test_another_users_script_exits_where_the_daemon_can_start_it_again_as_him():
    """
    With units as launcher it is paused to its end, and a start is asked of systemd, as that user; what it was
    started with is its environment, without what is ours.
    """
    config = CONFIG.replace("[daemon]", '[daemon]\nlauncher = "systemd"')
    with RunningDaemon(
        config, words=("--system",), env={"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/none"}
    ) as running:

        def trained(chain, shim, client, row):
            shown = client.show(row.name)
            (said,) = client.ask_jobs(api.PauseRequest(id=new_id(), jobs=(row.name,), depth="exit"))
            with pytest.raises(SystemExit) as ended:
                # It ends at the first boundary that knows of the pause.
                until(lambda: (chain.step(), shim.boundary()) == "never")
            return row.name, shown.argv, shown.env_names, getattr(said, "error", ""), ended.value.code

        name, argv, env_names, refused, code = as_another_user(running, trained)
        job = f"uid-{OTHER}/{name}"
        running.until(job, "paused")
        running.resume(job)
        failed = running.until(job, "failed")

    assert ("", 75) == (refused, code)
    assert ("touch", f"{running.work}/x") == argv
    assert "PATH" in env_names
    assert not [one for one in env_names if one.startswith("TRAINING_SUPERVISOR_")]
    assert "there is no user" in failed.problem or "systemd" in failed.problem, failed
    assert not (running.work / "x").exists()
