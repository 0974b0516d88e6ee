"""A job as one line of `status`: what is known, in the words and numbers that people read."""

import pytest
from msgspec.structs import replace

from supervisor.core.jobs.job import Asker, CheckpointRef, Exit, Job, JobPause, JobRun, JobSpec, JobStop, Pid
from supervisor.core.jobs.states import Depth, JobState
from supervisor.server.rows import JobView, Reading, row
from supervisor.server.shims import ShimPeer
from trainer_shim.protocol import PositionReport

NOW = 1000.0
RUN = JobRun(started_at=990.0, process=Pid(77, 1, "boot"), depths=(Depth.HOLD,))
JOB = Job(
    id="j-1", name="job-1", spec=JobSpec(argv=("x",), cwd="/"), created_at=900.0, state=JobState.RUNNING,
    since=990.0, incarnation=2, run=RUN, request="r1",
)  # fmt: skip
SHIMLESS = replace(RUN, depths=())
PAUSE = JobPause(depth=Depth.HOLD)
PAUSING = replace(JOB, state=JobState.PAUSING, pause=PAUSE)
PAUSED = replace(JOB, state=JobState.PAUSED, pause=PAUSE)
STOPPING = replace(JOB, state=JobState.STOPPING, stop=JobStop())
AT = PositionReport(step=30, num_steps=50, epoch=1, num_epochs=3)
PEER = ShimPeer(
    identity=b"x", pid=77, job="job-1", incarnation=2, rank=0, position=AT, heard_at=998.0, boundary_at=995.0,
    steps_per_s=4.0, metrics={"loss": 0.5},
)  # fmt: skip
CHECKPOINT = CheckpointRef(step=20, epoch=0, path="/c", digest="d", at=940.0)


def shown(job, *, peer=None, at=None, reading=None):
    return row(job, JobView(peer, at, reading), now=NOW, log="/log")


def saving(request="r1"):
    return ShimPeer(**(vars(PEER) | {"saving": request}))


def test_a_running_job_with_its_shim():
    """
    Where it is, how fast, when it ends, what it uses.
    """
    line = shown(JOB, peer=PEER, at=AT, reading=Reading(99.0, 4096))

    assert ("job-1", "running", 10.0, True) == (line.name, line.state, line.since_s, line.pausable)
    assert (30, 50, 1, 3, 4.0, 5.0) == (
        line.step,
        line.num_steps,
        line.epoch,
        line.num_epochs,
        line.steps_per_s,
        line.eta_s,
    )
    assert (5.0, 2.0, {"loss": 0.5}) == (line.boundary_age_s, line.heartbeat_age_s, line.metrics)
    assert (99.0, 4096, 77, "/log") == (line.cpu_pct, line.rss_bytes, line.pid, line.log)


def test_what_is_not_known_is_not_shown_as_zero():
    """
    No speed, no end; no shim, no place; no process, no use.
    """
    slow = ShimPeer(**(vars(PEER) | {"steps_per_s": None}))
    endless = shown(JOB, peer=PEER, at=PositionReport(step=3))
    gone = shown(replace(JOB, run=replace(RUN, process=None)), reading=Reading(99.0, 4096))

    assert (None, None) == (shown(JOB, peer=slow, at=AT).eta_s, endless.eta_s)
    assert (None, None, None) == (gone.step, gone.cpu_pct, gone.rss_bytes)


def test_a_held_job_has_no_speed():
    """
    What it did before it was paused says nothing about when it ends.
    """
    line = shown(PAUSED, peer=PEER, at=AT)

    assert (None, None, 30) == (line.steps_per_s, line.eta_s, line.step)


def test_without_a_shim_the_place_is_where_it_was_last_heard_or_saved():
    """
    Rather an old place than none.
    """
    job = replace(JOB, checkpoint=CHECKPOINT)

    assert (30, None) == (shown(job, at=AT).step, shown(job, at=AT).heartbeat_age_s)
    assert (20, 60.0, 20) == (shown(job).step, shown(job).checkpoint_age_s, shown(job).checkpoint_step)


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.FAILED])
def test_a_job_that_ended_unheard_is_not_shown_at_its_last_checkpoint(state):
    """
    It ended while no daemon was there: where is not known, and the checkpoint lies before it.
    """
    ended = shown(replace(JOB, state=state, run=None, checkpoint=CHECKPOINT))

    assert (None, None, 20) == (ended.step, ended.epoch, ended.checkpoint_step)


