"""Brings a journal file to this version's schema: forward only, one numbered file at a time.

A file from a newer version is refused in words, before anything is touched.
`PRAGMA user_version` counts the migrations that were applied.
"""

from __future__ import annotations

import sqlite3
from importlib import resources

import msgspec

from supervisor.errors import UsageError

__all__ = ["migrate", "migrations", "prepare"]


def migrations() -> list[str]:
    """Return the SQL of all migrations, in order; number N brings version N-1 to N."""
    folder = resources.files("supervisor.store") / "migrations"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [f.read_text(encoding="utf-8") for f in files]


def prepare(db: sqlite3.Connection) -> None:
    """Give a connection what migrations call."""
    db.create_function("member", 2, _member, deterministic=True)


def migrate(db: sqlite3.Connection, path: str) -> None:
    """Apply what is missing, each migration in a transaction of its own."""
    scripts = migrations()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(scripts):
        # It does not mend itself, so a service is not to try again and again.
        raise UsageError(
            f"cannot use the journal `{path}`: it was written by a newer version "
            f"(schema {version}, this one knows {len(scripts)})",
            hint="nothing in it was touched; upgrade training-supervisor again, put back a backup that this "
            "version made, or start with another --home",
        )
    prepare(db)
    for number, script in enumerate(scripts[version:], start=version + 1):
        # executescript commits first, so the transaction is spelled out.
        db.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")


def _member(text: str | None, name: str) -> str | None:
    """A member of a JSON object as text, with every digit; NULL where there is none."""
    try:
        found = msgspec.json.decode(text or "", type=dict[str, msgspec.Raw]).get(name)
    except (msgspec.DecodeError, UnicodeError):
        return None
    return None if found is None else bytes(found).decode()
