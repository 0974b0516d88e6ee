"""A job is all its processes: what its command left is found, named and ended, however it detached itself.

Covers: session, parents, mark and control group, each alone, unprivileged; stop, exit, kill; what is kept.
Does not cover: what counts as whose use (tests/unit/monitors/test_processes.py).
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from supervisor import api
from supervisor.errors import UsageError
from supervisor.system.cgroups import own_groups
from tests.harness import CHAIN, CONFIG, Denied, RunningDaemon, is_running, until

ROOT = Path(__file__).parents[2]
NOBODY = 65534
#: It may read the interpreter and the checkout, which often lie in a closed folder; nothing else.
AS_NOBODY = (
    f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups --bounding-set=-all,+dac_read_search "
    "--inh-caps=-all,+dac_read_search --ambient-caps=+dac_read_search --".split()
    if os.geteuid() == 0
    else []
)

#: Starts a command that leaves processes, each found in another way, one of them deaf to SIGTERM.
#: Then a launcher that knows nothing of the start, as after a restart of the daemon, ends what is left.
UNPRIVILEGED = """
import os, select, sys, time
from pathlib import Path
from supervisor.launcher import KeeperLauncher
from supervisor.ports import Ended, LaunchSpec

folder, grace_s, loses_keeper = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3] == "True"
run_dir = folder / "jobs/a/run-1"
script = '''
setsid sleep 601 & echo $! >> pids
env -i sleep 602 & echo $! >> pids
env -i setsid sleep 603 & echo $! >> pids
setsid sh -c 'trap "" TERM; echo $$ >> pids; while :; do sleep 0.05; done' &
until test $(wc -l < pids) = 4; do :; done
'''
env = {"PATH": os.environ["PATH"], "TRAINING_SUPERVISOR_RUN_DIR": str(run_dir)}
spec = LaunchSpec(job="a", incarnation=1, argv=("sh", "-c", script), cwd=str(folder), env=env,
                  run_dir=run_dir, log=folder / "log")
first = KeeperLauncher()
first.launch(spec)
while not any(isinstance(news, Ended) for news in first.drain()):
    select.select([first], [], [], 10)
fds = [os.pidfd_open(int(pid)) for pid in (folder / "pids").read_text().split()]
second = first
if loses_keeper:
    import msgspec
    os.kill(msgspec.json.decode((run_dir / "claim").read_bytes())["pid"], 9)
else:
    first.close()
    second = KeeperLauncher()
second.end_group("a", [run_dir], grace_s=grace_s)
deadline = time.monotonic() + 10
while fds and time.monotonic() < deadline:
    select.select([second, *fds], [], [], 0.5)
    second.drain()
    fds = [fd for fd in fds if not select.select([fd], [], [], 0)[0]]
print(os.getuid(), len(fds))
"""


@pytest.fixture
def open_folder():
    """A folder that any user may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def run_alone(*command):
    """
    Runs a program of this file with nothing of our environment.
    """
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("grace_s", "loses_keeper"),
    [(0.0, False), (0.3, False), (0.3, True)],
    ids=["at once", "after its grace", "its keeper was killed"],
)
def test_whatever_detached_itself_is_ended_by_an_unprivileged_user(open_folder, grace_s, loses_keeper):
    """
    By its mark, by its session, by its parents, and by force where it does not hear.
    """
    done = run_alone(
        *AS_NOBODY, sys.executable, "-c", UNPRIVILEGED, str(open_folder), str(grace_s), str(loses_keeper)
    )

    assert f"{NOBODY if AS_NOBODY else os.getuid()} 0\n" == done.stdout, done.stderr