@pytest.mark.parametrize(
    ("run", "expected"),
    [(RUN, True), (SHIMLESS, False), (replace(SHIMLESS, start_grace_at=1010.0), None), (None, None)],
)
def test_pausable_is_yes_no_or_not_known_yet(run, expected):
    """
    While a job starts, its shim may still be on its way.
    """
    assert expected is shown(replace(JOB, run=run)).pausable


@pytest.mark.parametrize(
    ("job", "peer", "stage"),
    [
        (PAUSING, PEER, "waiting for a batch boundary"),
        (PAUSING, None, "waiting for the training shim to connect"),
        (
            replace(PAUSING, run=replace(SHIMLESS, start_grace_at=1057.0)),
            None,
            (
                "waiting for the training shim to connect; "
                "without one the pause is called off in 57 s, and it runs on"
            ),
        ),
        (PAUSING, saving(), "saving"),
        (
            replace(PAUSING, run=replace(RUN, yielded=True)),
            saving(),
            "checkpoint is durable, waiting for the process to end",
        ),
        (STOPPING, PEER, "waiting for a batch boundary"),
        (STOPPING, saving(), "saving"),
        (replace(STOPPING, run=SHIMLESS), None, "waiting for the process to end"),
        (replace(STOPPING, run=replace(RUN, insisted="KILL")), PEER, "waiting for the process to end"),
        (replace(JOB, state=JobState.STARTING), None, "waiting for the training shim to connect"),
        (replace(JOB, state=JobState.RESUMING), PEER, ""),
        (JOB, PEER, ""),
        (JOB, saving(), "saving"),
        (PAUSED, None, ""),
    ],
)
def test_the_stage_says_what_is_waited_for(job, peer, stage):
    """
    A pause that takes long has a reason that can be read.
    """
    assert stage == shown(job, peer=peer).stage


def test_who_asked_until_when_and_how_it_ended():
    """
    A rule is told from a person; moments are told as durations, never below zero.
    """
    pause = JobPause(
        depth=Depth.EXIT,
        by=Asker("rule", "busy"),
        reason="cpu 80 %",
        wake_at=1010.0,
        late=True,
    )
    paused = replace(PAUSED, pause=pause)
    failed = replace(JOB, state=JobState.FAILED, exit=Exit(code=3), restart_at=999.0, problem="exit code 3")

    line = shown(paused)
    assert ("exit", "rule busy", "cpu 80 %", 10.0, True, None) == (
        line.depth,
        line.asked_by,
        line.reason,
        line.wake_in_s,
        line.late,
        line.restart_in_s,
    )
    assert 0.0 == shown(replace(paused, pause=replace(pause, wake_at=NOW - 1))).wake_in_s
    line = shown(failed)
    assert (3, None, 0.0, "exit code 3", "") == (
        line.exit_code,
        line.exit_signal,
        line.restart_in_s,
        line.problem,
        line.asked_by,
    )
    assert 9 == shown(replace(failed, exit=Exit(signal=9))).exit_signal


def test_the_cpu_of_a_job_that_has_just_come_to_rest_is_not_that_of_before():
    """
    A held job that shows 120 % would look as if it did not hold.
    """
    held = replace(PAUSED, since=100.0)

    assert None is shown(held, reading=Reading(99.0, 4096, 100.4)).cpu_pct
    assert 4096 == shown(held, reading=Reading(99.0, 4096, 100.4)).rss_bytes
    assert 0.3 == shown(held, reading=Reading(0.3, 4096, 101.4)).cpu_pct


def test_a_checkpoint_that_is_gone_has_no_age():
    """
    Nobody is to count on files that somebody removed.
    """
    job = replace(JOB, checkpoint=CHECKPOINT)
    gone = row(job, JobView(None, None, None, is_gone=True), now=NOW, log="/log")
    there = row(job, JobView(None, None, None), now=NOW, log="/log")

    assert (None, None, "its checkpoint `/c` is gone") == (
        gone.checkpoint_step,
        gone.checkpoint_age_s,
        gone.problem,
    )
    assert (20, 60.0, "") == (there.checkpoint_step, there.checkpoint_age_s, there.problem)
