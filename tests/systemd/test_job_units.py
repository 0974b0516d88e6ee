"""Jobs as units of systemd, as their users, under the installed service of the system.

Covers: who a job is, what it is not under, who may read and do what, turns of users, ends while the
daemon is away, tricks in run folders; the launcher's contract on the real systemd.
Does not cover: the daemon of one user (test_service_days.py), each right (tests/integration).
"""

from __future__ import annotations

import json
import re
import sys

import pytest

from tests.harness import ROOT, until
from tests.nvml import Card, FakeDriver
from tests.systemd.booted import USER, booted
from tests.systemd.environment import PLACE, add_environment
from tests.systemd.person import UNIT, WAITS, Person, ends_while_away

pytestmark = pytest.mark.soak

OTHER = "grace"
STATE = "/var/lib/training-supervisor/jobs"
#: What a sandbox would show in /proc, and the groups.
RIGHTS = "NoNewPrivs|Seccomp_filters|CapBnd|CapEff"
SHOWS_ITSELF = f"id -un; id -Gn; grep -E '^({RIGHTS}):' /proc/self/status; umask; ulimit -Sn"


class User(Person):
    """Somebody who uses the system's service."""

    def __init__(self, machine, user):
        self.machine, self.user, self.flags = machine, user, ()
        self.folder = f"/home/{user}"

    def run_job(self, name, *argv, **variables):
        words = [f"{key}={value}" for key, value in variables.items()]
        command = (f"{PLACE}/bin/supervisorctl", "run", "--name", name, "--", *argv)
        self.machine.ok("env", "-C", self.folder, *words, *command, user=self.user)

    def is_over(self, name):
        return until(lambda: (row := self.row(name))["state"] in ("completed", "failed") and row, name)

    def log(self, name):
        return self.machine.ok("cat", f"{STATE}/@{self.user}/{name}/log", user=self.user)


@pytest.fixture(scope="module")
def machine():
    with booted() as up:
        add_environment(up)
        up.ok("useradd", "--create-home", "--shell", "/bin/bash", OTHER)
        up.ok("groupadd", "lab")
        up.ok("usermod", "-a", "-G", "lab", USER)
        yield up


@pytest.fixture(scope="module")
def root(machine):
    one = Person(machine, "root")
    one.write(f"/etc/systemd/system/{UNIT}.service.d/test.conf", "[Service]\nRestartSec=100ms\n")
    # Other tests keep the machine busy, for which the usual rules would have these jobs wait.
    one.write("/etc/training-supervisor/config.toml", "[policy]\ndefault_rules = false\n")
    one.does("install")
    return one


@pytest.fixture
def ada(root):
    return User(root.machine, USER)


@pytest.fixture
def grace(root):
    return User(root.machine, OTHER)


def unit_of(machine, pid):
    """Return the unit that a process is in."""
    return re.findall(r"/([^/\n]+\.service)$", machine.ok("cat", f"/proc/{pid}/cgroup"), re.MULTILINE)[-1]


def test_a_job_is_a_unit_of_its_user_and_under_nothing_of_the_daemons_sandbox(ada):
    """
    The same as whatever systemd starts for that user: rights, groups, filters of calls, umask, limits.
    """
    ada.run_job("plain", "sh", "-c", SHOWS_ITSELF)
    ada.is_over("plain")
    as_such = ada.machine.ok(
        "systemd-run", "--quiet", "--pipe", "--wait", f"--uid={USER}", "sh", "-c", SHOWS_ITSELF
    )
    pid = ada.waits("unit", 0)
    unit = unit_of(ada.machine, pid)
    shown = ada.machine.ok("systemctl", "show", unit, "-p", "User,Slice,Transient").splitlines()
    ada.machine.ok("touch", f"{ada.folder}/unit.go")
    ada.is_over("unit")

    assert as_such == ada.log("plain").strip()
    assert {f"{USER}", f"{USER} lab"} <= set(as_such.splitlines())
    assert {f"User={USER}", "Slice=training-jobs.slice", "Transient=yes"} == set(shown)
    # It is collected, and what it said stays.
    listed = ("systemctl", "list-units", "--all", "--no-legend", unit)
    until(lambda: not ada.machine.ok(*listed), unit)


