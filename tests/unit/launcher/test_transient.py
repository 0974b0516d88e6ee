"""What systemd is asked for a start, and what comes of its answers, without a systemd.

Covers: who may read what, users whose numbers changed, a manager that says no, keepers that come too late.
Does not cover: the launcher (tests/contract), systemd itself (tests/systemd).
"""

import os
import pwd
import select

import pytest
from msgspec.structs import replace

from supervisor.core.jobs.job import Owner
from supervisor.core.jobs.treatment import JobLimits
from supervisor.errors import Refused
from supervisor.launcher.keepers import Answer, ChildKeepers
from supervisor.launcher.own_groups import OwnGroups
from supervisor.launcher.runs import Run
from supervisor.launcher.systemd_bus import Bus, BusError
from supervisor.launcher.transient import UnitKeepers, unit_of
from supervisor.ports import LaunchSpec

ME = pwd.getpwuid(os.geteuid())
GUARD_S = 20


class Manager:
    """Takes down what it is asked, and answers with `answer`."""

    def __init__(self, answer=4711):
        self.answer = answer
        self.unit = None
        self.settings = {}
        self.order = None
        self.moved = []

    def set_frozen(self, unit, *, is_frozen):
        self.moved.append((unit, is_frozen))
        if isinstance(self.answer, Exception):
            raise self.answer

    def start(self, unit, settings):
        self.unit, self.settings = unit, {name: value for name, (_, value) in settings}
        # As systemd does: its own, to be handed on whenever it likes.
        self.order = os.dup(self.settings["StandardInputFileDescriptor"])
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def close(self):
        pass


def spec(tmp_path, owner=None):
    return LaunchSpec(
        job="ada/night",
        incarnation=3,
        argv=("train", "--word=hush"),
        cwd="/",
        env={"TOKEN": "hush"},
        run_dir=tmp_path / "@ada/night/run-3",
        log=tmp_path / "@ada/night/log",
        owner=owner,
    )


def answer_of(keepers):
    assert select.select([keepers.fileno()], [], [], GUARD_S)[0]
    (answer,) = keepers.answers()
    return answer


def asked(tmp_path, manager, owner=None, python="/usr/bin/python3"):
    """Ask for a start; returns the answer and what a keeper finds as its order."""
    keepers = UnitKeepers(python, manager)
    os.close(keepers.start(spec(tmp_path, owner), 1024).notice_fd)
    answer = answer_of(keepers)
    keepers.close()
    if manager.order is None:
        return answer, None
    with os.fdopen(manager.order, "rb") as order:
        return answer, order.read()


def test_a_units_properties_say_nothing_of_command_and_environment(tmp_path):
    """
    All users may read those; the order goes through a descriptor.
    """
    manager = Manager()
    answer, order = asked(tmp_path, manager)

    assert Answer("ada/night", 3, 4711) == answer
    assert "hush" not in repr(manager.settings)
    assert 2 == order.count(b"hush")
    assert unit_of(spec(tmp_path).run_dir) == manager.unit
    assert manager.unit.endswith("-ada@night.3.service")


