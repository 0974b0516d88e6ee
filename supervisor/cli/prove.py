"""The command `prove`: the same training without and with pauses, compared bit for bit."""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import click
import msgspec

from supervisor.cli.cause import Cause, find_cause, stray_generators
from supervisor.cli.command import find_command, job_environment
from supervisor.cli.options import json_option
from supervisor.cli.output import data, hint, print_json, screen, tell
from supervisor.cli.pause_points import Depth, choose
from supervisor.cli.progress import Progress
from supervisor.cli.proving import Bench, RunFailed
from supervisor.cli.text import clean
from supervisor.cli.traces import Comparison, Difference, Run, compare
from supervisor.errors import SupervisorError, UsageError
from trainer_shim.trace import Point

__all__ = ["Verdict", "prove"]

_MAX_SHOWN = 8


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the proof came to; the row of `--json`."""

    #: `identical`, `different`, `not-repeatable` or `failed`.
    verdict: str
    seed: int
    pauses: list[Point]
    num_steps: int = 0
    num_numbers: int = 0
    num_tensors: int = 0
    num_values: int = 0
    #: Reported numbers that differ, by step.
    numbers: list[Difference] = []
    #: Leaves of the final state that differ.
    state: list[Difference] = []
    cause: str = ""
    hint: str = ""
    #: Why `mixed` went without `offload`, where the run seemed able to do it.
    left_out: str = ""


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--pauses", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many.")
@click.option(
    "--depth", type=click.Choice(["hold", "offload", "exit", "mixed"]), default="mixed", show_default=True,
    help="hold: checkpoint and go on; offload: give back GPU memory in between; "
    "exit: checkpoint, end, start again; mixed: all that the run can do, in turn.",
)  # fmt: skip
@click.option("--seed", type=int, help="Decides where it is paused; without it a new one each time.")
@click.option(
    "--keep", metavar="DIR", type=click.Path(),
    help="Keep traces, output and checkpoints in this new or empty folder.",
)  # fmt: skip
@json_option
@click.argument("argv", metavar="-- COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
def prove(*, argv: tuple[str, ...], keep: str | None, as_json: bool, seed: int | None, **how: Any) -> int:
    """Run a training without and with pauses, and compare every bit. Needs no daemon.

    Compared are all numbers that the script reports and the final state of all that it handed to attach().
    The command is run two times, and a third time when something differs.
    """
    find_command(argv[0], Path.cwd(), os.environ.get("PATH", os.defpath))
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    terminal = screen(sys.stderr)
    progress = Progress(sys.stderr, terminal)
    with _folder(keep) as folder:
        try:
            bench = Bench(argv, job_environment(os.environ), folder, progress, is_live=terminal.live)
            verdict = _prove(bench, seed=seed, **how)
        except RunFailed as failure:
            progress.close()
            if failure.tail:
                tell(failure.tail)
            raise
        finally:
            progress.close()
    if as_json:
        print_json([verdict])
    else:
        _print(verdict)
    if keep is None and verdict.verdict != "identical":
        hint(f"`--seed {seed}` pauses at the same steps again, `--keep DIR` keeps traces and output")
    return 0 if verdict.verdict == "identical" else 1


def _prove(bench: Bench, *, seed: int, pauses: int, depth: Depth | Literal["mixed"]) -> Verdict:
    bench.progress.note("the run without pauses begins")
    without = bench.run("reference")
    points = choose(list(without.steps), pauses, _depths(depth, without), seed)
    where = ", ".join(f"{point.step} ({point.depth})" for point in points)
    bench.progress.note(f"{without.num_steps} steps; paused after steps {where}, chosen by --seed {seed}")
    try:
        paused = bench.run("paused", points)
    except RunFailed as failure:
        if failure.tail:
            bench.progress.note(failure.tail)
        text = "the run failed when it was paused; it did not without pauses"
        return Verdict(verdict="failed", seed=seed, pauses=points, cause=text, hint=failure.hint)
    refused = [one for one in paused.not_paused if depth == "mixed" and one.depth == "offload"]
    if len(refused) < len(paused.not_paused) or len(paused.paused) + len(refused) < len(points):
        raise _unpaused(paused, points)
    if refused:
        points = [point for point in points if point.depth != "offload"]
    base = Verdict(verdict="", seed=seed, pauses=points, left_out=refused[0].why if refused else "")
    found = compare(without, paused)
    if found.is_identical:
        _remark(without, paused)
        return _verdict(base, "identical", found)
    bench.progress.note("something differs; the run without pauses is made once more to tell why")
    cause = find_cause(without, paused, bench.run("second reference", [_look(point) for point in points]))
    return _verdict(base, "different" if cause.is_repeatable else "not-repeatable", found, cause)


def _depths(depth: Depth | Literal["mixed"], without: Run) -> list[Depth]:
    """Return the depths of the pauses; raises SupervisorError for one that the run cannot have."""
    can_offload = without.end is not None and "offload" in without.end.depths
    if depth == "mixed":
        return ["exit", "offload", "hold"] if can_offload else ["exit", "hold"]
    if depth == "offload" and not can_offload:
        raise SupervisorError(
            "cannot prove anything: no tensor of this run that could be given back lives on a GPU",
            hint="such a run is never paused by `offload`; prove it with `--depth hold`, `exit` or `mixed`",
        )
    return [depth]


def _look(point: Point) -> Point:
    return msgspec.structs.replace(point, depth="look")


def _verdict(base: Verdict, word: str, found: Comparison, cause: Cause | None = None) -> Verdict:
    return msgspec.structs.replace(
        base,
        verdict=word,
        **msgspec.structs.asdict(found),
        cause=cause.text if cause else "",
        hint=cause.hint if cause else "",
    )


def _remark(without: Run, paused: Run) -> None:
    strays = stray_generators(without, paused)
    if strays:
        names = ", ".join(f"`{name}`" for name in strays)
        tell(
            f"warning: nothing that was compared differs, but the generator {names} stood elsewhere later on"
        )


def _unpaused(paused: Run, points: Sequence[Point]) -> SupervisorError:
    if paused.not_paused:
        first = paused.not_paused[0]
        return SupervisorError(
            f"cannot prove anything: the run could not be paused at step {first.step}",
            hint=clean(first.why),
        )
    return SupervisorError(
        f"cannot prove anything: {len(paused.paused)} of {len(points)} pauses were reached",
        hint="the run with pauses took another way than the one without; does its length depend on the time?",
    )


def _print(verdict: Verdict) -> None:
    if verdict.verdict == "identical":
        data(f"identical: {_counts(verdict)}; {_pauses(verdict)}")
        return
    head = f"{verdict.verdict.replace('-', ' ')}: "
    if verdict.num_steps:
        num_leaves = verdict.num_tensors + verdict.num_values
        head += (
            f"{len({one.step for one in verdict.numbers})} of {verdict.num_steps} steps "
            f"and {len(verdict.state)} of {num_leaves} leaves of the final state; "
        )
    data(head + _pauses(verdict))
    data(f"likely cause: {clean(verdict.cause)}")
    for difference in _first_of_each(verdict.numbers)[:_MAX_SHOWN]:
        data(f"step {difference.step}: {_pair(difference)}")
    for difference in verdict.state[:_MAX_SHOWN]:
        data(f"final state: {_pair(difference)}")
    if len(verdict.state) > _MAX_SHOWN:
        data(f"final state: {len(verdict.state) - _MAX_SHOWN} more")
    hint(clean(verdict.hint))


def _counts(verdict: Verdict) -> str:
    return (
        f"{verdict.num_numbers} reported numbers in {verdict.num_steps} steps, {verdict.num_tensors} tensors "
        f"and {verdict.num_values} values of the final state"
    )


def _pauses(verdict: Verdict) -> str:
    """How many pauses there were of each depth, and which depth there was none of, and why."""
    depths = [point.depth for point in verdict.pauses]
    *most, last = [f"{depths.count(one)} by {one}" for one in ("exit", "offload", "hold") if one in depths]
    text = f"{len(depths)} pauses, {', '.join(most)}{' and ' if most else ''}{last}"
    return f"{text}; none by offload: {clean(verdict.left_out)}" if verdict.left_out else text


def _first_of_each(differences: Sequence[Difference]) -> list[Difference]:
    """The first difference of every metric."""
    first: dict[str, Difference] = {}
    for difference in differences:
        first.setdefault(difference.name, difference)
    return list(first.values())


def _pair(difference: Difference) -> str:
    kinds = {(value or "").rpartition(" ")[0] for value in (difference.without, difference.paused)}
    if len(kinds) == 1 and "" not in kinds:
        return clean(f"{difference.name}, {kinds.pop()}, holds other numbers")
    return clean(
        f"{difference.name} is {_readable(difference.without)} without and "
        f"{_readable(difference.paused)} with pauses"
    )


def _readable(value: str | None) -> str:
    if value is None:
        return "missing"
    try:
        return repr(float.fromhex(value)) if "0x" in value else value
    except ValueError:
        return value


@contextmanager
def _folder(keep: str | None) -> Iterator[Path]:
    """Where the runs leave their traces; removed afterwards unless it is to be kept."""
    if keep is None:
        folder = Path(tempfile.mkdtemp(prefix="prove-"))
        try:
            yield folder
        finally:
            with suppress(OSError):  # `ignore_errors` does not ignore one of close().
                shutil.rmtree(folder, ignore_errors=True)
        return
    folder = Path(keep).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_empty = not any(folder.iterdir())
    except OSError as error:
        raise UsageError(f"cannot use `{folder}`: {error.strerror}", hint="give --keep a folder") from None
    if not is_empty:
        raise UsageError(f"cannot use `{folder}`: it is not empty", hint="give --keep a new folder")
    yield folder