def test_what_two_users_may_do_to_each_others_jobs(ada, grace):
    """
    Each pauses and resumes the own one, and is denied the other's, whose log and folder stay closed as well.
    """
    pids = {one.user: one.train("night") for one in (ada, grace)}
    for one, other in ((ada, grace), (grace, ada)):
        for verb in ("pause", "resume", "kill"):
            said = one.machine.run(f"{PLACE}/bin/supervisorctl", verb, f"{other.user}/night", user=one.user)
            assert (3, True) == (said.code, "belongs to" in said.err), said
        for path in ("log", "run-1/process.json"):
            assert 0 != one.machine.run("cat", f"{STATE}/@{other.user}/night/{path}", user=one.user).code
    for one in (ada, grace):
        one.ctl("pause", "night", "--wait")
        paused = one.row("night")
        one.ctl("resume", "night", "--wait")
        until(lambda one=one, step=paused["step"]: one.row("night")["step"] > step, one.user)
        assert ("paused", pids[one.user]) == (paused["state"], paused["pid"])
        assert one.user == one.machine.ok("stat", "-c", "%U", f"/proc/{pids[one.user]}")
        one.ctl("kill", "night")
        until(lambda one=one: one.row("night")["state"] == "stopped", one.user)


def test_two_users_take_turns_with_jobs_that_really_run(root, machine):
    """
    The first one has put four into the line before the other comes; what each had is told, and by weight.
    """
    # Who have had nothing yet.
    for user, groups in (("bob", "lab"), ("eve", "")):
        machine.ok("useradd", "--create-home", "--groups", groups, user)
    bob, eve = (User(machine, user) for user in ("bob", "eve"))
    config = "/etc/training-supervisor/config.toml"
    usual = machine.ok("cat", config)
    shares = '[shares]\nweights = {"group:lab" = 3}\n'
    # Other tests may have left some.
    num_running = sum(row["pid"] is not None for row in json.loads(root.ctl("status", "--json")))
    limit = f"[queue]\nmax_running = {num_running + 1}\n"
    root.write(config, f"{usual}\nsettle_s = 0\n{limit}{shares}")
    root.ctl("reload")
    root.run_job("first", "sleep", "1000")
    jobs = [(one, f"turn-{number}") for one, num in ((bob, 4), (eve, 2)) for number in range(num)]
    for one, name in jobs:
        one.run_job(name, "sleep", "0.5")
    root.ctl("kill", "first")
    for one, name in jobs:
        one.is_over(name)
    events = json.loads(root.ctl("events", "--lines", "1000", "--json"))
    starts = [one["job"] for one in events if one["kind"] == "admitted" and "/turn-" in one["job"]]
    told = {one["user"]: one for one in json.loads(root.ctl("policy", "show", "--json")) if "user" in one}
    root.write(config, usual)
    root.ctl("reload")

    assert ["bob/turn-0", "eve/turn-0"] == starts[:2]
    # With three times the weight it is the second one's again only when the first has had three.
    assert ["bob/turn-1", "bob/turn-2"] == starts[2:4]
    assert {"bob/turn-3", "eve/turn-1"} == set(starts[4:])
    assert (3.0, 1.0) == (told["bob"]["weight"], told["eve"]["weight"])
    assert told["bob"]["slot_h"] > told["eve"]["slot_h"] > 2 * 0.5 / 3600 * 0.9


def test_no_other_user_can_read_the_environment_of_a_job(ada, grace):
    """
    In no property of its unit, no file of /proc, no journal, no file on a disk.
    """
    # In no command line, which the journal has of whoever changes the user.
    ada.machine.ok("sh", "-c", "tr -dc a-z < /dev/urandom | head -c 24 > ~/token", user=USER)
    secret = ada.machine.ok("cat", f"{ada.folder}/token")
    command = f'TOKEN=$(cat token) {PLACE}/bin/supervisorctl run --name secret -- sh -c "$0" ~/secret 0'
    ada.machine.ok("sh", "-c", command, WAITS, user=USER)
    until(lambda: ada.machine.run("cat", f"{ada.folder}/secret.started").out, "secret")
    pid = ada.row("secret")["pid"]
    unit = unit_of(ada.machine, pid)
    seen = grace.machine.run("systemctl", "show", unit, user=OTHER).out
    seen += grace.machine.run("systemctl", "cat", unit, user=OTHER).out
    seen += grace.machine.run("sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ", user=OTHER).out
    seen += ada.machine.ok("journalctl", "--no-pager", "-o", "json")
    on_disk = ada.machine.run(
        "grep", "-rl", secret, "/run", "/var/lib/training-supervisor/jobs", "/tmp", "/dev/shm"
    ).out
    held = ada.machine.ok("sh", "-c", f"tr '\\0' '\\n' < /proc/{pid}/environ")
    ada.machine.ok("touch", f"{ada.folder}/secret.go")
    ada.is_over("secret")

    assert f"TOKEN={secret}" in held
    assert unit in seen
    assert secret not in seen
    assert "" == on_disk


