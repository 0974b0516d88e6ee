"""The journal: SQLite with what happened to every job."""
