"""Rows of the journal as records; one that makes no sense concerns itself alone.

Covers: jobs, facts and events read with doubt: text that is not UTF-8, JSON of another form, values
that no message could carry.
Does not cover: whether the file and its tables are there (opening.py).

Nothing is deleted here: what cannot be read stays in the file for who can.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from typing import Final

import msgspec

from supervisor.core.jobs.events import JobEvent
from supervisor.core.jobs.job import Job
from supervisor.core.jobs.names import KEY
from supervisor.job_table import sharing
from supervisor.ports import StoredEvent, Unreadable

__all__ = ["read_events", "read_facts", "read_jobs"]

_JOBS: Final = "SELECT CAST(id AS BLOB), CAST(name AS BLOB), CAST(record AS BLOB) FROM jobs ORDER BY name"
_FACTS: Final = "SELECT CAST(name AS BLOB), CAST(value AS BLOB) FROM facts"
_EVENTS: Final = (
    "SELECT seq, at, wall, CAST(job AS BLOB), CAST(event AS BLOB), CAST(state AS BLOB) FROM events"
    " WHERE seq > :after AND {which} ORDER BY seq {order} LIMIT :limit"
)
_OF_JOB: Final = "(:job IS NULL OR job = :job)"
#: By the index of jobs: whoever has few of them does not make us read those of all. `0` comes behind `/`.
_OF_USER: Final = "(:job IS NULL OR job = :job) AND job >= :user || '/' AND job < :user || '0'"

#: No job is started so often, and no name is longer for it.
_MAX_NUMBER: Final = 10**12

_job = msgspec.json.Decoder(Job)
_event: msgspec.json.Decoder[JobEvent] = msgspec.json.Decoder(JobEvent)


def read_jobs(db: sqlite3.Connection) -> tuple[list[Job], dict[str, str]]:
    """Return the jobs, by name; and why the others cannot be read, by name."""
    jobs: list[Job] = []
    unreadable: dict[str, str] = {}
    for raw_id, raw_name, record in db.execute(_JOBS):
        name = _text(raw_name)
        try:
            job = _job.decode(record)
            _check(job, name, _text(raw_id))
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
            unreadable[name] = str(error)
        else:
            jobs.append(sharing(job))
    return jobs, unreadable


def read_facts(db: sqlite3.Connection) -> tuple[dict[str, str], dict[str, str]]:
    """Return the facts that can be used, and why the others cannot, both by name."""
    facts: dict[str, str] = {}
    unusable: dict[str, str] = {}
    for raw_name, raw_value in db.execute(_FACTS):
        name, value = _text(raw_name), _text(raw_value)
        check = next((check for prefix, check in _FORMS.items() if name.startswith(prefix)), None)
        try:
            if check is not None:
                check(value)
        except ValueError as error:
            unusable[name] = str(error)
        else:
            facts[name] = value
    return facts, unusable


def read_events(
    db: sqlite3.Connection, *, after_seq: int, job: str | None, limit: int, user: str = ""
) -> list[StoredEvent]:
    """Return events after that number, oldest first; with -1 the newest `limit`; of one user's jobs."""
    is_newest = after_seq < 0
    values = {"after": max(after_seq, 0), "job": job, "limit": limit, "user": user}
    which, order = _OF_USER if user else _OF_JOB, "DESC" if is_newest else "ASC"
    rows = db.execute(_EVENTS.format(which=which, order=order), values).fetchall()
    found = [
        StoredEvent(seq=seq, at=at, wall=wall, job=_text(name), event=_decoded(event), state=_text(state))
        for seq, at, wall, name, event, state in rows
    ]
    return found[::-1] if is_newest else found


def _decoded(text: bytes) -> JobEvent | Unreadable:
    try:
        return _event.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Unreadable(str(error))


def _check(job: Job, name: str, id_: str) -> None:
    """Raise ValueError for a record that a job could not have come to have."""
    if job.name != name or KEY.fullmatch(name) is None:
        raise ValueError(f"it is the record of a job `{job.name}`")
    if job.id != id_:
        raise ValueError(f"it is the record of a job with the id `{job.id}`")
    if not 0 <= job.incarnation < _MAX_NUMBER:
        raise ValueError(f"its incarnation is {job.incarnation}")
    # Whole numbers of any length are JSON; no message and no call to the kernel can hold them.
    msgspec.msgpack.encode(job)


def _whole(value: str) -> None:
    if len(value) > len(str(_MAX_NUMBER)) or not 0 <= int(value) < _MAX_NUMBER:
        raise ValueError(f"not a number of starts or jobs: {value[:40]!a}")


def _moment(value: str) -> None:
    if not math.isfinite(float(value)) or abs(float(value)) > _MAX_NUMBER:
        raise ValueError(f"not a time: {value[:40]!a}")


def _owner(value: str) -> None:
    uid, _, since = value.partition(" ")
    _whole(uid)
    _moment(since)


_FORMS: Final[dict[str, Callable[[str], None]]] = {
    "next_job_number": _whole,
    "starts.": _whole,
    "owner.": _owner,
    "clock.offset_s": _moment,
}


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")