def restart(root):
    root.systemctl("restart", UNIT)


def kill(root):
    root.machine.ok("kill", "-9", root.shows("MainPID"))


@pytest.mark.parametrize("happens", [restart, kill])
def test_a_users_job_outlives_the_daemon_and_is_taken_up(root, ada, happens):
    """
    Untouched: the same process trains on.
    """
    name, before = f"days-{happens.__name__}", int(root.shows("MainPID"))
    trained = ada.train(name)
    happens(root)
    root.other_daemon(before)
    step = ada.row(name)["step"] or 0
    until(lambda: (ada.row(name)["step"] or 0) > step, name)
    row = ada.row(name)
    ada.ctl("kill", name)

    assert ("running", trained) == (row["state"], row["pid"])
    until(lambda: ada.row(name)["state"] == "stopped", name)
    assert 0 != ada.machine.run("kill", "-0", str(trained)).code


def test_how_a_users_jobs_ended_while_the_daemon_was_away_is_known(root, ada):
    """
    With 0, with 7, by SIGKILL; each was started once.
    """
    rows, starts = ends_while_away(root, ada)

    assert [("completed", 0, None), ("failed", 7, None), ("failed", None, 9)] == [
        (row["state"], row["exit_code"], row["exit_signal"]) for row in rows
    ]
    assert ["x"] * 3 == starts


def totals(person, name):
    (shown,) = json.loads(person.ctl("show", name, "--json"))
    return shown["totals"]


def test_a_unit_counts_what_its_processes_used_that_are_over(ada):
    """
    Nobody saw them, nobody waited for them: the CPU time of the job is that of its unit.
    """
    busy = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"
    ada.run_job("counts", "sh", "-c", f"setsid sh -c '{busy}; touch ~/counted' & exec sleep 600")
    until(lambda: not ada.machine.run("test", "-e", f"{ada.folder}/counted").code, "a child that is over")
    pid = ada.row("counts")["pid"]
    group = ada.machine.ok("sed", "-n", "s/^0:://p", f"/proc/{pid}/cgroup")
    counted = ada.machine.ok("cat", f"/sys/fs/cgroup{group}/cpu.stat").split()
    used_s = int(counted[counted.index("usage_usec") + 1]) / 1e6
    told = until(
        lambda: ((found := totals(ada, "counts"))["cpu_s"] or 0.0) >= used_s and found, "its CPU time"
    )
    shown = ada.ctl("show", "counts")
    ada.ctl("kill", "counts")

    assert pytest.approx(used_s, abs=0.5) == told["cpu_s"] > 0.1
    assert "CPU time" in shown


def test_a_limit_that_the_kernel_cannot_keep_is_refused(ada):
    """
    Control groups without controllers are all that this machine is given.
    """
    if "memory" in ada.machine.ok("cat", "/sys/fs/cgroup/cgroup.controllers").split():
        pytest.skip("here is a controller that keeps it")
    command = (f"{PLACE}/bin/supervisorctl", "run", "--name", "limited", "--memory-max", "1G", "--", "true")
    said = ada.machine.run(*command, user=USER)

    assert (3, "") == (said.code, said.out)
    assert "systemd has no control group controller here that limits memory" in said.err


def freezes(person, name):
    """Have a job that reaches no batch boundary stand still; returns its unit."""
    person.machine.ok("touch", f"{person.folder}/{name}/hold-step", user=person.user)
    person.ctl("pause", name, "--deadline", "1s", "--at-deadline", "freeze")
    unit = unit_of(person.machine, person.row(name)["pid"])
    until(lambda: person.row(name)["frozen_s"] is not None and is_frozen(person, unit), name)
    return unit


