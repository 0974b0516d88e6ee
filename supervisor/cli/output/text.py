"""Units, widths and aligned tables for people. Pure.

Does not cover: which facts of a job are shown (render.py).

What comes from jobs and users may hold anything: `clean` stands between it and a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite
from typing import Final, NamedTuple

from supervisor.core.units import format_bytes, format_number

__all__ = [
    "Column",
    "ago",
    "bold",
    "clean",
    "count_of",
    "cut",
    "duration",
    "folded",
    "has_room",
    "number",
    "percent",
    "size",
    "table",
    "two_lines",
    "whole_table",
    "width_of",
    "wrapped",
]

_ELLIPSIS: Final = "..."
_GAP: Final = "  "
#: Below that many columns the last one says nothing any more; others are left out instead.
_LAST_MIN: Final = 24
#: Narrower than that a value is cut: folded it would be a column of single words.
_FOLD_MIN: Final = 20
#: Nothing lasts so long; a broken clock or a rate near zero says it does.
_LONGEST_S: Final = 1000 * 365 * 86400
#: No run has so many steps; a script may still report them.
_COUNTED: Final = 10**12
#: Narrower than that the last column of a whole table stands below the others.
_BESIDE_MIN: Final = 32
_WIDE: Final = frozenset("WF")
_INVISIBLE: Final = frozenset({"Mn", "Me", "Cf"})


class Column(NamedTuple):
    """One column of a table. Those with the highest `spare` are left out first where room is short."""

    title: str
    spare: int = 0
    right: bool = False


def clean(text: str) -> str:
    """Return the text on one line, without anything that could steer a terminal."""
    if text.isascii() and text.isprintable():
        return text
    words = " ".join(text.split())
    return "".join(char if char.isprintable() else "?" for char in words)


def width_of(text: str) -> int:
    """Return how many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width

    wide = sum(east_asian_width(char) in _WIDE for char in text)
    return len(text) + wide - sum(category(char) in _INVISIBLE for char in text)


def cut(text: str, width: int | None) -> str:
    """Return the text, ended by an ellipsis where it is wider than that."""
    if width is None or width_of(text) <= width:
        return text
    room = width - len(_ELLIPSIS)
    if room < 1:
        return _ELLIPSIS[: max(0, width)]
    end = 0
    while width_of(text[: end + 1]) <= room:
        end += 1
    return text[:end].rstrip() + _ELLIPSIS


def duration(seconds: float | None) -> str:
    """Return 1.2 s, 94 s, 3m 12s, 2h 05m, 3d 04h, or that it is longer than anybody waits."""
    # A shim may report any float, and a rate near zero gives an infinite ETA.
    if seconds is None or not isfinite(seconds):
        return "-"
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds > _LONGEST_S:
        return "over 1000 years"
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"


def ago(seconds: float | None) -> str:
    """Return the duration as a moment in the past."""
    return "-" if seconds is None else f"{duration(seconds)} ago"


def size(num_bytes: int | None) -> str:
    """Return the amount in binary units, or a dash where nobody knows it."""
    return "-" if num_bytes is None else format_bytes(num_bytes)


def number(value: float | None) -> str:
    """Return three digits that count."""
    if value is None:
        return "-"
    return format_number(value)


def percent(value: float | None) -> str:
    """Return whole per cents."""
    if value is None:
        return "-"
    return f"{value:.0f}%" if abs(value) < _COUNTED else f"{value:.3g}%"


def count_of(value: int | None, total: int | None, *, share: bool = True) -> str:
    """Return 7/10 70%; a share only of what is at most the whole."""
    if value is None:
        return "-"
    if not total:
        return _count(value)
    part = f" {percent(100 * value // total)}" if share and 0 <= value <= total else ""
    return f"{_count(value)}/{_count(total)}{part}"


def _count(value: int) -> str:
    """Return every digit: a step is compared by eye, and typed."""
    return str(value) if abs(value) < _COUNTED else f"{value:.3g}"


def bold(text: str) -> str:
    """Return the text as a heading on a terminal."""
    return f"\x1b[1m{text}\x1b[0m"


Paint = Callable[[int, int, str], str]


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None = None,
    paint: Paint = lambda _row, _column, cell: cell,
) -> list[str]:
    """Return header and rows, aligned; never wider than `width`, never wrapped.

    Columns without any content are left out, then the spare ones until the last column has room;
    at last the lines themselves are cut. `paint(row, column, padded cell)` may add colour.
    """
    titles = [column.title for column in columns]
    widths = [max(map(width_of, cells)) for cells in zip(titles, *rows, strict=True)]
    shown = [i for i in range(len(columns)) if i == 0 or any(row[i] not in ("", "-") for row in rows)]
    shown = _columns_that_fit(columns, shown, widths, width)
    lines = [_line(titles, columns, shown, widths, width, lambda _i, cell: cell)]
    for index, row in enumerate(rows):
        lines.append(_line(row, columns, shown, widths, width, partial(paint, index)))
    return lines


def has_room(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None, *, for_column: str
) -> bool:
    """Say whether a table of that width would show this column, if it has any content."""
    titles = [column.title for column in columns]
    widths = [max(map(width_of, cells)) for cells in zip(titles, *rows, strict=True)]
    return titles.index(for_column) in _columns_that_fit(columns, list(range(len(columns))), widths, width)


