"""The commands `checkpoints list`, `show`, `verify`, `pin`, `unpin`, `prune`, `diff`, `export`.

They read folders of checkpoints themselves; the daemon is asked only where
the folder of a job is. None of them needs torch to look, keep or remove.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from supervisor.cli.checkpoints.places import (
    complete_steps,
    find_place,
    further_trainings,
    plain_errors,
    recorded_keep,
)
from supervisor.cli.checkpoints.rows import VerifiedRow, check_lines, list_lines, rows_of, show_lines
from supervisor.cli.options import job_argument, json_option
from supervisor.cli.output.meter import Meter
from supervisor.cli.output.screen import as_row, data, hint, print_json, screen, tell
from supervisor.cli.output.text import clean, size
from supervisor.errors import Refused, SupervisorError, UsageError
from trainer_shim.checkpoint import pins, reading, survey
from trainer_shim.checkpoint.manifest import Manifest
from trainer_shim.checkpoint.survey import SeenFolder
from trainer_shim.checkpoint.verify import Verified, verify
from trainer_shim.checkpoint.view import View, viewed
from trainer_shim.errors import CannotRestore

__all__ = ["checkpoints"]

F = TypeVar("F", bound=Callable[..., Any])


@click.group(short_help="Look at, check, pin, prune, compare and export checkpoints.")
def checkpoints() -> None:
    """Look at the checkpoints of a job, or of a folder; check, pin, prune, compare and export them.

    JOB is the name of a job, or a path to a folder of checkpoints, which needs no daemon.
    STEP is a step, `latest` or `best`.
    """


def step_argument(name: str = "step", **options: Any) -> Callable[[F], F]:
    """Take one STEP, or several."""
    return click.argument(name, shell_complete=complete_steps, **options)


@checkpoints.command("list", short_help="List checkpoints, and why each stays or goes.")
@job_argument()
@json_option
@click.pass_context
def list_(ctx: click.Context, *, job: str, as_json: bool) -> None:
    """List checkpoints, newest first: progress, size, numbers, and why each stays or goes."""
    place = find_place(ctx, job)
    keep = recorded_keep(place.seen)
    rows = rows_of(place.seen, place.aside, keep, now=time.time())
    if as_json:
        print_json(rows)
    elif rows:
        facts = screen(sys.stdout)
        metric = keep.metric if keep else ""
        for line in list_lines(rows, metric=metric, width=facts.width, colour=facts.colour):
            data(line)
    else:
        tell(f"no checkpoints in {clean(str(place.root))}")
    if further := further_trainings(place.root):
        names = ", ".join(clean(f"{job.rstrip('/')}{end}") for end in further)
        tell(f"it trained more than once in one process; the others are {names}")


@checkpoints.command(short_help="Show everything that a checkpoint says about itself.")
@job_argument()
@step_argument(metavar="[STEP]", default="latest")
@json_option
@click.pass_context
def show(ctx: click.Context, *, job: str, step: str, as_json: bool) -> None:
    """Show everything that a checkpoint says about itself; the latest one without STEP."""
    place = find_place(ctx, job)
    one = place.find(step)
    rows = rows_of(place.seen, place.aside, recorded_keep(place.seen), now=time.time())
    # A checkpoint that was named by its path may lie elsewhere.
    rows += rows_of([one], [], None, now=time.time())
    row = next(row for row in rows if row.path == str(one.folder) or row.name == one.folder.name)
    details = _details(one)
    if as_json:
        print_json([as_row(row) | details])
        return
    facts = screen(sys.stdout)
    for line in show_lines(row, details, width=facts.width, colour=facts.colour):
        data(line)


def _details(one: SeenFolder) -> dict[str, Any]:
    """Return the manifest's own fields; all of them null where it cannot be read."""
    names = ("job", "incarnation", "versions", "git_commit", "command", "labels", "facts", "files")
    if not isinstance(one.manifest, Manifest):
        return dict.fromkeys((*names, "metrics", "preprocessing"))
    said = msgspec.to_builtins(one.manifest)
    # As they were reported, with NaN as a text; the row has the numbers only.
    metrics = one.manifest.facts.get("metrics")
    return {name: said[name] for name in names} | {
        "metrics": metrics if isinstance(metrics, dict) else {},
        "preprocessing": survey.preprocessing_of(one),
    }


