-- Every event that changed a job, in order. Never updated; applying them again gives `jobs`.
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    at REAL NOT NULL,          -- the daemon's steady clock: what the event was applied with
    wall REAL NOT NULL,        -- Unix time, for people
    job TEXT NOT NULL,
    event TEXT NOT NULL,       -- JSON, tagged with its kind
    state TEXT NOT NULL        -- of the job afterwards; 'removed' when it is gone
) STRICT;

CREATE INDEX events_by_job ON events (job, seq);

-- The jobs as they are after the newest event.
CREATE TABLE jobs (
    name TEXT PRIMARY KEY,
    record TEXT NOT NULL       -- JSON of core.job.Job
) STRICT, WITHOUT ROWID;

-- Small things that must survive: the next job number, the anchor of the steady clock.
CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
