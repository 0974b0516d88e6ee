"""Which folder and which checkpoint a person means; errors of the shim's library as errors of this command.

Covers: JOB as a name or a path, STEP as a number, a name, `latest` or `best`;
errors; completion of steps.
Does not cover: what is done with them (checkpoints.py).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import click

from supervisor.cli.checkpoints.acting import act_as, owner_of, whom
from supervisor.cli.options import connect
from supervisor.core.jobs.names import KEY
from supervisor.errors import NoDaemon, Refused, SupervisorError, UsageError
from trainer_shim.checkpoint import survey
from trainer_shim.checkpoint.layout import Name, parse_aside, parse_name
from trainer_shim.checkpoint.retention import Keep, best_first
from trainer_shim.checkpoint.survey import SeenFolder
from trainer_shim.errors import FolderInUse, ShimError

__all__ = [
    "CheckpointPlace",
    "complete_steps",
    "find_place",
    "further_trainings",
    "plain_errors",
    "recorded_keep",
    "short_name",
]

_FURTHER = re.compile(r"\+[0-9]+")

#: So many steps are named in a hint.
_MAX_NAMED = 8


class CheckpointPlace(NamedTuple):
    """A folder of checkpoints, and what is in it."""

    root: Path
    seen: list[SeenFolder]
    aside: list[SeenFolder]

    def find(self, step: str) -> SeenFolder:
        """Return the one that is meant; raises UsageError."""
        if step == "latest":
            return self._first([one for one in self.seen if not one.problem], "good one")
        if step == "best":
            return self._best()
        if "/" in step:
            return _at_path(Path(step))
        wanted = step.removeprefix("step-")
        for one in (*self.seen, *self.aside):
            texts = {one.folder.name, _short(one), str(one.known.name.step)}
            if step in texts or wanted in texts:
                return one
        raise UsageError(f"cannot find step {step} in `{self.root}`", hint=self.steps())

    def _best(self) -> SeenFolder:
        keep = recorded_keep(self.seen)
        if keep is None or not keep.metric:
            raise UsageError(
                "cannot tell the best checkpoint: the run did not say by which number",
                hint='name a step; `attach(keep=Keep(best=1, metric="val_loss"))` makes a run say so',
            )
        ranked = best_first([one.known for one in self.seen if not one.problem], keep)
        of_name = {one.known.name: one for one in self.seen}
        return self._first([of_name[known.name] for known in ranked], f"checkpoint with a `{keep.metric}`")

    def _first(self, found: Sequence[SeenFolder], what: str) -> SeenFolder:
        if not found:
            raise UsageError(f"cannot find a {what} in `{self.root}`", hint=self.steps())
        return found[0]

    def steps(self) -> str:
        """Return which ones there are, for a hint."""
        names = [_short(one) for one in self.seen[:_MAX_NAMED]]
        more = ", ..." if len(self.seen) > _MAX_NAMED else ""
        return f"there are the steps {', '.join(names)}{more}" if names else "there are no checkpoints there"


def recorded_keep(seen: Sequence[SeenFolder]) -> Keep | None:
    """Return what the run keeps, as its newest checkpoint says; None where it does not."""
    manifest = next((one.manifest for one in seen if one.manifest is not None), None)
    return survey.keep_of(manifest.facts) if manifest is not None else None


def find_place(ctx: click.Context, job: str) -> CheckpointPlace:
    """Return the checkpoints of a job, or those in a folder; raises UsageError, Refused or NoDaemon.

    From here on root is the user whose they are: see acting.py.
    """
    root, uid = _root(ctx, job)
    act_as(uid)
    try:
        return CheckpointPlace(root, survey.look(root), list(survey.aside(root)))
    except FileNotFoundError:
        raise UsageError(
            f"cannot find checkpoints: there is no folder `{root}`",
            hint="the run has not saved any yet, or saves them elsewhere",
        ) from None
    except OSError as error:
        raise _os_error(f"cannot look at `{root}`", error) from error


def _root(ctx: click.Context, job: str) -> tuple[Path, int]:
    """Return the folder, and whose it is."""
    path = Path(job).expanduser()
    # A job that trains several times in one process has its further trainings beside the first.
    name, plus, number = job.partition("+")
    # USER/NAME is a job unless there is such a folder.
    is_path = "/" in job and (os.path.lexists(path) or KEY.fullmatch(name) is None)
    if is_path or job in (".", ".."):
        return _checked(path), owner_of(path)
    try:
        with connect(ctx) as client:
            shown = client.show(name)
    except (NoDaemon, UsageError):
        # A folder is there with or without a daemon.
        if path.is_dir() or "/" in job:
            return _checked(path), owner_of(path)
        raise
    if not shown.checkpoints:
        raise Refused(
            f"cannot tell where job `{name}` keeps its checkpoints: it belongs to another user",
            hint="ask that user, or an admin of the daemon",
        )
    folder = Path(f"{shown.checkpoints}{plus}{number}")
    return folder, owner_of(folder) if shown.uid is None else shown.uid


def further_trainings(root: Path) -> list[str]:
    """Return `+2`, `+3`, ... for the folders beside this one that are of the same run."""
    found = []
    with suppress(OSError):
        found = [path.name.removeprefix(root.name) for path in root.parent.iterdir() if path.is_dir()]
    return sorted((end for end in found if _FURTHER.fullmatch(end)), key=lambda end: int(end[1:]))


def _checked(path: Path) -> Path:
    """Return the folder, unless it is a single checkpoint."""
    path = path.absolute()
    name = parse_name(path.name)
    if name is not None and (path / "manifest.json").exists():
        raise UsageError(
            f"cannot take `{path}` for a folder of checkpoints: it is one of them",
            hint=f"name the folder above it, and then the step: `{path.parent} {name.step}`",
        )
    return path


def _at_path(path: Path) -> SeenFolder:
    path = path.expanduser().absolute()
    name = parse_name(path.name) or parse_aside(path.name)
    if name is None or not path.is_dir():
        raise UsageError(
            f"cannot find a checkpoint `{path}`", hint="a checkpoint is a folder such as step-000001200"
        )
    return survey.look_at(path, name)


def _short(one: SeenFolder) -> str:
    """The step as a person types it: 1200, or 1200.1 for the second save of that step."""
    return short_name(one.known.name) + one.folder.name.removeprefix(str(one.known.name))


def short_name(name: Name) -> str:
    """Return 1200 for step-000001200."""
    return f"{name.step}.{name.again}" if name.again else str(name.step)


def complete_steps(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return what may stand for STEP; a shell that asks must never hear an error."""
    try:
        place = find_place(ctx, ctx.params.get("job") or "")
    except (SupervisorError, OSError):
        return []
    words = ["latest", "best", *map(_short, place.seen)]
    return [word for word in words if word.startswith(incomplete)]


@contextmanager
def plain_errors(what: str) -> Iterator[None]:
    """Make the shim's errors those of this command; `what` could not be done for want of a right."""
    try:
        yield
    except FolderInUse as error:
        raise Refused(f"cannot {what}: {error}", hint=error.hint) from error
    except ShimError as error:
        raise SupervisorError(str(error), hint=error.hint) from error
    except OSError as error:
        raise _os_error(f"cannot {what}", error) from error


def _os_error(what: str, error: OSError) -> SupervisorError:
    where = f" `{error.filename}`" if error.filename else ""
    message = f"{what}:{where} {error.strerror or error}"
    if error.errno in (errno.EACCES, errno.EPERM):
        own = "checkpoints belong to the user whose run it is; act as that user, or root"
        return Refused(
            message, hint=f"root acts as {whom()} there, who has to have the right" if whom() else own
        )
    return SupervisorError(message, hint="look at the folder with `ls -ld`, and at the disk")