#: Starts a command that leaves a process which nothing but its control group ties to it. A launcher that
#: comes after the keeper was killed ends it, and removes the group.
GROUPED = """
import msgspec, os, select, sys, time
from pathlib import Path
from supervisor.launcher import KeeperLauncher
from supervisor.system.marks import JobStart, Marks
from supervisor.ports import Ended, LaunchSpec

folder = Path(sys.argv[1])
run_dir = folder / "jobs/a/run-1"
env = {"PATH": os.environ["PATH"], "TRAINING_SUPERVISOR_RUN_DIR": str(run_dir)}
spec = LaunchSpec(job="a", incarnation=1, argv=("sh", "-c", "env -i setsid sleep 603 & echo $! > pid"),
                  cwd=str(folder), env=env, run_dir=run_dir, log=folder / "log")
if os.fork() == 0:
    first = KeeperLauncher()
    first.launch(spec)
    while not any(isinstance(news, Ended) for news in first.drain()):
        select.select([first], [], [], 10)
    os.kill(msgspec.json.decode((run_dir / "claim").read_bytes())["pid"], 9)
    os._exit(0)
os.wait()
pid = int((folder / "pid").read_text())
fd = os.pidfd_open(pid)
found = Marks(folder / "jobs").of(pid)
group = [line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if "a.1" in line]
second = KeeperLauncher()
second.end_group("a", [run_dir], grace_s=0.0)
second.drain()
ended = select.select([fd], [], [], 10)[0]
second.orphans(folder / "jobs", ())
left = [path for root, names, _ in os.walk("/sys/fs/cgroup") for path in names
        if path == group[0].rpartition("/")[2]]
print(os.getuid(), len(group), found == JobStart("a", 1), bool(ended), left)
"""
#: Stops a start that has a group of its own, lets it go, stops it again and kills it; says how its group and
#: its processes stand each time.
STANDING_STILL = """
import os, select, signal, sys
from pathlib import Path
from supervisor.launcher import KeeperLauncher
from supervisor.ports import Ended, LaunchSpec, Started
from tests.harness import until

folder = Path(sys.argv[1])
run_dir = folder / "jobs/a/run-1"
script = "env -i setsid sleep 603 & echo $! > pid; exec sleep 604"
spec = LaunchSpec(job="a", incarnation=1, argv=("sh", "-c", script), cwd=str(folder),
                  env={"PATH": os.environ["PATH"]}, run_dir=run_dir, log=folder / "log")
launcher, news = KeeperLauncher(), []

def told(kind):
    news.extend(launcher.drain())
    return next((one for one in news if isinstance(one, kind)), None)

launcher.launch(spec)
pids = [until(lambda: told(Started)).process.pid, int(until(lambda: (folder / "pid").read_text().strip()))]
group = Path("/proc", str(pids[0]), "cgroup").read_text().splitlines()[-1].partition("::")[2]
mount = next(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()
             if " - cgroup2 " in line)
events = Path(mount + group, "cgroup.events")

def states():
    return [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in pids]

for number, frozen in ((signal.SIGSTOP, 1), (signal.SIGCONT, 0), (signal.SIGSTOP, 1)):
    launcher.signal("a", 1, number, whole_tree=True)
    until(lambda: f"frozen {frozen}" in events.read_text())
    print(frozen, "T" in states())
launcher.signal("a", 1, signal.SIGKILL, whole_tree=True)
print(until(lambda: told(Ended)).exit)
"""
#: Runs a command in a group below ours that belongs to the user whom it then becomes.
DELEGATED = 'echo 0 > "$0/cgroup.procs" && exec "$@"'


@pytest.fixture
def own_group():
    """A control group of version 2 that belongs to nobody, who may make more below it."""
    found = [folder for folder in own_groups() if (folder / "cgroup.procs").exists()]
    folder = next(iter(found), Path("/none")) / f"ts-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error.strerror}")
    if AS_NOBODY:
        for path in (folder, folder / "cgroup.procs"):
            os.chown(path, NOBODY, NOBODY)
    yield folder
    until(lambda: not (folder / "cgroup.procs").read_text())
    folder.rmdir()


def test_who_has_neither_session_nor_parents_nor_mark_is_found_by_the_control_group(open_folder, own_group):
    """
    Also by an unprivileged user, to whom a group was given; it is removed when it is empty.
    """
    command = [*AS_NOBODY, sys.executable, "-c", GROUPED, str(open_folder)]
    done = run_alone("sh", "-c", DELEGATED, str(own_group), *command)

    assert f"{NOBODY if AS_NOBODY else os.getuid()} 1 True True []\n" == done.stdout, done.stderr


def test_all_processes_of_a_start_stand_still_with_its_group(open_folder, own_group):
    """
    No signal stops them, so none that they get meanwhile lets them go; killed they end at once.
    """
    command = [*AS_NOBODY, sys.executable, "-c", STANDING_STILL, str(open_folder)]
    done = run_alone("sh", "-c", DELEGATED, str(own_group), *command)

    assert ["1 False", "0 False", "1 False", "killed by signal 9"] == done.stdout.splitlines(), done.stderr


@pytest.fixture(scope="module")
def daemon():
    with RunningDaemon(CONFIG + "[jobs]\nstart_grace_s = 1\nkill_grace_s = 4\n") as running:
        yield running


def child_of(daemon, name):
    """Return the number that a job wrote down."""
    file = daemon.work / f"{name}.child"
    return int(until(lambda: file.exists() and file.read_text().strip()))


def leaves(name, then):
    """Return a command that leaves a process which made a session of its own."""
    return ("sh", "-c", f"setsid sleep 600 & echo $! > {name}.child; {then}", "sh")


def test_what_a_finished_job_left_is_named_and_killed(daemon):
    """
    It is no stranger's: `status` names it with the job, which `kill` reaches although it is over. Once.
    """
    daemon.command("over", *leaves("over", "exit 0"))
    child = child_of(daemon, "over")
    row = daemon.until("over", lambda row: row.left and row.state == "completed")
    shown = daemon.ctl("status", "over").out
    (answer,) = daemon.ask(api.KillRequest, "over")
    until(lambda: not is_running(child))
    with pytest.raises(Denied):
        daemon.ask(api.KillRequest, "over")

    assert [(child, "sleep")] == [(one.pid, one.program) for one in row.left]
    assert f"left running: sleep {child}" in shown
    assert f"what it left is ended: {child}" == answer.detail
    assert "completed" == daemon.row("over").state


