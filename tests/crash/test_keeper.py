"""kill -9 of the daemon, of the keeper, of both, at every stage of a command's life.

Covers: that a command runs exactly once, that no end is lost, and what is said
where nobody was left to see it. Each daemon is a process of its own.
Does not cover: power cuts (the records are flushed before they are renamed).
"""

import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from supervisor.launcher import KeeperLauncher
from supervisor.launcher.identity import identify, is_alive

GUARD_S = 20
ROOT = Path(__file__).parents[2]

#: Does what the engine does: takes the incarnation up, else launches it; tells all news.
DAEMON = """
import json, os, select, sys
from pathlib import Path
from supervisor.launcher import KeeperLauncher
from supervisor.ports import LaunchSpec, Started

folder = Path(sys.argv[1])
order = json.loads((folder / "order.json").read_text())
launcher = KeeperLauncher(python=sys.argv[2])
env = {"PATH": os.environ["PATH"], "FOLDER": str(folder)}
spec = LaunchSpec(job="job-1", incarnation=1, argv=tuple(order["argv"]), cwd=str(folder), env=env,
                  run_dir=folder / "run", log=folder / order["log"])
print("ready", flush=True)
is_adopted = launcher.adopt(spec.job, spec.incarnation, spec.run_dir)
print("adopted", is_adopted, flush=True)
if not is_adopted:
    launcher.launch(spec)
print("launched", flush=True)
while True:
    select.select([launcher], [], [])
    for news in launcher.drain():
        if isinstance(news, Started):
            print("started", news.process.pid, flush=True)
        else:
            print("ended", str(news.exit), flush=True)
            raise SystemExit(0)
"""

#: Leaves a line where it starts, waits for the word, ends with a code.
COMMAND = 'echo start >> "$FOLDER/starts"; read word < "$FOLDER/orders"; exit 3'
#: The same, without waiting.
QUICK = 'echo start >> "$FOLDER/starts"; exit 3'

#: Runs the keeper that it is given as Python would, with a gate before the start of the command.
HELD = """#!{python} -IS
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("keeper", sys.argv[3])
keeper = importlib.util.module_from_spec(spec)
spec.loader.exec_module(keeper)
start = keeper._start
def start_later(order):
    os.close(os.open({gate!r}, os.O_WRONLY))
    return start(order)
keeper._start = start_later
sys.argv = sys.argv[3:]
keeper.main()
os._exit(0)
"""


class Daemon:
    """A process that runs a launcher, to be killed."""

    def __init__(self, folder, python=sys.executable):
        self.process = subprocess.Popen(
            [sys.executable, "-c", DAEMON, str(folder), str(python)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            text=True,
            bufsize=1,
        )

    def until(self, word):
        """Read up to a line that begins with this word; return the rest of the line."""
        for line in self.process.stdout:
            first, _, rest = line.strip().partition(" ")
            if first == word:
                return rest
        raise AssertionError(f"the daemon ended without saying {word!r}")

    def children(self):
        pid = self.process.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Field:
    """One incarnation's folder, and all daemons that had to do with it."""

    def __init__(self, folder):
        self.folder = folder
        self.daemons = []
        self.python = sys.executable
        os.mkfifo(folder / "orders")
        self.order(COMMAND)

    def order(self, script, log="output.log"):
        (self.folder / "order.json").write_text(json.dumps({"argv": ["sh", "-c", script], "log": log}))

    def daemon(self, **kwargs):
        self.daemons.append(Daemon(self.folder, **{"python": self.python, **kwargs}))
        return self.daemons[-1]

    def keeper(self):
        """Return who has claimed; None while nobody has said so."""
        try:
            return msgspec.json.decode((self.folder / "run" / "claim").read_bytes())["pid"]
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def finish(self):
        with (self.folder / "orders").open("w") as orders:
            orders.write("now\n")

    def starts(self):
        path = self.folder / "starts"
        return path.read_text().splitlines() if path.exists() else []

    def clean_up(self):
        for daemon in self.daemons:
            daemon.kill()
        for name in ("process.json", "claim"):
            path = self.folder / "run" / name
            if path.exists() and path.stat().st_size:
                kill(msgspec.json.decode(path.read_bytes())["pid"])


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def kill_and_wait(pid):
    fd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert select.select([fd], [], [], GUARD_S)[0]
    os.close(fd)


def until_true(claim):
    deadline = time.monotonic() + GUARD_S
    while not claim():
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.002)


def state_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def field(tmp_path):
    field = Field(tmp_path)
    yield field
    field.clean_up()


