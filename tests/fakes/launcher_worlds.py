"""A machine to launch on, real or made up, for tests of launchers.

Covers: commands that mark their start and end on demand, keepers that are late.
Does not cover: daemons in processes of their own (tests/crash/test_keeper.py).
"""

import os
import select
import signal
import sys
import time
from pathlib import Path

import msgspec

from supervisor.core.jobs.names import folder_of
from supervisor.launcher import KeeperLauncher, records
from supervisor.launcher.identity import identify
from supervisor.launcher.systemd_bus import Bus, BusError
from supervisor.launcher.transient import UnitKeepers, unit_of
from supervisor.ports import Ended, LaunchSpec, Started
from supervisor.system.cgroups import limits_of_units
from supervisor.system.procfs import has_ended
from tests.fakes.launcher import FakeLauncher, FakeMachine
from tests.groups import stands_still

GUARD_S = 20
#: Marks its start, then waits for the code to end with.
COMMAND = 'echo start >> "$STARTS"; read code < "$ORDERS"; exit $code'
#: Says that it is up, and does not hear the polite signals.
DEAF = 'trap "" TERM HUP INT; ' + COMMAND


class World:
    """One machine with its folders; launchers come and go on it."""

    def __init__(self, tmp_path):
        self.tmp_path = tmp_path
        self.specs = []

    def spec(self, job="job-1", incarnation=1, script=COMMAND, **changes):
        folder = self.tmp_path / f"{job}.{incarnation}"
        folder.mkdir(exist_ok=True)
        orders = folder / "orders"
        if not orders.exists():
            os.mkfifo(orders)
        spec = LaunchSpec(
            job=job,
            incarnation=incarnation,
            argv=("sh", "-c", script),
            cwd=str(self.tmp_path),
            env={"PATH": os.environ["PATH"], "STARTS": str(folder / "starts"), "ORDERS": str(orders)},
            run_dir=folder / "run",
            log=folder / "output.log",
        )
        spec = msgspec.structs.replace(spec, **changes)
        self.specs.append(spec)
        return spec


class RealWorld(World):
    def launcher(self, *, slow=False):
        return KeeperLauncher(python=str(self.slow_python())) if slow else KeeperLauncher()

    def slow_python(self):
        """A Python that waits for `release()` before it does anything."""
        go, script = self.tmp_path / "go", self.tmp_path / "slow-python"
        if not script.exists():
            os.mkfifo(go)
            script.write_text(f'#!/bin/sh\nread go < "{go}"\nexec "{sys.executable}" "$@"\n')
            script.chmod(0o755)
        return script

    def release(self):
        with (self.tmp_path / "go").open("w") as go:
            go.write("go\n")

    def finish(self, spec, code):
        with Path(spec.env["ORDERS"]).open("w") as orders:
            orders.write(f"{code}\n")

    def stands_still(self, process):
        return stands_still(process.pid)

    def kill(self, process):
        os.kill(process.pid, signal.SIGKILL)

    def num_starts(self, spec):
        starts = Path(spec.env["STARTS"])
        return len(starts.read_text().splitlines()) if starts.exists() else 0

    def clean_up(self):
        launcher = KeeperLauncher()
        waited = set()
        for spec in self.specs:
            if launcher.adopt(spec.job, spec.incarnation, spec.run_dir):
                launcher.signal(spec.job, spec.incarnation, signal.SIGKILL, whole_tree=True)
                waited.add((spec.job, spec.incarnation))
        ends = until(launcher, lambda news: waited <= {(n.job, n.incarnation) for n in ends_of(news)})
        launcher.close()
        assert len(waited) == len(ends_of(ends))


