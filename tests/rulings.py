"""Rules for a daemon under test, and what it says of them.

Covers: writing a configuration, reading what holds and `why`, training that a rule may pause.
Does not cover: what any of it should say.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from supervisor.core.policy.explanation import RuleState
from tests.harness import PYTHON, ROOT, RunningDaemon, until

__all__ = ["Patient", "condition", "config", "rule", "show", "why"]

#: Short times; no margin, because thresholds are set close to what a shared machine has just now.
_HEAD = """
[daemon]
sample_s = 0.5
[shim]
heartbeat_s = 0.2
[policy]
default_rules = false
settle_s = 0.5
min_run_s = 0
easing_long_s = 0
margin_pct = 0
"""


def config(*rules: str) -> str:
    """Return a configuration file."""
    return "\n".join((_HEAD, *rules))


def rule(name: str, when: str, depth: str, more: str = "") -> str:
    """Return a rule that holds at once, more or less."""
    return f"""
[[rules]]
name = "{name}"
when = [{{ {when} }}]
depth = "{depth}"
pause_after_s = 0.5
resume_after_s = 0.5
{more}
"""


def show(daemon: RunningDaemon, name: str, place: str = "") -> RuleState:
    """Return one rule at one place as it is now."""
    rules = [one for one in daemon.client.policy().rules if one.rule == name]
    return next((one for one in rules if one.place == place), rules[0])


def condition(daemon: RunningDaemon, name: str) -> float:
    """Return what the first condition of a rule reads, once it can be read."""
    until(lambda: not show(daemon, name).missing, lambda: show(daemon, name))
    reading = show(daemon, name).conditions[0].reading
    assert isinstance(reading, float)
    return reading


def why(daemon: RunningDaemon, job: str) -> tuple[dict[str, Any], str]:
    """Return the answer for programs and the one for people."""
    told, said = daemon.ctl("why", job, "--json"), daemon.ctl("why", job)
    assert (0, 0) == (told.code, said.code), (told, said)
    (answer,) = json.loads(told.out)
    return answer, said.out


class Patient:
    """A run of tests/trainers/patient.py as a job: it trains slowly until it is let go."""

    def __init__(
        self, daemon: RunningDaemon, name: str, *, env: dict[str, str] | None = None, **fields: Any
    ) -> None:
        self._daemon, self.name = daemon, name
        self.folder = daemon.work / name
        self.folder.mkdir()
        self._slow.touch()
        argv = (PYTHON, str(ROOT / "tests/trainers/patient.py"))
        surroundings = daemon.job_env(OMP_NUM_THREADS=1, **(env or {}))
        daemon.command(name, *argv, env=surroundings, cwd=str(self.folder), **fields)
        daemon.until(name, lambda row: row.state == "running" and row.pausable and row.step)

    @property
    def _slow(self) -> Path:
        return self.folder / "slow"

    def finish(self) -> str:
        """Let it train to its end; returns the digest of what it learned."""
        self._slow.unlink()
        self._daemon.until(self.name, "completed")
        return (self.folder / "digest").read_text()
