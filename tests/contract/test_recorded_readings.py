"""Recorded readings: what every journal gives back, and how the real one lets them grow old.

Covers: order, paging, the size limit; of the real one thinning, damage, a full
disk. Does not cover: which value stands for many (tests/unit/core/readings/test_thinning.py).
"""

import random
import sqlite3
import zlib
from itertools import pairwise

import pytest
from msgspec.structs import replace

from supervisor.core.readings.blocks import pack, unpack
from supervisor.core.readings.sample import JobUse, Sample
from supervisor.ports import Batch
from supervisor.store import samples as store
from supervisor.store.journal import SqliteJournal
from supervisor.store.migrate import migrate
from tests.contract.test_journal import FakeWorld, RealWorld, row, wait_for
from tests.harness import until

#: A full hour, so that spans and blocks begin together.
WALL = 1_699_999_200.0
ROOM = 1 << 20


def minute(number, *, every_s=1.0):
    count = int(60 / every_s)
    return [
        Sample(at=1.0, wall=WALL + 60 * number + every_s * second, cpu_foreign_pct=float(number))
        for second in range(count)
    ]


def times(blocks):
    return [(one.first - WALL) / 60 for one in blocks]


@pytest.fixture(params=[RealWorld, FakeWorld], ids=["real", "fake"])
def world(request, tmp_path):
    return request.param(tmp_path)


def test_readings_come_back_in_pages_by_time(world):
    """
    Also in the next life of the daemon; a page begins after the block that the one before ended with.
    """
    journal = world.open()
    for number in range(4):
        journal.record(minute(number), limit_bytes=ROOM)
    journal.close()
    journal = world.open()
    page = journal.recorded(after_wall=0.0, before_wall=1e12, limit=3)
    rest = journal.recorded(after_wall=page[-1].first, before_wall=1e12, limit=3)
    some = journal.recorded(after_wall=WALL + 30, before_wall=WALL + 130, limit=9)
    journal.close()

    assert ([0, 1, 2], [3], [1, 2]) == (times(page), times(rest), times(some))
    assert minute(0) == unpack(page[0].block)


def test_the_oldest_go_when_there_is_no_room(world):
    """
    The history is never larger than it may be.
    """
    journal = world.open()
    for number in range(20):
        journal.record(minute(number), limit_bytes=2000)
    journal.close()
    journal = world.open()
    blocks = journal.recorded(after_wall=0.0, before_wall=1e12, limit=99)
    journal.close()

    assert sum(len(one.block) for one in blocks) <= 2000
    assert 19 == times(blocks)[-1]
    assert 1 < len(blocks) < 20


class TestRealOne:
    @pytest.fixture
    def db(self):
        db = sqlite3.connect(":memory:", isolation_level=None)
        migrate(db, "memory")
        yield db
        db.close()

    def test_readings_get_coarser_with_age(self, db):
        """
        Each second for two hours, each 10 s for two days, each minute beyond; nothing in between is lost.
        """
        num_minutes = 3 * 1440
        for number in range(num_minutes):
            store.write(db, minute(number, every_s=5.0), limit_bytes=ROOM)
        blocks = store.read(db, after_wall=0.0, before_wall=1e12, limit=10**6)
        found = [sample for one in blocks for sample in unpack(one.block)]
        gaps = [later.wall - earlier.wall for earlier, later in pairwise(found)]
        now = found[-1].wall

        assert sorted(gaps, reverse=True) == gaps
        assert {60.0, 10.0, 5.0} == set(gaps)
        assert all(gap == 5.0 for one, gap in zip(found[1:], gaps, strict=True) if one.wall > now - 7000)
        assert all(gap <= 10.0 for one, gap in zip(found[1:], gaps, strict=True) if one.wall > now - 172_000)
        assert found[0].wall - WALL < 60

    def test_a_damaged_block_is_left_out(self):
        """
        It costs its minute, not the replay; one that unpacks to more than fits is no better.
        """
        good = pack(minute(0))

        assert minute(0) == unpack(good)
        assert [] == unpack(good[:-9])
        assert [] == unpack(b"\xff" + good[1:])
        assert [] == unpack(zlib.compress(b"\xc1" * 100))

    def test_what_cannot_be_recorded_keeps_no_job_from_being_stored(self, tmp_path):
        """
        It is told and dropped; the next rows are stored as ever, and readings again when it works.
        """
        journal = SqliteJournal(tmp_path / "journal.sqlite")
        other = sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)
        other.execute("ALTER TABLE samples RENAME TO hidden")
        journal.record(minute(0), limit_bytes=ROOM)
        until(journal.record_problem, "the problem is told")
        journal.append(Batch(1, (row(1),)))
        wait_for(journal, lambda: journal.committed() == 1)
        told = journal.record_problem()
        other.execute("ALTER TABLE hidden RENAME TO samples")
        other.close()
        journal.record(minute(1), limit_bytes=ROOM)
        until(lambda: not journal.record_problem())

        assert "cannot record readings" in told
        assert [1] == times(journal.recorded(after_wall=0.0, before_wall=1e12, limit=9))
        assert "" == journal.problem()
        journal.close()

    def test_a_reading_that_is_too_large_costs_itself_alone(self, tmp_path):
        """
        It is told, and the others of its minute are stored: halving goes on until it stands alone.
        """
        names = [f"job-{random.Random(number).getrandbits(128):x}" for number in range(4000)]
        huge = replace(minute(1)[30], jobs=dict.fromkeys(names, JobUse()))
        journal = SqliteJournal(tmp_path / "journal.sqlite")
        journal.record([*minute(1)[:30], huge, *minute(1)[31:]], limit_bytes=ROOM)
        told = until(journal.record_problem)
        found = journal.recorded(after_wall=0.0, before_wall=1e12, limit=99)
        journal.record(minute(2), limit_bytes=ROOM)
        until(lambda: not journal.record_problem())
        journal.close()

        assert len(pack([huge])) > 40_000
        assert "cannot record a reading of the last minutes: more jobs" in told
        assert [one for one in minute(1) if one.wall != huge.wall] == [
            sample for block in found for sample in unpack(block.block)
        ]
