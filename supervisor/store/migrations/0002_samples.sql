-- Readings of the machine, coarser with age; `supervisorctl policy simulate` replays them. No job needs them.
CREATE TABLE samples (
    id INTEGER PRIMARY KEY,
    tier INTEGER NOT NULL,     -- 0: as they were taken; 1: one in 10 s; 2: one in 60 s
    first REAL NOT NULL,       -- Unix time of the first and of the last reading in the block
    last REAL NOT NULL,
    block BLOB NOT NULL        -- zlib of MessagePack: a list of core.sample.Sample
) STRICT;

CREATE INDEX samples_by_time ON samples (first);
