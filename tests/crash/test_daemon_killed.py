"""The daemon is killed at every point in a job's life, and started again.

Covers: each job in its true state afterwards, none lost, none started twice,
what was under way completes, what ended meanwhile has its true exit status.
Does not cover: a killed keeper or trainer (test_trainer_killed.py).

All jobs reach their points first and then share one crash, because a daemon
takes up all of its jobs at once.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, pairwise
from typing import NamedTuple

import pytest

from supervisor import api
from supervisor.client import new_id
from tests.harness import Run, RunningDaemon, until

NUM_STEPS = 80


@pytest.fixture
def daemon():
    with RunningDaemon() as running:
        yield running


class Crash(NamedTuple):
    """Where a job was when its daemon died."""

    run: Run
    #: What a daemon finds when nothing happened meanwhile.
    state: str
    #: What becomes of the job when the places it waits at are let go.
    goal: str
    places: tuple[str, ...] = ()
    #: How often the command has been started when the goal is reached.
    num_starts: int = 1
    #: Let go only when the shim is connected: what it is to hear must find it training.
    later: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scene:
    """Brings a job of this name to a point of its life."""

    daemon: RunningDaemon
    job: str

    def train(self, *hold: str, wait: bool = True) -> Run:
        run = self.daemon.train(self.job, steps=NUM_STEPS, hold=hold, wait=wait)
        if hold and wait:
            run.until_at(hold[0])
        return run

    def pausing(self, depth: str, *hold: str) -> Run:
        """Asked to pause and waiting at the last of these places."""
        run = self.train(*hold)
        self.daemon.pause(self.job, depth=depth)
        for place, following in pairwise(hold):
            run.passed(place)
            run.until_at(following)
        return run

    def paused(self, depth: str) -> Run:
        run = self.train()
        self.daemon.pause(self.job, depth=depth)
        self.daemon.until(self.job, "paused")
        return run

    # --- the points ---------------------------------------------------------------------------

    def starting(self) -> Crash:
        run = self.train("attach", wait=False)
        run.until_at("attach")
        return Crash(run, "starting", "completed", ("attach",))

    def running(self) -> Crash:
        return Crash(self.train("step-30"), "running", "completed", ("step-30",))

    def pausing_before_the_boundary(self) -> Crash:
        return Crash(self.pausing("hold", "step"), "pausing", "paused hold", ("step",))

    def pausing_to_exit_before_the_boundary(self) -> Crash:
        return Crash(self.pausing("exit", "step"), "pausing", "paused exit", ("step",))

    def pausing_before_the_shim_came(self) -> Crash:
        run = self.train("attach", "step-20", wait=False)
        run.until_at("attach")
        self.daemon.pause(self.job, depth="exit")
        return Crash(run, "pausing", "paused exit", ("attach",), later=("step-20",))

    def saving(self) -> Crash:
        return Crash(self.pausing("hold", "step", "save"), "pausing", "paused hold", ("save",))

    def saving_to_exit(self) -> Crash:
        return Crash(self.pausing("exit", "step", "save"), "pausing", "paused exit", ("save",))

    def yielded_but_not_gone(self) -> Crash:
        return Crash(self.pausing("exit", "step", "exit"), "pausing", "paused exit", ("exit",))

    def held(self) -> Crash:
        return Crash(self.paused("hold"), "paused", "paused hold")

    def exited(self) -> Crash:
        return Crash(self.paused("exit"), "paused", "paused exit")

    def going_deeper(self) -> Crash:
        run = self.paused("hold")
        run.block("exit")
        self.daemon.pause(self.job, depth="exit")
        run.until_at("exit")
        return Crash(run, "pausing", "paused exit", ("exit",))

    def resuming_from_exit(self) -> Crash:
        run = self.paused("exit")
        run.block("attach")
        self.daemon.resume(self.job)
        run.until_at("attach")
        return Crash(run, "resuming", "completed", ("attach",), num_starts=2)

    def resumed_on_its_way_out(self) -> Crash:
        run = self.pausing("exit", "step", "exit")
        self.daemon.resume(self.job)
        return Crash(run, "resuming", "completed", ("exit",), num_starts=2)

    def stopping_before_the_boundary(self) -> Crash:
        run = self.train("step")
        self.daemon.ask(api.StopRequest, self.job)
        return Crash(run, "stopping", "stopped", ("step",))

    def stopping_but_not_gone(self) -> Crash:
        run = self.train("step")
        run.block("exit")
        self.daemon.ask(api.StopRequest, self.job)
        run.passed("step")
        run.until_at("exit")
        return Crash(run, "stopping", "stopped", ("exit",))

    def restarting(self) -> Crash:
        run = self.train("step")
        self.daemon.ask(api.RestartRequest, self.job)
        return Crash(run, "stopping", "completed", ("step",), num_starts=2)

    def over(self) -> Crash:
        run = self.train()
        self.daemon.ask(api.KillRequest, self.job)
        self.daemon.until(self.job, "stopped")
        return Crash(run, "stopped", "stopped")


POINTS: dict[str, Callable[[Scene], Crash]] = {
    name: point
    for name, point in vars(Scene).items()
    if getattr(point, "__annotations__", {}).get("return") == "Crash"
}


def reach_all(daemon: RunningDaemon) -> dict[str, Crash]:
    crashes = {name: point(Scene(daemon, name)) for name, point in POINTS.items()}
    # Whoever is asked and still trains: a daemon that dies before its word has arrived told it nothing.
    for job, crash in crashes.items():
        if crash.places == ("step",):
            daemon.until_told(job)
    return crashes


def now(daemon: RunningDaemon, job: str) -> str:
    row = daemon.row(job)
    return f"{row.state} {row.depth}" if row.state == "paused" else row.state


def reach_goals(daemon: RunningDaemon, crashes: dict[str, Crash]) -> dict[str, str]:
    """Wait for every job; the answer says where each stands when the time is over, or all are there."""
    goals = {job: crash.goal for job, crash in crashes.items()}

    def seen() -> dict[str, str]:
        return {job: now(daemon, job) for job in crashes}

    until(lambda: seen() == goals, lambda: {j: (s, goals[j]) for j, s in seen().items() if s != goals[j]})
    return seen()


def check_goals(daemon: RunningDaemon, crashes: dict[str, Crash]) -> None:
    for job, crash in crashes.items():
        if crash.later:
            daemon.until(job, lambda row: row.pausable)
            daemon.until_told(job)
            crash.run.let_go(*crash.later)
    reach_goals(daemon, crashes)

    assert {job: c.num_starts for job, c in crashes.items()} == {
        job: len(c.run.starts) for job, c in crashes.items()
    }
    assert {job: c.num_starts for job, c in crashes.items()} == {
        job: daemon.row(job).incarnation for job in crashes
    }


def check_all_end_exactly(daemon: RunningDaemon, crashes: dict[str, Crash]) -> None:
    """Whoever is paused goes on, and every run ends with the steps it should have made."""
    paused = [job for job in crashes if daemon.row(job).state == "paused"]
    daemon.resume(*paused)
    for job in paused:
        daemon.until(job, "completed")

    ran = [job for job in crashes if daemon.row(job).state == "completed"]
    assert len(ran) > 10
    assert [] == [job for job in ran if not crashes[job].run.is_exact()]


def test_every_job_is_in_its_true_state_after_a_crash(daemon):
    """
    At whatever point the daemon dies, the next one shows every job where it
    is, starts none again, and what was under way comes to its end.
    """
    crashes = reach_all(daemon)
    daemon.restart()

    assert {job: crash.state for job, crash in crashes.items()} == {
        job: daemon.row(job).state for job in crashes
    }
    for crash in crashes.values():
        crash.run.let_go(*crash.places)
    check_goals(daemon, crashes)
    check_all_end_exactly(daemon, crashes)


def test_what_happens_while_no_daemon_is_there_is_known_afterwards(daemon):
    """
    Trainers reach their boundary, save, hold, exit and end while the daemon
    is dead. The next one knows of all of it.
    """
    crashes = reach_all(daemon)
    daemon.kill()
    for crash in crashes.values():
        crash.run.let_go(*crash.places)
    ended = [job for job, crash in crashes.items() if crash.goal != "paused hold" and not crash.later]
    for job in ended:
        folder = daemon.paths.incarnation_dir(job, len(crashes[job].run.starts))
        until((folder / "exit.json").exists, f"the end of {job}")
    daemon.start()

    check_goals(daemon, crashes)
    check_all_end_exactly(daemon, crashes)


@pytest.mark.parametrize(
    ("ending", "state", "code", "signal_number"),
    [
        ({"CHAIN_EXIT": "0"}, "completed", 0, None),
        ({"CHAIN_EXIT": "3"}, "failed", 3, None),
        ({}, "failed", None, signal.SIGSEGV),
    ],
)
def test_a_job_that_ended_while_the_daemon_was_dead_has_its_true_status(
    daemon, ending, state, code, signal_number
):
    """
    Exit code or signal, the keeper wrote it down and the next daemon tells it.
    """
    run = daemon.train("job", steps=20, hold=("step",), **ending)
    run.until_at("step")
    daemon.kill()
    if signal_number:
        os.kill(run.starts[0], signal_number)
    run.let_go("step")
    exit_file = daemon.paths.incarnation_dir("job", 1) / "exit.json"
    until(exit_file.exists, "the keeper's word of the end")
    daemon.start()
    row = daemon.until("job", state)

    assert (code, signal_number) == (row.exit_code, row.exit_signal)
    assert 1 == len(run.starts)


def test_a_job_is_started_once_although_the_daemon_dies_at_once(daemon):
    """
    Whoever got an answer to `run` has exactly one such run, whatever the
    daemon had time to do before it died.
    """
    runs = {}
    for number in range(5):
        name = f"job-{number}"
        runs[name] = daemon.train(name, steps=10, wait=False)
        daemon.restart()
    for name, run in runs.items():
        daemon.until(name, "completed")

        assert 1 == len(run.starts)
        assert run.is_exact()


def test_a_timed_pause_wakes_up_after_the_crash(daemon):
    """
    `pause --for` counts on while no daemon is there.
    """
    run = daemon.train("job", steps=NUM_STEPS)
    daemon.pause("job", depth="exit", for_s=0.8)
    daemon.until("job", lambda row: row.state == "paused" or len(run.starts) > 1)
    daemon.restart()
    daemon.until("job", "completed")

    assert run.is_exact()
    assert 2 == len(run.starts)


def test_a_terminated_daemon_leaves_its_jobs_running(daemon):
    """
    SIGTERM of the daemon is no word to the jobs; the next daemon takes them up.
    """
    run = daemon.train("job", steps=NUM_STEPS, hold=("step-40",))
    code = daemon.terminate()
    run.until_at("step-40")
    daemon.start()

    assert 0 == code
    assert daemon.until("job", lambda row: row.pausable).state == "running"
    run.let_go("step-40")
    daemon.until("job", "completed")
    assert run.is_exact()


@pytest.mark.parametrize("round_", [1, 2])
def test_kills_at_random_moments_lose_nothing(daemon, round_):
    """
    Anybody asks for anything while the daemon is killed again and again; in
    the end every run is complete and exact, and no start of it was made twice.
    """
    # Drawn in here: workers of pytest-xdist must collect the same names. Not from the generator that
    # pytest-randomly sets to the same place for every test.
    kill_at_random(daemon, secrets.randbits(32))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_kills_at_random_moments_lose_nothing_for_long(daemon):
    """
    The same for SOAK_S seconds (default 600), each round with a seed of its own.
    """
    until_s = time.monotonic() + float(os.environ.get("SOAK_S", "600"))
    for number in count():
        if time.monotonic() > until_s:
            break
        for job in kill_at_random(daemon, secrets.randbits(32), suffix=f"-{number}"):
            daemon.ask(api.RemoveRequest, job)


def kill_at_random(daemon: RunningDaemon, seed: int, suffix: str = "") -> list[str]:
    """Play one round with three jobs; returns their names."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    jobs = [f"{letter}{suffix}" for letter in "abc"]
    runs = {name: daemon.train(name, steps=NUM_STEPS, wait=False) for name in jobs}
    for _ in range(5):
        for _ in range(chance.randrange(1, 4)):
            ask_at_random(daemon, chance, chance.choice(jobs))
        time.sleep(chance.random() * 0.15)  # Not to wait for something: a moment by chance.
        daemon.restart()
    for job in jobs:
        finish(daemon, job)

    assert [] == [job for job in jobs if not runs[job].is_exact()]
    for job in jobs:
        seen = runs[job].incarnations
        # One that was stopped in its first moments may have left no line.
        assert sorted(set(seen)) == seen
        assert daemon.row(job).incarnation == seen[-1]
    return jobs


