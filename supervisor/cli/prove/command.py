"""The command `prove`: the same training without and with pauses, compared bit for bit.

Covers: what is run, the verdict, its folder.
Does not cover: how the verdict is shown (verdict.py), running (proving.py), comparing (traces.py, cause.py).
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import click
import msgspec

from supervisor.cli.commands.new_command import find_command
from supervisor.cli.options import json_option
from supervisor.cli.output.progress import Progress
from supervisor.cli.output.screen import hint, print_json, screen, tell
from supervisor.cli.output.text import clean
from supervisor.cli.prove.cause import find_cause, stray_generators
from supervisor.cli.prove.ending import EndedBySignal, Ending
from supervisor.cli.prove.pause_points import Depth, choose
from supervisor.cli.prove.proving import Bench, RunFailed
from supervisor.cli.prove.result import ProofResult, show
from supervisor.cli.prove.traces import TracedRun, compare
from supervisor.core.jobs.treatment import inherited
from supervisor.core.replacing import replace
from supervisor.errors import SupervisorError, UsageError
from trainer_shim.trace import Point

__all__ = ["prove"]

#: A folder that a process of the training still writes to is there again; it has been killed, and ends soon.
_REMOVE_TRIES, _REMOVE_AGAIN_S = 20, 0.1


@click.command(
    context_settings={"allow_interspersed_args": False},
    short_help="Run a training without and with pauses; compare every bit.",
)
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
    """TracedRun a training without and with pauses, and compare every bit. Needs no daemon.

    Compared are all numbers that the script reports and the final state of all that it handed to attach().
    The command is run two times, and a third time when something differs.
    """
    find_command(argv[0], Path.cwd(), os.environ.get("PATH", os.defpath))
    with Ending().watching() as ending:
        try:
            code = _run(argv, keep, ending, as_json=as_json, seed=seed, **how)
        except (EndedBySignal, OSError) as error:
            # The terminal may be gone before its signal comes.
            is_hangup = isinstance(error, OSError) and error.errno == errno.EIO
            if not (ending.exit_code or is_hangup):
                raise
            return ending.exit_code or 128 + signal.SIGHUP
        return ending.exit_code or code


def _run(
    argv: tuple[str, ...], keep: str | None, ending: Ending, *, as_json: bool, seed: int | None, **how: Any
) -> int:
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    terminal = screen(sys.stderr)
    progress = Progress(sys.stderr, terminal)
    with _folder(keep) as folder:
        try:
            env = inherited(os.environ)
            bench = Bench(argv, env, folder, progress, is_live=terminal.live, ending=ending)
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
        show(verdict)
    if keep is None and verdict.verdict != "identical":
        hint(f"`--seed {seed}` pauses at the same steps again, `--keep DIR` keeps traces and output")
    return 0 if verdict.verdict == "identical" else 1


def _prove(bench: Bench, *, seed: int, pauses: int, depth: Depth | Literal["mixed"]) -> ProofResult:
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
        return ProofResult(
            verdict="failed", seed=seed, pauses=points, cause=text, hint=failure.hint, said=without.said
        )
    refused = [one for one in paused.not_paused if depth == "mixed" and one.depth == "offload"]
    if len(refused) < len(paused.not_paused):
        raise _unpaused(paused)
    if refused:
        points = [point for point in points if point.depth != "offload"]
    found = compare(without, paused)
    base = ProofResult(
        verdict="",
        seed=seed,
        pauses=points,
        num_reached=len(paused.paused),
        left_out=refused[0].why if refused else "",
        said=list(dict.fromkeys([*without.said, *paused.said])),
        strays=stray_generators(without, paused),
        **msgspec.structs.asdict(found),
    )
    if found.is_identical and not paused.paused:
        raise SupervisorError(
            "cannot prove anything: no pause was reached",
            hint="the run with pauses took another way than the one without; does its length depend on the "
            "time?",
        )
    if found.is_identical:
        is_doubtful = base.said or base.strays or base.num_reached < len(points)
        return replace(base, verdict="doubtful" if is_doubtful else "identical")
    bench.progress.note("something differs; the run without pauses is made once more to tell why")
    cause = find_cause(without, paused, bench.run("second reference", [_look(point) for point in points]))
    word = "different" if cause.is_repeatable else "not-repeatable"
    return replace(base, verdict=word, cause=cause.text, hint=cause.hint)


def _depths(depth: Depth | Literal["mixed"], without: TracedRun) -> list[Depth]:
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
    return replace(point, depth="look")


def _unpaused(paused: TracedRun) -> SupervisorError:
    first = paused.not_paused[0]
    return SupervisorError(
        f"cannot prove anything: the run could not be paused at step {first.step}", hint=clean(first.why)
    )


@contextmanager
def _folder(keep: str | None) -> Iterator[Path]:
    """Where the runs leave their traces; removed afterwards unless it is to be kept."""
    if keep is None:
        folder = Path(tempfile.mkdtemp(prefix="prove-"))
        try:
            yield folder
        finally:
            _remove(folder)
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


def _remove(folder: Path) -> None:
    for _ in range(_REMOVE_TRIES):
        with suppress(OSError):  # `ignore_errors` does not ignore one of close().
            shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_REMOVE_AGAIN_S)
