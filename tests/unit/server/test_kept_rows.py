"""Lines that are kept: which one is still good."""

from __future__ import annotations

import pytest

from supervisor import api
from supervisor.core.jobs import apply as core
from supervisor.core.jobs.events import ProcessStarted, ResumeAsked, SpecChanged, Submitted
from supervisor.core.jobs.job import Asker, JobSpec, Pid
from supervisor.core.replacing import replace
from supervisor.server.kept_rows import KeptRows

ME = Asker("person", "me")
ROW = api.JobRow(name="j", state="queued", since_s=1.0)


@pytest.fixture
def job():
    return core.create("j", Submitted(id="x", spec=JobSpec(argv=("true",), cwd="/")), 0.0)


@pytest.fixture
def kept(job):
    rows = KeptRows()
    rows.keep(job, 10.0, ROW, is_whole=False)
    return rows


def test_a_line_is_kept_for_a_moment_for_those_who_see_as_much(kept, job):
    """
    Its ages are a second late at most, and nobody gets the line of who may see more.
    """
    assert ROW is kept.find(job, 10.9, is_whole=False)
    assert kept.find(job, 11.0, is_whole=False) is None
    assert kept.find(job, 10.0, is_whole=True) is None


def test_a_job_that_changed_has_no_line_of_before(kept, job):
    """
    At once, also before the change is stored; what is forgotten is made anew.
    """
    after, _ = core.apply(job, SpecChanged(spec=replace(job.spec, priority=3), by=ME), 10.0)
    assert kept.find(after, 10.0, is_whole=False) is None

    kept.forget("j")

    assert kept.find(job, 10.0, is_whole=False) is None


def test_the_line_of_a_process_is_made_anew_each_time(kept, job):
    """
    What it uses and where its loop is changes without its record.
    """
    started, _ = core.apply(job, ResumeAsked(request="r", by=ME, start_grace_s=10.0), 10.0)
    process = Pid(1, 2, "boot")
    running, _ = core.apply(started, ProcessStarted(incarnation=started.incarnation, process=process), 10.0)
    for one in (started, running):
        kept.keep(one, 10.0, ROW, is_whole=True)

        assert kept.find(one, 10.0, is_whole=True) is None
