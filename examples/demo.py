"""Two trainings, paused by persons, by a rule, and with a daemon that crashes, end with the same bits.

`make demo` runs it. Exit code 1 if a final SHA-256 differs or anything else is not as promised.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

from demo_rule import Thresholds, make_room
from demo_stage import ROOT, DemoFailed, Stage, say, show
from demo_timeline import draw

OUT = ROOT / "demo-out"
JOBS = ("digits", "text")


def main() -> int:
    """Play the demo; returns the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    began = time.monotonic()
    try:
        with Stage() as stage:
            outage, thresholds = play(stage)
            picture = timeline(stage, outage, thresholds)
            identical = compare(stage)
        say(f"\nTimeline: {picture.relative_to(ROOT)}. It took {time.monotonic() - began:.0f} s.")
    except DemoFailed as failure:
        say(f"\nerror: {failure}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    return 0 if identical else 1


def play(stage: Stage) -> tuple[tuple[float, float], Thresholds | None]:
    """Run both jobs to their end, with all that can happen to them; returns what else the picture shows."""
    stage.start_daemon()
    for job in JOBS:
        priority = "--priority 5 " if job == "digits" else ""
        stage.ctl(f"run --name {job} {priority}-- python examples/{job}.py")
    stage.sampler.until("both train", lambda rows: all(_done(rows[job]) > 0 for job in JOBS))
    stage.ctl("status")

    say("\n-- Somebody needs the machine: `digits` gives back its CPU and keeps its memory.")
    _go_on(stage, "digits", 0.15)
    stage.sampler.until("its CPU use is known", lambda rows: (rows["digits"].cpu_pct or 0) > 50)
    before = _cpu(stage)
    stage.ctl("pause digits --reason 'compiling something' --wait")
    stage.sampler.until("its CPU use is known to be low", lambda rows: _is_low(rows["digits"].cpu_pct))
    stage.ctl("status")
    say(f"\nCPU of digits: {before:.0f} % before, {_cpu(stage):.0f} % now")

    say("\n-- The daemon crashes. Training does not notice; a new daemon finds everything as it is.")
    outage = crash(stage)
    stage.ctl("resume digits --wait")

    say("\n-- `text` gives back everything: its process ends, and a new one goes on from the checkpoint.")
    _go_on(stage, "text", 0.1)
    give_back_everything(stage)

    say("\n-- A pause that ends by itself, after 3 s.")
    _go_on(stage, "text", 0.05)
    stage.ctl("pause text --for 3s --reason lunch --wait")
    stage.ctl("status")

    thresholds = make_room(stage)
    stage.ctl("wait digits text")
    return outage, thresholds


def crash(stage: Stage) -> tuple[float, float]:
    """Kill the daemon and start another; returns when there was none."""
    killed_at = time.time()
    stage.kill_daemon()
    stage.start_daemon()
    back_at = time.time()
    stage.sampler.until("both jobs are back", lambda rows: all(rows[job].cpu_pct is not None for job in JOBS))
    stage.ctl("status")
    return killed_at, back_at


def give_back_everything(stage: Stage) -> None:
    """Pause `text` by ending its process, show that it is gone, and start it again."""
    old = stage.ask("status text")[0]["pid"]
    stage.ctl("pause text --depth exit --wait")
    show(f"ls -d /proc/{old}")
    if Path(f"/proc/{old}").exists():
        raise DemoFailed(f"process {old} is still there")
    say(f"ls: cannot access '/proc/{old}': No such file or directory")
    _go_on(stage, "digits", 0.12)
    stage.ctl("status")
    stage.ctl("resume text --wait")
    say(f"\nProcess of text: {old} before, {stage.ask('status text')[0]['pid']} now")


class Result(NamedTuple):
    """How a job ended, paused and alone."""

    job: str
    pauses: str
    paused: str
    alone: str


def compare(stage: Stage) -> bool:
    """Run both trainings without daemon and pauses, print the table; say whether all is identical."""
    say("\n-- The same two trainings once more, without supervisor and without any pause.")
    alone = {}
    for job in JOBS:
        show(f"python examples/{job}.py &")
        alone[job] = stage.train_alone(job)
    results = []
    for job, process in alone.items():
        asked = [event for event in stage.ask(f"events {job} -n 1000") if event["kind"] == "pause-asked"]
        depths = ", ".join(event["detail"].split()[0] for event in asked)
        logs = stage.ask(f"logs {job} -n all", as_json=False)
        results.append(
            Result(job, f"{len(asked)} ({depths})", _sha256(logs), _sha256(process.communicate()[0]))
        )
    say(f"\n{'job':8}{'pauses':22}{'SHA-256, paused':20}{'SHA-256, not paused':22}identical")
    for one in results:
        same = "yes" if one.paused == one.alone else "NO"
        say(f"{one.job:8}{one.pauses:22}{one.paused[:16]:20}{one.alone[:16]:22}{same}")
    return all(one.paused == one.alone for one in results)


def timeline(stage: Stage, outage: tuple[float, float], thresholds: Thresholds | None) -> Path:
    """Draw what happened, from the events as `supervisorctl` prints them."""
    events = stage.ask("events -n 1000")
    OUT.mkdir(exist_ok=True)
    return draw(events, stage.sampler.samples, outage, thresholds, OUT / "timeline.png")


def _go_on(stage: Stage, job: str, part: float) -> None:
    """Return when the job has done that part of its steps more than now."""
    begun: list[float] = []

    def is_further(rows) -> bool:
        done = _done(rows[job])  # 0 until a process that was just started says how many steps there are.
        if done and not begun:
            begun.append(done)
        return bool(begun) and done >= min(begun[0] + part, 0.95)

    stage.sampler.until(f"{job} has done {part:.0%} more", is_further)


def _done(row) -> float:
    return row.step / row.num_steps if row.step and row.num_steps else 0.0


def _is_low(cpu_pct: float | None) -> bool:
    """Say so only where it is known: right after a pause there is no reading yet."""
    return cpu_pct is not None and cpu_pct < 5


def _cpu(stage: Stage) -> float:
    return stage.ask("status digits")[0]["cpu_pct"]


def _sha256(output: str) -> str:
    found = [line.split()[1] for line in output.splitlines() if line.startswith("sha256 ")]
    if not found:
        raise DemoFailed(f"a training printed no result:\n{output}")
    return found[-1]


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
