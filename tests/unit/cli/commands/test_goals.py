"""When waiting is over, and whether it was worth it: tables of rows and verdicts."""

from __future__ import annotations

import pytest

from supervisor.api import JobRow
from supervisor.cli.commands.goals import Since, is_over, judge


def row(state, **fields):
    return JobRow(name="job-1", state=state, since_s=1.0, **fields)


@pytest.mark.parametrize(
    ("goal", "seen", "expected"),
    [
        ("pause", row("pausing"), None),
        ("pause", row("starting"), None),
        ("pause", row("paused", depth="hold", checkpoint_step=1200), (True, "paused (hold) at step 1200")),
        ("pause", row("paused", depth="exit"), (True, "paused (exit)")),
        ("pause", row("completed"), (True, "completed before it came to the pause")),
        ("pause", row("failed", problem="exit code 1"), (False, "failed: exit code 1")),
        ("pause", row("running", problem="cannot pause: disk full"), (False, "cannot pause: disk full")),
        ("pause", row("resuming"), (False, "it is resuming again: the pause was called off")),
        ("resume", row("resuming"), None),
        ("resume", row("queued"), None),
        ("resume", row("running"), (True, "running")),
        ("resume", row("completed"), (True, "completed")),
        ("resume", row("paused", depth="hold"), (False, "paused (hold)")),
        ("resume", row("paused", depth="exit", asked_by="the queue"), None),
        ("resume", row("failed", problem="exit code 2"), (False, "failed: exit code 2")),
        ("stop", row("stopping"), None),
        ("stop", row("stopped", checkpoint_step=7), (True, "stopped at step 7")),
        ("stop", row("completed"), (True, "completed")),
        ("stop", row("failed"), (False, "failed")),
        ("stop", row("running", problem="cannot stop: disk full"), (False, "cannot stop: disk full")),
        ("kill", row("stopping"), None),
        ("kill", row("stopped"), (True, "stopped")),
        ("kill", row("running"), (False, "running")),
        ("completed", row("running"), None),
        ("completed", row("paused"), None),
        ("completed", row("failed", restart_in_s=3.0), None),
        ("completed", row("completed"), (True, "completed")),
        ("completed", row("failed", problem="exit code 1"), (False, "failed: exit code 1")),
        ("over", row("failed", problem="exit code 1"), (True, "failed: exit code 1")),
        ("over", row("paused"), None),
        ("paused", row("running"), None),
        ("paused", row("paused", depth="hold", step=5), (True, "paused (hold) at step 5")),
        ("paused", row("completed"), (False, "completed")),
        ("running", row("queued"), None),
        ("running", row("running"), (True, "running")),
        ("running", row("stopped"), (False, "stopped")),
    ],
)
def test_a_goal_is_judged_by_the_row(goal, seen, expected):
    """
    Each waiting command ends when its wish is met or cannot be met any more, and knows which.
    """
    assert expected == judge(goal, seen, Since())


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (row("running", incarnation=2), (False, "it still runs: the restart was called off")),
        (row("stopping", incarnation=2), None),
        (row("queued", incarnation=2), None),
        (row("running", incarnation=3), (True, "running")),
        (row("completed", incarnation=3), (True, "completed")),
        (row("completed", incarnation=2), (False, "completed")),
        (row("failed", incarnation=3, problem="exit code 1"), (False, "failed: exit code 1")),
    ],
)
def test_a_restart_is_done_when_the_next_incarnation_runs(seen, expected):
    """
    The job that still ran before the request is not taken for the new one.
    """
    assert expected == judge("restart", seen, Since(row("running", incarnation=2), 1.0))


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (row("running", checkpoint_step=100, checkpoint_age_s=30.0), None),
        (row("running", checkpoint_step=105, checkpoint_age_s=0.1), (True, "checkpoint at step 105")),
        # Begun before the request by the script's own schedule, durable only after it.
        (row("running", checkpoint_step=99, checkpoint_age_s=0.1), None),
        (row("running"), None),
        (
            row("paused", depth="hold", checkpoint_step=105, checkpoint_age_s=0.1),
            (True, "checkpoint at step 105"),
        ),
        (row("completed"), (False, "it is completed, and wrote none since the request")),
        (row("running", problem="cannot checkpoint: disk full"), (False, "cannot checkpoint: disk full")),
        (row("running", problem="an old story"), None),
    ],
)
def test_a_checkpoint_must_be_newer_than_the_request(seen, expected):
    """
    `checkpoint --wait` returns with the checkpoint that was asked for, not with an older one.
    """
    before = row("running", step=100, checkpoint_step=100, problem="an old story")

    assert expected == judge("checkpoint", seen, Since(before, 2.0))


def test_a_failed_job_that_starts_again_is_not_over():
    """
    The restart policy is part of the job's life.
    """
    assert not is_over(row("failed", restart_in_s=8.0))
    assert is_over(row("failed"))