def test_a_unit_is_its_users(tmp_path):
    """
    By name, for the groups; a daemon's own job names nobody.
    """
    own, of_user = Manager(), Manager()
    asked(tmp_path, own)
    asked(tmp_path, of_user, Owner(ME.pw_uid, ME.pw_name))

    assert "User" not in own.settings
    assert ME.pw_name == of_user.settings["User"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes anything for another user")
def test_nothing_runs_as_a_user_who_is_another_by_now(tmp_path):
    """
    A name may have been given to somebody else since the job was made.
    """
    other = pwd.getpwnam("nobody")
    manager = Manager()
    answer, _ = asked(tmp_path, manager, Owner(other.pw_uid, ME.pw_name))

    assert manager.unit is None
    assert f"`{ME.pw_name}` was user id {other.pw_uid}" in answer.problem


def test_nothing_runs_as_a_user_who_is_gone(tmp_path):
    """
    Not even a folder is handed to nobody.
    """
    keepers = UnitKeepers("/usr/bin/python3", Manager())
    with pytest.raises(OSError, match="no user `no-such-user` any more"):
        keepers.start(spec(tmp_path, Owner(4711, "no-such-user")), 1024)
    keepers.close()


@pytest.mark.parametrize(
    ("limits", "settings"),
    [
        (JobLimits(), {}),
        (JobLimits(memory_max_bytes=1 << 30), {"MemoryMax": 1 << 30}),
        (JobLimits(memory_max_bytes=1 << 30, cpu_weight=50), {"MemoryMax": 1 << 30, "CPUWeight": 50}),
    ],
)
def test_limits_are_properties_of_the_unit(tmp_path, limits, settings):
    """
    Those that were asked for, and no others: the rest is what systemd gives to any unit.
    """
    manager = Manager()
    keepers = UnitKeepers("/usr/bin/python3", manager, limits=frozenset({"cpu", "memory"}))
    os.close(keepers.start(replace(spec(tmp_path), limits=limits), 1024).notice_fd)
    answer_of(keepers)
    keepers.close()
    os.close(manager.order)

    said = {name: value for name, value in manager.settings.items() if name in ("MemoryMax", "CPUWeight")}
    assert settings == said


def test_a_limit_that_nothing_would_keep_is_refused(tmp_path):
    """
    Systemd takes it in silence. What can be kept is; and it is said which one cannot.
    """
    keepers = UnitKeepers("/usr/bin/python3", Manager(), limits=frozenset({"memory"}))
    both, memory = JobLimits(memory_max_bytes=1 << 30, cpu_weight=50), JobLimits(memory_max_bytes=1 << 30)
    with pytest.raises(Refused, match="no control group controller here that limits CPU time"):
        keepers.start(replace(spec(tmp_path), limits=both), 1024)
    keepers.close()

    assert ["", ""] == [keepers.cannot_limit(memory), keepers.cannot_limit(JobLimits())]
    assert not (tmp_path / "@ada").exists()


@pytest.mark.parametrize("error", [None, BusError("no bus"), RuntimeError("a mistake")])
def test_units_are_stopped_and_let_go_in_the_order_that_was_asked_for(tmp_path, error):
    """
    What came of it is told each time, also where the bus makes no sense.
    """
    manager, run = Manager(error), Run("ada/night", 3, spec(tmp_path).run_dir)
    keepers = UnitKeepers("/usr/bin/python3", manager)
    told = []
    for is_frozen in (True, False):
        assert keepers.set_frozen(run, is_frozen=is_frozen)
        told.append(answer_of(keepers))
    keepers.close()

    unit = unit_of(run.run_dir)
    assert [(unit, True), (unit, False)] == manager.moved
    assert [True, False] == [one.is_frozen for one in told]
    assert all(str(error or "") in one.problem and bool(one.problem) == bool(error) for one in told)


@pytest.mark.parametrize("error", [BusError("no bus"), RuntimeError("a mistake")])
def test_what_systemd_did_not_take_up_is_taken_back(tmp_path, error):
    """
    The job has failed by then; a keeper that is started all the same finds nothing to run.
    """
    answer, order = asked(tmp_path, Manager(error))

    assert answer.pid is None
    assert str(error) in answer.problem
    assert b"" == order


def test_a_bus_that_is_not_there_is_told(tmp_path, monkeypatch):
    """
    In words, and again at the next start.
    """
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")
    bus = Bus(is_system=False)
    for _ in range(2):
        with pytest.raises(BusError, match="systemd cannot be asked: No such file"):
            bus.start("x.service", [])


def test_a_child_of_the_daemon_is_never_another_users(tmp_path):
    """
    It would run as the daemon.
    """
    keepers = ChildKeepers("/usr/bin/python3", OwnGroups())

    with pytest.raises(Refused, match="starts jobs of its own user only"):
        keepers.start(spec(tmp_path, Owner(4711, "ada")), 1024)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes anything for another user")
def test_a_python_that_the_user_may_not_reach_is_told(tmp_path, home):
    """
    2026-11-29: of a daemon below /root (0700) other users heard that systemd could not start their jobs.
    """
    other = pwd.getpwnam("nobody")
    home.chmod(0o755)
    python = home / "closed" / "python3"
    python.parent.mkdir(mode=0o700)
    python.touch(0o755)
    manager = Manager()
    answer, _ = asked(tmp_path, manager, Owner(other.pw_uid, "nobody"), python=str(python))

    assert manager.unit is None
    assert f"nobody may not enter or read `{python.parent}`, on the way to `{python}`" in answer.problem
    assert "install training-supervisor where all users may read it" in answer.problem
