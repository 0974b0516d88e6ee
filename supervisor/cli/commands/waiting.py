"""Waiting for jobs: watch them, show their stages, judge when each is done.

Does not cover: what counts as done (goals.py), what was asked before (jobs.py).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Final, NamedTuple

from supervisor.api import JobRow
from supervisor.cli.commands.goals import Since, WaitOutcome, judge
from supervisor.cli.output.progress import Progress
from supervisor.cli.output.render import progress, state_of
from supervisor.cli.output.screen import screen
from supervisor.client import Client

__all__ = ["Interrupted", "Wait", "Waited", "wait_for"]

#: The daemon repeats itself every 2 s; this long without a word, it is away.
_AWAY_S: Final = 5.0
#: More lines than a small terminal has cannot be rewritten in place.
_MAX_LIVE: Final = 20


class Wait(NamedTuple):
    """What to wait for, and how long."""

    goal: str
    timeout_s: float | None = None
    #: When the request was sent, seconds of `time.monotonic()`.
    asked_at: float = 0.0
    #: The rows before the request, by job; empty where the goal does not compare with them.
    before: Mapping[str, JobRow] = {}


class Waited(NamedTuple):
    """How it ended for each job; those still missing ran into the time-out."""

    verdicts: dict[str, WaitOutcome]
    rows: dict[str, JobRow]
    #: Jobs that are not done, with what they do instead.
    pending: dict[str, str]


class Interrupted(Exception):
    """Ctrl-C ended the waiting; it holds what was known by then."""

    def __init__(self, waited: Waited) -> None:
        super().__init__()
        self.waited = waited


def wait_for(client: Client, jobs: Sequence[str], wait: Wait) -> Waited:
    """Return when every job is judged or the time is over; Ctrl-C raises Interrupted."""
    facts = screen(sys.stderr)
    if len(jobs) > _MAX_LIVE:
        facts = facts._replace(live=False)
    shown = Progress(sys.stderr, facts)
    loop = _Loop(jobs, wait, shown)
    try:
        loop.run(client)
    except KeyboardInterrupt:
        raise Interrupted(loop.waited()) from None
    finally:
        shown.close()
    return loop.waited()


class _Loop:
    def __init__(self, jobs: Sequence[str], wait: Wait, shown: Progress) -> None:
        self._wait = wait
        self._shown = shown
        self._jobs = tuple(dict.fromkeys(jobs))
        self._verdicts: dict[str, WaitOutcome] = {}
        self._rows: dict[str, JobRow] = {}
        self._hinted: set[str] = set()

    def waited(self) -> Waited:
        pending = {
            job: state_of(self._rows[job]) if job in self._rows else "not heard of"
            for job in self._jobs
            if job not in self._verdicts
        }
        return Waited(self._verdicts, self._rows, pending)

    def run(self, client: Client) -> None:
        if not self._jobs:
            return
        watch = client.watch(self._jobs)
        until = None if self._wait.timeout_s is None else monotonic() + self._wait.timeout_s
        is_away = False
        while len(self._verdicts) < len(self._jobs):
            left_s = 1.0 if until is None else min(1.0, until - monotonic())
            if left_s <= 0:
                return
            for row in watch.poll(left_s):
                self._take(row)
            if (watch.silent_s > _AWAY_S) is not is_away:
                is_away = not is_away
                word = "does not answer; waiting for it to come back" if is_away else "is back"
                self._shown.note(f"the daemon {word}")

    def _take(self, row: JobRow) -> None:
        if row.name not in self._jobs or row.name in self._verdicts:
            return
        self._rows[row.name] = row
        since = Since(self._wait.before.get(row.name), monotonic() - self._wait.asked_at)
        verdict = judge(self._wait.goal, row, since)
        text = verdict.text if verdict else progress(row)
        # What a job waits for may have a number in it that changes all the time.
        stage = re.sub(r"\d+", "", row.stage)
        self._shown.update(row.name, text, key=f"{row.state}/{stage}/{row.late}/{bool(verdict)}")
        if verdict:
            self._verdicts[row.name] = verdict
        elif row.late and row.name not in self._hinted:
            self._hinted.add(row.name)
            self._shown.note(f"hint: `supervisorctl logs {row.name}` may show what it does instead")
