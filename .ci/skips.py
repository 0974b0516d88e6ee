"""Fail when a test was skipped that may not be: a test that does not run proves nothing.

usage: python .ci/skips.py JUNIT_XML ALLOWED
"""
# ruff: noqa: INP001, S314  # A script; the report is our own.

from __future__ import annotations

import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from xml.etree import ElementTree as ET


def allowed_patterns(text: str) -> list[str]:
    """Return the patterns of the list; a line without a reason is an error."""
    patterns = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pattern, _, reason = line.partition(" ")
        if not reason.strip():
            raise SystemExit(f"error: cannot allow `{pattern}` to be skipped without a reason beside it")
        patterns.append(pattern)
    return patterns


def skipped(report: Path) -> Iterator[tuple[str, str]]:
    """Yield id and reason of each test that was skipped; expected failures ran."""
    for case in ET.parse(report).iter("testcase"):
        for skip in case.iter("skipped"):
            if skip.get("type") != "pytest.xfail":
                test = "::".join(filter(None, (case.get("classname"), case.get("name"))))
                yield test, skip.get("message", "")


def main(report: str, allowed: str) -> int:
    """Print each skip that is not on the list; return how many there are, at most 1."""
    patterns = allowed_patterns(Path(allowed).read_text(encoding="utf-8"))
    surplus = [
        (test, why)
        for test, why in skipped(Path(report))
        if not any(fnmatchcase(test, pattern) for pattern in patterns)
    ]
    for test, why in surplus:
        sys.stderr.write(f"error: cannot leave out `{test}`: {why}\n")
    if surplus:
        sys.stderr.write(f"\nhint: make it run here, or add it to `{allowed}` with a reason\n")
    return int(bool(surplus))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