@pytest.mark.parametrize("moment", range(12))
def test_a_daemon_killed_around_a_launch_loses_nothing(field, moment):
    """
    Killed a few milliseconds sooner or later, from before the keeper exists
    until after the command is over: it ran once, and its end is known.
    """
    field.order(QUICK)
    daemon = field.daemon()
    daemon.until("ready")
    # The moment is what is tested; nothing is waited for.
    time.sleep(moment * 0.003)
    daemon.kill()

    assert field.daemon().until("ended") == "exit code 3"
    assert field.starts() == ["start"]


@pytest.mark.parametrize("moment", range(10))
def test_a_keeper_killed_around_a_launch_loses_nothing(field, moment):
    """
    While the daemon lives, a keeper that is killed before the command started
    is replaced, and after that the daemon stands in for it.
    """
    field.order(QUICK)
    daemon = field.daemon()
    daemon.until("launched")
    time.sleep(moment * 0.003)
    for pid in daemon.children():
        kill(pid)

    assert daemon.until("ended") == "exit code 3"
    assert field.starts() == ["start"]


@pytest.mark.parametrize("moment", range(10))
def test_both_killed_around_a_launch_start_nothing_twice(field, moment):
    """
    The command runs once, whoever starts it; its status is the true one or
    said to be unknown.
    """
    field.order(QUICK)
    daemon = field.daemon()
    daemon.until("launched")
    time.sleep(moment * 0.003)
    keepers = daemon.children()
    daemon.kill()
    for pid in keepers:
        kill(pid)
    end = field.daemon().until("ended")

    assert end in ("exit code 3", "exit status unknown: the keeper of the command was killed")
    until_true(field.starts)
    assert field.starts() == ["start"]


class TestAtAKnownStage:
    """A pipe without a reader holds the keeper between its claim and the start."""

    @pytest.fixture
    def held(self, field):
        gate = field.folder / "gate"
        os.mkfifo(gate)
        field.python = field.folder / "python"
        field.python.write_text(HELD.format(python=sys.executable, gate=str(gate)))
        field.python.chmod(0o700)
        return field

    def let_go(self, field):
        return os.open(field.folder / "gate", os.O_RDONLY | os.O_NONBLOCK)

    def test_a_daemon_killed_after_the_claim_is_followed_by_one_that_waits(self, held):
        """
        The next daemon sees the claim, starts nothing, and is told of the start.
        """
        first = held.daemon()
        until_true(held.keeper)
        first.kill()
        second = held.daemon()
        is_adopted = second.until("adopted")
        log = self.let_go(held)
        second.until("started")
        held.finish()

        assert is_adopted == "True"
        assert second.until("ended") == "exit code 3"
        assert held.starts() == ["start"]
        os.close(log)

    def test_a_keeper_killed_after_the_claim_is_replaced(self, held):
        """
        Its claim is free again, and nothing says that the command was started.
        """
        daemon = held.daemon()
        until_true(held.keeper)
        killed = held.keeper()
        kill_and_wait(killed)
        until_true(lambda: held.keeper() not in (None, killed))
        log = self.let_go(held)
        daemon.until("started")
        held.finish()

        assert daemon.until("ended") == "exit code 3"
        assert held.starts() == ["start"]
        os.close(log)

    def test_a_keeper_that_is_killed_again_and_again_is_given_up(self, held):
        """
        Something is wrong with the machine then, and the job says so.
        """
        daemon = held.daemon()
        killed = None
        for _ in range(3):
            until_true(lambda last=killed: held.keeper() not in (None, last))
            killed = held.keeper()
            kill_and_wait(killed)

        assert daemon.until("ended").startswith("cannot start: its keeper ended before it could start")
        assert held.starts() == []

    def test_both_killed_after_the_claim_are_followed_by_a_launch(self, held):
        """
        A claim that nobody holds, without a record, counts for nothing.
        """
        first = held.daemon()
        until_true(held.keeper)
        keeper = held.keeper()
        first.kill()
        kill_and_wait(keeper)
        second = held.daemon()
        second.until("launched")
        log = self.let_go(held)
        second.until("started")
        held.finish()

        assert second.until("ended") == "exit code 3"
        assert held.starts() == ["start"]
        os.close(log)


