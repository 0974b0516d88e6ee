"""What a training run writes down of itself while it is being proved: the records, and their file form.

Covers: the records of `supervisorctl prove`, one JSON object a line.
Does not cover: when each is written (proof.py), what two traces say about each
other (the command's side).

Shared with the command line. Imports msgspec only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

import msgspec

__all__ = [
    "SCHEDULE",
    "TRACE",
    "End",
    "NotPaused",
    "Paused",
    "Point",
    "Record",
    "Returned",
    "Said",
    "Step",
    "TracedLook",
    "TracedMetric",
    "TracedStart",
    "Waiting",
    "read",
    "read_schedule",
    "write",
    "write_schedule",
]

#: The files in the folder that TRAINING_SUPERVISOR_PROVE names.
TRACE: Final = "trace.jsonl"
SCHEDULE: Final = "schedule.json"


class Point(msgspec.Struct, frozen=True, order=True):
    """A boundary at which something is to happen; the end of an epoch has the step of its last batch."""

    step: int
    epoch: int
    #: `look` writes the state down and does nothing else.
    depth: Literal["hold", "offload", "exit", "look"] = "hold"


class TracedStart(msgspec.Struct, tag="start", frozen=True, kw_only=True):
    """A process attached, new or from a checkpoint."""

    step: int
    epoch: int
    #: What the parts hold after the restore; None in a run that begins.
    state: dict[str, str] | None = None


class TracedMetric(msgspec.Struct, tag="metric", frozen=True, kw_only=True):
    """A number that the script reported in the step before boundary `step`, or behind a pass ended there."""

    step: int
    name: str
    #: An exact form: `float.hex()`, an integer, or a digest of a larger tensor.
    value: str


class Step(msgspec.Struct, tag="step", frozen=True, kw_only=True):
    """A boundary was passed."""

    step: int
    epoch: int
    #: Digest of the batches since the boundary before; "" where there were none.
    batch: str = ""
    #: Digest of each global generator.
    rng: dict[str, str] = {}


class Said(msgspec.Struct, tag="said", frozen=True, kw_only=True):
    """The shim told on stderr what may keep the run from going on exactly."""

    text: str


class TracedLook(msgspec.Struct, tag="look", frozen=True, kw_only=True):
    """The state at a boundary, just before it is saved, or would be."""

    step: int
    epoch: int
    state: dict[str, str]
    #: What the shim knows to keep the run from going on exactly.
    notes: list[str] = []


class Paused(msgspec.Struct, tag="paused", frozen=True, kw_only=True):
    """A checkpoint is durable and the pause reached; the last record of a process that leaves."""

    step: int
    epoch: int
    depth: str


class Waiting(msgspec.Struct, tag="waiting", frozen=True, kw_only=True):
    """What was given back cannot be had again yet."""

    step: int
    why: str


class Returned(msgspec.Struct, tag="returned", frozen=True, kw_only=True):
    """What was given back is there again; what the parts hold then."""

    step: int
    epoch: int
    state: dict[str, str]


class NotPaused(msgspec.Struct, tag="not-paused", frozen=True, kw_only=True):
    """A pause was due and could not be had."""

    step: int
    why: str
    #: That of the pause that was due.
    depth: str = ""


class End(msgspec.Struct, tag="end", frozen=True, kw_only=True):
    """The session is over; what the parts hold at its end."""

    step: int
    epoch: int
    state: dict[str, str]
    #: How deep the run could have been paused at its last boundary.
    depths: tuple[str, ...] = ()


Record = TracedStart | TracedMetric | Step | Said | TracedLook | Paused | Waiting | Returned | NotPaused | End

_decoder: Final = msgspec.json.Decoder(Record)


def write(record: Record) -> bytes:
    """Return the line of a record."""
    return msgspec.json.encode(record) + b"\n"


def read(lines: Iterable[bytes]) -> Iterator[Record]:
    """Yield the records of complete lines; the line that a killed process left half-written is dropped."""
    for line in lines:
        if line.endswith(b"\n"):
            yield _decoder.decode(line)


def write_schedule(points: Iterable[Point]) -> bytes:
    """Return the text of a schedule."""
    return msgspec.json.encode(list(points))


def read_schedule(text: bytes) -> list[Point]:
    """Return the points of a schedule; raises msgspec.ValidationError."""
    points: Any = msgspec.json.decode(text, type=list[Point])
    return sorted(points)
