"""What the engine relies on. Runs against every journal, the fake included.

Covers: order, all or nothing, nothing before `committed()`, paging, facts; of
the real one also kill -9, a full disk, files it must refuse, and the file that
version 1 wrote.
Does not cover: what the events mean (tests/property/test_journal_engine.py).
"""

import json
import os
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from msgspec.structs import replace

from supervisor.core.jobs import apply as core
from supervisor.core.jobs.events import CheckpointReported, JobEvent, PauseReached, Removed, Submitted
from supervisor.core.jobs.job import Asker, JobSpec, Owner
from supervisor.core.jobs.states import JobState
from supervisor.errors import SupervisorError
from supervisor.ports import Batch, JournalRow, Unreadable
from supervisor.store.journal import SqliteJournal
from supervisor.store.migrate import migrate, migrations
from tests.fakes.journal import FakeDisk, FakeJournal

GOLDEN = Path(__file__).parents[1] / "golden/journal_v1.sqlite"
GOLDEN_3 = Path(__file__).parents[1] / "golden/journal_v3"
GUARD_S = 60.0
SPEC = JobSpec(argv=("python", "train.py"), cwd="/work", env={"LANG": "de_DE", "NAME": "\u00e4"})


FAR = b'{"pid":' + b"9" * 30 + b',"start_ticks":1,"boot_id":"x"}'
GOOD = b'{"id":"j-job-2","name":"job-2","spec":{"argv":["x"],"cwd":"/"},"created_at":1.0,"state":"queued"}'


def row(seq, job="job-1", state=JobState.QUEUED, *, removed=False, wall=None, at=None):
    submitted = Submitted(id=f"j-{job}", spec=SPEC)
    after = replace(core.create(job, submitted, 1.0 / 3), state=state, since=seq + 0.1)
    return JournalRow(
        seq=seq,
        job=job,
        at=seq / 7 if at is None else at,
        wall=100.0 + seq if wall is None else wall,
        event=Removed(by=Asker("person", "ada")) if removed else submitted,
        after=None if removed else after,
    )


def damaged(path, damage):
    """Put something else where the journal is to be."""
    if damage == "folder":
        path.mkdir()
    elif damage == "pipe":
        os.mkfifo(path)
    elif damage == "link":
        path.symlink_to(path)
    elif damage == "other tables":
        with closing(sqlite3.connect(path)) as db:
            db.executescript("CREATE TABLE jobs (x); PRAGMA user_version = 2;")
    elif damage == "cut":
        SqliteJournal(path).close()
        path.write_bytes(path.read_bytes()[:6000])
    else:
        path.write_bytes({"words": b"this is no database\n" * 100, "zeros": b"\0" * 5000}[damage])


def wait_for(journal, claim):
    """Wait for a claim about the journal, by its descriptor."""
    while not claim():
        ready, _, _ = select.select([journal], [], [], GUARD_S)
        assert ready, f"nothing happened within {GUARD_S} s; the problem is: {journal.problem()!r}"
        journal.acknowledge()


class FakeWorld:
    def __init__(self, _folder):
        self.disk = FakeDisk()

    def open(self):
        return FakeJournal(self.disk)

    def store(self, journal, *batches):
        for batch in batches:
            journal.append(batch)
        journal.write()


class RealWorld:
    def __init__(self, folder):
        self.path = folder / "journal.sqlite"

    def open(self):
        return SqliteJournal(self.path)

    def store(self, journal, *batches):
        for batch in batches:
            journal.append(batch)
        wait_for(journal, lambda: journal.committed() == batches[-1].number)


@pytest.fixture(params=[RealWorld, FakeWorld], ids=["real", "fake"])
def world(request, tmp_path):
    return request.param(tmp_path)


@pytest.fixture
def journal(world):
    journal = world.open()
    yield journal
    journal.close()


