"""How a keeper is started: the port, and starting one as a child of the daemon.

Covers: what whoever starts them is asked and answers. Does not cover: keepers in units of systemd
(transient.py), what is handed to them (order.py), what becomes of them (spawn.py).
"""

from __future__ import annotations

import os
import signal
from typing import NamedTuple, Protocol

from supervisor.core.jobs.treatment import JobLimits
from supervisor.errors import Refused
from supervisor.launcher import handing_out
from supervisor.launcher.order import keeper_words, open_order
from supervisor.launcher.own_groups import OwnGroups
from supervisor.launcher.runs import Run
from supervisor.ports import LaunchSpec

__all__ = ["Answer", "ChildKeepers", "FreezeAnswer", "Keepers", "NewKeeper"]


class NewKeeper(NamedTuple):
    """A keeper that was begun; the descriptor is readable when its command is on record."""

    notice_fd: int
    #: None: not known yet, an `Answer` says it.
    pid: int | None


class Answer(NamedTuple):
    """What came of a keeper whose process was not known at once."""

    job: str
    incarnation: int
    #: None: it is over, or there was none.
    pid: int | None
    #: Why there was none, and will be none, or "".
    problem: str = ""


class FreezeAnswer(NamedTuple):
    """What came of stopping a unit, or of letting it go."""

    job: str
    incarnation: int
    is_frozen: bool
    #: Why it is not so, or "".
    problem: str = ""


class Keepers(Protocol):
    """Starts keepers, one for each start of a command."""

    def start(self, spec: LaunchSpec, max_files: int) -> NewKeeper:
        """Make its folder and begin one, for a command that may open that many files; never waits.

        Raises Refused where it cannot be, OSError, and ValueError for a command that no process can have.
        """
        ...

    def cannot_limit(self, limits: JobLimits) -> str:
        """See ports.Launcher."""
        ...

    def set_frozen(self, run: Run, *, is_frozen: bool) -> bool:
        """Stop the unit of a start or let it go; a FreezeAnswer follows. False: these are no units."""
        ...

    def fileno(self) -> int | None:
        """Return a descriptor that is readable when there are answers; None: there never are."""
        ...

    def answers(self) -> list[Answer | FreezeAnswer]:
        """Return what came of keepers since the last call; never blocks."""
        ...

    def close(self) -> None:
        """Let go; keepers go on."""
        ...


class ChildKeepers:
    """Starts them as children of the daemon, for commands of its own user."""

    def __init__(self, python: str, groups: OwnGroups) -> None:
        """`python` runs the keepers."""
        self._python = python
        self._groups = groups

    def start(self, spec: LaunchSpec, max_files: int) -> NewKeeper:
        """See Keepers."""
        if spec.owner is not None:
            # Whatever asked for it: nothing of another user is ever run as the daemon's own.
            raise Refused(
                f"cannot start: this daemon starts jobs of its own user only, and not as {spec.owner.name}",
                hint="run it as a service of systemd, which can (`supervisorctl service install`)",
            )
        if problem := self.cannot_limit(spec.limits):
            # A limit that nobody keeps would be found out too late.
            raise Refused(f"cannot start: {problem}")
        handing_out.prepare(spec)
        words = keeper_words(self._python, spec, max_files, self._groups.make(spec.run_dir))
        order = open_order(spec)
        try:
            notice, keepers_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                pid = os.posix_spawn(
                    self._python,
                    words,
                    {},
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, order, 0),
                        (os.POSIX_SPAWN_DUP2, keepers_end, 1),
                        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_RDWR, 0),
                    ],
                    setsid=True,
                    # Blocked from the first instruction on; the command gets them back.
                    setsigmask=signal.valid_signals(),
                )
            except OSError:
                os.close(notice)
                raise
            finally:
                os.close(keepers_end)
        finally:
            os.close(order)
        return NewKeeper(notice, pid)

    def cannot_limit(self, limits: JobLimits) -> str:
        """See Keepers."""
        if not limits.controllers:
            return ""
        return "only units of systemd are held to limits, and this daemon starts jobs as its own children"

    def set_frozen(self, run: Run, *, is_frozen: bool) -> bool:  # noqa: ARG002  # as the port has them
        """See Keepers: a child of ours is no unit."""
        return False

    def fileno(self) -> int | None:
        """See Keepers: whose child it is knows it at once."""
        return None

    def answers(self) -> list[Answer | FreezeAnswer]:
        """See Keepers."""
        return []

    def close(self) -> None:
        """See Keepers: there is nothing to let go of."""
