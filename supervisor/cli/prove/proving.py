"""Runs a training command to its end, through its pauses, and reads what it wrote down.

Covers: starting it, starting it again where it left by a pause, its output, ending it with all its processes.
Does not cover: where it is paused (pause_points.py), what the traces say (traces.py).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from supervisor.cli.output.progress import Progress
from supervisor.cli.output.text import clean
from supervisor.cli.prove.ending import Ending
from supervisor.cli.prove.traces import TracedRun, run_of
from supervisor.errors import SupervisorError
from trainer_shim import trace

__all__ = ["Bench", "RunFailed"]

_LOOK_S: Final = 0.25
_OUTPUT: Final = "output.txt"
_TAIL_LINES: Final = 15
_TAIL_BYTES: Final = 16_384


class RunFailed(SupervisorError):
    """The command itself failed; `tail` is the end of what it printed."""

    def __init__(self, message: str, *, hint: str, tail: str) -> None:
        super().__init__(message, hint=hint)
        self.tail = tail


@dataclass(frozen=True)
class Bench:
    """Where and how the command is run."""

    argv: Sequence[str]
    env: Mapping[str, str]
    #: Each run gets a folder of its own below this one.
    folder: Path
    progress: Progress
    #: How far a run is can be shown in place.
    is_live: bool
    #: Tells whether the proof itself is to end, by a signal; every run looks.
    ending: Ending

    def run(self, name: str, points: Sequence[trace.Point] = ()) -> TracedRun:
        """Return the trace of a whole run; raises RunFailed, or SupervisorError for an empty one."""
        folder = self.folder / name.replace(" ", "-")
        folder.mkdir()
        (folder / trace.SCHEDULE).write_bytes(trace.write_schedule(points))
        for _ in range(len(points) + 1):
            code = self._run_once(name, folder)
            run = _read(folder)
            if not run.has_left:
                return _checked(run, name, code, folder)
        raise SupervisorError(
            f"cannot prove anything: the {name} run ended more often than it was paused",
            hint="look for what starts the training a second time",
        )

    def _run_once(self, name: str, folder: Path) -> int:
        self.ending.check()
        env = {**self.env, "TRAINING_SUPERVISOR_PROVE": str(folder)}
        with (folder / _OUTPUT).open("ab") as output:
            process = subprocess.Popen(
                self.argv,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Its own group: Ctrl-C ends the proof, and must not be taken for a wish to checkpoint. Its
                # workers are in it too.
                start_new_session=True,
            )
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(_LOOK_S)
                self.ending.check()
                if self.is_live:
                    self.progress.update(name, _how_far(folder / trace.TRACE), key=name)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise


def _read(folder: Path) -> TracedRun:
    try:
        with (folder / trace.TRACE).open("rb") as lines:
            return run_of(trace.read(lines))
    except FileNotFoundError:
        return TracedRun()
    except msgspec.DecodeError as error:
        raise SupervisorError(
            f"cannot read the trace in `{folder}`: {error}",
            hint="the command must use the trainer_shim of this installation",
        ) from None


def _how_far(file: Path) -> str:
    try:
        with file.open("rb") as source:
            source.seek(max(0, file.stat().st_size - 8192))
            records = list(trace.read(source.read().splitlines(keepends=True)[1:]))
    except (OSError, msgspec.DecodeError):
        return "starting"
    steps = [record.step for record in records if isinstance(record, trace.Step)]
    if records and isinstance(records[-1], trace.Waiting):
        return f"step {records[-1].step}, {clean(records[-1].why)}"
    return f"step {steps[-1]}" if steps else "starting"


def _checked(run: TracedRun, name: str, code: int, folder: Path) -> TracedRun:
    """Return the run if there is something to compare; raise what is wrong with it otherwise."""
    tail = _tail(folder / _OUTPUT)
    if code:
        how = f"signal {-code} ended it" if code < 0 else f"it ended with exit code {code}"
        raise RunFailed(
            f"cannot prove anything: the {name} run failed, {how}{_told(run)}",
            hint="above is the end of what it printed" if tail else "it printed nothing",
            tail=tail,
        )
    if run.end is None and not run.has_begun:
        raise SupervisorError(
            f"cannot prove anything: the {name} run ended well but never called trainer_shim.attach()",
            hint="see the two lines in the README; the command must be the training itself, "
            "in an environment that has trainer_shim",
        )
    if run.end is None:
        raise RunFailed(
            f"cannot prove anything: the {name} run ended without telling its final state",
            hint="end the script in the ordinary way, not by os._exit(), or call shim.detach() before",
            tail=tail,
        )
    if max(run.steps, default=(0, 0)) == (0, 0):
        raise SupervisorError(
            f"cannot prove anything: the {name} run attached but passed no batch boundary",
            hint="iterate with shim.batches(loader), or call shim.boundary() after each step",
        )
    if not run.metrics:
        raise SupervisorError(
            f"cannot prove anything: the {name} run reports nothing that could be compared step by step",
            hint="call shim.report(loss=loss) in the loop",
        )
    return run


def _told(run: TracedRun) -> str:
    return f", after step {run.num_steps}" if run.steps else ", before its first step"


def _tail(file: Path) -> str:
    """The end of what the command printed, a line each, indented."""
    with file.open("rb") as source:
        source.seek(max(0, file.stat().st_size - _TAIL_BYTES))
        lines = source.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]
    return "\n".join(f"    {clean(line)}" for line in lines)
