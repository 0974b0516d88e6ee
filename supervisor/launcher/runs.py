"""What the launcher knows of one start of a command.

Does not cover: finding it out (spawn.py, heirs.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from supervisor.core.jobs.job import Exit, Pid
from supervisor.ports import LaunchSpec
from supervisor.system.procfs import boot_id

__all__ = ["Run"]


@dataclass(eq=False)
class Run:
    """One incarnation that is not known to have ended."""

    job: str
    incarnation: int
    run_dir: Path
    #: Kept while the command may have to be started again; holds the environment.
    spec: LaunchSpec | None = None
    num_keepers: int = 0
    keeper: Pid | None = None
    process: Pid | None = None
    #: Who it is by the journal, should the folder not say it; None: the journal does not know either.
    known: Pid | None = None
    #: Readable when the keeper has written the record of the process, or is gone.
    notice_fd: int | None = None
    keeper_fd: int | None = None
    #: Whoever starts keepers has not said yet which process this one is.
    is_asked: bool = False
    process_fd: int | None = None
    #: Who a training shim was in when it last said hello.
    shim: Pid | None = None
    #: `process` is not the command, but who goes on in its place.
    is_handed_over: bool = False
    #: What the command left (None: nobody has looked yet), and until when (steady clock) a shim in it may
    #: speak (None: not waited for).
    left: set[Pid] | None = None
    hold_until: float | None = None
    #: Since when (steady clock) it is known that the command is over, and nobody has looked yet.
    held_at: float = 0.0
    #: All its processes are to stand still.
    is_frozen: bool = False
    #: Its group could not be let go, and why; it is tried again.
    is_thaw_due: bool = False
    thaw_problem: str = ""
    #: Nothing will wake us: look again after a while.
    is_unsettled: bool = False
    #: Signals that came before the process was known: their number, and whether for its whole tree.
    early_signals: list[tuple[int, bool]] = field(default_factory=list)

    @property
    def is_awaited(self) -> bool:
        """It is looked at now and then: a shim may yet speak, or its group is still to be let go."""
        return self.hold_until is not None or self.is_thaw_due

    @property
    def is_to_be_looked_for(self) -> bool:
        """It is to be seen soon what its command left."""
        return self.hold_until is not None and self.left is None

    def unseen_end(self) -> Exit:
        """Return the end of a command where nobody was left to see how it ended."""
        if self.process is not None and self.process.boot_id != boot_id():
            return Exit(error="exit status unknown: the machine was restarted")
        return Exit(error="exit status unknown: the keeper of the command was killed")
