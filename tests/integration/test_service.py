"""What a service manager is told, by a real daemon and a socket as systemd makes one; and SIGHUP.

Covers: when each message comes, a manager that does not listen, closed terminals.
Does not cover: systemd itself (tests/systemd/).
"""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import time

import pytest

from supervisor import api
from supervisor.client import new_id
from supervisor.errors import NoDaemon
from supervisor.service import ServiceManager
from tests.harness import PYTHON, RunningDaemon, is_running, until


@pytest.fixture
def manager(home):
    """The end on which systemd listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(home / "notify"))
        listener.settimeout(20)
        yield listener


def told(listener, prefix):
    """The next message that begins so."""
    while not (message := listener.recv(4096).decode()).startswith(prefix):
        continue
    return message


def answers(daemon, pid):
    try:
        return daemon.client.version().pid == pid
    except NoDaemon:
        daemon._client = None
        return False


def problems(daemon):
    return daemon.client.version().alerts


def test_each_step_of_the_daemons_life_is_told(manager):
    """
    Ready, fed as long as the loop turns though nothing happens, reloading with its time, ready, stopping.
    """
    env = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "600000"}
    with RunningDaemon("[daemon]\nsample_s = 30\n", env=env) as daemon:
        first = manager.recv(4096)
        fed = [told(manager, "WATCHDOG=1") and time.monotonic() for _ in range(4)]
        before_us = time.monotonic_ns() // 1000
        os.kill(daemon.pid, signal.SIGHUP)
        _, moment = told(manager, "RELOADING=1").splitlines()
        told(manager, "READY=1")
        after_us = time.monotonic_ns() // 1000
        assert 0 == daemon.terminate()
        assert "STOPPING=1\nSTATUS=" == told(manager, "STOPPING=1")

    assert b"READY=1" == first
    assert before_us <= int(moment.removeprefix("MONOTONIC_USEC=")) <= after_us
    assert fed[-1] - fed[0] > 0.5


def test_how_many_jobs_do_what_is_told_when_it_changes(manager):
    """
    `systemctl status` shows it; a job that is over does not count.
    """
    with RunningDaemon(env={"NOTIFY_SOCKET": manager.getsockname()}) as daemon:
        nothing = told(manager, "STATUS=")
        daemon.command("a", "sleep", "600")
        one = told(manager, "STATUS=")
        daemon.command("b", "sleep", "1")
        daemon.until("b", "completed")
        both = [told(manager, "STATUS=") for _ in range(2)]
        daemon.client.ask_jobs(api.KillRequest(id=new_id(), jobs=("a",)))
        none = told(manager, "STATUS=")

    assert "STATUS=jobs: none" == nothing == none
    assert "STATUS=jobs: 1 running" == one
    assert ["STATUS=jobs: 2 running", "STATUS=jobs: 1 running"] == both


def test_no_job_hears_of_the_service_manager(manager):
    """
    A job that inherited its socket could say that the daemon is ready, or keep its watchdog still.
    """
    env = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "600000", "WATCHDOG_PID": "1"}
    env |= {
        "INVOCATION_ID": "0" * 32,
        "STATE_DIRECTORY": "/var/lib/training-supervisor",
        "SYSTEMD_EXEC_PID": "1",
        "JOURNAL_STREAM": "1:2",
    }
    with RunningDaemon(env=env) as daemon:
        show = [PYTHON, "-c", "import json, os; print(json.dumps(sorted(os.environ)))"]
        (daemon.paths.jobs_dir / "env.toml").write_text(f"command = {json.dumps(show)}\ncwd = '/'\n")
        os.kill(daemon.pid, signal.SIGHUP)
        until(lambda: "env" in daemon.names(), daemon.log)
        daemon.until("env", "completed")
        names = set(json.loads(daemon.job_log("env")))

    assert not names & env.keys()
    assert "PATH" in names


@pytest.mark.parametrize(
    "address",
    ["/nowhere/notify", "@nobody-listens", "vsock:2:1234", "relative", "/" + "x" * 200, "@", "/\N{SNOWMAN}"],
)
def test_a_manager_that_cannot_be_told_disturbs_nothing(address):
    """
    It is said once, and everything goes on.
    """
    service = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1"})
    service.ready()
    service.feed()
    service.stopping()

    assert 0 >= service.feed_in_s() > -1


@pytest.mark.parametrize("usec", ["", "0", "-5", "nonsense", "1e6", "\N{SUPERSCRIPT TWO}"])
def test_a_watchdog_that_is_none_is_not_fed(usec, manager):
    """
    What is no number of microseconds wakes nobody.
    """
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": usec, "HOME": "/"}
    service = ServiceManager(environ)

    assert float("inf") == service.feed_in_s()
    assert {"HOME": "/"} == environ


def test_the_watchdog_of_another_process_is_left_to_it(manager):
    """
    A wrapper that is watched itself passes its environment on.
    """
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "600000", "WATCHDOG_PID": "1"}

    assert float("inf") == ServiceManager(environ).feed_in_s()


def test_sighup_reads_the_files_again_however_often_it_comes():
    """
    A file that is wrong is told, and one that is right again is in force; nothing ends.
    """
    with RunningDaemon() as daemon:
        daemon.configure("[daemon]\nlog_level = 5\n")
        os.kill(daemon.pid, signal.SIGHUP)
        until(lambda: problems(daemon), daemon.log)
        daemon.configure('[daemon]\nlog_level = "info"\n')
        for _ in range(200):
            os.kill(daemon.pid, signal.SIGHUP)
        until(lambda: not problems(daemon), daemon.log)

        # It is in force before it is logged, perhaps because the daemon saw by itself that the file changed.
        until(lambda: daemon.log().count("reloaded") >= 2, daemon.log)


def test_a_terminal_that_is_closed_does_not_end_the_daemon(home):
    """
    Started with `&` as README says, from a shell that ends with its terminal; with `stty tostop` too.
    """
    with RunningDaemon() as daemon:
        daemon.terminate()
        controller, terminal = pty.openpty()
        command = f"stty tostop; {PYTHON} -m supervisor --home {daemon.home} & echo $! >{home}/pid; wait"
        shell = subprocess.Popen(
            ["setsid", "--ctty", "bash", "-ic", command],
            env=daemon.env, cwd=daemon.home, stdin=terminal, stdout=terminal, stderr=terminal,
        )  # fmt: skip
        os.close(terminal)
        until(lambda: (home / "pid").exists() and (home / "pid").read_text().strip(), "the shell's word")
        pid = int((home / "pid").read_text())
        until(lambda: answers(daemon, pid), f"daemon {pid} answers")
        os.close(controller)
        shell.wait(20)
        daemon.command("after", "true")
        daemon.until("after", "completed")

        assert pid == daemon.client.version().pid
        os.kill(pid, signal.SIGTERM)
        until(lambda: not is_running(pid), "the daemon's end")
