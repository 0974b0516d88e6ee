"""What rows find, as lines in a file while they run, and as one table of text at the end.

Covers: the record of a row, its verdicts, writing and reading it across processes, the table.
Does not cover: running rows (`__main__.py`).

Standard library only: the table is printed even where nothing else can be imported.
"""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict, dataclass, field
from pathlib import Path

__all__ = ["FAILED", "MISSING", "OK", "Finding", "NotAvailable", "Notes", "Result", "read", "table"]

OK, FAILED, MISSING = "ok", "FAILED", "not available"


class NotAvailable(Exception):  # named for what happened, as in supervisor/errors.py
    """This machine lacks what the row needs; says what."""


class Finding(Exception):
    """Something is not as it has to be."""


@dataclass
class Result:
    """One row."""

    name: str
    verdict: str = FAILED
    took_s: float = 0.0
    #: In the order in which they were found; units stand in the names.
    figures: dict[str, float | str | None] = field(default_factory=dict)
    #: Why it failed, or is not available.
    why: str = ""

    def as_json(self) -> dict:
        """Return what stands in the report file."""
        return asdict(self)


class Notes:
    """Written by the row's process; each figure is there at once, whatever becomes of the process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, name: str, value: float | str | None) -> None:
        """Note a figure; numbers are rounded to four digits, or to whole ones: none is more exact."""
        if isinstance(value, float):
            value = float(f"{value:.4g}") if abs(value) < 1000 else float(round(value))
        self._add({"figure": name, "value": value})

    def end(self, verdict: str, why: str = "") -> None:
        """Note what came of it."""
        self._add({"verdict": verdict, "why": why})

    def _add(self, record: dict) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def read(path: Path, result: Result) -> bool:
    """Put into a result what its process noted; return whether it came to an end."""
    has_ended = False
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # The process was killed in the middle of a line.
        if "figure" in record:
            result.figures[record["figure"]] = record["value"]
        else:
            result.verdict, result.why, has_ended = record["verdict"], record["why"], True
    return has_ended


def table(results: list[Result], width: int) -> str:
    """Return the rows as text; from 60 columns up no line is longer than `width` or 100."""
    width = max(40, min(width, 100))
    lines = []
    for result in results:
        head = f"{result.took_s:5.1f} s  {result.verdict}"
        room = width - max(22, len(head)) - 2
        lines.append(f"{result.name[:room]:<{room}}  {head}")
        texts = [f"{name}: {_words(value)}" for name, value in result.figures.items()]
        for words in _flowed(texts, width - 4) + ([result.why] if result.why else []):
            lines += textwrap.wrap(words, width, initial_indent="    ", subsequent_indent="      ")
    return "\n".join(lines)


def _flowed(texts: list[str], width: int) -> list[str]:
    """Put as many figures into a line as fit."""
    lines: list[str] = []
    for text in texts:
        if lines and len(lines[-1]) + len(text) + 3 <= width:
            lines[-1] += f" | {text}"
        else:
            lines.append(text)
    return lines


def _words(value: float | str | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.10g}"
