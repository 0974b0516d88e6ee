"""How a session begins: anew, or with what its newest checkpoint has.

Covers: finding it, bringing it back, what is said of that; keeping an earlier run's checkpoints aside.
Does not cover: reading it (checkpoint/), bringing each thing back (run_state.py), which training of a
process this is (trainings.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trainer_shim import protocol
from trainer_shim.checkpoint import Loaded, Store
from trainer_shim.choices import Resume
from trainer_shim.errors import CannotRestore
from trainer_shim.link_report import LinkReport
from trainer_shim.run_state import RunState
from trainer_shim.surroundings import Surroundings
from trainer_shim.telling import say_notices

__all__ = ["keep_earlier_aside", "newest", "restore"]


def keep_earlier_aside(resume: Resume, here: Surroundings) -> str:
    """Keep an earlier run's checkpoints aside where this is to be a new one; return words on it, or ""."""
    if resume != "never" or here.goes_on or here.prove_dir is not None:
        return ""
    from trainer_shim.checkpoint.earlier import keep_aside

    aside = keep_aside(here.checkpoints.absolute())
    return "" if aside is None else f"begins anew; the checkpoints of the run before are in `{aside}`"


def newest(store: Store, folder: Path, say: Callable[[str], None], *, must: bool) -> Loaded | None:
    """Return what the run goes on from; raises CannotRestore where there is none and there `must` be."""
    loaded = store.newest()
    say_notices(store, say)
    if loaded is None and must:
        raise CannotRestore(
            f"cannot go on: there is no checkpoint in `{folder.absolute()}`",
            hint='attach(resume="auto") begins a new run; or give it another folder, checkpoints="..."',
        )
    return loaded


def restore(loaded: Loaded, run: RunState, report: LinkReport) -> str:
    """Bring a checkpoint back; return words on it. Raises CannotRestore where it does not fit."""
    run.take(loaded)
    report.checkpoint = protocol.Checkpointed(
        step=loaded.step, epoch=loaded.epoch, path=str(loaded.path), digest=loaded.digest
    )
    warned = loaded.manifest.facts.get("warnings")
    more = f"; before it was saved the shim warned of {len(warned)}" if isinstance(warned, list) else ""
    return f"going on from step {loaded.step}, epoch {loaded.epoch} ({loaded.path}){more}"
