"""Where a run will go on, before it is attached: for scripts that build what belongs to an epoch.

Covers: step and epoch of the newest checkpoint, as its manifest says.
Does not cover: whether its files are whole; attach() uses the one before where they are not.

Locks nothing, makes nothing, and reads one small file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from trainer_shim.checkpoint import reader, survey
from trainer_shim.surroundings import Surroundings

__all__ = ["Position", "saved_position"]


@dataclass(frozen=True)
class Position:
    """Batch boundaries passed, and the epoch that the run is in."""

    step: int
    epoch: int


def saved_position(checkpoints: str | os.PathLike[str] | None = None) -> Position | None:
    """Return where attach() would go on with the same `checkpoints`; None for a new run.

    Raises:
        NotSupported: The run has several ranks.

    """
    here = Surroundings.read(os.environ).with_checkpoints(checkpoints)
    root = here.checkpoints
    try:
        names = reader.visible(root)
    except OSError:
        # attach() makes it, or says what is wrong with it.
        return None
    for name in names:
        seen = survey.look_at(root / str(name), name)
        if seen.manifest is not None and not seen.known.is_damaged:
            return Position(seen.manifest.step, seen.manifest.epoch)
    return None