class TestEveryJournal:
    def test_a_new_one_is_empty(self, journal):
        """
        A first start has no jobs, no facts and no events.
        """
        assert ([], {}, 0, 0, "") == (
            journal.jobs(),
            journal.facts(),
            journal.last_seq(),
            journal.committed(),
            journal.problem(),
        )
        assert [] == journal.history(after_seq=-1, job=None, limit=10)

    def test_what_was_stored_is_read_back_to_the_bit(self, world):
        """
        Jobs, events, times and facts come back as they were given, also in the next life.
        """
        first = row(1)
        for life in (1, 2):
            journal = world.open()
            if life == 1:
                world.store(journal, Batch(1, (first,), {"next_job_number": "2"}))
            (stored,) = journal.history(after_seq=0, job=None, limit=10)
            found = journal.jobs(), journal.facts(), journal.last_seq()
            journal.close()

            assert ([first.after], {"next_job_number": "2"}, 1) == found
            assert (first.event, first.at, first.wall, "queued") == (
                stored.event,
                stored.at,
                stored.wall,
                stored.state,
            )

    def test_the_newest_record_of_a_job_counts_and_a_removed_one_is_gone(self, world, journal):
        """
        Events stay readable when their job is removed.
        """
        rows = (row(1), row(2, state=JobState.RUNNING), row(3, "job-2"), row(4, "job-2", removed=True))
        world.store(journal, Batch(1, rows))

        assert [JobState.RUNNING] == [job.state for job in journal.jobs()]
        assert ["queued", "removed"] == [
            one.state for one in journal.history(after_seq=0, job="job-2", limit=9)
        ]

    def test_facts_are_replaced_by_name(self, world, journal):
        """
        The later value counts; others stay.
        """
        world.store(journal, Batch(1, (), {"a": "1", "b": "1"}), Batch(2, (), {"a": "2"}))

        assert {"a": "2", "b": "1"} == journal.facts()

    def test_history_is_paged_forwards_and_read_from_the_end(self, world, journal):
        """
        Whoever follows reads on from the last number; whoever looks sees the newest.
        """
        world.store(journal, Batch(1, tuple(row(seq, f"job-{seq % 2}") for seq in range(1, 8))))

        def seqs(**query):
            return [one.seq for one in journal.history(**{"after_seq": 0, "job": None, "limit": 100} | query)]

        assert [1, 2, 3] == seqs(limit=3)
        assert [4, 5, 6] == seqs(after_seq=3, limit=3)
        assert [] == seqs(after_seq=7)
        assert [5, 6, 7] == seqs(after_seq=-1, limit=3)
        assert [3, 5, 7] == seqs(after_seq=-1, job="job-1", limit=3)
        assert [2, 4] == seqs(job="job-0", limit=2)

    def test_the_history_of_one_users_jobs(self, world, journal):
        """
        Of what others may not even know nothing is read: neither jobs of ours nor of users called nearly so.
        """
        keys = ("night", "ada/night", "ada", "adam/night", "ada-b/night", "bob/night", "ada/day")
        world.store(journal, Batch(1, tuple(row(seq, key) for seq, key in enumerate(keys * 2, 1))))

        def jobs(**query):
            found = journal.history(**{"after_seq": 0, "job": None, "limit": 100, "user": "ada"} | query)
            return [(one.seq, one.job) for one in found]

        assert [(2, "ada/night"), (7, "ada/day"), (9, "ada/night"), (14, "ada/day")] == jobs()
        assert [(9, "ada/night"), (14, "ada/day")] == jobs(after_seq=-1, limit=2)
        assert [(14, "ada/day")] == jobs(after_seq=9)
        assert [] == jobs(job="bob/night")
        assert [(2, "ada/night"), (9, "ada/night")] == jobs(job="ada/night")

    def test_a_job_of_another_user_is_read_back(self, world, journal):
        """
        With its user by number and name, and by its key.
        """
        spec = replace(SPEC, owner=Owner(1000, "ada"), user="ada")
        job = core.create("ada/night", Submitted(id="j-1", spec=spec), 1.0)
        stored = JournalRow(
            seq=1, job=job.name, at=1.0, wall=1.0, event=Submitted(id="j-1", spec=spec), after=job
        )
        world.store(journal, Batch(1, (stored,)))

        (found,) = journal.jobs()
        assert ("ada/night", Owner(1000, "ada")) == (found.name, found.spec.owner)

    def test_batches_are_committed_in_their_order(self, world, journal):
        """
        When a batch is safe, all before it are.
        """
        world.store(journal, *(Batch(number, (row(number),)) for number in range(1, 31)))

        assert list(range(1, 31)) == [one.seq for one in journal.history(after_seq=0, job=None, limit=99)]
        assert 30 == journal.committed()

    def test_the_descriptor_is_quiet_until_something_is_stored(self, world, journal):
        """
        The loop sleeps on it.
        """
        before = select.select([journal], [], [], 0)[0]
        world.store(journal, Batch(1, (row(1),)))
        journal.acknowledge()
        journal.acknowledge()

        assert ([], []) == (before, select.select([journal], [], [], 0)[0])

    def test_close_stores_what_was_taken(self, world):
        """
        An orderly end forgets nothing.
        """
        journal = world.open()
        journal.append(Batch(1, (row(1),)))
        journal.close()
        again = world.open()
        try:
            assert ["job-1"] == [job.name for job in again.jobs()]
        finally:
            again.close()