def is_frozen(person, unit):
    return "frozen" == person.machine.ok("systemctl", "show", "-P", "FreezerState", unit)


@pytest.mark.parametrize("happens", [restart, kill])
def test_a_late_pause_freezes_the_unit_until_it_is_resumed(root, ada, happens):
    """
    By systemd, and no signal stops it. The next daemon knows, and lets it go.
    """
    name, daemon = f"late-{happens.__name__}", int(root.shows("MainPID"))
    pid = ada.train(name)
    unit = freezes(ada, name)
    state = ada.machine.ok("cut", "-d", " ", "-f", "3", f"/proc/{pid}/stat")
    happens(root)
    root.other_daemon(daemon)
    row, was_frozen = ada.row(name), is_frozen(ada, unit)
    ada.machine.ok("rm", f"{ada.folder}/{name}/hold-step")
    ada.ctl("resume", name, "--wait")
    until(lambda: ada.row(name)["step"] > (row["step"] or 0), name)
    after = ada.row(name)
    ada.ctl("kill", name)

    assert state != "T"
    assert ("pausing", True) == (row["state"], row["frozen_s"] is not None)
    assert was_frozen
    assert ("running", pid) == (after["state"], after["pid"])
    until(lambda: ada.row(name)["state"] == "stopped", name)


@pytest.mark.parametrize(
    ("by", "end"),
    [
        ("stop", ("stopped", 75, None)),
        ("kill", ("stopped", None, 9)),
        # As of any job that gets its SIGTERM from elsewhere: it saves, and ends with that.
        ("systemctl", ("failed", 143, None)),
        ("somebody", ("failed", None, 9)),
    ],
)
def test_a_frozen_unit_can_be_ended(root, ada, by, end):
    """
    It is let go for that, so that it saves where it may, and its keeper writes down how it ended.
    """
    name = f"ends-{by}"
    pid = ada.train(name)
    unit = freezes(ada, name)
    ada.machine.ok("rm", f"{ada.folder}/{name}/hold-step")
    if by == "systemctl":
        root.systemctl("stop", unit)
    elif by == "somebody":
        root.machine.ok("kill", "-9", str(pid))
    else:
        ada.ctl(by, name)
    row = until(lambda: (row := ada.row(name))["pid"] is None and row, lambda: ada.ctl("show", name))

    assert end == (row["state"], row["exit_code"], row["exit_signal"]), row


def test_a_job_gets_its_gpus_by_uuid(root, ada, tmp_path):
    """
    The numbers of GPUs are others in each process; the names reach the command through its unit.
    """
    library = "/etc/nvml/libnvidia-ml.so.1"
    FakeDriver(tmp_path).show(Card("GPU-of-a-test"))
    root.write("/etc/nvml/nvml.txt", (tmp_path / "nvml.txt").read_text())
    if root.machine.run("cc", "-shared", "-fPIC", "-o", library, str(ROOT / "tests/nvml.c")).code:
        pytest.skip("there is no C compiler")
    variables = "Environment=LD_LIBRARY_PATH=/etc/nvml TESTS_NVML=/etc/nvml/nvml.txt"
    root.write(f"/etc/systemd/system/{UNIT}.service.d/gpus.conf", f"[Service]\n{variables}\n")
    root.systemctl("daemon-reload")
    restart(root)
    ada.ctl("run", "--name", "gpu", "--gpus", "1", "--", "sh", "-c", 'echo "${CUDA_VISIBLE_DEVICES}"')
    # In a container nobody can say who holds a GPU, so it waits; an admin has it start, and it gets one.
    until(lambda: "outside of this container" in ada.ctl("why", "gpu"), "the first look")
    root.ctl("resume", f"{USER}/gpu")
    ada.is_over("gpu")

    assert "GPU-of-a-test" == ada.log("gpu").strip()


FORGED = """printf '{"pid":%s,"start_ticks":%s,"boot_id":"%s"}' $VICTIM $TICKS $BOOT > heir.json"""
TRICKS = {
    "link": "ln -sf /etc/shadow exit.json",
    "pipe": "mkfifo exit.json",
    "link-heir": "ln -sf /etc/shadow heir.json",
    "pipes": "mkfifo heir.json; rm -f claim; mkfifo claim",
    "process": f"{FORGED}; cp heir.json process.json; cp heir.json claim",
    "long": "head -c 3000000 /dev/zero > exit.json",
}


