"""Signals that reach the daemon at an awkward moment."""

import ctypes
import fcntl
import os
import signal
from pathlib import Path

from tests.harness import RunningDaemon


def unblocked_threads(pid):
    """Threads other than the main one that the kernel may give a SIGTERM to."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        status = dict(
            line.split(":", 1) for line in (task / "status").read_text().splitlines() if ":" in line
        )
        if int(task.name) != pid and not int(status["SigBlk"], 16) & 1 << (signal.SIGTERM - 1):
            yield int(task.name)


def test_a_sigterm_that_another_thread_gets_ends_the_daemon_at_once():
    """
    2026-11-22: an idle daemon took up to 30 s to end, because Python runs handlers in its main thread
    only, and that slept in the poll.
    """
    with RunningDaemon() as daemon:
        thread = next(unblocked_threads(daemon.pid))
        assert 0 == ctypes.CDLL(None).tgkill(daemon.pid, thread, signal.SIGTERM)

        assert 0 == daemon._process.wait(15)


def test_a_log_that_nobody_reads_any_more_stops_nothing(tmp_path):
    """
    Ctrl-S in the terminal, or an ssh connection that broke: it serves on, and ends when it is asked to.
    """
    pipe = tmp_path / "log"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    with RunningDaemon(inside=("sh", "-c", 'exec "$@" 2>"$0"', str(pipe))) as daemon:
        for number in range(15):
            daemon.command(f"job-{number}", "true")
            daemon.until(f"job-{number}", "completed")
        code = daemon.terminate()
        first = os.read(reader, 4096)
    os.close(reader)

    assert 0 == code
    assert first.startswith(b"{")


def test_signals_that_mean_nothing_to_it_do_not_end_it():
    """
    Whoever takes it for another program sends SIGUSR1; a limit of CPU time sends SIGXCPU. Commands that it
    starts end of them as in a shell.
    """
    harmless = {"SIGCHLD", "SIGCONT", "SIGWINCH", "SIGURG", "SIGPIPE", "SIGXFSZ", "SIGHUP", "SIGTTOU"}
    faults = {"SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGSYS", "SIGTRAP", "SIGSTKFLT"}
    asks = {"SIGTERM", "SIGINT", "SIGQUIT", "SIGKILL", "SIGSTOP", "SIGTSTP", "SIGTTIN"}
    names = {getattr(one, "name", str(one)) for one in signal.valid_signals()}
    with RunningDaemon() as daemon:
        for number in signal.valid_signals():
            if getattr(number, "name", str(number)) in names - harmless - faults - asks:
                os.kill(daemon.pid, number)
                assert daemon.client.version().pid == daemon.pid, number
        daemon.command("mortal", "sh", "-c", "kill -USR1 $$; sleep 60")
        row = daemon.until("mortal", "failed")

    assert signal.SIGUSR1 == row.exit_signal


def test_ctrl_backslash_ends_it_cleanly():
    """
    As Ctrl-C does: its jobs go on.
    """
    with RunningDaemon() as daemon:
        daemon._process.send_signal(signal.SIGQUIT)

        assert 0 == daemon._process.wait(15)
