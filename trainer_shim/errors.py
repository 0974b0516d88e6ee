"""What a training script may catch.

    ShimError                     could not ..., with a hint
    |-- CannotStore               a value in the state has no safe form on disk
    |-- CannotSave                the disk refused: full, read-only, gone, failing
    |-- CannotOffload             GPU memory could not be given back; all of it is where it was
    |-- CannotReturn              it could not be taken again; all of it is on the host
    |-- CannotRestore             a checkpoint exists but does not fit this script
    |   `-- Damaged               a checkpoint does not keep its manifest's word
    |-- FolderInUse               another process writes checkpoints to this folder
    `-- NotSupported              asked for something this version cannot do

Only `attach()` raises these into a script, and the first boundary after it,
before there is much to lose: CannotStore, and CannotRestore where a part that
came in mid-run was not handed over again. Later ones (a save that fails in the middle of a
run) are reported to the daemon and the log, and training goes on: a supervisor
must never be the reason that a run dies.
"""

from __future__ import annotations

__all__ = [
    "CannotOffload",
    "CannotRestore",
    "CannotReturn",
    "CannotSave",
    "CannotStore",
    "Damaged",
    "FolderInUse",
    "NotSupported",
    "ShimError",
]


class ShimError(Exception):
    """`str(e)` says what could not be done, `e.hint` what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        if hint:
            # Where nobody catches it, the traceback shows it (PEP 678).
            self.add_note(f"hint: {hint}")


class CannotStore(ShimError):
    """A value in the state tree cannot be stored; `path` names it, as in `optimizer.state.3.hook`."""

    def __init__(self, path: str, reason: str, *, hint: str = "") -> None:
        super().__init__(f"{path}: cannot store {reason}", hint=hint)
        self.path = path


class CannotSave(ShimError):
    """The file system refused a checkpoint; the older ones are untouched."""


class CannotOffload(ShimError):
    """GPU memory could not be given back; everything is where it was."""


class CannotReturn(ShimError):
    """GPU memory that was given back is not to be had; everything is still on the host.

    `is_short`: the device says that others have it, so a process started anew would not get it either.
    """

    def __init__(self, message: str, *, is_short: bool = False) -> None:
        super().__init__(message)
        self.is_short = is_short


class CannotRestore(ShimError):
    """A checkpoint verifies but does not fit: other names, shapes or parts than the script handed over."""


class Damaged(CannotRestore):
    """A checkpoint's files differ from its manifest."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "use an older one; `supervisorctl checkpoints verify` tells which are good",
    ) -> None:
        super().__init__(message, hint=hint)


class FolderInUse(ShimError):
    """Another living process writes checkpoints to the same folder."""


class NotSupported(ShimError):
    """A request that this version of the shim cannot carry out."""