@checkpoints.command("verify", short_help="Read every byte and compare the digests.")
@job_argument()
@step_argument("steps", metavar="[STEP]...", nargs=-1)
@json_option
@click.pass_context
def verify_(ctx: click.Context, *, job: str, steps: tuple[str, ...], as_json: bool) -> int:
    """Read every byte of all checkpoints, or of those named; exit code 1 if any is bad."""
    place = find_place(ctx, job)
    # The same one may be named in several ways.
    chosen = list({one.folder: one for one in map(place.find, steps)}.values()) or place.seen
    if not chosen:
        raise SupervisorError(
            f"cannot verify: there are no checkpoints in `{place.root}`", hint="the run has not saved any yet"
        )
    known: dict[tuple[int, int], str] = {}
    rows = []
    for one in chosen:
        with Meter(one) as meter:
            found = _read(one, known, meter.add)
        if found is None:
            tell(f"{one.folder.name} was removed meanwhile")
        else:
            rows.append(_checked(one, found))
    if as_json:
        print_json(rows)
    elif rows:
        facts = screen(sys.stdout)
        for line in check_lines(rows, width=facts.width, colour=facts.colour):
            data(line)
    return 0 if all(row.good for row in rows) else 1


def _read(
    one: SeenFolder, known: dict[tuple[int, int], str], on_bytes: Callable[[int], None]
) -> Verified | None:
    """Return what is wrong with it, None when it has gone."""
    try:
        with reading.reading(one.folder):
            return verify(one.folder, one.known.name, on_bytes=on_bytes, seen=known)
    except CannotRestore as error:
        if not one.folder.is_dir():
            return None
        raise Refused(str(error), hint=error.hint) from error


def _checked(one: SeenFolder, found: Verified) -> VerifiedRow:
    (row,) = rows_of([], [one], None, now=0.0)
    return VerifiedRow(
        name=row.name,
        id=row.id,
        good=not found.problems,
        size_bytes=found.size_bytes,
        digest=found.digest,
        problems=[problem._asdict() for problem in found.problems],
    )


@checkpoints.command(short_help="Let a checkpoint stay for ever.")
@job_argument()
@step_argument(metavar="STEP")
@click.option("--note", metavar="TEXT", default="", help="Why; for whoever finds it later.")
@json_option
@click.pass_context
def pin(ctx: click.Context, *, job: str, step: str, note: str, as_json: bool) -> None:
    """Let a checkpoint stay for ever, whatever is kept otherwise; also while the run goes on."""
    place = find_place(ctx, job)
    one = place.find(step)
    if one.is_aside or one.known.is_damaged:
        raise Refused(
            f"cannot pin `{one.folder.name}`: it is damaged",
            hint="`supervisorctl checkpoints verify` tells which are good",
        )
    if len(note) > pins.MAX_NOTE_CHARS:
        raise UsageError(
            f"cannot pin with a note of {len(note)} characters",
            hint=f"at most {pins.MAX_NOTE_CHARS} are kept",
        )
    with plain_errors(f"pin `{one.folder.name}`"):
        pins.pin(one.folder.parent, one.known.name, note.encode(errors="replace").decode())
    _say_pin(one, "pinned", note, as_json=as_json)


@checkpoints.command(short_help="Let a checkpoint go when its time comes.")
@job_argument()
@step_argument(metavar="STEP")
@json_option
@click.pass_context
def unpin(ctx: click.Context, *, job: str, step: str, as_json: bool) -> None:
    """Take a pin away; the checkpoint goes when no other rule keeps it, at the next save."""
    place = find_place(ctx, job)
    one = place.find(step)
    with plain_errors(f"unpin `{one.folder.name}`"):
        was_pinned = pins.unpin(one.folder.parent, one.known.name)
    _say_pin(one, "unpinned" if was_pinned else "was not pinned", "", as_json=as_json)


def _say_pin(one: SeenFolder, word: str, note: str, *, as_json: bool) -> None:
    again = survey.look_at(one.folder, one.known.name, note if word == "pinned" else None)
    (row,) = rows_of([again], [], None, now=time.time())
    if as_json:
        print_json([{"name": row.name, "id": row.id, "pinned": row.pinned, "note": row.note}])
    else:
        data(f"{row.name} {word}" + (f": {clean(note)}" if note else ""))