def ask_at_random(daemon: RunningDaemon, chance: random.Random, job: str) -> None:
    """Ask, and at times do not wait for the answer."""
    kinds = (
        api.PauseRequest,
        api.PauseRequest,
        api.ResumeRequest,
        api.CheckpointRequest,
        api.StopRequest,
    )
    kind = chance.choice(kinds)
    fields = {"depth": chance.choice(["hold", "exit"])} if kind is api.PauseRequest else {}
    if chance.random() < 0.5:
        daemon.client._send(kind(id=new_id(), jobs=(job,), **fields))
        return
    daemon.try_to(kind, job, **fields)


def finish(daemon: RunningDaemon, job: str) -> None:
    """Let the job go on, by whatever its state asks for, until it is complete."""

    def is_complete() -> bool:
        state = daemon.row(job).state
        if state == "paused":
            daemon.try_to(api.ResumeRequest, job)
        elif state == "stopped":
            daemon.try_to(api.RestartRequest, job)
        assert state != "failed", f"{daemon.row(job)} {daemon.job_log(job)}"
        return state == "completed"

    until(is_complete, lambda: f"{daemon.row(job)}\n{daemon.job_log(job)}\n{daemon.events(job)[-12:]}")


def test_a_pause_that_was_reached_while_no_daemon_ran_is_not_late(daemon):
    """
    2026-11-22: the next daemon looked at the clock first, and ended the job that had paused in time.
    """
    run = daemon.train("night", hold=("step",), wait=False)
    daemon.until("night", lambda row: row.pausable)
    run.until_at("step")
    asked_at = time.monotonic()
    daemon.pause("night", deadline_s=2.0, at_deadline="terminate")
    daemon.until_told("night")
    daemon.kill()
    run.let_go("step")
    until(lambda: list(daemon.work.glob("checkpoints/night/step-*/manifest.json")))
    until(lambda: time.monotonic() > asked_at + 2.0)
    daemon.start()
    row = daemon.until("night", lambda row: row.state != "pausing")

    assert ("paused", "hold", run.starts) == (row.state, row.depth, [row.pid])
