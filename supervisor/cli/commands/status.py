"""`supervisorctl status`: what it shows, and when it needs no parser.

Covers: asking, printing; reading the words of a plain `status`.
Does not cover: its help and everything else that may be typed (look.py, and the parser of all commands).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from supervisor.finding import find_daemon

if TYPE_CHECKING:
    from supervisor.set_aside import SetAside

__all__ = ["plain_status", "show_status"]


def plain_status(words: Sequence[str]) -> Callable[[], None] | None:
    """Return what `[--home DIR] status [--json] [JOB]...` asks for; None: it takes the parser to tell.

    Whatever is written in another way is for the parser, which does the same for these words.
    """
    home, rest = None, list(words)
    if len(rest) > 1 and rest[0] == "--home" and not rest[1].startswith("-"):
        home, rest = rest[1], rest[2:]
    if not rest or rest[0] != "status":
        return None
    jobs = tuple(word for word in rest[1:] if word != "--json")
    if any(job.startswith("-") for job in jobs):
        return None
    return partial(show_status, home, jobs, as_json="--json" in rest)


def show_status(
    home: str | None, jobs: tuple[str, ...], *, as_json: bool, system: bool | None = None
) -> None:
    """Print all jobs, or those named; raises what the client does."""
    from supervisor.cli.output.render import status_lines
    from supervisor.cli.output.screen import data, print_json, screen, tell
    from supervisor.cli.output.text import clean
    from supervisor.client import Client

    with Client(find_daemon(home, system=system)) as client:
        found = client.status(jobs)
    if as_json:
        print_json([*found.rows, *map(_aside_row, found.aside)])
    elif found.rows:
        facts = screen(sys.stdout)
        for line in status_lines(found.rows, width=facts.width, colour=facts.colour):
            data(line)
    else:
        tell("no jobs; `supervisorctl run -- python train.py` starts one")
    for alert in found.alerts:
        tell(f"warning: {clean(alert)}")


def _aside_row(aside: SetAside) -> dict[str, object]:
    """Return it with the keys that every row has; no job is ever in this state."""
    from supervisor.cli.output.screen import as_row

    return {"name": aside.name, "state": "set-aside", **as_row(aside)}