def two_lines(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], *, num_above: int, width: int | None
) -> list[str]:
    """Return a table with two lines a row, for where one has no room: the second one is indented.

    Its header takes two lines as well; of a row that has nothing in one of its lines that line is left out.
    """
    above = table(columns[:num_above], [row[:num_above] for row in rows], width=width)
    below = table(
        columns[num_above:],
        [row[num_above:] for row in rows],
        width=None if width is None else max(0, width - len(_GAP)),
    )
    pairs = zip(above, (f"{_GAP}{line}" for line in below), strict=True)
    return [line for pair in pairs for line in pair if line.strip()]


def wrapped(text: str, width: int, *, indent: str = "") -> list[str]:
    """Return the text on lines of that width, broken between words; those behind the first are indented."""
    width = max(width, len(indent) + 2)
    bare = text.lstrip(" ")
    lines = [text.removesuffix(bare)]
    for word in bare.split(" "):
        longer = lines[-1] + (" " if lines[-1].strip() else "") + word
        if width_of(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1].strip():
            lines.append(indent)
        rest = lines[-1] + word
        while width_of(rest) > width:
            end = len(indent) + 1
            while width_of(rest[: end + 1]) <= width:
                end += 1
            lines[-1:] = [rest[:end], ""]
            rest = indent + rest[end:]
        lines[-1] = rest
    return lines


def whole_table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None = None,
    paint: Paint = lambda _row, _column, cell: cell,
    colour: bool = False,
) -> list[str]:
    """Return a table of whose last column nothing is lost: it is folded, or stands below the others."""
    titles = [column.title for column in columns]
    widths = [max(map(width_of, cells)) for cells in zip(titles, *rows, strict=True)]
    shown = [i for i in range(len(columns)) if i == 0 or any(row[i] not in ("", "-") for row in rows)]
    *before, last = _columns_that_fit(columns, shown, widths, width)
    taken = sum(widths[i] + len(_GAP) for i in before)
    if width is None or taken + widths[last] <= width:
        lines = table(columns, rows, width=width, paint=paint)
        return [bold(lines[0]), *lines[1:]] if colour else lines
    lines = []
    for number, row in enumerate((titles, *rows)):
        painted = partial(paint, number - 1) if number else lambda _column, cell: cell
        if width - taken >= _BESIDE_MIN:
            start, *more = wrapped(row[last], width - taken)
            beside = [start if i == last else cell for i, cell in enumerate(row)]
            lines.append(_line(beside, columns, [*before, last], widths, width, painted))
            lines += [" " * taken + text for text in more]
        else:
            padded = {i: _pad(row[i], widths[i], right=columns[i].right) for i in before}
            above = wrapped(_GAP.join(padded.values()).rstrip(), width, indent=_GAP)
            if len(above) == 1:
                cells = (painted(i, cell) if cell.strip() else cell for i, cell in padded.items())
                above = [_GAP.join(cells).rstrip()]
            lines += [line for line in above if line]
            lines += [_GAP + text for text in wrapped(row[last], width - len(_GAP)) if text]
        if colour and number == 0:
            lines = list(map(bold, lines))
    return lines


def folded(label: str, value: str, width: int | None) -> list[str]:
    """Return the value beside its label, on as many lines as it takes: the end may be what matters."""
    room = None if width is None else width - len(label)
    if room is None or room < _FOLD_MIN or width_of(value) <= room:
        return [cut(label + value, width)]
    return [(" " * len(label) if i else label) + line for i, line in enumerate(wrapped(value, room))]


def _columns_that_fit(
    columns: Sequence[Column], shown: list[int], widths: Sequence[int], width: int | None
) -> list[int]:
    """Return the columns to show so that the last one has room."""
    while width is not None:
        *before, last = shown
        taken = sum(widths[i] + len(_GAP) for i in before)
        spare = max(shown, key=lambda i: columns[i].spare)
        if taken + min(widths[last], _LAST_MIN) <= width or not columns[spare].spare:
            break
        shown = [i for i in shown if i != spare]
    return shown


def _line(
    row: Sequence[str],
    columns: Sequence[Column],
    shown: Sequence[int],
    widths: Sequence[int],
    width: int | None,
    paint: Callable[[int, str], str],
) -> str:
    *before, last = shown
    padded = {i: _pad(row[i], widths[i], right=columns[i].right) for i in before}
    taken = sum(widths[i] + len(_GAP) for i in before)
    cell = _pad(row[last], widths[last], right=True) if columns[last].right else row[last]
    padded[last] = cut(cell, None if width is None else max(0, width - taken))
    plain = _GAP.join(padded.values()).rstrip()
    if width is not None and (width_of(plain) > width or width <= taken):
        # Not even the columns that nobody wants to miss fit: cut, and then colour would be cut as well.
        return cut(_GAP.join(_pad(row[i], widths[i], right=columns[i].right) for i in shown).rstrip(), width)
    return _GAP.join(paint(i, cell) if cell.strip() else cell for i, cell in padded.items()).rstrip()


def _pad(cell: str, width: int, *, right: bool) -> str:
    pad = " " * (width - width_of(cell))
    return pad + cell if right else cell + pad
