"""Rules in a running daemon: a program that a test starts and ends moves real training runs.

Covers: a job that yields and comes back, what is told of it, restarts of the
daemon, persons, the queue, a pause that reaches no boundary.
Does not cover: real load (tests/e2e), which verdict is right (tests/unit/core/policy).
"""

import contextlib
import json
import shutil
import subprocess
import time

import pytest

from supervisor import api
from tests.groups import stands_still
from tests.harness import CONFIG, PYTHON, ROOT, RunningDaemon, is_running, until
from tests.trainers.flooding import LAST, TOOK_S

PROGRAM = "ts-foreign-1"
RULES = f"""
settle_s = 0
min_run_s = 0
[jobs]
kill_grace_s = 1
[[rules]]
name = "guest"
about = "A test needs the machine."
when = [{{ program = "{PROGRAM}" }}]
pause_after_s = 0.4
resume_after_s = 0.4
"""


def guest_hours(daemon, *, begin):
    """Let the rule be about the time of day: now, or another time than now."""
    hour = time.localtime().tm_hour
    window = "mon-sun" if begin else f"{(hour + 8) % 24:02d}:00-{(hour + 9) % 24:02d}:00"
    program, clock = f'program = "{PROGRAM}"', f'clock = "{window}"'
    daemon.configure((CONFIG.replace("0.5", "0.2") + RULES).replace(program, clock))
    daemon.client.reload()


@pytest.fixture
def daemon():
    with RunningDaemon(CONFIG.replace("0.5", "0.2") + RULES) as running:
        yield running


@pytest.fixture
def guest(tmp_path):
    """Start a program of that name, as often as wanted; it ends with the block."""
    program = tmp_path / PROGRAM
    shutil.copy("/bin/sleep", program)

    @contextlib.contextmanager
    def visits():
        process = subprocess.Popen([program, "600"])
        try:
            yield
        finally:
            process.kill()
            process.wait()

    return visits


def test_a_job_makes_room_while_a_program_runs_and_comes_back(daemon, guest):
    """
    It yields at a boundary, `why` and `events` tell who wanted it and what was seen, it ends exact;
    a daemon that is killed meanwhile forgets nothing.
    """
    run = daemon.train("night", steps=400, hold=("step-20",))
    with guest():
        daemon.until("night", "pausing")
        run.let_go("step-20")
        paused = daemon.until("night", "paused")

        assert ("hold", "rule guest") == (paused.depth, paused.asked_by)

        daemon.restart()
        said = daemon.ctl("why", "night")
        (told,) = json.loads(daemon.ctl("why", "night", "--json").out)

        assert 0 == said.code
        assert "night is paused (hold) since" in said.out
        assert "by rule guest." in said.out
        assert PROGRAM in said.out
        assert ("guest", "rule", "pause") == (told["by"], told["by_kind"], told["verdict"]["kind"])
        assert "rule guest" in daemon.ctl("why").out
        assert "paused" == daemon.row("night").state
    daemon.until("night", "completed")

    assert run.is_exact()
    assert 0 == daemon.ctl("policy", "simulate", "--since", "1h").code
    assert daemon.ctl("policy", "export", "--since", "1h").out.startswith("at,wall,")
    kinds = {event.kind: event.detail for event in daemon.events("night")}
    assert "hold by rule guest: " in kinds["pause-asked"]
    assert "by rule guest" in kinds["resume-asked"]


def test_how_long_a_save_took_decides_and_is_told(daemon, guest):
    """
    What a shim tells of its checkpoint comes all the way to the one who asks why.
    """
    daemon.command("large", PYTHON, str(ROOT / "tests/trainers/flooding.py"), "checkpointed", "0")
    until(lambda: daemon.row("large").checkpoint_step == LAST, lambda: daemon.job_log("large"))
    with guest():
        daemon.until("large", "pausing")
        told = daemon.ctl("why", "large").out
    daemon.ask(api.KillRequest, "large")

    assert f"saves in about {TOOK_S:.0f} s" in told


def test_persons_overrule_rules_both_ways(daemon):
    """
    What a person paused stays paused, what a person resumed goes on, and a protected job never yields.
    """
    for name in ("mine", "theirs"):
        daemon.train(name)
    daemon.train("shown", treated={"protected": True})
    daemon.pause("mine")
    daemon.until("mine", "paused")
    guest_hours(daemon, begin=True)
    daemon.until("theirs", "paused")
    daemon.resume("theirs")
    daemon.until("theirs", "running")
    looked_at = daemon.client.policy().rules[0].for_s
    until(lambda: daemon.client.policy().rules[0].for_s > looked_at + 0.5)

    assert ["running", "running"] == [daemon.row(name).state for name in ("theirs", "shown")]
    assert "left alone" in daemon.ctl("why", "theirs").out
    assert "it is protected" in daemon.ctl("why", "shown").out

    daemon.ask(api.SetRequest, "shown", protected=False)
    daemon.until("shown", "paused")
    guest_hours(daemon, begin=False)
    daemon.until("shown", "running")

    assert ("paused", "root") == (daemon.row("mine").state, daemon.row("mine").asked_by)


def test_only_so_many_jobs_run_and_the_highest_priority_is_next(daemon):
    """
    The queue says what each waits for.
    """
    daemon.configure(CONFIG + "settle_s = 0\n[queue]\nmax_running = 1\n")
    daemon.client.reload()
    daemon.train("first")
    low = daemon.train("low", steps=5, wait=False)
    high = daemon.train("high", steps=5, wait=False, treated={"priority": 3})

    assert "1 jobs run" in daemon.ctl("why", "low").out

    daemon.ask(api.KillRequest, "first")
    daemon.until("high", "completed")
    daemon.until("low", "completed")
    order = [event.job for event in daemon.events() if event.kind == "admitted"]

    assert ["first", "high", "low"] == order
    assert low.is_exact()
    assert high.is_exact()


@pytest.mark.parametrize("late", ["freeze", "terminate"])
def test_a_run_that_never_reaches_a_boundary_gives_way_all_the_same(daemon, late):
    """
    Frozen it stands still, across a restart of the daemon, until somebody lets it go on; ended it is
    paused, and goes on from its checkpoint. Neither costs a step.
    """
    run = daemon.train("stuck", steps=40, hold=("step-20",))
    run.until_at("step-20")
    daemon.pause("stuck", deadline_s=0.3, at_deadline=late)
    if late == "freeze":
        (pid,) = run.starts
        # Rows run ahead of the journal, and a signal follows it.
        until(lambda: stands_still(pid))
        assert daemon.row("stuck").frozen_s is not None
        daemon.restart()

        assert stands_still(pid)
        assert "frozen for" in daemon.ctl("status").out

        run.let_go("step-20")
        daemon.resume("stuck")
    else:
        paused = daemon.until("stuck", "paused")

        assert "exit" == paused.depth
        assert "reached no batch boundary in time" in paused.problem
        assert not is_running(run.starts[0])

        run.let_go("step-20")
        daemon.resume("stuck")
    daemon.until("stuck", "completed")

    assert run.is_exact()
