"""What readers ask of a job, whatever its state is, and the words for who and how."""

import pytest
from msgspec.structs import replace

from supervisor.core.jobs.job import Asker, Exit, Job, JobPause, JobRun, JobSpec, JobStop, Pid
from supervisor.core.jobs.states import FINAL, Depth, JobState

JOB = Job(
    id="j-1", name="night", spec=JobSpec(argv=("x",), cwd="/"), created_at=0.0, state=JobState.QUEUED,
    since=20.0,
)  # fmt: skip
ADA, RULE = Asker("person", "ada"), Asker("rule", "cpu")


@pytest.mark.parametrize(
    ("ended", "text"),
    [
        (Exit(code=75), "exit code 75"),
        (Exit(code=0), "exit code 0"),
        (Exit(code=143), "exit code 143, as after SIGTERM"),
        (Exit(code=137), "exit code 137, as after SIGKILL"),
        (Exit(code=200), "exit code 200"),
        (Exit(signal=9), "killed by signal 9"),
        (Exit(error="no such file"), "no such file"),
        (Exit(signal=9, memory_limit_bytes=8 << 30), "ended by the kernel: more memory than its 8.0 GiB"),
        (Exit(signal=9, memory_limit_bytes=0), "ended by the kernel: no memory was left around it"),
        (
            Exit(code=1, memory_limit_bytes=8 << 30),
            "exit code 1; the kernel ended a process of it: more memory than its 8.0 GiB",
        ),
    ],
)
def test_how_it_ended_is_said_in_words(ended, text):
    """
    A code, a signal, or why there is neither.
    """
    assert text == str(ended)


def test_who_asked_is_said_in_words():
    """
    The queue makes room as a rule does, and is called by its own name.
    """
    assert ["ada", "rule cpu", "the queue"] == [str(ADA), str(RULE), str(Asker("rule", "queue"))]


@pytest.mark.parametrize("state", JobState)
def test_a_job_is_over_where_nothing_is_planned(state):
    """
    One that failed and starts again in a minute is not.
    """
    job = replace(JOB, state=state)

    assert (state in FINAL) is job.is_over
    assert not replace(job, restart_at=80.0).is_over


def test_a_job_without_a_process_and_a_wish_has_none_of_what_belongs_to_them():
    """
    Nobody who asks has to look at the state first.
    """
    assert not JOB.alive
    assert [None, None, None] == [JOB.process, JOB.start_grace_at, JOB.asked_by]
    assert ((), False, False) == (JOB.depths, JOB.is_ending, JOB.yielded)
    assert (None, None, False, None) == (JOB.depth, JOB.frozen_at, JOB.late, JOB.wake_at)


def test_a_job_with_a_process_and_a_pause_tells_theirs():
    """
    As they stand in the two records.
    """
    run = JobRun(
        started_at=21.0, process=Pid(7, 1, "boot"), depths=(Depth.HOLD,), start_grace_at=90.0,
        insisted="TERM",
    )  # fmt: skip
    pause = JobPause(depth=Depth.HOLD, by=ADA, frozen_at=44.0, late=True, wake_at=99.0)
    job = replace(JOB, state=JobState.PAUSING, run=run, pause=pause)

    assert job.alive
    assert [Pid(7, 1, "boot"), 90.0, ADA] == [job.process, job.start_grace_at, job.asked_by]
    assert ((Depth.HOLD,), True, False) == (job.depths, job.is_ending, job.yielded)
    assert replace(job, run=replace(run, yielded=True)).yielded
    assert (Depth.HOLD, 44.0, True, 99.0) == (job.depth, job.frozen_at, job.late, job.wake_at)


def test_who_wants_a_stop_is_told_like_who_wants_a_pause():
    """
    A pause that is under way comes first.
    """
    assert RULE is replace(JOB, stop=JobStop(by=RULE)).asked_by
    assert ADA is replace(JOB, stop=JobStop(by=RULE), pause=JobPause(depth=Depth.HOLD, by=ADA)).asked_by