class LocalManager:
    """What systemd does for a keeper, without one: a process with the descriptors that it was handed.

    It is no unit, so a process is found by its claim only; until that is taken nothing is answered.
    """

    def __init__(self):
        self.processes = {}

    def start(self, unit, settings):
        values = {name: value for name, (_, value) in settings}
        ((_, words, _),) = values["ExecStart"]
        if unit not in self.processes:
            order, notice = values["StandardInputFileDescriptor"], values["StandardOutputFileDescriptor"]
            descriptors = [
                (os.POSIX_SPAWN_DUP2, order, 0),
                (os.POSIX_SPAWN_DUP2, notice, 1),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_RDWR, 0),
            ]
            self.processes[unit] = os.posix_spawn(words[0], words, {}, file_actions=descriptors, setsid=True)
        return self.processes[unit]

    def set_frozen(self, unit, *, is_frozen):
        # No process here is in a unit; to be let go is nothing for one that is not there.
        if is_frozen:
            raise BusError(f"systemd says: Unit {unit} not loaded.")

    def close(self):
        pass


class WaitingManager(LocalManager):
    """One that answers as late as systemd may: when the keeper has got to its work, or is over."""

    def __init__(self, run_dir_of):
        super().__init__()
        self.run_dir_of = run_dir_of

    def start(self, unit, settings):
        pid = super().start(unit, settings)
        until_true(lambda: is_at_work(self.run_dir_of(unit)) or has_ended(identify(pid)))
        return pid


def is_at_work(run_dir):
    # The file is there a moment before the claim is taken; a real keeper is known by its unit then.
    return records.is_claimed(run_dir) or records.has_record(run_dir)


class UnitWorld(RealWorld):
    """Keepers are started by somebody else: by systemd where REAL_SYSTEMD=1 says that one is there."""

    def launcher(self, *, slow=False):
        python = str(self.slow_python()) if slow else sys.executable
        if os.environ.get("REAL_SYSTEMD") == "1":
            manager, limits = Bus(is_system=os.geteuid() == 0), limits_of_units(os.geteuid())
        else:
            manager, limits = WaitingManager(self.run_dir_of), frozenset()
        return KeeperLauncher(keepers=UnitKeepers(python, manager, limits=limits))

    def run_dir_of(self, unit):
        (found,) = {spec.run_dir for spec in self.specs if unit_of(spec.run_dir) == unit}
        return found

    def spec(self, job="job-1", incarnation=1, script=COMMAND, **changes):
        # A unit has its name by the folder of the start.
        run_dir = self.tmp_path / "state" / folder_of(job) / f"run-{incarnation}"
        return super().spec(job, incarnation, script, **{"run_dir": run_dir, **changes})


class FakeWorld(World):
    def __init__(self, tmp_path):
        super().__init__(tmp_path)
        self.machine = FakeMachine()

    def launcher(self, *, slow=False):
        self.machine.keepers_are_slow = slow
        return FakeLauncher(self.machine)

    def release(self):
        self.machine.release()

    def spec(self, *args, **changes):
        spec = super().spec(*args, **changes)
        if not Path(spec.cwd).exists():
            self.machine.refuse(
                spec.job, f"there is no working directory `{spec.cwd}`; make it, or name another"
            )
        if DEAF in spec.argv:
            self.machine.deaf.add(spec.job)
        return spec

    def finish(self, spec, code):
        self.machine.finish(spec.job, code)

    def stands_still(self, process):
        (key,) = (key for key, command in self.machine._commands.items() if command.process == process)
        return key in self.machine.frozen

    def kill(self, process):
        (key,) = (key for key, command in self.machine._commands.items() if command.process == process)
        self.machine.finish(key[0], killed_by=signal.SIGKILL)

    def num_starts(self, spec):
        return self.machine.num_starts(spec.job, spec.incarnation)

    def clean_up(self):
        pass


def ends_of(news):
    return [each for each in news if isinstance(each, Ended)]


def until(launcher, is_enough):
    """Collect news until there are enough of them; hangs are failures."""
    news = []
    deadline = time.monotonic() + GUARD_S
    while not is_enough(news):
        assert select.select([launcher], [], [], max(0, deadline - time.monotonic()))[0], f"only {news}"
        news += launcher.drain()
    return news


def started(launcher):
    (news,) = until(launcher, bool)
    assert isinstance(news, Started), news
    return news


def ended(launcher):
    news = until(launcher, ends_of)
    return news[-1]


def until_true(claim):
    deadline = time.monotonic() + GUARD_S
    while not claim():
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.005)