class TestFakeJournal:
    def test_nothing_is_visible_before_it_is_committed(self):
        """
        A daemon that is killed between `append` and the flush has stored nothing.
        """
        world = FakeWorld(None)
        journal = world.open()
        journal.append(Batch(1, (row(1),), {"a": "1"}))

        assert ([], {}, 0) == (journal.jobs(), journal.facts(), journal.committed())
        assert 0 == world.open().last_seq()

    def test_a_full_disk_is_a_problem_until_there_is_room(self):
        """
        As on the real one: told, and tried again.
        """
        world = FakeWorld(None)
        journal = world.open()
        world.disk.failure = "disk full"
        world.store(journal, Batch(1, (row(1),)))
        told = journal.problem(), journal.committed()
        world.disk.failure = ""
        journal.write()

        assert (("disk full", 0), ("", 1)) == (told, (journal.problem(), journal.committed()))


class TestSqliteJournal:
    def test_a_batch_is_stored_whole_or_not_at_all(self, tmp_path):
        """
        A batch with one bad row leaves nothing of itself behind, whoever looks.
        """
        journal = SqliteJournal(tmp_path / "journal.sqlite")
        journal.append(Batch(1, (row(1),), {"a": "1"}))
        # The number 1 is taken, so the second batch fails at its last row.
        journal.append(Batch(2, (row(2, "job-2"), row(1, "job-3")), {"a": "2"}))
        wait_for(journal, lambda: journal.problem() != "")

        assert "cannot write the journal" in journal.problem()
        assert {(("job-1",), "1"), ((), None)} >= {
            (tuple(job.name for job in journal.jobs()), journal.facts().get("a"))
        }
        journal.close()

    def test_only_its_owner_can_read_it(self, tmp_path):
        """
        It holds the environments of the jobs.
        """
        path = tmp_path / "journal.sqlite"
        SqliteJournal(path).close()

        assert 0o600 == path.stat().st_mode & 0o777

    def test_it_survives_a_kill_at_any_moment(self, tmp_path):
        """
        What was reported as committed is there after kill -9; what came after is there in
        order and without gaps, or not at all.
        """
        path = tmp_path / "journal.sqlite"
        writer = subprocess.Popen(
            [sys.executable, __file__, str(path)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": "."},
        )
        try:
            committed = 0
            for line in writer.stdout:
                committed = int(line)
                if committed >= 50:
                    break
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.stdout.close()
            writer.wait()
        journal = SqliteJournal(path)
        seqs = [one.seq for one in journal.history(after_seq=0, job=None, limit=10**6)]
        (job,) = journal.jobs()
        journal.close()

        assert committed >= 50
        assert list(range(1, len(seqs) + 1)) == seqs
        assert len(seqs) >= committed
        assert seqs[-1] + 0.1 == job.since

    def test_events_of_jobs_removed_long_ago_are_forgotten(self, tmp_path):
        """
        After 30 days of the steady clock, looked at when something happens, once a day; events of jobs that
        are still there stay for ever. A wall clock that is wrong for a day costs nothing.
        """
        day = 86400.0
        told = [
            (row(1, "gone", wall=9e9), row(2, "here"), row(3, "gone", removed=True)),
            (row(4, "here", at=29 * day), row(5, "here", at=29 * day, wall=9e9)),
            (row(6, "here", at=29.9 * day), row(7, "here", at=31 * day)),
        ]
        journal = SqliteJournal(tmp_path / "journal.sqlite")
        kept = []
        for number, rows in enumerate(told, 1):
            journal.append(Batch(number, rows))
            wait_for(journal, lambda number=number: journal.committed() == number)
            kept.append([one.seq for one in journal.history(after_seq=0, job=None, limit=9)])
        journal.close()

        assert [[1, 2, 3], [1, 2, 3, 4, 5], [2, 4, 5, 6, 7]] == kept

    def test_a_close_on_a_failing_disk_stores_no_later_batch_without_an_earlier_one(self, tmp_path):
        """
        2026-11: closing gave up the batch that failed and then stored the ones behind it,
        so the events no longer led to the jobs.
        """
        journal = SqliteJournal(tmp_path / "journal.sqlite")
        journal.append(Batch(1, (row(1),)))
        wait_for(journal, lambda: journal.committed() == 1)
        journal.append(Batch(2, (row(1),)))
        wait_for(journal, lambda: journal.problem() != "")
        journal.append(Batch(3, (row(3),)))
        journal.close()
        again = SqliteJournal(tmp_path / "journal.sqlite")
        seqs = [one.seq for one in again.history(after_seq=0, job=None, limit=9)]
        again.close()

        assert [1] == seqs

    def test_a_full_disk_is_told_and_waited_out(self, tmp_path, small_disk):
        """
        Nothing is lost and nothing is out of order: as soon as there is room it is stored.
        """
        journal = SqliteJournal(small_disk / "journal.sqlite")
        (small_disk / "ballast").write_bytes(bytes(_free(small_disk)))
        big = JobSpec(argv=("x" * 1_000_000,), cwd="/")
        huge = row(1)
        huge = replace(huge, after=replace(huge.after, spec=big))
        journal.append(Batch(1, (huge,)))
        journal.append(Batch(2, (row(2),)))
        wait_for(journal, lambda: journal.problem() != "")
        told, stored = journal.problem(), journal.committed()
        (small_disk / "ballast").unlink()
        wait_for(journal, lambda: journal.committed() == 2)

        assert "full" in told
        assert str(small_disk) in told
        assert (0, "") == (stored, journal.problem())
        assert [1, 2] == [one.seq for one in journal.history(after_seq=0, job=None, limit=9)]
        journal.close()

    @pytest.mark.parametrize("damage", ["words", "zeros", "cut", "other tables", "folder", "pipe", "link"])
    def test_a_file_that_is_no_journal_is_put_aside(self, tmp_path, damage):
        """
        It is kept under another name and told; a new one is begun, so the daemon starts.
        """
        path = tmp_path / "journal.sqlite"
        damaged(path, damage)
        before = path.read_bytes() if path.is_file() else b""
        journal = SqliteJournal(path)
        journal.append(Batch(1, (row(1),)))
        wait_for(journal, lambda: journal.committed() == 1)
        [aside] = journal.aside()

        assert ("journal", "journal.sqlite", f"{path}.aside-1") == (aside.kind, aside.name, aside.where)
        assert str(path) in aside.why
        assert aside.hint
        assert damage not in ("words", "zeros", "cut") or before == Path(aside.where).read_bytes()
        assert ["job-1"] == [job.name for job in journal.jobs()]
        journal.close()

    @pytest.mark.parametrize("table", ["jobs", "facts", "events", "samples"])
    def test_a_table_that_is_gone_is_made_anew(self, tmp_path, table):
        """
        What the others have is still there, and status names the one that is empty.
        """
        path = tmp_path / "journal.sqlite"
        with closing(SqliteJournal(path)) as journal:
            journal.append(Batch(1, (row(1), row(2)), {"some": "thing"}))
        with closing(sqlite3.connect(path)) as db:
            db.execute(f"DROP TABLE {table}")
        journal = SqliteJournal(path)
        journal.append(Batch(1, (row(3),), {"more": "of it"}))
        wait_for(journal, lambda: journal.committed() == 1)

        assert [table] == [aside.name for aside in journal.aside()]
        assert ("some" in journal.facts()) == (table != "facts")
        assert ([3] if table == "events" else [1, 2, 3]) == [
            one.seq for one in journal.history(after_seq=0, job=None, limit=9)
        ]
        journal.close()

    @pytest.mark.parametrize(
        "record",
        [
            b"", b"no json", b"\xff\xfe", b"[" * 100_000, b"{}", b"null",
            GOOD.replace(b'"queued"', b'"nowhere"'), GOOD.replace(b'"job-2"', b'"../../job-2"'),
            GOOD[:-1] + b',"incarnation":-1}', GOOD[:-1] + b',"incarnation":' + b"9" * 30 + b"}",
            GOOD[:-1] + b',"run":{"started_at":1.0,"process":' + FAR + b"}}",
            GOOD.replace(b"j-job-2", b"j-job-3"),
        ],
    )  # fmt: skip
    def test_a_job_that_cannot_be_read_concerns_itself_alone(self, tmp_path, record):
        """
        It stays in the file, the others are taken up.
        """
        path = tmp_path / "journal.sqlite"
        with closing(SqliteJournal(path)) as journal:
            journal.append(Batch(1, (row(1), row(2, job="job-2"), row(3, job="job-3"))))
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE jobs SET record = CAST(? AS TEXT) WHERE name = 'job-2'", (record,))
            db.execute("UPDATE events SET event = CAST(? AS TEXT) WHERE job = 'job-2'", (record,))
        with closing(SqliteJournal(path)) as journal:
            assert ["job-1", "job-3"] == [job.name for job in journal.jobs()]
            assert ["job-2"] == list(journal.unreadable())
            kinds = [type(one.event) for one in journal.history(after_seq=0, job=None, limit=9)]
            assert [Submitted, Unreadable, Submitted] == kinds
        with closing(sqlite3.connect(path)) as db:
            [(kept,)] = db.execute("SELECT CAST(record AS BLOB) FROM jobs WHERE name = 'job-2'")
        assert record == kept

    @pytest.mark.parametrize("name", ["next_job_number", "starts.job-1", "clock.offset_s"])
    @pytest.mark.parametrize("value", ["", "many", "nan", "9" * 5000, "-1e300"])
    def test_a_fact_that_makes_no_sense_is_put_aside(self, tmp_path, name, value):
        """
        Whoever needs it goes on as if it had never been written.
        """
        path = tmp_path / "journal.sqlite"
        with closing(SqliteJournal(path)) as journal:
            journal.append(Batch(1, (), {"good": "1", name: value}))
        with closing(SqliteJournal(path)) as journal:
            assert {"good": "1"} == journal.facts()
            assert [name] == [aside.name for aside in journal.aside()]

    @pytest.mark.parametrize("how", ["removed", "moved", "replaced", "folder removed"])
    def test_a_file_that_is_taken_away_is_written_anew(self, tmp_path, how):
        """
        What was accepted before and after is in the new one, and it is told.
        """
        path = tmp_path / "state/journal.sqlite"
        path.parent.mkdir()
        journal = SqliteJournal(path)
        journal.append(Batch(1, (row(1),)))
        wait_for(journal, lambda: journal.committed() == 1)
        if how == "folder removed":
            path.parent.rename(tmp_path / "old")
        else:
            path.rename(tmp_path / "old")
        if how == "replaced":
            path.write_text("something else")
        journal.look()
        wait_for(journal, journal.aside)
        journal.append(Batch(2, (row(2),)))
        wait_for(journal, lambda: journal.committed() == 2)
        seen = journal.history(after_seq=0, job=None, limit=9)
        [aside] = journal.aside()
        with pytest.raises(SupervisorError, match="another daemon"):
            SqliteJournal(path)
        journal.close()

        with closing(SqliteJournal(path)) as journal:
            assert seen == journal.history(after_seq=0, job=None, limit=9)
            assert [1, 2] == [one.seq for one in seen]
            assert ["job-1"] == [job.name for job in journal.jobs()]
        assert "taken away" in aside.why
        assert how != "replaced" or "something else" == path.with_name("journal.sqlite.aside-1").read_text()

    def test_a_link_in_the_place_of_its_lock_is_kept_aside(self, tmp_path):
        """
        It means nothing; what it leads to keeps its contents.
        """
        (tmp_path / "precious").write_text("a week of work")
        (tmp_path / "journal.sqlite.lock").symlink_to("precious")
        SqliteJournal(tmp_path / "journal.sqlite").close()

        assert "a week of work" == (tmp_path / "journal.sqlite.lock.aside-1").read_text()

    @pytest.mark.parametrize("name", ["journal.sqlite", "journal.sqlite-wal"])
    def test_nothing_is_written_through_a_link(self, tmp_path, name):
        """
        What lies in the place of one of its files is named, and keeps its contents.
        """
        (tmp_path / "precious").write_text("a week of work")
        (tmp_path / name).symlink_to("precious")
        with pytest.raises(
            SupervisorError, match=rf"cannot open the journal .*{name}` is a link, not a file"
        ):
            SqliteJournal(tmp_path / "journal.sqlite")

        assert "a week of work" == (tmp_path / "precious").read_text()

    def test_it_has_one_owner_at_a_time(self, tmp_path):
        """
        A daemon without XDG_RUNTIME_DIR has another run folder and lock, but the same journal.
        """
        path = tmp_path / "journal.sqlite"
        first = SqliteJournal(path)
        with pytest.raises(SupervisorError, match="another daemon uses it"):
            SqliteJournal(path)
        first.close()
        SqliteJournal(path).close()

    def test_a_batch_that_cannot_be_written_is_told(self, tmp_path):
        """
        Whatever the reason: a writer that ends silently would keep every request waiting.
        """
        journal = SqliteJournal(tmp_path / "journal.sqlite")
        journal.append(Batch(1, (row(1, job="caf\udce9"),)))
        wait_for(journal, journal.problem)

        assert "surrogates not allowed" in journal.problem()
        journal.close()

    def test_a_journal_of_a_newer_version_is_refused_untouched(self, tmp_path):
        """
        An older daemon must not guess what a newer one wrote.
        """
        path = tmp_path / "journal.sqlite"
        SqliteJournal(path).close()
        with sqlite3.connect(path) as db:
            db.execute(f"PRAGMA user_version = {len(migrations()) + 1}")
        db.close()

        with pytest.raises(SupervisorError, match="written by a newer version") as caught:
            SqliteJournal(path)
        assert "upgrade" in caught.value.hint

    def test_a_job_is_found_by_its_owner_and_its_name(self, tmp_path):
        """
        Its row is its id's; whose it is follows its record.
        """
        path = tmp_path / "journal.sqlite"
        first, later = row(1), row(2)
        later = replace(later, after=replace(later.after, spec=replace(SPEC, user="ada")))
        with closing(SqliteJournal(path)) as journal:
            journal.append(Batch(1, (first, later, row(3, job="job-2"))))
        with closing(sqlite3.connect(path)) as db:
            found = db.execute("SELECT id, owner, name FROM jobs ORDER BY owner DESC").fetchall()

        assert [("j-job-1", "ada", "job-1"), ("j-job-2", "", "job-2")] == found

    def test_a_migration_that_fails_leaves_the_version_before(self, tmp_path, monkeypatch):
        """
        Each is applied whole or not at all, so it can be tried again.
        """
        db = sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)
        monkeypatch.setattr(
            "supervisor.store.migrate.migrations",
            lambda: [*migrations(), "CREATE TABLE x (a); SELECT nonsense;"],
        )
        with pytest.raises(sqlite3.OperationalError):
            migrate(db, "journal.sqlite")
        db.rollback()
        names = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        version = db.execute("PRAGMA user_version").fetchone()
        db.close()

        assert (len(migrations()),) == version
        assert "jobs" in names
        assert "x" not in names

    def test_migrating_twice_is_migrating_once(self, tmp_path):
        """
        A file that is up to date is left alone, and all ways to a schema give the same.
        """
        schemas = []
        db = sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)
        for _ in range(2):
            migrate(db, "journal.sqlite")
            schemas.append(db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall())
        db.close()
        golden = sqlite3.connect(f"file:{GOLDEN}?mode=ro&immutable=1", uri=True)
        old = golden.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
        version = golden.execute("PRAGMA user_version").fetchone()
        golden.close()

        assert schemas[0] == schemas[1]
        if version == (len(migrations()),):
            assert schemas[0] == old

    def test_the_file_that_version_1_wrote_stays_readable(self, tmp_path):
        """
        For ever: jobs with all their fields and every kind of event. Never edit the golden
        file; a new schema adds another beside it.
        """
        path = tmp_path / "journal.sqlite"
        shutil.copyfile(GOLDEN, path)
        journal = SqliteJournal(path)
        stored = journal.history(after_seq=0, job=None, limit=1000)
        jobs = {job.name: job for job in journal.jobs()}
        facts = journal.facts()
        journal.close()
        kinds = {type(one.event) for one in stored}

        assert set(get_args(JobEvent)) >= kinds
        assert 16 == len(kinds)
        assert {"held": JobState.PAUSED, "left": JobState.PAUSED, "failing": JobState.FAILED} == {
            name: job.state for name, job in jobs.items()
        }
        assert ("hold", "ada", "/ckpt/7", 2) == (
            jobs["held"].depth,
            jobs["held"].asked_by.name,
            jobs["held"].checkpoint.path,
            jobs["held"].incarnation,
        )
        assert {"next_job_number": "4"} == facts
        assert [7, 3, 4, 2, 7, 2, 2] == [
            one.event.checkpoint.step
            for one in stored
            if isinstance(one.event, CheckpointReported | PauseReached)
        ]
        # What came later has its default.
        assert (None, False) == (jobs["held"].spec.every_s, jobs["held"].goes_on)


