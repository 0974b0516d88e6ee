"""The journal's file: opened, found damaged and put aside, or written anew where it vanished.

Covers: the lock beside the file, the schema as it has to be, what is renamed and what is said.
Does not cover: its rows (rows.py), who writes when (journal.py).

A file that is damaged is renamed and never deleted, and a new one takes its place: the daemon starts.
A disk that fails, a file that may not be read and one of a newer version are refused; they are whole.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from pathlib import Path
from typing import Final

from supervisor.errors import SupervisorError
from supervisor.set_aside import SetAside, keep_aside, make_way
from supervisor.store.migrate import migrate, migrations, prepare
from supervisor.system import locks
from trainer_shim.lock_file import HeldLock
from trainer_shim.safe_files import open_checked

__all__ = ["connect", "is_in_place", "open_or_replace", "take_lock", "write_anew"]

#: The file is no database, damaged, or its tables are not what they have to be.
_DAMAGED: Final = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_NOTADB,
}
_READ_ALL: Final = (
    # A comparison reads all of a value, its length alone does not.
    "SELECT max(CAST(record AS BLOB)) FROM jobs",
    "SELECT max(CAST(value AS BLOB)) FROM facts",
    "SELECT CAST(event AS BLOB) FROM events WHERE seq = (SELECT max(seq) FROM events)",
    "SELECT max(first) FROM samples",
)
#: What SQLite keeps beside a database.
_BESIDE: Final = ("-wal", "-shm", "-journal")


def take_lock(path: Path) -> int:
    """Return a descriptor that holds the lock beside the file; raises SupervisorError when it is taken."""
    try:
        return locks.take_lock(Path(f"{path}.lock"))
    except HeldLock as held:
        raise SupervisorError(
            f"cannot open the journal `{path}`: another daemon uses it",
            hint=f"it is process {held.holder or 'unknown'}; was it started with another XDG_RUNTIME_DIR?",
        ) from None


def open_or_replace(path: Path) -> tuple[sqlite3.Connection, list[SetAside]]:
    """Return a connection to a whole journal, and what had to be put aside for that; the lock is held."""
    # A link may lead to what was committed, so whoever made it is asked (_opened).
    found = [make_way(Path(f"{path}{end}"), links=False) for end in _BESIDE]
    beside = [said for said in found if said is not None]
    aside = beside.copy()
    if not _may_be_database(path):
        aside.append(_put_aside(path, "it is not a file"))
    try:
        return _opened(path, aside), aside
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
            raise
        # What was found in its tables is of no account any more.
        aside = [*beside, _put_aside(path, str(error))]
    return _opened(path, aside), aside


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection whose commits survive a power cut."""
    db = sqlite3.connect(path, isolation_level=None, timeout=5.0, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        # As a service we may write to no folder for temporary files; a migration would fail for want of one.
        db.execute("PRAGMA temp_store = MEMORY")
    except sqlite3.Error:
        db.close()
        raise
    return db


def is_in_place(path: Path, inode: tuple[int, int]) -> bool:
    """Say whether the file under the journal's name is still the one that was opened."""
    try:
        there = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return (there.st_dev, there.st_ino) == inode


def write_anew(path: Path, source: sqlite3.Connection) -> SetAside:
    """Write all that the connection still reaches under the journal's name, where its file was taken away."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.new")
    for name in (draft, *(Path(f"{draft}{end}") for end in _BESIDE)):
        locks.clear_way(name)
        name.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    copy = connect(draft)
    try:
        source.backup(copy)
    finally:
        copy.close()
    kept = f"; what lay there now is kept as `{keep_aside(path).name}`" if os.path.lexists(path) else ""
    for end in _BESIDE:  # They belong to the file that is gone, and would be taken for the new one's.
        Path(f"{path}{end}").unlink(missing_ok=True)
    _flush(draft)
    draft.rename(path)
    _flush(path.parent)
    return SetAside(
        kind="journal",
        name=path.name,
        where=str(path),
        why=f"the journal `{path}` was taken away while the daemon ran; it is written anew, whole{kept}",
        hint="nothing is lost; find out who removes or replaces files there, and restart the daemon",
    )


def _opened(path: Path, aside: list[SetAside]) -> sqlite3.Connection:
    # The record holds environments, so the file is the owner's alone.
    os.close(open_checked(path, os.O_CREAT | os.O_RDWR))
    # SQLite opens these by name, and through links.
    for beside in (Path(f"{path}{end}") for end in _BESIDE):
        if os.path.lexists(beside):
            os.close(open_checked(beside))
    db = connect(path)
    try:
        migrate(db, str(path))
        aside += _completed(db, path)
        for query in _READ_ALL:
            db.execute(query).fetchall()
    except BaseException:
        db.close()
        raise
    return db


def _completed(db: sqlite3.Connection, path: Path) -> list[SetAside]:
    """Make what is missing of the schema, empty; raises sqlite3.DatabaseError where it is another one."""
    there, wanted = _schema(db), _wanted()
    said = []
    for name, (kind, sql) in wanted.items():
        if name not in there:
            db.execute(sql)
            if kind == "table":
                why = f"the table `{name}` of the journal `{path}` was gone; it is made anew and empty"
                hint = "put the journal back from a copy, with the daemon stopped, if it is to be as before"
                said.append(SetAside(kind="journal", name=name, where=str(path), why=why, hint=hint))
    return said


def _wanted() -> dict[str, tuple[str, str]]:
    fresh = sqlite3.connect(":memory:")
    try:
        prepare(fresh)
        for script in migrations():
            fresh.executescript(script)
        return _schema(fresh)
    finally:
        fresh.close()


def _schema(db: sqlite3.Connection) -> dict[str, tuple[str, str]]:
    found = db.execute("SELECT name, type, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type DESC")
    return {name: (kind, sql) for name, kind, sql in found}


def _may_be_database(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return not path.is_symlink()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise


def _put_aside(path: Path, why: str) -> SetAside:
    kept = keep_aside(path)
    for end in _BESIDE:
        if os.path.lexists(f"{path}{end}"):
            Path(f"{path}{end}").rename(f"{kept}{end}")
    _flush(path.parent)
    return SetAside(
        kind="journal",
        name=path.name,
        where=str(kept),
        why=f"cannot use the journal `{path}`: {why}; it is kept as `{kept.name}`, and a new one is begun",
        hint="to go back, stop the daemon and put a good copy in its place",
    )


def _flush(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
