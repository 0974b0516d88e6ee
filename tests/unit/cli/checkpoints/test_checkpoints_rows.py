"""What people see of checkpoints: pure, from fixed rows, against the files in golden/cli."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from supervisor.cli.checkpoints.rows import VerifiedRow, check_lines, list_lines, rows_of, show_lines
from trainer_shim.checkpoint.layout import Name
from trainer_shim.checkpoint.manifest import File, Manifest
from trainer_shim.checkpoint.retention import Keep, Known
from trainer_shim.checkpoint.survey import SeenFolder

GOLDEN = Path(__file__).parents[3] / "golden" / "cli"
ROOT = Path("/home/anna/checkpoints/job-1")
NOW = 1_700_000_000.0
KEEP = Keep(last=2, best=1, metric="val_loss", every_h=24)


def seen(step, age_s, *, again=0, suffix="", problem="", val_loss=None, **known):
    name = Name(step, again)
    manifest = Manifest(
        job="job-1",
        incarnation=1,
        step=step,
        epoch=step // 500,
        saved_at="2023-11-14T22:13:20+00:00",
        world_size=1,
        files={"rank-00000.json": File(2_700, ""), "rank-00000.safetensors": File(1_234_000_000, "")},
        versions={"python": "3.11.7", "torch": "2.13.0", "cuda": None},
        git_commit="7e4ce54",
        command=["python", "train.py", "--lr", "0.1"],
        labels={"dataset": "digits", "folds": [1, 2]},
        facts={},
    )
    metrics = {"loss": 0.31234, **({} if val_loss is None else {"val_loss": val_loss})}
    one = Known(name, saved_s=NOW - age_s, metrics=metrics, is_damaged=bool(problem), **known)
    return SeenFolder(ROOT / f"{name}{suffix}", one, problem, manifest, f"sha256:{step:064}", bool(suffix))


SEEN = [
    seen(2500, 45),
    seen(2000, 900, problem="`rank-00000.safetensors` is missing"),
    seen(1500, 3700, again=1, val_loss=0.5),
    seen(1500, 3800, val_loss=0.5),
    seen(1000, 7200, val_loss=0.25),
    seen(500, 90_000, pin="for the paper, figure 3"),
    seen(250, 260_000),
]
ASIDE = [seen(1200, 7000, suffix=".damaged")]
ROWS = rows_of(SEEN, ASIDE, KEEP, now=NOW)
CHECKED = [
    VerifiedRow(
        name="step-000002500", id="2500", good=True, size_bytes=1_234_002_700, digest="", problems=[]
    ),
    VerifiedRow(
        name="step-000002000",
        id="2000",
        good=False,
        size_bytes=1_234_002_700,
        digest="",
        problems=[
            {"file": "rank-00000.safetensors", "why": "its bytes are not those that were saved"},
            {"file": "environment.txt", "why": "No such file or directory"},
        ],
    ),
]
DETAILS = {
    "job": "job-1",
    "metrics": {"loss": 0.31234, "val_loss": "nan"},
    "labels": {"dataset": "digits", "folds": [1, 2]},
    "preprocessing": {"mean": [0.5], "size": [8, 8]},
    "versions": {"python": "3.11.7", "torch": "2.13.0", "cuda": None},
    "git_commit": "7e4ce54",
    "command": ["python", "train.py"],
    "files": {"rank-00000.safetensors": {"size_bytes": 1_234_000_000}},
}


def is_golden(name, lines):
    assert (GOLDEN / name).read_text().splitlines() == lines


@pytest.mark.parametrize("width", [60, 100, None])
def test_the_list_says_of_each_why_it_stays_or_goes(width):
    """
    Narrow terminals lose what matters less; the reason is always there.
    """
    is_golden(f"checkpoints-{width or 'pipe'}.txt", list_lines(ROWS, metric="val_loss", width=width))


@pytest.mark.parametrize("width", [30, 60, 100])
def test_nothing_of_what_is_bad_is_lost(width):
    """
    2026-11-29: at 60 columns nobody could read what is wrong with a file.
    """
    whole = "".join("".join(check_lines(CHECKED)).split())
    lines = check_lines(CHECKED, width=width)

    assert width >= max(map(len, lines))
    assert sorted(whole.replace("SIZE", "").replace("1.1GiB", "")) == sorted(
        "".join("".join(lines).split()).replace("SIZE", "").replace("1.1GiB", "")
    )


@pytest.mark.parametrize("width", [60, 100])
def test_nothing_is_wider_than_the_terminal(width):
    """
    Not even with long notes and names.
    """
    lines = [*list_lines(ROWS, width=width), *check_lines(CHECKED, width=width)]

    assert width >= max(map(len, lines))


def test_a_bad_checkpoint_names_each_bad_file():
    """
    One line for each, the good ones in one line.
    """
    is_golden("checkpoints-verify.txt", check_lines(CHECKED, width=100))


def test_show_has_all_of_it():
    """
    A person who finds it in two years knows what it is.
    """
    is_golden("checkpoints-show.txt", show_lines(ROWS[-2], DETAILS, width=80))


def test_colour_says_nothing_that_words_do_not():
    """
    Without it the same words stand there.
    """
    for coloured, plain in (
        (list_lines(ROWS, colour=True), list_lines(ROWS)),
        (check_lines(CHECKED, colour=True), check_lines(CHECKED)),
        (show_lines(ROWS[0], DETAILS, colour=True), show_lines(ROWS[0], DETAILS)),
    ):
        assert any("\x1b[" in line for line in coloured)
        assert plain == [re.sub(r"\x1b\[\d+m", "", line) for line in coloured]


def test_what_a_checkpoint_says_cannot_steer_a_terminal():
    """
    Notes, labels and metric names are anybody's.
    """
    evil = "\x1b]0;gone\x07"
    rows = rows_of([seen(1, 1, pin=evil)], [], None, now=NOW)
    details = {"labels": {evil: evil}, "metrics": {evil: evil}, "command": [evil]}

    assert "\x1b" not in "".join([*list_lines(rows), *show_lines(rows[0], details)])


def test_a_step_that_was_saved_twice_is_told_apart():
    """
    Each row can be named as it is shown.
    """
    assert ["2500", "2000", "1500.1", "1500", "1200.damaged", "1000", "500", "250"] == [
        row.id for row in ROWS
    ]


def test_what_the_shim_warned_of_is_shown():
    """
    With the other details of a checkpoint, each by its number.
    """
    lines = show_lines(ROWS[0], {"facts": {"warnings": ["`it` goes on", "`best` goes on"]}})
    begin = lines.index("Warnings of the run") + 1

    assert ["`it` goes on", "`best` goes on"] == [
        one.split(maxsplit=1)[1] for one in lines[begin : begin + 2]
    ]
