"""What people see of jobs: pure, from fixed rows, against the files in golden/cli."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from supervisor.api import Event, JobRow, ShowReply
from supervisor.cli.output.render import event_lines, progress, show_lines, status_lines, why
from supervisor.cli.output.text import (
    Column,
    cut,
    table,
    width_of,
)

GOLDEN = Path(__file__).parents[3] / "golden" / "cli"

RUNNING = JobRow(
    name="job-1",
    state="running",
    since_s=192,
    pausable=True,
    step=1200,
    num_steps=5000,
    epoch=1,
    num_epochs=10,
    steps_per_s=12.34,
    eta_s=308,
    boundary_age_s=0.1,
    heartbeat_age_s=1.0,
    cpu_pct=180.4,
    rss_bytes=1_234_000_000,
    metrics={"loss": 0.31234},
    checkpoint_step=1000,
    checkpoint_age_s=45,
    pid=4711,
    incarnation=2,
    log="/state/jobs/job-1/log",
)
PAUSED = JobRow(
    name="job-2",
    state="paused",
    depth="hold",
    since_s=7500,
    step=300,
    asked_by="anna",
    reason="the desktop is needed",
    wake_in_s=500,
    rss_bytes=900_000_000,
    checkpoint_age_s=7500,
)
LATE = JobRow(
    name="vision-long",
    state="pausing",
    depth="exit",
    since_s=101,
    step=77,
    late=True,
    stage="waiting for a batch boundary",
    boundary_age_s=94.2,
    asked_by="rule foreign-cpu",
)
FAILED = JobRow(
    name="broken",
    state="failed",
    since_s=99_000,
    problem="exit code 1",
    exit_code=1,
    restart_in_s=8,
    incarnation=1,
    log="/state/jobs/broken/log",
)
PLAIN = JobRow(name="plain", state="running", since_s=3, pausable=False)
ROWS = [RUNNING, PAUSED, LATE, FAILED, PLAIN]

SHOW = ShowReply(
    row=RUNNING,
    argv=("python", "train.py", "--name", "two words"),
    cwd="/home/anna/project",
    env_names=("HOME", "PATH"),
    restart="on-failure",
    checkpoints="/home/anna/checkpoints",
    checkpoint_path="/home/anna/checkpoints/step-000001000",
    checkpoint_digest="xxh3:0123",
    created_wall=1_700_000_000.0,
    depths=("hold", "exit"),
    every_s=600.0,
)
EVENTS = [
    Event(seq=1, wall=1_700_000_000.0, job="job-1", kind="submitted", state="queued", detail="anna"),
    Event(
        seq=2, wall=1_700_000_060.5, job="job-1", kind="process-ended", state="failed", detail="exit\ncode 1"
    ),
]


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("width", [60, 80, 200, None])
def test_the_status_table_is_as_agreed(width):
    """
    At every width a person reads name, state, step and why; columns that matter less go first.
    """
    golden = (GOLDEN / f"status-{width or 'pipe'}.txt").read_text()

    assert golden.splitlines() == status_lines(ROWS, width=width)


@pytest.mark.parametrize("width", range(1, 210))
def test_no_line_is_wider_than_the_terminal(width):
    """
    A wrapped table cannot be read, so nothing ever wraps.
    """
    lines = status_lines(ROWS, width=width)

    assert len(ROWS) + 1 == len(lines)
    assert width >= max(map(width_of, lines))


def test_colour_adds_nothing_but_colour():
    """
    Whoever has no colours reads the same table.
    """
    coloured = "\n".join(status_lines(ROWS, width=120, colour=True))

    assert "\x1b[33m" in coloured
    assert "\n".join(status_lines(ROWS, width=120)) == re.sub(r"\x1b\[\d+m", "", coloured)


def test_a_job_cannot_steer_the_terminal():
    """
    What others typed as a reason arrives as text: no escape sequence, no second line.
    """
    row = JobRow(name="job-1", state="paused", since_s=1, asked_by="eve", reason="x\x1b[2J\nerror: y\u202e")

    (_, line) = status_lines([row], width=200)

    assert "x?[2J error: y?" in line


def test_wide_letters_keep_the_table_aligned():
    """
    Letters of two columns are counted as two, combining ones as none.
    """
    rows = [("\u8a13\u7df4", "a"), ("n\u0303", "b")]
    lines = table([Column("NAME"), Column("WHY")], rows)

    assert ["NAME  WHY", "\u8a13\u7df4  a", "n\u0303     b"] == lines
    assert "\u8a13..." == cut("\u8a13\u7df4\u8a13", 5)


def test_an_unknown_state_is_shown_as_it_is():
    """
    A newer daemon may know states that this command does not.
    """
    lines = status_lines([JobRow(name="j", state="migrating", since_s=1)], colour=True)

    assert "migrating" in lines[1]


def test_show_has_all_facts():
    """
    `show` tells everything known, in sections, of the environment only names.
    """
    assert (GOLDEN / "show.txt").read_text().splitlines() == show_lines(SHOW, width=80)


def test_show_folds_what_a_narrow_terminal_cannot_hold_in_one_line():
    """
    The reason of a problem stands at its end: it is never cut off there, and no line is too wide.
    """
    why_not = "cannot pause: extra.hook: cannot store a function (keep numbers, text and tensors)"
    reply = ShowReply(row=replace(FAILED, problem=why_not), argv=("false",), cwd="/")
    lines = show_lines(reply, tail=[f"ValueError: {why_not}"], width=48)

    assert max(map(len, lines)) <= 48
    assert " ".join(" ".join(lines).split()).count(why_not) == 2


def test_show_of_a_failed_job_ends_with_its_log():
    """
    The end of the log is where the reason is.
    """
    reply = ShowReply(row=FAILED, argv=("false",), cwd="/")
    lines = show_lines(reply, tail=["Traceback", "ValueError: \x1b[31mbad\x1b[0m"])

    assert (GOLDEN / "show-failed.txt").read_text().splitlines() == lines


def test_events_are_a_line_each():
    """
    One event is one line, whatever its detail holds.
    """
    assert (GOLDEN / "events.txt").read_text().splitlines() == event_lines(EVENTS, width=80)
    assert event_lines(EVENTS)[1:] == event_lines(EVENTS, header=False)


def test_events_keep_their_details_on_sixty_columns():
    """
    Below the others and in full; the columns do not depend on the rows, and the header says where they are.
    """
    detail = "hold by rule others-first: cpu_foreign_pct 81 % > 51 % for 2 s, and it chose the text model"
    long = replace(EVENTS[0], kind="checkpoint-asked", state="resuming", detail=detail)
    plain = replace(EVENTS[0], detail="")
    lines = event_lines((long, plain), width=60)

    assert max(map(len, lines)) <= 60
    assert (["TIME", "JOB", "EVENT", "STATE"], ["DETAIL"]) == (lines[0].split(), lines[1].split())
    assert ["checkpoint-asked", "resuming"] == lines[2].split()[-2:]
    assert detail == " ".join(" ".join(lines[3:5]).split())
    assert 6 == len(lines)
    assert [long.detail in line for line in event_lines((long,), width=200)] == [False, True]


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_detail_of_an_event_is_lost(width):
    """
    2026-11-29: at 80 columns fourteen were left for it, fewer than at 60.
    """
    detail = " ".join(f"word-{number}" for number in range(60))
    long = replace(EVENTS[0], job="j" * 64, detail=detail)
    lines = event_lines((long, EVENTS[0]), width=width)

    assert width >= max(map(width_of, lines))
    assert f"{'j' * 64}" in "".join("".join(lines).split())
    assert detail in " ".join(" ".join(lines).split())


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (LATE, "no batch boundary for 94 s"),
        (JobRow(name="j", state="pausing", since_s=1, late=True), "no batch boundary yet"),
        (
            JobRow(
                name="j", state="pausing", since_s=1, stage="waiting for a batch boundary", boundary_age_s=1.2
            ),
            "waiting for a batch boundary (last one 1.2 s ago)",
        ),
        (JobRow(name="j", state="pausing", since_s=1, stage="saving", boundary_age_s=1.2), "saving"),
        (
            JobRow(name="j", state="pausing", since_s=1, late=True, stage="waiting for the training shim"),
            "waiting for the training shim",
        ),
        (JobRow(name="j", state="pausing", since_s=1, depth="exit"), "pausing (exit)"),
    ],
)
def test_progress_says_what_is_waited_for(row, text):
    """
    A person who waits sees what for, and since when.
    """
    assert text == progress(row)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"pausable": False}, "not pausable: no training shim has connected"),
        ({"pausable": True, "heartbeat_age_s": 12.0}, "no word from its shim for 12 s"),
        ({"pausable": True, "heartbeat_age_s": 9.0, "boundary_age_s": 29.0}, ""),
        ({"pausable": True, "boundary_age_s": 94.0}, "no batch boundary for 94 s"),
        ({"problem": "cannot pause: disk full", "reason": "r"}, "cannot pause: disk full; r"),
        ({"asked_by": "anna"}, "asked by anna"),
    ],
)
def test_why_answers_the_question(fields, text):
    """
    The last column says what a person would ask next.
    """
    assert text == why(JobRow(name="j", state="running", since_s=1, **fields))


def test_every_number_of_a_job_is_short_in_status_and_show():
    """
    Whatever a script reports, the table stays one that is read.
    """
    huge = dict.fromkeys(("since_s", "eta_s", "steps_per_s", "cpu_pct", "checkpoint_age_s"), 1e308)
    row = replace(RUNNING, step=2**63 - 1, epoch=2**63 - 1, metrics={"loss": 1e308}, wake_in_s=1e308, **huge)
    words = " ".join(
        [*status_lines([row]), *show_lines(ShowReply(row=row, argv=("x",), cwd="/", every_s=1e308))]
    )

    assert [] == re.findall(r"\d{14,}", words)


@pytest.mark.parametrize(
    ("said", "counted", "shown"),
    [(5, 5, "5"), (5, 0, "5, against jobs of other users 0"), (5, None, "5"), (0, 0, None)],
)
def test_show_says_what_a_priority_counts_between_users(said, counted, shown):
    """
    Only where that is something else.
    """
    reply = replace(SHOW, row=replace(SHOW.row, priority=said), counted_priority=counted)
    lines = [line.split(None, 1) for line in show_lines(reply)]

    assert shown == dict(line for line in lines if len(line) == 2).get("priority")


def test_the_priority_shows_where_some_job_has_one():
    """
    Where nobody gave one the column would say nothing.
    """
    plain = status_lines([RUNNING, PAUSED])
    ranked = status_lines([replace(RUNNING, priority=5), PAUSED])

    assert "PRIORITY" not in plain[0]
    assert "PRIORITY" in ranked[0]
    end = ranked[0].index("PRIORITY") + len("PRIORITY")
    assert ["5", "0"] == [line[:end].split()[-1] for line in ranked[1:]]
