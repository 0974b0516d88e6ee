"""The part of the demo in which nobody types a command: others need the CPU, a job makes room and comes back.

The thresholds lie between what others use before the load begins and what they can use with it.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from demo_stage import DemoFailed, Stage, others_pct, say, show

__all__ = ["Thresholds", "make_room"]

#: With more in use already, nobody could tell the load from what is there anyway.
TOO_BUSY_PCT = 60.0

#: Readings before the load begins; others do not use the same all the time.
NUM_READINGS = 6


class Thresholds(NamedTuple):
    """Of the rule, per cent of all CPUs, and since when (Unix time)."""

    above: float
    clear: float
    since: float


def make_room(stage: Stage) -> Thresholds | None:
    """Let the rule pause `text` while others compute; None where the machine is too busy to show that."""
    say("\n-- Others come first: from now on a rule decides, and nobody types a command.")
    before = _used_before(stage)
    if before > TOO_BUSY_PCT:
        say(f"\nThis machine is too busy to show it: others use {before:.0f} % of its CPUs already.")
        return None
    left = 100 - before
    thresholds = Thresholds(round(before + 0.4 * left), round(before + 0.25 * left), time.time())
    show("cat >> config/config.toml")
    say(stage.write_rule(above=thresholds.above, clear=thresholds.clear).strip())
    stage.ctl("reload")
    stage.ctl("policy show")
    load = [stage.start_load() for _ in range(2 * len(os.sched_getaffinity(0)))]
    try:
        stage.sampler.until("a rule pauses text", lambda rows: _is_held(rows["text"]))
        # Long enough to be seen in the picture.
        stage.sampler.until("the rule has been on for a while", lambda _: stage.sampler.rule.for_s > 2)
        stage.ctl("why text")
    finally:
        show(f"kill {' '.join(str(process.pid) for process in load)}")
        for process in load:
            process.kill()
            process.wait()
    stage.sampler.until("text comes back", lambda rows: rows["text"].state in ("running", "completed"))
    stage.ctl("status")
    stage.ctl("events text -n 5")
    return thresholds


def _used_before(stage: Stage) -> float:
    """Return the most that others used in some readings from now on."""
    stage.sampler.until("text trains again", lambda rows: rows["text"].state in ("running", "completed"))
    first = len(stage.sampler.samples)
    stage.sampler.until(
        "the CPU use of others is known", lambda _: len(stage.sampler.samples) >= first + NUM_READINGS
    )
    readings = [others for _, _, others in stage.sampler.samples[first:] if others is not None]
    if not readings:
        raise DemoFailed("cannot tell what others use: " + str(others_pct(stage.sampler.rule)))
    return max(readings)


def _is_held(row) -> bool:
    if row.state == "completed":
        raise DemoFailed("text completed before others needed the CPU")
    return row.state == "paused" and row.asked_by == "rule others-first"
