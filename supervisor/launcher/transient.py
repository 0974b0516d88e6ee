"""Keepers in transient units of systemd: each start of a command is a service, as the job's user.

Covers: what systemd is asked, in a thread of its own, and taking back what it did not take up.
Does not cover: D-Bus (systemd_bus.py), what a keeper does, the folders of other users' jobs (handing_out.py).

A unit's properties can be read by every user of the machine, so command and environment are in none:
the keeper gets them as its standard input, a descriptor of a file in memory that has no name.

The unit is named as a control group of ours is (system/marks.py). Thereby all processes in it are known as
those of the start, whoever they belong to and whatever their parents, session and environment are.
"""

from __future__ import annotations

import os
import pwd
import queue
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog

from supervisor.core.jobs.job import Owner
from supervisor.core.jobs.names import user_of
from supervisor.core.jobs.treatment import JobLimits
from supervisor.errors import Refused
from supervisor.launcher import handing_out
from supervisor.launcher.keepers import Answer, FreezeAnswer, NewKeeper
from supervisor.launcher.order import keeper_words, needed_files, open_order
from supervisor.launcher.runs import Run
from supervisor.launcher.systemd_bus import BusError, Setting
from supervisor.launcher.user_turns import UserTurns
from supervisor.ports import LaunchSpec
from supervisor.system.marks import jobs_folder, names_of_groups, start_of
from supervisor.system.reachable import barrier
from supervisor.system.users import entry_of

__all__ = ["Manager", "UnitKeepers", "unit_of"]

_SLICE: Final = "training-jobs.slice"
#: What a bus says that speaks no D-Bus, and no descriptor left.
_BROKEN_BUS: Final = (OSError, RuntimeError, ValueError, LookupError)
_UNLIMITED: Final = (1 << 64) - 1
#: `systemctl stop` and the end of the machine are a SIGTERM to a training, which then writes a checkpoint.
_STOP_US: Final = 300 * 1_000_000


class Manager(Protocol):
    """What is asked of systemd; see systemd_bus.Bus."""

    def start(self, unit: str, settings: list[Setting]) -> int | None:
        """Start a service once; returns its main process, None when it is over; raises BusError."""
        ...

    def set_frozen(self, unit: str, *, is_frozen: bool) -> None:
        """Have all processes of a unit stand still, or go on; raises BusError."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


@dataclass
class _Wanted:
    """One unit that is to be started; its descriptors are closed once systemd has answered."""

    job: str
    incarnation: int
    unit: str
    owner: Owner | None
    words: list[str]
    order: int
    keepers_end: int
    limits: JobLimits


@dataclass
class _Freeze:
    """One unit that is to stand still, or to go on."""

    job: str
    incarnation: int
    unit: str
    is_frozen: bool


class UnitKeepers:
    """Starts keepers as services. Made and used by one thread; all that waits is done in another."""

    def __init__(self, python: str, manager: Manager, *, limits: frozenset[str] = frozenset()) -> None:
        """Ask this manager of units; `python` runs the keepers. `limits`: see cgroups.limits_of_units."""
        self._python = python
        self._limits = limits
        self._log = structlog.get_logger("units")
        self._manager = manager
        self._wanted = UserTurns[_Wanted | _Freeze]()
        self._answers: queue.SimpleQueue[Answer | FreezeAnswer] = queue.SimpleQueue()
        self._has_answers = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # A daemon that ends does not wait for a bus that hangs.
        self._thread = threading.Thread(target=self._work, name="units", daemon=True)
        self._thread.start()

    def start(self, spec: LaunchSpec, max_files: int) -> NewKeeper:
        """See keepers.Keepers: its process is told later."""
        if problem := self.cannot_limit(spec.limits):
            raise Refused(f"cannot start: {problem}")
        handing_out.prepare(spec)
        words = keeper_words(self._python, spec, max_files, "")
        order = open_order(spec)
        try:
            notice, keepers_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            os.close(order)
            raise
        self._wanted.put(
            user_of(spec.job),
            _Wanted(
                spec.job,
                spec.incarnation,
                unit_of(spec.run_dir),
                spec.owner,
                words,
                order,
                keepers_end,
                spec.limits,
            ),
        )
        return NewKeeper(notice, None)

    def cannot_limit(self, limits: JobLimits) -> str:
        """See keepers.Keepers: systemd takes any limit, whether the kernel keeps it or not."""
        lacks = sorted(limits.controllers - self._limits)
        what = " and ".join("CPU time" if one == "cpu" else one for one in lacks)
        return f"systemd has no control group controller here that limits {what}" if lacks else ""

    def set_frozen(self, run: Run, *, is_frozen: bool) -> bool:
        """See keepers.Keepers."""
        wanted = _Freeze(run.job, run.incarnation, unit_of(run.run_dir), is_frozen)
        self._wanted.put(user_of(run.job), wanted)
        return True

    def fileno(self) -> int | None:
        """See keepers.Keepers."""
        return self._has_answers

    def answers(self) -> list[Answer | FreezeAnswer]:
        """See keepers.Keepers."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._has_answers)
        found = []
        with suppress(queue.Empty):
            while True:
                found.append(self._answers.get_nowait())
        return found

    def close(self) -> None:
        """See keepers.Keepers; what systemd was not asked for yet, the next daemon asks for."""
        self._wanted.close()

    def _work(self) -> None:
        while (wanted := self._wanted.get()) is not None:
            if isinstance(wanted, _Freeze):
                self._answers.put(self._set_frozen(wanted))
            else:
                self._answers.put(self._start(wanted))
                os.close(wanted.order)
                os.close(wanted.keepers_end)
            os.eventfd_write(self._has_answers, 1)
        self._manager.close()
        os.close(self._has_answers)

    def _start(self, wanted: _Wanted) -> Answer:
        key = wanted.job, wanted.incarnation
        try:
            return Answer(*key, self._manager.start(wanted.unit, _settings(wanted)))
        except BusError as error:
            problem = str(error)
        except _BROKEN_BUS as error:
            problem = self._broken(error, wanted.unit)
        # A keeper that systemd starts later all the same finds nothing to run.
        os.ftruncate(wanted.order, 0)
        return Answer(*key, None, problem)

    def _set_frozen(self, wanted: _Freeze) -> FreezeAnswer:
        problem = ""
        try:
            self._manager.set_frozen(wanted.unit, is_frozen=wanted.is_frozen)
        except BusError as error:
            problem = str(error)
        except _BROKEN_BUS as error:
            problem = self._broken(error, wanted.unit)
        return FreezeAnswer(wanted.job, wanted.incarnation, wanted.is_frozen, problem)

    def _broken(self, error: Exception, unit: str) -> str:
        self._log.error("bus-failed", unit=unit, exc_info=error)
        return f"{type(error).__name__}: {error}"