def test_a_stop_ends_the_whole_group(daemon):
    """
    Also what a polite end of the command leaves behind.
    """
    daemon.command("stopped", *leaves("stopped", "exec sleep 600"))
    child = child_of(daemon, "stopped")
    daemon.ask(api.StopRequest, "stopped")
    daemon.until("stopped", "stopped")

    until(lambda: not is_running(child))


def test_a_pause_to_exit_ends_the_whole_group_after_its_checkpoint(daemon):
    """
    Nothing of it holds memory when it is to have given back everything; it goes on exactly.
    """
    run = daemon.train("exits", argv=(*leaves("exits", 'exec "$@"'), *CHAIN))
    child = child_of(daemon, "exits")
    daemon.pause("exits", depth="exit")
    row = daemon.until("exits", "paused")
    until(lambda: not is_running(child))
    daemon.ask(api.KillRequest, "exits")

    assert row.checkpoint_step is not None
    assert 1 == len(run.starts)


def test_what_was_asked_to_go_when_the_daemon_died_is_ended_by_the_next_one(daemon):
    """
    It had its polite signal, which it does not hear; what a finished job left is not touched.
    """
    daemon.command("left", *leaves("left", "exit 0"))
    kept = child_of(daemon, "left")
    deaf = "setsid sh -c 'trap \"\" TERM; echo $$ > deaf.child; while :; do sleep 0.05; done' & "
    daemon.command("deaf", "sh", "-c", deaf + "exec sleep 600")
    child = child_of(daemon, "deaf")
    daemon.until("left", "completed")
    daemon.ask(api.StopRequest, "deaf")
    daemon.until("deaf", "stopped")
    daemon.kill()
    was_left = is_running(child)
    daemon.start()

    until(lambda: not is_running(child))
    assert was_left
    assert is_running(kept)


def test_children_are_kept_where_that_was_asked_for(daemon):
    """
    `--keep-children`: the command ends alone; `kill` of the job that is over is meant for the rest.
    """
    daemon.command("keeps", *leaves("keeps", "exec sleep 600"), keep_children=True)
    child = child_of(daemon, "keeps")
    daemon.ask(api.StopRequest, "keeps")
    daemon.until("keeps", lambda row: row.state == "stopped" and row.left)
    was_kept = is_running(child)
    daemon.ask(api.KillRequest, "keeps")

    assert was_kept
    until(lambda: not is_running(child))


def test_a_run_is_as_its_shell_was_with_what_was_asked_for_besides(daemon):
    """
    `--nice` and `--env` change what they name, umask and the rest are those of the shell.
    """
    script = 'nice; echo "$ODD"; umask; ulimit -c'
    asked = ("run", "--name", "like", "--nice", "3", "--env", "ODD=a b=c", "--", "sh", "-c", script)
    said = daemon.ctl(*asked)
    daemon.until("like", "completed")
    umask = os.umask(0)
    os.umask(umask)
    core = resource.getrlimit(resource.RLIMIT_CORE)[0]
    expected = ["3", "a b=c", f"{umask:04o}", "unlimited" if core < 0 else str(core // 512)]

    assert 0 == said.code, said
    assert expected == daemon.job_log("like").splitlines()


def test_a_niceness_that_no_system_has_is_refused_before_anything_is_started(daemon):
    """
    2026-11-29: a client that sent one got a job that ended with code 127 and an empty log.
    """
    before = daemon.names()
    with pytest.raises(UsageError, match="`nice=99999999999` is not from -20 to 19"):
        daemon.command("nice", "true", shell="umask=18 nice=99999999999")
    said = daemon.ctl("run", "--nice", "99999999999", "--", "true")

    assert (2, before) == (said.code, daemon.names())
    assert "99999999999 is not in the range -20<=x<=19" in said.err


@pytest.mark.parametrize(
    ("option", "code", "why"),
    [
        (("--memory-max", "1G"), 3, "only units of systemd are held to limits"),
        (("--cpu-weight", "50"), 3, "only units of systemd are held to limits"),
        (("--memory-max", "1M"), 2, "nothing could start with less than 64M"),
        (("--cpu-weight", "0"), 2, "0 is not in the range"),
    ],
)
def test_a_limit_that_nobody_keeps_is_refused_before_anything_is_started(daemon, option, code, why):
    """
    A job that was told to have one, and has none, would take down others.
    """
    before = daemon.names()
    said = daemon.ctl("run", *option, "--", "true")

    assert (code, before) == (said.code, daemon.names())
    assert why in said.err


def test_a_restart_takes_a_new_environment_where_that_is_asked_for(daemon):
    """
    Else it keeps the one that it was started with.
    """
    daemon.command("again", "sh", "-c", "echo $ODD", env=daemon.job_env(ODD="first"))
    daemon.until("again", "completed")
    daemon.ctl("restart", "again", "--wait", ODD="second")
    said = daemon.ctl("restart", "again", "--env-from-here", "--wait", ODD="third")

    assert 0 == said.code, said
    assert ["first", "first", "third"] == daemon.job_log("again").splitlines()