@pytest.mark.parametrize("trick", list(TRICKS))
def test_tricks_in_a_run_folder_reach_nothing_of_others(root, ada, grace, trick):
    """
    The daemon answers on, gives away nothing and ends nobody else's process.
    """
    victim = grace.machine.ok(
        "sh", "-c", f"setpriv --reuid {OTHER} --clear-groups sleep 600 >/dev/null 2>&1 & echo $!"
    )
    ticks = grace.machine.ok("sh", "-c", f"cut -d' ' -f22 /proc/{victim}/stat")
    daemon = root.shows("MainPID")
    boot = ada.machine.ok("cat", "/proc/sys/kernel/random/boot_id")
    evil = f"evil-{trick}"
    script = f"cd $TRAINING_SUPERVISOR_RUN_DIR; {TRICKS[trick]}; touch ~/{evil}; sleep 300"
    ada.run_job(evil, "sh", "-c", script, VICTIM=victim, TICKS=ticks, BOOT=boot)
    until(
        lambda: not ada.machine.run("test", "-e", f"{ada.folder}/{evil}").code, lambda: ada.ctl("show", evil)
    )
    root.systemctl("restart", UNIT)
    daemon = root.other_daemon(int(daemon))
    shown = ada.ctl("show", evil) + root.ctl("status")
    ada.machine.run(f"{PLACE}/bin/supervisorctl", "kill", evil, user=USER)
    until(lambda: ada.row(evil)["state"] in ("stopped", "failed", "completed"), evil)
    ada.ctl("remove", evil)

    assert 0 == grace.machine.run("kill", "-0", victim).code
    assert str(daemon) == root.shows("MainPID")
    assert "root:" not in shown
    grace.machine.ok("kill", victim)


@pytest.mark.parametrize("user", ["root", USER])
def test_the_contract_of_the_launcher_holds_on_systemd(machine, user):
    """
    On the manager of the system and on that of a user.
    """
    path = ":".join([".", *(path for path in sys.path if path.endswith("site-packages"))])
    variables = ("REAL_SYSTEMD=1", "PYTHONDONTWRITEBYTECODE=1", f"PYTHONPATH={path}")
    # A unit is there once, so that no second keeper comes late.
    chosen = ("-k", "unit and not keeper_that_comes", "tests/contract/test_launcher.py")
    words = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *chosen)
    said = machine.run("env", "-C", str(ROOT), *variables, sys.executable, *words, user=user)

    assert 0 == said.code, said.out[-3000:]
    assert re.search(r"\d\d passed", said.out)


def test_a_program_by_hand_is_ended_for_a_pause_and_started_again_as_its_user(ada):
    """
    In a unit, then, with the environment that it had.
    """
    folder = f"{ada.folder}/by-hand"
    ada.machine.ok("mkdir", folder, user=USER)
    words = (
        f"CHAIN={folder}",
        "CHAIN_STEPS=1000000",
        "CHAIN_STEP_S=0.02",
        "CHAIN_RESTART=yes",
        "COLOUR=blue",
    )
    command = f'cd {folder} && nohup env "$@" > out 2>&1 &'
    chain = (sys.executable, str(ROOT / "tests/trainers/chain.py"))
    ada.machine.ok("sh", "-c", command, "sh", *words, *chain, user=USER)
    until(lambda: "chain" in ada.ctl("status"), lambda: ada.machine.run("cat", f"{folder}/out"))
    until(lambda: ada.row("chain")["pausable"], lambda: ada.row("chain"))
    first = ada.row("chain")["pid"]
    ada.ctl("pause", "chain", "--depth", "exit", "--wait")
    gone = ada.machine.run("kill", "-0", str(first)).code
    ada.ctl("resume", "chain", "--wait")
    second = until(lambda: (row := ada.row("chain"))["pausable"] and row["pid"], lambda: ada.row("chain"))
    shown = ada.machine.ok("cat", f"/proc/{second}/environ")
    owner, unit = ada.machine.ok("stat", "-c", "%U", f"/proc/{second}"), unit_of(ada.machine, second)
    ada.ctl("kill", "chain")

    assert 0 != gone
    assert first != second
    assert USER == owner
    assert unit.endswith(f"-{USER}@chain.2.service")
    assert "COLOUR=blue" in shown
