"""Where words go: data to stdout, everything else to stderr, colour only on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, TextIO

import msgspec

__all__ = ["Screen", "as_row", "data", "hint", "print_json", "print_json_line", "screen", "tell"]


class Screen(NamedTuple):
    """What a stream can show."""

    #: Columns; None: it is no terminal, so nothing needs to be cut.
    width: int | None
    colour: bool
    #: Lines can be written again in place; False for a file, a pipe, a terminal that cannot.
    live: bool


def screen(stream: TextIO) -> Screen:
    """Return what is known of the stream; COLUMNS and NO_COLOR are respected."""
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdecimal() and int(columns) > 0 else None
    if not stream.isatty():
        return Screen(width, colour=False, live=False)
    if width is None:
        try:
            width = os.get_terminal_size(stream.fileno()).columns or 80
        except OSError:
            width = 80
    dumb = os.environ.get("TERM", "dumb") == "dumb"
    return Screen(width, colour=not dumb and not os.environ.get("NO_COLOR"), live=not dumb)


def data(line: str) -> None:
    """Print a line that was asked for."""
    sys.stdout.write(line + "\n")


def tell(line: str) -> None:
    """Print a line for a person, beside the data."""
    sys.stdout.flush()
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def hint(line: str) -> None:
    """Print what to do next."""
    tell(f"hint: {line}")


def as_row(struct: msgspec.Struct) -> dict[str, Any]:
    """Return the struct with all its fields, also those that the wire leaves out."""
    return msgspec.structs.asdict(struct)


def print_json(rows: Sequence[Any]) -> None:
    """Print a list of objects."""
    data(msgspec.json.format(msgspec.json.encode([_plain(row) for row in rows]), indent=2).decode())


def print_json_line(row: Any) -> None:
    """Print one object on one line, at once."""
    data(msgspec.json.encode(_plain(row)).decode())
    sys.stdout.flush()


def _plain(row: Any) -> Any:
    if not isinstance(row, msgspec.Struct):
        return row
    return {name: _plain(value) for name, value in as_row(row).items()}
