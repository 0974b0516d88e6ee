"""Who may speak for a job, and what is believed.

Covers: two shims for one rank, a shim outside the job's tree, a shim that
says absurd things, one that reconnects.
Does not cover: strangers that are no shims (test_hostile_peers.py).
"""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.harness import CHAIN, PYTHON, ROOT, RunningDaemon, until


@pytest.fixture(scope="module")
def daemon():
    """One for all of this file."""
    with RunningDaemon() as running:
        yield running


def refusals(daemon, job):
    """What the daemon's log has of refused shims of this job."""
    lines = [json.loads(line) for line in (daemon.home / "daemon.log").read_text().splitlines()]
    return [line["reason"] for line in lines if line["event"] == "hello-refused" and line["job"] == job]


def test_a_second_shim_for_the_same_rank_is_refused_and_trains_on(daemon):
    """
    The first one stays in charge and is the one that pauses; the second one
    trains to its end without supervision.
    """
    first, second = daemon.plan("twins", steps=200, hold=("step-100",)), daemon.plan("twin", hold=("attach",))
    command = " ".join(CHAIN)
    other = f"CHAIN={second.folder} CHAIN_STEPS=200 TRAINING_SUPERVISOR_CHECKPOINTS={second.folder}/c"
    daemon.command("twins", "sh", "-c", f"{command} & {other} {command}; wait", env=daemon.chain_env(first))
    daemon.until("twins", lambda row: row.pausable)
    second.num_steps = 200
    second.until_at("attach")
    second.let_go("attach")
    reason = until(lambda: refusals(daemon, "twins"))[0]
    first.until_at("step-100")
    daemon.pause("twins")
    first.let_go("step-100")
    row = daemon.until("twins", "paused")
    until(lambda: second.result, "the end of the second")
    daemon.resume("twins")
    daemon.until("twins", "completed")

    assert f"rank 0 is process {first.starts[0]} already" in reason
    assert row.checkpoint_step in (100, 101)
    assert [True, True] == [first.is_exact(), second.is_exact()]


def test_a_shim_outside_the_jobs_tree_is_refused_and_trains_on(daemon):
    """
    Somebody copied the job's environment into another shell: that run does not
    steal the job, and is not disturbed either.
    """
    run = daemon.train("owned", hold=("step-50",))
    copy = daemon.plan("copy", steps=30)
    env = daemon.chain_env(
        copy,
        TRAINING_SUPERVISOR_SOCKET=daemon.paths.control_endpoint,
        TRAINING_SUPERVISOR_JOB="owned",
        TRAINING_SUPERVISOR_INCARNATION=1,
        TRAINING_SUPERVISOR_CHECKPOINTS=copy.folder / "c",
    )
    done = subprocess.run(CHAIN, env=env, capture_output=True, text=True, timeout=60, check=False)
    run.until_at("step-50")
    run.let_go("step-50")
    daemon.pause("owned")
    row = daemon.until("owned", "paused")

    assert 0 == done.returncode, done.stderr
    assert copy.is_exact()
    assert "does not belong to job `owned`" in refusals(daemon, "owned")[0]
    assert row.pid == run.starts[0]


def test_absurd_words_of_a_shim_are_shown_as_they_can_be(daemon):
    """
    Infinite ages, steps without end, terminal codes in names: every command
    still answers, nothing reaches the terminal raw, no pause is believed.
    """
    daemon.command("liar", PYTHON, str(ROOT / "tests/trainers/liar.py"))
    row = daemon.until("liar", lambda row: row.step == 2**63 - 1)
    said = [daemon.ctl(*words) for words in (("status", "liar"), ("show", "liar"), ("events", "liar"))]
    told = [daemon.ctl(words[0], "--json", "liar") for words in (("status",), ("show",), ("events",))]
    daemon.restart()
    after = daemon.ctl("status", "liar")

    assert "running" == row.state
    assert [0] * 3 == [each.code for each in said], said
    assert [] == [each for each in said if "\x1b" in each.out or "\u202e" in each.out]
    assert [0] * 3 == [each.code for each in told], told
    assert [] == [each.out for each in told if not json.loads(each.out)]
    assert 0 == after.code
    os.kill(row.pid, 9)


def test_shims_come_back_by_themselves(daemon):
    """
    After each restart of the daemon the job is pausable again, with the same
    process and with the steps it made meanwhile.
    """
    run = daemon.train("loyal")
    for _ in range(3):
        daemon.kill()
        daemon.start()
        before = daemon.until("loyal", lambda row: row.heartbeat_age_s is not None)
        daemon.until("loyal", lambda row, before=before: (row.step or 0) > before.step)
    daemon.pause("loyal")

    assert daemon.until("loyal", "paused").pid == run.starts[0]
