"""All processes of a start stand still, and go on: by its control group where it has one, else by signals.

Covers: which way it is done; what is done instead where that fails.
Does not cover: when (core/), what systemd is asked (transient.py), CUDA contexts (supervisor/freezer.py).

A group holds whoever is in it at once: who starts a child this moment, and who is another user by now.
A unit is frozen by systemd, which lets it go before it stops it, so that the end of the machine is still
heard; a group of our own by its file. The keeper of a unit stands still with it: it is let go when the
command is over, to write down how.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Final

import structlog

from supervisor.core.jobs.job import Pid
from supervisor.launcher import group
from supervisor.launcher.keepers import FreezeAnswer, Keepers
from supervisor.launcher.runs import Run
from supervisor.system.cgroups import Group, named_groups
from supervisor.system.marks import jobs_folder, names_of_groups, start_of

__all__ = ["Freezing"]

#: The file that stops a group, and what it takes to stop and to let go.
_FIRST_VERSION: Final = ("freezer.state", b"FROZEN", b"THAWED")
_SECOND_VERSION: Final = ("cgroup.freeze", b"1", b"0")


class Freezing:
    """Signals to whole starts. For one thread; never waits."""

    def __init__(self, keepers: Keepers) -> None:
        """Ask these of units."""
        self._keepers = keepers
        self._log = structlog.get_logger("freezing")
        self._due: list[tuple[Path, set[Pid], int]] = []

    @property
    def has_due(self) -> bool:
        """Say whether `send` is to be called."""
        return bool(self._due)

    def send(self) -> None:
        """Send the signals that are due, in their order: few looks serve many starts."""
        due, self._due = self._due, []
        for number, chosen in groupby(due, key=lambda one: one[2]):
            group.send_to_all([([run_dir], known) for run_dir, known, _ in chosen], number)

    def signal(self, run: Run, number: int) -> None:
        """Signal all processes of a start, soon; those that stop it or let it go are for its group."""
        if number == signal.SIGSTOP:
            self._freeze(run)
            return
        # In version 1 not even SIGKILL ends who is frozen.
        if number == signal.SIGCONT or (number == signal.SIGKILL and run.is_frozen):
            self.thaw(run)
        self._note(run, number)

    def thaw(self, run: Run) -> None:
        """Let the group of a start go on, if it was stopped; signals are no part of this."""
        run.is_frozen = run.is_thaw_due = False
        problem = self._set_frozen(run, is_frozen=False)
        # Without a group it was never stopped by one.
        if problem and _groups(run):
            self._try_again(run, problem)

    def take(self, run: Run, answer: FreezeAnswer) -> None:
        """Do what is left to do where systemd could not."""
        if answer.is_frozen != run.is_frozen:
            # Something else is wanted since, and was asked for behind it.
            return
        if answer.problem and answer.is_frozen:
            self._stop(run, answer.problem)
        elif answer.problem:
            self._try_again(run, answer.problem)
        else:
            run.thaw_problem = ""

    def _freeze(self, run: Run) -> None:
        run.is_frozen, run.is_thaw_due = True, False
        if problem := self._set_frozen(run, is_frozen=True):
            self._stop(run, problem)

    def _stop(self, run: Run, problem: str) -> None:
        self._log.warning("stopped-by-signal", job=run.job, start=run.incarnation, problem=problem)
        self._note(run, signal.SIGSTOP)

    def _note(self, run: Run, number: int) -> None:
        # A record that was forged hides a command, and none of its group.
        self._due.append((run.run_dir, set() if run.process is None else {run.process}, number))

    def _try_again(self, run: Run, problem: str) -> None:
        if problem != run.thaw_problem:
            self._log.error("cannot-thaw", job=run.job, start=run.incarnation, problem=problem)
        run.is_thaw_due, run.thaw_problem = True, problem

    def _set_frozen(self, run: Run, *, is_frozen: bool) -> str:
        """Return why it is not done by its group, or ""; a unit is asked for, and `take` gets to know."""
        groups = _groups(run)
        is_unit = any(one.folder.suffix == ".service" for one in groups.values())
        # Who forges the record of his process hides its group so; the unit has a name all the same.
        if (is_unit or not groups) and self._keepers.set_frozen(run, is_frozen=is_frozen):
            return ""
        return _written(groups, is_frozen=is_frozen)


def _groups(run: Run) -> dict[str, Group]:
    start = start_of(run.run_dir)
    if start is None or run.process is None:
        return {}
    return named_groups(run.process.pid, names_of_groups(jobs_folder(run.run_dir), start))


def _written(groups: Mapping[str, Group], *, is_frozen: bool) -> str:
    """Return why a group cannot be told by its file, or ""."""
    first, second = groups.get("freezer"), groups.get("")
    place, words = (first, _FIRST_VERSION) if first is not None else (second, _SECOND_VERSION)
    if place is None:
        return "it has no control group that can be frozen"
    name, frozen, thawed = words
    path = Path(place.folder, name)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, frozen if is_frozen else thawed)
        finally:
            os.close(fd)
    except OSError as error:
        return f"cannot write `{path}`: {error.strerror}"
    return ""