class TestWhileTheCommandRuns:
    @pytest.fixture
    def running(self, field):
        self.daemon = field.daemon()
        self.pid = int(self.daemon.until("started"))
        until_true(field.starts)
        return field

    def test_a_daemon_killed_finds_the_command_again(self, running):
        """
        Three daemons in a row are killed; the fourth tells the true status.
        """
        for _ in range(3):
            self.daemon.kill()
            self.daemon = running.daemon()
            assert int(self.daemon.until("started")) == self.pid
        running.finish()

        assert self.daemon.until("ended") == "exit code 3"
        assert running.starts() == ["start"]

    def test_a_daemon_away_at_the_end_is_told_later(self, running):
        """
        The keeper writes down how it ended, whether a daemon lives or not.
        """
        self.daemon.kill()
        running.finish()
        until_true((running.folder / "run" / "exit.json").exists)

        assert running.daemon().until("ended") == "exit code 3"

    @pytest.mark.parametrize(
        ("script", "end"), [("exit 0", "exit code 0"), ("kill -11 $$", "killed by signal 11")]
    )
    def test_a_killed_keeper_is_replaced_by_the_daemon_as_parent(self, field, script, end):
        """
        The command comes to the daemon, which learns its true status.
        """
        field.order(f'read word < "$FOLDER/orders"; {script}')
        daemon = field.daemon()
        daemon.until("started")
        kill_and_wait(field.keeper())
        field.finish()

        assert daemon.until("ended") == end

    def test_a_daemon_that_stands_in_for_a_keeper_can_let_go(self, running):
        """
        Closing the launcher then leaves the command alone, as ever.
        """
        kill_and_wait(running.keeper())
        self.daemon.kill()
        launcher = KeeperLauncher()
        launcher.adopt("job-1", 1, running.folder / "run")
        told = launcher.drain()
        launcher.close()

        assert [news.process.pid for news in told] == [self.pid]
        assert state_of(self.pid) == "S"

    def test_both_killed_leave_a_command_that_is_followed_to_its_end(self, running):
        """
        It goes on, its end is noticed, and the status is said to be unknown.
        """
        keeper = running.keeper()
        self.daemon.kill()
        kill_and_wait(keeper)
        second = running.daemon()
        assert int(second.until("started")) == self.pid
        running.finish()

        assert second.until("ended") == "exit status unknown: the keeper of the command was killed"
        assert running.starts() == ["start"]

    def test_both_killed_and_the_command_too(self, running):
        """
        Nobody saw the end; that is said, and nothing is started again.
        """
        keeper = running.keeper()
        self.daemon.kill()
        kill_and_wait(keeper)
        kill_and_wait(self.pid)
        second = running.daemon()

        assert second.until("ended") == "exit status unknown: the keeper of the command was killed"
        assert running.starts() == ["start"]

    def test_a_restart_of_the_machine_ends_every_command(self, running):
        """
        A record of another boot is never mistaken for a living process.
        """
        self.daemon.kill()
        kill_and_wait(running.keeper())
        record = running.folder / "run" / "process.json"
        record.write_text(json.dumps(json.loads(record.read_text()) | {"boot_id": "another-boot"}))

        assert running.daemon().until("ended") == "exit status unknown: the machine was restarted"
        kill_and_wait(self.pid)

    def test_a_keeper_takes_no_orders(self, running):
        """
        A hang-up, a Ctrl-C and a polite stop are for the command only.
        """
        keeper = running.keeper()
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1):
            os.kill(keeper, number)
        running.finish()

        assert self.daemon.until("ended") == "exit code 3"
        assert (running.folder / "run" / "exit.json").exists()

    def test_a_full_disk_only_delays_the_end(self, running):
        """
        The keeper tries again until the status is on disk; meanwhile the
        command stays a zombie, so that killing the keeper loses nothing.
        """
        run_dir = running.folder / "run"
        keeper = running.keeper()
        # A limit of no bytes at all refuses a write as a full disk does.
        before = resource.prlimit(keeper, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        touched = run_dir.stat().st_mtime_ns
        running.finish()
        until_true(lambda: state_of(self.pid) == "Z" and run_dir.stat().st_mtime_ns != touched)
        was_written = (run_dir / "exit.json").exists()
        resource.prlimit(keeper, resource.RLIMIT_FSIZE, before)

        assert not was_written
        assert self.daemon.until("ended") == "exit code 3"
        assert (run_dir / "exit.json").exists()

    def test_a_keeper_killed_on_a_full_disk_loses_no_status(self, running):
        """
        The zombie comes to the daemon with its status.
        """
        keeper = running.keeper()
        resource.prlimit(keeper, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        running.finish()
        until_true(lambda: state_of(self.pid) == "Z")
        is_over = not is_alive(identify(self.pid))
        kill_and_wait(keeper)

        assert is_over
        assert self.daemon.until("ended") == "exit code 3"

    def test_a_keeper_is_small_and_leaves_with_its_command(self, running):
        """
        Beside each job lives less than 12 MB, most of it shared, and only as
        long as the job.
        """
        keeper = running.keeper()
        status = Path(f"/proc/{keeper}/status").read_text()
        rss_kb = int(status.split("VmRSS:")[1].split()[0])
        fd = os.pidfd_open(keeper)
        running.finish()
        self.daemon.until("ended")

        assert rss_kb < 12_000
        assert select.select([fd], [], [], GUARD_S)[0]
        os.close(fd)
