"""Brings a journal file to this version's schema: forward only, one numbered file at a time.

A file from a newer version is refused in words, before anything is touched.
`PRAGMA user_version` counts the migrations that were applied.
"""

from __future__ import annotations

import sqlite3
from importlib import resources

from supervisor.errors import SupervisorError

__all__ = ["migrate", "migrations"]


def migrations() -> list[str]:
    """Return the SQL of all migrations, in order; number N brings version N-1 to N."""
    folder = resources.files("supervisor.store") / "migrations"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [f.read_text(encoding="utf-8") for f in files]


def migrate(db: sqlite3.Connection, path: str) -> None:
    """Apply what is missing, each migration in a transaction of its own."""
    scripts = migrations()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(scripts):
        raise SupervisorError(
            f"cannot use the journal `{path}`: it was written by a newer version "
            f"(schema {version}, this one knows {len(scripts)})",
            hint="upgrade training-supervisor, or start with another --home",
        )
    for number, script in enumerate(scripts[version:], start=version + 1):
        # executescript commits first, so the transaction is spelled out.
        db.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
