"""What people see of checkpoints: rows for tables and `--json`. Pure.

Does not cover: finding them (checkpoint_places.py), units and alignment (text.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from supervisor.cli.checkpoints.places import short_name
from supervisor.cli.output.text import (
    Column,
    ago,
    bold,
    clean,
    duration,
    folded,
    number,
    size,
    table,
    whole_table,
    width_of,
)
from trainer_shim.checkpoint.retention import Keep, KeepDecision, decide
from trainer_shim.checkpoint.survey import SeenFolder

__all__ = ["CheckpointRow", "VerifiedRow", "check_lines", "list_lines", "rows_of", "show_lines", "words_of"]

#: What the run keeps when it does not say.
_DEFAULT: Final = Keep()
_COLUMNS: Final = (
    Column("STEP"),
    Column("EPOCH", spare=5, right=True),
    Column("AGE", spare=1, right=True),
    Column("SIZE", spare=2, right=True),
    Column("METRICS", spare=4),
    Column("WHY"),
)
_CHECK_COLUMNS: Final = (
    Column("STEP"),
    Column("RESULT"),
    Column("SIZE", spare=1, right=True),
    Column("WHAT"),
)
_RED, _DIM = "31", "2"
#: A table has room for so many; `show` has all.
_MAX_METRICS: Final = 3
_MIN_LABEL: Final = 13


class CheckpointRow(msgspec.Struct, frozen=True, kw_only=True):
    """One checkpoint; the row of `list --json`."""

    name: str
    #: As it is typed: 1200, 1200.1 or 1200.damaged.
    id: str
    step: int
    epoch: int | None
    saved_at: str | None
    age_s: float | None
    size_bytes: int | None
    metrics: dict[str, float]
    pinned: bool
    note: str
    #: Whether it outlives the next save, and why it does or does not; `why` is "" where it was set aside.
    stays: bool
    why: str
    #: What is wrong, as far as one can see without reading it (`verify` reads it); "": nothing.
    problem: str
    set_aside: bool
    digest: str
    path: str


class VerifiedRow(msgspec.Struct, frozen=True, kw_only=True):
    """One checkpoint that was read through; the row of `verify --json`."""

    name: str
    id: str
    good: bool
    size_bytes: int
    digest: str
    #: Objects with `file` and `why`.
    problems: list[dict[str, str]]


def rows_of(
    seen: Sequence[SeenFolder], aside: Sequence[SeenFolder], keep: Keep | None, *, now: float
) -> list[CheckpointRow]:
    """Return the rows, newest first, those set aside beside the others of their step."""
    verdicts = {one.name: one for one in decide([one.known for one in seen], keep or _DEFAULT)}
    rows = [_row(one, verdicts[one.known.name], now) for one in seen]
    rows += [_row(one, KeepDecision(one.known.name, stays=True, why=""), now) for one in aside]
    return sorted(rows, key=lambda row: (row.step, row.name), reverse=True)


def _row(one: SeenFolder, verdict: KeepDecision, now: float) -> CheckpointRow:
    known, manifest = one.known, one.manifest
    why = verdict.why
    if one.is_aside:
        why = "set aside: damaged; remove it by hand"
    name = str(known.name)
    return CheckpointRow(
        name=one.folder.name,
        id=short_name(known.name) + one.folder.name.removeprefix(name),
        step=known.name.step,
        epoch=manifest.epoch if manifest else None,
        saved_at=manifest.saved_at if manifest else None,
        age_s=None if known.saved_s is None else max(0.0, now - known.saved_s),
        size_bytes=sum(file.size_bytes for file in manifest.files.values()) if manifest else None,
        metrics=dict(known.metrics),
        pinned=known.pin is not None,
        note=known.pin or "",
        stays=verdict.stays,
        why=why,
        problem=one.problem,
        set_aside=one.is_aside,
        digest=one.digest,
        path=str(one.folder).encode("utf-8", "replace").decode(),
    )


def list_lines(
    rows: Sequence[CheckpointRow], *, metric: str = "", width: int | None = None, colour: bool = False
) -> list[str]:
    """Return the table of `checkpoints list`; `metric` comes first."""

    def paint(row: int, column: int, cell: str) -> str:
        one = rows[row]
        code = _RED if one.problem or one.set_aside else "" if one.stays else _DIM
        return f"\x1b[{code}m{cell}\x1b[0m" if colour and code and column == len(_COLUMNS) - 1 else cell

    cells = [
        (
            row.id,
            "-" if row.epoch is None else str(row.epoch),
            duration(row.age_s),
            size(row.size_bytes),
            _metrics(row.metrics, metric),
            words_of(row),
        )
        for row in rows
    ]
    lines = table(_COLUMNS, cells, width=width, paint=paint)
    return [bold(lines[0]), *lines[1:]] if colour else lines


def words_of(row: CheckpointRow) -> str:
    """Return why it stays or goes, with what is wrong."""
    why = row.why if row.stays else f"goes: {row.why}"
    if row.problem and not row.set_aside and row.problem not in why:
        why = f"damaged: {row.problem}" + ("" if row.stays else "; goes")
    return clean(why)


def _metrics(metrics: Mapping[str, float], first: str) -> str:
    names = sorted(metrics, key=lambda name: (name != first, name))
    shown = " ".join(f"{clean(name)}={number(metrics[name])}" for name in names[:_MAX_METRICS])
    return shown + (" ..." if len(names) > _MAX_METRICS else "") or "-"


def check_lines(rows: Sequence[VerifiedRow], *, width: int | None = None, colour: bool = False) -> list[str]:
    """Return the table of `checkpoints verify`, a line for each bad file."""
    cells, codes = [], []
    for row in rows:
        problems = row.problems or [{}]
        for index, problem in enumerate(problems):
            what = (
                clean(f"{problem['file']}: {problem['why']}") if problem else "every byte is as it was saved"
            )
            cells.append(("" if index else row.id, "good" if row.good else "bad", size(row.size_bytes), what))
            codes.append("32" if row.good else _RED)

    def paint(row: int, column: int, cell: str) -> str:
        return f"\x1b[{codes[row]}m{cell}\x1b[0m" if colour and column == 1 else cell

    return whole_table(_CHECK_COLUMNS, cells, width=width, paint=paint, colour=colour)


def show_lines(
    row: CheckpointRow, details: Mapping[str, Any], *, width: int | None = None, colour: bool = False
) -> list[str]:
    """Return all that is known of one checkpoint, in sections; `details` is what `--json` has besides."""
    heading = bold if colour else str
    lines = [heading(f"{row.name}  step {row.step}") + ("" if row.age_s is None else f"  {ago(row.age_s)}")]
    for title, facts in _sections(row, details):
        known = [(name, clean(value)) for name, value in facts if value not in ("", "-")]
        if known:
            lines += ["", heading(title)]
            label = max(_MIN_LABEL, *(width_of(name) + 1 for name, _ in known))
            lines += [line for name, value in known for line in folded(f"  {name:<{label}}", value, width)]
    return lines


def _sections(row: CheckpointRow, details: Mapping[str, Any]) -> Iterable[tuple[str, list[tuple[str, str]]]]:
    versions = details.get("versions") or {}
    yield (
        "Keeping",
        [
            ("stays" if row.stays else "goes", row.why),
            ("pinned", (row.note or "yes") if row.pinned else ""),
            ("problem", row.problem),
        ],
    )
    yield (
        "Training",
        [
            ("job", str(details.get("job", ""))),
            ("epoch", "" if row.epoch is None else str(row.epoch)),
            ("saved at", row.saved_at or ""),
            *((clean(name), _text(value)) for name, value in (details.get("metrics") or {}).items()),
        ],
    )
    warnings = (details.get("facts") or {}).get("warnings")
    if isinstance(warnings, list):
        yield "Warnings of the run", [(str(number), _text(one)) for number, one in enumerate(warnings, 1)]
    yield "Labels", [(clean(name), _text(value)) for name, value in (details.get("labels") or {}).items()]
    yield "Preprocessing", [("said", _text(details.get("preprocessing") or ""))]
    yield (
        "Made by",
        [
            ("command", " ".join(details.get("command") or [])),
            ("git commit", str(details.get("git_commit") or "")),
            *((name, str(value)) for name, value in versions.items() if value),
        ],
    )
    files = details.get("files") or {}
    yield (
        "Files",
        [
            ("folder", row.path),
            ("size", size(row.size_bytes)),
            ("digest", row.digest),
            *((clean(name), size(entry["size_bytes"])) for name, entry in files.items()),
        ],
    )


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return number(value) if isinstance(value, float) else msgspec.json.encode(value).decode()
