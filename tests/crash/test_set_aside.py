"""What lies in the daemon's folders is odd, gone or another's: it starts, says so by name, and goes on.

Covers: files, rows, tables and folders that make no sense, a journal that was moved or vanished, run
folders that were removed, checkpoints that are gone; each on a real daemon, read in `status --json`.
Does not cover: each form of damage (tests/contract/test_journal.py, tests/property/test_files_of_people.py).

What can be damaged at once is: one start of a daemon has to bear it all.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
from contextlib import closing

import pytest

from supervisor import api
from tests.harness import CONFIG, Run, RunningDaemon, is_running, until

SLEEP = ("sleep", "1000")


@pytest.fixture
def daemon():
    with RunningDaemon() as running:
        yield running


def shown(daemon) -> dict[str, dict]:
    """Rows of `status --json` by name; what is set aside among them."""
    said = daemon.ctl("status", "--json")
    assert said.code == 0, said.err
    return {row["name"]: row for row in json.loads(said.out)}


def aside(daemon, *, kind: str = "") -> dict[str, dict]:
    rows = {name: row for name, row in shown(daemon).items() if row["state"] == "set-aside"}
    assert all(row["why"] and row["hint"] and row["where"] for row in rows.values())
    return {name: row for name, row in rows.items() if kind in ("", row["kind"])}


def job_file(daemon, name: str, text: str | bytes = "") -> None:
    text = text or f'command = {list(SLEEP)!r}\ncwd = "{daemon.work}"\n'
    data = text if isinstance(text, bytes) else text.encode()
    (daemon.paths.jobs_dir / f"{name}.toml").write_bytes(data)


def change(daemon, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(daemon.paths.journal)) as db, db:
        db.execute(statement, values)


def test_a_daemon_starts_whatever_lies_in_its_folders(daemon):
    """
    Everything odd is set aside by name, and what is good goes on beside it: jobs run, are paused, come new.
    """
    runs = {name: daemon.train(name) for name in ("good", "no-record", "odd-record", "odd-state")}
    daemon.command("odd-row", *SLEEP)
    daemon.until("odd-row", lambda row: row.pid)
    daemon.kill()
    for name in ("no-record", "odd-record"):
        record = daemon.paths.incarnation_dir(name, 1) / "process.json"
        record.unlink()
        if name == "odd-record":
            record.mkdir()
            (record.parent / "exit.json").mkdir()
    change(daemon, "UPDATE jobs SET record = 'no json' WHERE name = 'odd-row'")
    change(
        daemon, """UPDATE jobs SET record = replace(record, '"running"', '"x"') WHERE name = 'odd-state'"""
    )
    change(daemon, "INSERT INTO facts VALUES ('next_job_number', 'many'), ('starts.x', '-1')")
    change(daemon, "DROP TABLE samples")
    daemon.configure("rules = [1]\n[[rules]]\n" + "a = " + "9" * 5000)
    job_file(daemon, "from-file")
    odd = {"digits": "priority = " + "9" * 5000, "bytes": random.Random(1).randbytes(300)}
    for name, text in odd.items():
        job_file(daemon, name, text)
    os.mkfifo(daemon.paths.jobs_dir / "pipe.toml")
    (daemon.paths.jobs_dir / "folder.toml").mkdir()
    daemon.start()

    rows = aside(daemon)
    files = {"config.toml", "digits.toml", "bytes.toml", "pipe.toml", "folder.toml"}
    assert files | {"process.json", "exit.json"} == {name for name in rows if rows[name]["kind"] == "file"}
    assert {"next_job_number", "starts.x", "samples", "odd-row", "odd-state"} == set(rows) - files - {
        "process.json",
        "exit.json",
    }
    for name in ("good", "no-record", "odd-record"):
        daemon.until(name, lambda row: row.state == "running" and row.pausable)
        assert len(runs[name].starts) == 1
    assert daemon.train("another").starts
    daemon.until("from-file", lambda row: row.pid)
    # Its process still lives, so neither is it started a second time, nor is its record lost.
    refused = daemon.ctl("run", "--name", "odd-row", "--", *SLEEP)
    assert (3, True) == (refused.code, "cannot start job `odd-row`" in refused.err), refused
    assert daemon.ctl("remove", "odd-row").code == 0
    assert "odd-row" in aside(daemon, kind="process")


@pytest.mark.parametrize("folder", ["config_dir", "jobs_dir"])
def test_a_folder_of_settings_that_is_none_keeps_nobody_from_working(daemon, folder):
    """
    A file in its place: named, and the daemon has its defaults.
    """
    daemon.terminate()
    place = getattr(daemon.paths, folder)
    shutil.rmtree(place)
    place.touch()
    daemon.start()

    assert place.name in aside(daemon, kind="folder")
    daemon.command("job", "true")
    daemon.until("job", "completed")


def test_a_journal_that_is_moved_away_takes_no_run_along(daemon):
    """
    As our own hint says. A new job of an old name runs, and has its own exit code; a run that still lives
    is named with what to do, and no second one is started beside it until it is over.
    """
    daemon.command("done", "sh", "-c", "exit 3")
    daemon.until("done", "failed")
    job_file(daemon, "lives")
    pid = until(lambda: "lives" in daemon.names() and daemon.row("lives").pid)
    daemon.terminate()
    for file in daemon.paths.state_dir.glob("journal.sqlite*"):
        file.rename(file.with_name(f"old-{file.name}"))
    daemon.start()

    daemon.command("done", "sh", "-c", "touch ran; exit 4")
    row = daemon.until("done", "failed")
    assert (4, True) == (row.exit_code, (daemon.work / "ran").exists())
    rows = aside(daemon)
    assert f"kill {pid}" in rows["lives"]["hint"]
    assert "lives.toml" in rows
    assert daemon.ctl("run", "--name", "lives", "--", *SLEEP).code == 3
    assert is_running(pid)

    os.kill(pid, signal.SIGKILL)
    new = until(lambda: "lives" in daemon.names() and daemon.row("lives").pid)
    assert new != pid
    assert {} == aside(daemon)


def test_a_journal_from_a_copy_does_not_take_later_runs_for_its_own(daemon):
    """
    It does not know the last start: that one's exit code is not taken for the next one's.
    """
    daemon.command("job", "sh", "-c", "test -e second && touch third; touch second; exit 3")
    daemon.until("job", "failed")
    daemon.terminate()
    copy = daemon.paths.journal.read_bytes()
    daemon.start()
    daemon.ask(api.RestartRequest, "job")
    daemon.until("job", lambda row: row.state == "failed" and row.incarnation == 2)
    daemon.terminate()
    daemon.paths.journal.write_bytes(copy)
    (daemon.work / "third").unlink()
    daemon.start()

    daemon.ask(api.RestartRequest, "job")
    row = daemon.until("job", lambda row: row.state == "failed" and row.incarnation == 2)
    assert "holds a run that this journal does not know of" in row.problem
    assert not (daemon.work / "third").exists()
    daemon.ask(api.RestartRequest, "job")
    daemon.until("job", lambda row: row.state == "failed" and row.exit_code == 3)
    assert (daemon.work / "third").exists()


def finished(daemon, name: str, run: Run) -> api.JobRow:
    run.let_go("exit")
    return daemon.until(name, lambda row: row.state in ("completed", "failed"))


def test_run_folders_that_are_removed_end_no_run(daemon):
    """
    Under the daemon's feet and while it is away: what lives goes on, once, and its end is known as it was.
    """
    names = ("away", "away-and-ends", "beside", "keeper-too")
    runs = {name: daemon.train(name, steps=10, hold=("exit",)) for name in names}
    for run in runs.values():
        run.until_at("exit")
    shutil.rmtree(daemon.paths.state_dir / "jobs")
    beside = finished(daemon, "beside", runs["beside"])
    daemon.kill()
    shutil.rmtree(daemon.paths.state_dir / "jobs", ignore_errors=True)
    daemon.start()

    for name in ("away", "away-and-ends", "keeper-too"):
        row = daemon.row(name)
        assert (row.state, row.pid, row.incarnation) == ("running", runs[name].starts[0], 1)
    rows = [beside, *(finished(daemon, name, runs[name]) for name in ("away", "away-and-ends", "keeper-too"))]
    assert ["completed"] * 4 == [row.state for row in rows], rows
    assert [1] * 4 == [len(run.starts) for run in runs.values()]
    assert all(run.is_exact() for run in runs.values())


def test_a_journal_that_vanishes_under_a_daemon_raises_an_alarm(daemon):
    """
    What was accepted before and after it is there when the next daemon starts.
    """
    run = daemon.train("before")
    daemon.paths.state_dir.rename(daemon.home / "stolen")
    until(lambda: "journal.sqlite" in aside(daemon, kind="journal"))
    daemon.command("after", *SLEEP)
    daemon.until("after", lambda row: row.pid)
    until(lambda: "was taken away while the daemon ran" in daemon.log())
    daemon.restart()

    assert {"before", "after"} == set(daemon.names())
    daemon.until("before", "running")
    daemon.until("after", lambda row: row.pid)
    assert len(run.starts) == 1
    assert {} == aside(daemon)


def test_edits_behind_links_and_swapped_folders_are_seen(daemon):
    """
    Settings whose target changes, and a folder that is another one now, are in force without a reload.
    """
    real = daemon.home / "real.toml"
    real.write_text(CONFIG)
    daemon.paths.config_file.unlink()
    daemon.paths.config_file.symlink_to(real)
    daemon.terminate()
    daemon.start()
    real.write_text(CONFIG + "nonsense = 1\n")
    until(lambda: "config.toml" in aside(daemon))
    new = daemon.home / "new"
    (new / "jobs.d").mkdir(parents=True, mode=0o700)
    (new / "config.toml").write_text(CONFIG)
    (new / "jobs.d/swapped.toml").write_text(f'command = "true"\ncwd = "{daemon.work}"\n')
    daemon.paths.config_dir.rename(daemon.home / "old")
    new.rename(daemon.paths.config_dir)

    until(lambda: "swapped" in daemon.names())
    assert {} == aside(daemon)


def test_checkpoints_that_are_gone_have_no_age(daemon):
    """
    A removed folder ends neither saving nor pausing, and status says what is there.
    """
    run = daemon.train("job")
    daemon.pause("job")
    row = daemon.until("job", "paused")
    assert row.checkpoint_age_s is not None
    daemon.resume("job")
    daemon.until("job", "running")
    shutil.rmtree(daemon.work / "checkpoints")
    row = daemon.until("job", lambda row: row.checkpoint_age_s is None)
    assert "is gone" in row.problem
    assert row.checkpoint_step is None
    daemon.pause("job")
    row = daemon.until("job", lambda row: row.state == "paused" and row.checkpoint_age_s is not None)

    assert "" == row.problem
    assert len(run.starts) == 1
    assert "made anew" in daemon.job_log("job")


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_a_daemon_starts_whatever_lies_where_its_own_files_belong(kind):
    """
    It is kept under another name, and the jobs of the journal are there.
    """
    with RunningDaemon() as daemon:
        daemon.command("there", "true")
        daemon.until("there", "completed")
        daemon.terminate()
        journal, run = daemon.paths.journal, daemon.paths.run_dir
        ends = (".lock", ".new") if kind == "link" else (".lock", "-wal", "-shm", "-journal", ".new")
        places = [journal.with_name(f"{journal.name}{end}") for end in ends]
        places += [daemon.paths.lock, run / "control.sock", run / "events.sock"]
        for place in places:
            place.unlink(missing_ok=True)
            if kind == "folder":
                (place / "something").mkdir(parents=True)
            elif kind == "pipe":
                os.mkfifo(place)
            else:
                place.symlink_to(daemon.home)
        daemon.start()

        assert ["there"] == daemon.names()
        assert daemon.ctl("run", "--name", "new", "--", "true").code == 0
        daemon.until("new", "completed")
        assert "kept-aside" in daemon.log()
        assert kind != "folder" or (journal.with_name(f"{journal.name}.lock.aside-1") / "something").is_dir()
