"""attach(): what a script hands over and chooses becomes the session of a training.

Covers: its arguments, one session a process.
Does not cover: what the session does (session.py), which folder it gets (trainings.py).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from weakref import ReferenceType, ref

from msgspec.structs import replace

from trainer_shim.adoption import check_restart
from trainer_shim.checkpoint import Keep
from trainer_shim.choices import Choices, Resume
from trainer_shim.handing_over import named_parts
from trainer_shim.nearby import loaders_of_caller
from trainer_shim.session import Shim
from trainer_shim.surroundings import Surroundings
from trainer_shim.trainings import Training, begin

__all__ = ["attach"]

#: The session of this process that was made last: one at a time owns signals and the folder. Not kept from
#: here, so that one that is over, and the model with it, can go.
_newest: ReferenceType[Shim] | None = None


def attach(  # noqa: PLR0913  # each is a choice of its own, by name
    *handed: Any,
    checkpoints: str | os.PathLike[str] | None = None,
    keep: int | Keep = 3,
    labels: Mapping[str, Any] | None = None,
    preprocessing: Any = None,
    every_s: float | None = None,
    every_steps: int | None = None,
    every_epochs: int | None = None,
    resume: Resume = "auto",
    signals: Iterable[str | int] = ("SIGTERM", "SIGINT"),
    ignore: Collection[str] = (),
    adopt: bool = True,
    restart: Sequence[str] = (),
    **parts: Any,
) -> Shim:
    """Make this training run pausable, and go on from its newest checkpoint if there is one.

    Args:
        checkpoints: Folder of this run's checkpoints. Default: what the daemon says, or `checkpoints/SCRIPT`
            in the working directory; a second training of one process has its own, with `+2` behind the name.
        keep: How many checkpoints stay, or a `Keep`: the best by a reported metric, one every few hours.
            Others go after a newer one is durable.
        labels: Plain values that the manifest keeps, for people.
        preprocessing: Plain values that are stored beside the weights.
        every_s: Save in the background so often; the loop stops only for a copy in memory. Takes memory for
            one whole state. Without any of the three: what `supervisorctl run --every` said.
        every_steps: The same, counted in steps. With both, whichever is due.
        every_epochs: The same at ends of epochs of `epochs()` or `steps()`.
        resume: "auto" goes on where there is a checkpoint. "never" begins anew, and keeps what was there
            aside as `NAME.before-1`; a start by which the daemon goes on with the run still does.
            "must" raises CannotRestore where there is none.
        signals: Which of SIGTERM and SIGINT (Ctrl-C) checkpoint and end the run; others are the script's.
        ignore: Names of what the script knows to be lost at a restart: nothing is said about them.
        adopt: Started by hand, be a job of a daemon that listens; TRAINING_SUPERVISOR_ADOPT=0 says no, too.
        restart: Words of the command that starts it again: only with them such a job is ended for a pause.
        *handed: Parts without a name of yours get that of their kind: model, optimizer, scheduler.
        **parts: Everything that makes the run what it is, under names of your choice: model, optimizer,
            scheduler, scaler, EMA copies, ... Each has `state_dict()` and `load_state_dict()`, or is a random
            generator, or a list or map of such.

    Raises:
        CannotRestore: A checkpoint is there but does not fit the parts.
        CannotStore: A part holds what no checkpoint can. The first boundary raises this too, for
            what comes into being only then, as the state of an optimizer.
        CannotSave: The folder cannot be used.
        FolderInUse: Another process writes checkpoints there.
        NotSupported: The run has several ranks.
        TypeError: A part has no state; ValueError: an argument is none of those above.

    """
    global _newest  # noqa: PLW0603
    choices = Choices.checked(keep, resume, signals, ignore, every_epochs)
    parts = named_parts(handed, parts)
    surroundings, training = _begun(checkpoints, check_restart(restart), adopt=adopt)
    facts = {"labels": dict(labels or {}), "preprocessing": preprocessing, **surroundings.facts()}
    shim = Shim(surroundings, training, parts, facts, choices)
    _newest = ref(shim)
    shim.attached(loaders_of_caller(1), every_s, every_steps, every_epochs)
    return shim


def _begun(
    checkpoints: str | os.PathLike[str] | None, restart: tuple[str, ...], *, adopt: bool
) -> tuple[Surroundings, Training]:
    """Return where the next training of this process runs, once the one before has made way."""
    surroundings = Surroundings.read(os.environ)
    if _newest is not None and (before := _newest()) is not None:
        before.make_way()
    training = begin(surroundings.checkpoints, surroundings.told(checkpoints))
    surroundings = replace(surroundings, checkpoints=training.folder)
    return (surroundings.by_a_daemon(os.environ, restart) if adopt else surroundings), training
