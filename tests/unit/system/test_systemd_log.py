"""Entries of systemd's journal: their form, and what becomes of what was logged.

Covers: text, severity, fields, counting jobs.
Does not cover: sending (tests/integration/test_journal_writer.py).
"""

from __future__ import annotations

import logging
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.jobs.states import JobState
from supervisor.service import job_counts
from supervisor.system.systemd_log import as_record, entry, is_journal

OWN = {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER"}


def read(data):
    """Read an entry as journald does; two fields of a name would be two values."""
    fields = []
    while data:
        line, _, rest = data.partition(b"\n")
        if b"=" in line:
            name, _, value = line.partition(b"=")
        else:
            (length,) = struct.unpack("<Q", rest[:8])
            name, value, rest = line, rest[8 : 8 + length], rest[8 + length + 1 :]
        fields.append((name.decode(), value.decode()))
        data = rest
    return fields


def record(level=logging.INFO, **fields):
    (text,), extra = as_record(None, "", {"text": "told", **fields})
    made = logging.LogRecord("x", level, "", 0, text, (), None)
    vars(made).update(extra["extra"])
    return made


@given(
    values=st.dictionaries(
        st.sampled_from(["job", "reason", "problem"]), st.text(st.characters(codec="utf-8"))
    )
)
def test_no_value_passes_for_another_field(values):
    """
    Whatever is in a reason, also lines that look like fields.
    """
    found = read(entry(record(**values), "a\nJOB=other"))

    assert dict(found) == {
        "MESSAGE": "a\nJOB=other", "PRIORITY": "6", "SYSLOG_IDENTIFIER": "training-supervisord",
        **{name.upper(): value for name, value in values.items()},
    }  # fmt: skip
    assert len(found) == len(dict(found))


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("job", "JOB"),
        ("message", "MESSAGE_"),
        ("_uid", "UID"),
        ("a-b", "A_B"),
        ("x" * 80, "X" * 64),
        ("9", None),
    ],
)
def test_names_are_those_that_the_journal_takes(name, field):
    """
    It would drop the whole entry, or take the value for one of its own fields.
    """
    found = dict(read(entry(record(**{name: "v"}), "told")))

    assert {field} - {None} == {one for one in found if one not in OWN}
    assert "told" == found["MESSAGE"]


@pytest.mark.parametrize(("level", "priority"), [(10, "7"), (20, "6"), (30, "4"), (40, "3"), (50, "3")])
def test_a_severity_is_the_journals(level, priority):
    """
    `journalctl -p warning` finds what it should.
    """
    assert priority == dict(read(entry(record(level), "told")))["PRIORITY"]


def test_stderr_is_the_journal_only_where_it_is_the_very_stream(tmp_path):
    """
    A job, or a shell within one, has the variable and another stderr; nobody inherits it from us.
    """
    with (tmp_path / "stream").open("wb") as stream:
        info = os.fstat(stream.fileno())
        right = {"JOURNAL_STREAM": f"{info.st_dev}:{info.st_ino}", "HOME": "/"}
        found = is_journal(right, stream.fileno())
        others = [f"{info.st_dev}:{info.st_ino + 1}", "", "nonsense", "1:2:3"]

        assert found
        assert {"HOME": "/"} == right
        assert not any(is_journal({"JOURNAL_STREAM": other}, stream.fileno()) for other in others)
        assert not is_journal({}, stream.fileno())


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ("", "jobs: none"),
        ("completed failed stopped", "jobs: none"),
        ("running paused queued running", "jobs: 2 running, 1 paused, 1 waiting"),
        ("starting pausing resuming stopping", "jobs: 4 running"),
    ],
)
def test_jobs_are_counted_by_what_people_ask(states, text):
    """
    Those that are over are nobody's question.
    """
    assert text == job_counts(map(JobState, states.split()))