def unit_of(run_dir: Path) -> str:
    """Return the name of the unit for a start."""
    start = start_of(run_dir)
    if start is None:
        raise ValueError(f"`{run_dir}` is no run folder")
    return names_of_groups(jobs_folder(run_dir), start)[1]


def _settings(wanted: _Wanted) -> list[Setting]:
    user: list[Setting] = []
    if wanted.owner is not None:
        # With the name systemd finds the groups. No name is believed that was another's meanwhile.
        _check_user(wanted.owner)
        _check_reach(wanted.owner, wanted.words[0])
        user = [("User", ("s", wanted.owner.name))]
    return [
        ("Description", ("s", f"Training job {wanted.job}, start {wanted.incarnation}")),
        ("Slice", ("s", _SLICE)),
        *user,
        # Started is who runs: who cannot be is told so.
        ("Type", ("s", "exec")),
        ("ExecStart", ("a(sasb)", [(wanted.words[0], wanted.words, False)])),
        ("StandardInputFileDescriptor", ("h", wanted.order)),
        ("StandardOutputFileDescriptor", ("h", wanted.keepers_end)),
        ("StandardError", ("s", "null")),
        # The unit is there as long as anybody in it: a command whose keeper is killed goes on.
        ("ExitType", ("s", "cgroup")),
        # A job is all its processes.
        ("KillMode", ("s", "control-group")),
        ("TimeoutStopUSec", ("t", _STOP_US)),
        # It is read from its files how it ended, also after the unit is gone.
        ("CollectMode", ("s", "inactive-or-failed")),
        # One process that the kernel ends for want of memory is the command's to deal with.
        ("OOMPolicy", ("s", "continue")),
        ("TasksMax", ("t", _UNLIMITED)),
        ("CPUAccounting", ("b", True)),
        ("MemoryAccounting", ("b", True)),
        ("IOAccounting", ("b", True)),
        *_limits(wanted.limits),
    ]


def _check_reach(owner: Owner, python: str) -> None:
    """Raise BusError where the user cannot run a keeper: systemd would only say that it could not."""
    gids = entry_of(owner.uid).groups
    for needed in needed_files(python):
        if (closed := barrier(needed, owner.uid, gids)) is not None:
            raise BusError(
                f"{owner.name} may not enter or read `{closed}`, on the way to `{needed}`, which every job "
                "needs; install training-supervisor where all users may read it, such as /opt"
            )


def _limits(limits: JobLimits) -> list[Setting]:
    values = {"MemoryMax": limits.memory_max_bytes, "CPUWeight": limits.cpu_weight}
    return [(name, ("t", value)) for name, value in values.items() if value is not None]


def _check_user(owner: Owner) -> None:
    try:
        uid = pwd.getpwnam(owner.name).pw_uid
    except KeyError:
        raise BusError(f"there is no user `{owner.name}` any more") from None
    if uid != owner.uid:
        raise BusError(f"`{owner.name}` was user id {owner.uid} when the job was made, and is {uid} now")
