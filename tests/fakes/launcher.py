"""A launcher without processes: the test says when a command starts and ends.

Covers: everything that tests/contract/test_launcher.py demands, and the moments
at which a daemon can be killed.
Does not cover: time. What has happened is told by the next `drain()`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from supervisor.core.jobs.job import Exit, Pid
from supervisor.core.jobs.names import folder_of, key_of_folder
from supervisor.core.jobs.treatment import JobLimits
from supervisor.ports import Ended, LaunchSpec, Orphan, Started

__all__ = ["FakeLauncher", "FakeMachine"]

_BOOT = "boot-1"
_HARMLESS = {
    0,
    signal.SIGCHLD,
    signal.SIGCONT,
    signal.SIGSTOP,
    signal.SIGTSTP,
    signal.SIGURG,
    signal.SIGWINCH,
}
_NEVER_IGNORED = {signal.SIGKILL, signal.SIGSTOP}


@dataclass
class _Command:
    process: Pid | None = None
    exit: Exit | None = None
    #: Signals that came while its keeper had not started it.
    early: list[int] = field(default_factory=list)


class FakeMachine:
    """What survives a kill -9 of the daemon; shared by all launchers of one test."""

    def __init__(self) -> None:
        #: Every start of a command, in order; a pair that stands here twice is a bug of the caller.
        self.starts: list[tuple[str, int]] = []
        #: What was launched, newest last, also when it could not be started.
        self.specs: list[LaunchSpec] = []
        #: Who got which signal: job, incarnation, number, whole tree.
        self.signals: list[tuple[str, int, int, bool]] = []
        #: Whose leftovers were to end: job, newest start, grace time.
        self.ended_groups: list[tuple[str, int, float]] = []
        #: While true, keepers are under way but have not got to their claim.
        self.keepers_are_slow = False
        #: Jobs whose command ignores every signal that can be ignored.
        self.deaf: set[str] = set()
        #: Commands that stand still: SIGSTOP came, and no SIGCONT since.
        self.frozen: set[tuple[str, int]] = set()
        self._commands: dict[tuple[str, int], _Command] = {}
        self._slow: list[tuple[str, int]] = []
        self._refusals: dict[str, str] = {}
        self._pids = count(1000)
        self._listeners: list[FakeLauncher] = []

    def refuse(self, job: str, reason: str) -> None:
        """Let later launches of the job end with `cannot start: reason`."""
        self._refusals[job] = reason

    def release(self) -> None:
        """Let slow keepers go on, whether the daemon that started them still lives or not."""
        self.keepers_are_slow = False
        slow, self._slow = self._slow, []
        for key in slow:
            self._run(key)

    def lose_keepers(self) -> None:
        """Kill slow keepers before they could do anything."""
        self._slow.clear()

    def finish(self, job: str, code: int = 0, *, killed_by: int | None = None) -> None:
        """End the newest running command of the job."""
        self._end_newest(job, Exit(code=code) if killed_by is None else Exit(signal=killed_by))

    def lose_status(self, job: str) -> None:
        """End the newest running command of the job with nobody left to see how."""
        self._end_newest(job, Exit(error="exit status unknown: the keeper of the command was killed"))

    def num_starts(self, job: str, incarnation: int) -> int:
        return self.starts.count((job, incarnation))

    def _end_newest(self, job: str, end: Exit) -> None:
        keys = [key for key, command in self._commands.items() if key[0] == job and command.exit is None]
        self._end(max(keys), end)

    def _end(self, key: tuple[str, int], end: Exit) -> None:
        self._commands[key].exit = end
        self.frozen.discard(key)
        self._tell(key)

    def _run(self, key: tuple[str, int]) -> None:
        """Be a keeper that has got to its claim."""
        if key in self._commands:
            return
        reason = self._refusals.get(key[0])
        if reason is not None:
            self._commands[key] = _Command(exit=Exit(error=f"cannot start: {reason}"))
        else:
            pid = next(self._pids)
            self._commands[key] = _Command(process=Pid(pid, start_ticks=10 * pid, boot_id=_BOOT))
            self.starts.append(key)
        self._tell(key)

    def _tell(self, key: tuple[str, int]) -> None:
        for listener in self._listeners:
            listener.look(key)


class FakeLauncher:
    """Obeys the same contract tests as the real one; each is one life of the daemon."""

    def __init__(self, machine: FakeMachine | None = None) -> None:
        self.machine = FakeMachine() if machine is None else machine
        self.machine._listeners.append(self)
        self._tracked: dict[tuple[str, int], bool] = {}
        self._early: dict[tuple[str, int], list[tuple[int, bool]]] = {}
        self._news: list[Started | Ended] = []
        self._has_news = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def launch(self, spec: LaunchSpec) -> None:
        key = spec.job, spec.incarnation
        if key in self._tracked:
            return
        self._tracked[key] = False
        if key in self.machine._commands:
            self.look(key)
            return
        self.machine.specs.append(spec)
        if why := self.cannot_limit(spec.limits):
            self.machine.refuse(spec.job, why)
        self.machine._slow.append(key)
        if not self.machine.keepers_are_slow:
            self.machine.release()

    def cannot_limit(self, limits: JobLimits) -> str:
        # As one that starts commands as its own children.
        return "only units of systemd are held to limits" if limits.controllers else ""

    def last_incarnation(self, job_dir: Path) -> int:
        key = key_of_folder(job_dir.parent.name, job_dir.name)
        return max((number for job, number in self.machine._commands if job == key), default=0)

    def orphans(self, jobs_dir: Path, known: Container[tuple[str, int]]) -> list[Orphan]:
        commands = self.machine._commands.items()
        living = {key: one.process for key, one in commands if one.process is not None and one.exit is None}
        return [
            Orphan(*key, process, jobs_dir / folder_of(key[0]) / f"run-{key[1]}")
            for key, process in living.items()
            if key not in known
        ]

    def adopt(
        self, job: str, incarnation: int, run_dir: Path, *, journal: str = "", process: Pid | None = None
    ) -> bool:
        key = job, incarnation
        if key not in self._tracked:
            if key not in self.machine._commands:
                return False
            self._tracked[key] = False
            self.look(key)
        return True

    def fileno(self) -> int:
        return self._has_news

    def drain(self) -> list[Started | Ended]:
        with suppress(BlockingIOError):
            os.eventfd_read(self._has_news)
        news, self._news = self._news, []
        return news

    def is_alive(self, process: Pid) -> bool:
        commands = self.machine._commands.values()
        return any(process == command.process and command.exit is None for command in commands)

    def signal(self, job: str, incarnation: int, number: int, *, whole_tree: bool) -> None:
        key = job, incarnation
        command = self.machine._commands.get(key)
        if command is None:
            if key in self._tracked:
                self._early.setdefault(key, []).append((number, whole_tree))
            return
        # Like the real one, only who was launched or taken up can be reached.
        if command.exit is not None or key not in self._tracked:
            return
        self.machine.signals.append((job, incarnation, number, whole_tree))
        if number == signal.SIGSTOP:
            self.machine.frozen.add(key)
        elif number == signal.SIGCONT:
            self.machine.frozen.discard(key)
        is_ignored = job in self.machine.deaf and number not in _NEVER_IGNORED
        if number not in _HARMLESS and not is_ignored:
            self.machine._end(key, Exit(signal=number))

    def left(self, jobs_dir: Path) -> dict[str, set[int]]:
        found: dict[str, set[int]] = {}
        for (job, incarnation), command in self.machine._commands.items():
            if command.process is not None and command.exit is None:
                found.setdefault(job, set()).add(incarnation)
        return found

    def follow(self, job: str, incarnation: int, process: Pid) -> None:
        """Here no command ends before its shim's process."""

    def end_group(self, job: str, run_dirs: Sequence[Path], *, grace_s: float) -> None:
        self.machine.ended_groups.append((job, len(run_dirs), grace_s))

    def close(self) -> None:
        """Be killed, or end; the machine goes on."""
        self.machine._listeners.remove(self)
        self._tracked.clear()
        os.close(self._has_news)

    def look(self, key: tuple[str, int]) -> None:
        """Tell what is new about a command; called by the machine."""
        command = self.machine._commands[key]
        if key not in self._tracked:
            return
        if command.process is not None and not self._tracked[key]:
            self._tracked[key] = True
            self._tell(Started(*key, command.process))
            for number, whole_tree in self._early.pop(key, ()):
                self.signal(*key, number, whole_tree=whole_tree)
        if command.exit is not None and self._tracked.pop(key, None) is not None:
            self._tell(Ended(*key, command.exit))

    def _tell(self, news: Started | Ended) -> None:
        self._news.append(news)
        os.eventfd_write(self._has_news, 1)