def kept(old):
    """What of a flat record means something today, under today's names."""
    names = {"asked_by": "by", "restart_after_stop": "is_restart", "context": "context_where"}
    of_process = set() if old.get("alive") else {"started_at", "start_grace_s", "yielded"}
    of_pause = set() if old.get("state") in ("pausing", "paused") else {"deadline_s"}
    gone = {"alive"} | of_process | of_pause
    return {names.get(field, field): value for field, value in old.items() if field not in gone}


def flattened(new):
    """A record of records, all of its fields beside each other."""
    run, pause, stop = (new.pop(part, {}) for part in ("run", "pause", "stop"))
    context = {f"context_{field}": value for field, value in run.pop("context", {}).items()}
    return {field: value for field, value in (new | run | pause | stop | context).items() if field != "id"}


class TestFlatRecords:
    """Schema 3 had one flat record a job; golden/journal_v3 has them in every state."""

    @pytest.fixture
    def path(self, tmp_path):
        return Path(shutil.copyfile(GOLDEN_3 / "journal.sqlite", tmp_path / "journal.sqlite"))

    def test_each_record_is_what_its_events_give_today(self, path):
        """
        To the bit: the migration makes the same of the old record as today's core of the old events.
        """
        with closing(SqliteJournal(path)) as journal:
            jobs = {job.name: job for job in journal.jobs()}
            stored = journal.history(after_seq=0, job=None, limit=1000)
            assert ({}, ()) == (journal.unreadable(), journal.aside())
        again = {}
        for one in stored:
            if isinstance(one.event, Submitted):
                again[one.job] = core.create(one.job, one.event, one.at)
            elif isinstance(one.event, Removed):
                del again[one.job]
            else:
                again[one.job], _ = core.apply(again[one.job], one.event, one.at)

        assert again == jobs
        assert set(JobState) == {job.state for job in jobs.values()}

    def test_no_value_is_lost(self, path):
        """
        Each field of the flat records, as the version before read them, stands somewhere in the new ones.
        """
        flat = json.loads((GOLDEN_3 / "jobs.json").read_text())
        with closing(SqliteJournal(path)) as journal:
            jobs = {job.name: json.loads(msgspec.json.encode(job)) for job in journal.jobs()}

        assert {name: kept(old) for name, old in flat.items()} == {
            name: flattened(new) for name, new in jobs.items()
        }

    def test_every_job_has_an_id_of_its_own(self, path):
        """
        The one that its events begin with; a name that is used again means another job.
        """
        with closing(SqliteJournal(path)) as journal:
            ids = {job.name: job.id for job in journal.jobs()}
            stored = journal.history(after_seq=0, job=None, limit=1000)
        begun = [(one.job, one.event.id) for one in stored if isinstance(one.event, Submitted)]

        assert dict(begun) == ids | {"removed": dict(begun)["removed"]}
        assert len(begun) == len({id_ for _, id_ in begun}) == len(ids) + 2
        assert all(re.fullmatch(r"j-[0-9a-f]{16}", id_) for _, id_ in begun)

    @pytest.mark.parametrize(
        "record",
        [b"", b"no json", b"\xff\xfe", b"[" * 100_000, b"{}", b"null", b'{"state":"paused"}', b'"x"', b"[1]"],
    )
    def test_a_record_that_cannot_be_read_keeps_no_other_from_it(self, path, record):
        """
        It is put aside as before; the file is not taken for a damaged one.
        """
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE jobs SET record = CAST(? AS TEXT) WHERE name = 'held'", (record,))
            db.execute("UPDATE events SET event = CAST(? AS TEXT) WHERE job = 'held'", (record,))
        with closing(SqliteJournal(path)) as journal:
            assert "late" in {job.name for job in journal.jobs()}
            assert (["held"], ()) == (list(journal.unreadable()), journal.aside())


@pytest.fixture
def small_disk(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root with CAP_SYS_ADMIN")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _free(folder):
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_bsize


def _write_until_killed(path):
    """Run in a process of its own: commit row after row, and say so."""
    journal = SqliteJournal(Path(path))
    number = 0
    while True:
        for _ in range(5):
            number += 1
            journal.append(Batch(number, (row(number),)))
        wait_for(journal, lambda goal=number - 2: journal.committed() >= goal)
        print(journal.committed(), flush=True)


if __name__ == "__main__":
    _write_until_killed(sys.argv[1])