@checkpoints.command(short_help="Remove what is not to be kept.")
@job_argument()
@click.option("--keep-last", metavar="N", type=int, help="Keep the newest N steps.")
@click.option("--keep-best", metavar="N", type=int, help="Keep the N best; 0: no longer.")
@click.option("--metric", metavar="NAME", help="The number that tells the best.")
@click.option("--mode", type=click.Choice(["min", "max"]), help="Which values of it are good.")
@click.option("--keep-every-h", metavar="H", type=float, help="Keep the first of every H hours.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def prune(ctx: click.Context, /, *, job: str, dry_run: bool, yes: bool, as_json: bool, **rules: Any) -> int:
    """Remove what the run would not keep, or what other rules would not, after the newest was read through.

    Not while a process trains there: that one removes old checkpoints itself. Pinned ones stay.
    """
    from supervisor.cli.checkpoints.pruning import Pruning

    place = find_place(ctx, job)
    pruning = Pruning(place, rules)
    with plain_errors(f"prune `{place.root}`"):
        if not dry_run:
            pruning.check()
        rows = pruning.rows()
        going = [row for row in rows if not row.stays]
        if not as_json:
            facts = screen(sys.stdout)
            for line in list_lines(going, width=facts.width, colour=facts.colour) if going else ():
                data(line)
            tell(f"{_count(going)} of {len(rows)} {'would go' if dry_run else 'to remove'}")
        if going and not dry_run and not yes:
            _ask(len(going))
        removed, freed_bytes = ([], 0) if dry_run else pruning.remove(going)
    if as_json:
        print_json([as_row(row) | {"removed": row.name in removed} for row in rows])
    elif not dry_run and going:
        tell(f"removed {_count(removed)}, {size(freed_bytes)} freed")
    for row in going if not dry_run else ():
        if row.name not in removed:
            tell(f"{row.name} stays: it was pinned, or is being read")
    return 0


@checkpoints.command(short_help="Compare two checkpoints.")
@job_argument()
@step_argument("a", metavar="A")
@step_argument("b", metavar="[B]", default="latest")
@json_option
@click.pass_context
def diff(ctx: click.Context, *, job: str, a: str, b: str, as_json: bool) -> int:
    """Compare two checkpoints bit by bit; each is a STEP, or a path to one. Without B the latest.

    Exit code 1 if anything of their states differs.
    """
    from supervisor.cli.checkpoints.diff import diff_lines, differences

    place = find_place(ctx, job)
    one, other = place.find(a), place.find(b)
    with plain_errors("compare the checkpoints"), _viewed(one) as left, _viewed(other) as right:
        is_same = one.folder.samefile(other.folder)
        rows = differences(left, right)
    if as_json:
        print_json(rows)
    elif rows:
        facts = screen(sys.stdout)
        for line in diff_lines(rows, width=facts.width, colour=facts.colour):
            data(line)
    num = sum(row.kind != "fact" for row in rows)
    both = "is one checkpoint, compared with itself" if is_same else f"and {other.folder.name}"
    tell(f"{one.folder.name} {both}: {num or 'no'} leaves of the state differ")
    if is_same:
        hint(f"name another step; {place.steps()}")
    return 1 if num else 0


@checkpoints.command(short_help="Write the weights, and what is known of them, to a folder.")
@job_argument()
@step_argument(metavar="[STEP]", default="latest")
@click.option("--to", "target", metavar="DIR", required=True, type=click.Path(), help="A new folder.")
@click.option("--part", metavar="NAME", help="Which part of the state; without it the only module.")
@click.option(
    "--format", "formats", multiple=True, type=click.Choice(["safetensors", "torch"]),
    help="May be given twice.  [default: safetensors]",
)  # fmt: skip
@click.option("--onnx", is_flag=True, help="Write model.onnx too; takes --model and --example-input.")
@click.option("--model", metavar="MODULE:FACTORY", help="What makes the model, e.g. mine.nets:make.")
@click.option(
    "--example-input", "example_inputs", metavar="SHAPE", multiple=True, help="1,1,8,8 or 1,128:int64"
)
@click.option("--version", metavar="X.Y.Z", help="Of the model: a semantic version.")
@click.option("--license", metavar="NAME", help="Of the model.")
@click.option("--data", metavar="TEXT", help="What it was trained on.")
@click.option("--force", is_flag=True, help="Replace an earlier export.")
@json_option
@click.pass_context
def export(
    ctx: click.Context, /, *, job: str, step: str, target: str, force: bool, as_json: bool, **wanted: Any
) -> None:
    """Write the weights of a checkpoint, a model card and digests to a folder of its own.

    model.safetensors needs no torch here. Nothing appears in DIR before all of it is safe on disk.
    """
    from supervisor.cli.checkpoints.export_onnx import check_onnx
    from supervisor.cli.checkpoints.exporting import check_target, export_to, wanted_of

    asked = wanted_of(wanted)
    folder = Path(target).expanduser().absolute()
    with plain_errors(f"export to `{folder}`"):
        check_target(folder, force=force)
    if asked.model:
        check_onnx(asked.model, asked.example_inputs)
    one = find_place(ctx, job).find(step)
    with plain_errors(f"export to `{folder}`"), _viewed(one) as view:
        exported = export_to(folder, view, asked)
    if as_json:
        print_json([exported])
    else:
        what = f"`{exported.part}` of {exported.checkpoint}, {exported.num_parameters:,} parameters"
        data(clean(f"{exported.to}: {what}"))


@contextmanager
def _viewed(one: SeenFolder) -> Iterator[View]:
    with ExitStack() as stack:
        with Meter(one) as meter:
            view = stack.enter_context(viewed(one.folder, one.known.name, meter.add))
        yield view


def _ask(num: int) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            "cannot ask whether to remove them: stdin is no terminal", hint="give --yes, or --dry-run"
        )
    click.confirm(f"remove {num}?", abort=True, err=True)


def _count(things: Any) -> str:
    return f"{len(things)} checkpoint{'' if len(things) == 1 else 's'}"
