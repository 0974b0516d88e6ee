-- A job has an id of its own, and what belongs to one state or one process is a record in its record.
-- `member(text, name)` gives a member of a JSON object as the text that it is (migrate.py): taken out as values,
-- numbers would lose their last digits, and `->` needs SQLite 3.38.
UPDATE events SET event = json_set(event, '$.id', 'j-' || lower(hex(randomblob(8))))
WHERE CASE WHEN json_valid(event) THEN
    json_extract(event, '$.event') = 'submitted' AND json_type(event, '$.id') IS NULL
END;

CREATE TABLE jobs_by_id (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,       -- spec.user
    name TEXT NOT NULL,
    record TEXT NOT NULL       -- JSON of core.jobs.job.Job
) STRICT, WITHOUT ROWID;

-- The events of a job and its record agree on its id; where none tells of its beginning, it gets one here.
INSERT INTO jobs_by_id (id, owner, name, record)
SELECT
    coalesce(
        (
            SELECT json_extract(event, '$.id') FROM events
            WHERE events.job = jobs.name AND CASE WHEN json_valid(event) THEN
                json_extract(event, '$.event') = 'submitted' AND json_type(event, '$.id') = 'text'
            END
            ORDER BY seq DESC LIMIT 1
        ),
        'j-' || lower(hex(randomblob(8)))
    ),
    coalesce(CASE WHEN json_valid(record) THEN json_extract(record, '$.spec.user') END, ''),
    name,
    record
FROM jobs;

DROP TABLE jobs;
ALTER TABLE jobs_by_id RENAME TO jobs;
-- A name means one job, whoever's it is.
CREATE UNIQUE INDEX jobs_by_name ON jobs (name);
CREATE INDEX jobs_by_owner ON jobs (owner, name);

-- Merging into '{}' leaves out what is NULL here: what the record before did not have.
UPDATE jobs SET record = json_set(record, '$.run', json_patch('{}', json_object(
    'started_at', json(coalesce(json(member(record, 'started_at')), json(member(record, 'since')), '0.0')),
    'process', json(member(record, 'process')),
    'depths', json(member(record, 'depths')),
    'start_grace_at', json(member(record, 'start_grace_at')),
    'start_grace_s', json(member(record, 'start_grace_s')),
    'yielded', json(member(record, 'yielded')),
    'was_frozen', json(member(record, 'was_frozen')),
    'insist_at', json(member(record, 'insist_at')),
    'insisted', json(member(record, 'insisted')),
    'context', CASE WHEN json_type(record, '$.context_process') = 'object' THEN
        json_patch('{}', json_object(
            'where', json(member(record, 'context')),
            'process', json(member(record, 'context_process')),
            'problem', json(member(record, 'context_problem')),
            'at', json(member(record, 'context_at')),
            'limit_at', json(member(record, 'context_limit_at')),
            'limit_s', json(member(record, 'context_limit_s'))
        ))
    END
)))
WHERE CASE WHEN json_valid(record) THEN
    json_type(record) = 'object' AND json_extract(record, '$.alive') = 1
END;

UPDATE jobs SET record = json_set(record, '$.pause', json_patch('{}', json_object(
    'depth', json(coalesce(json(member(record, 'depth')), '"hold"')),
    'by', json(member(record, 'asked_by')),
    'reason', json(member(record, 'reason')),
    'verdict', json(member(record, 'verdict')),
    'held_depth', json(member(record, 'held_depth')),
    'bytes_freed', json(member(record, 'bytes_freed')),
    'deadline_at', json(member(record, 'deadline_at')),
    'deadline_s', json(member(record, 'deadline_s')),
    'late', json(member(record, 'late')),
    'at_deadline', json(member(record, 'at_deadline')),
    'frozen_at', json(member(record, 'frozen_at')),
    'wake_at', json(member(record, 'wake_at'))
)))
WHERE CASE WHEN json_valid(record) THEN
    json_type(record) = 'object' AND json_extract(record, '$.state') IN ('pausing', 'paused')
END;

UPDATE jobs SET record = json_set(record, '$.stop', json_patch('{}', json_object(
    'by', json(member(record, 'asked_by')),
    'is_restart', json(member(record, 'restart_after_stop'))
)))
WHERE CASE WHEN json_valid(record) THEN
    json_type(record) = 'object' AND json_extract(record, '$.state') = 'stopping'
END;

UPDATE jobs SET record = json_set(
    json_remove(
        record,
        '$.alive', '$.process', '$.started_at', '$.depths', '$.depth', '$.held_depth', '$.bytes_freed',
        '$.asked_by', '$.reason', '$.yielded', '$.verdict', '$.deadline_at', '$.deadline_s', '$.late',
        '$.at_deadline', '$.frozen_at', '$.was_frozen', '$.wake_at', '$.start_grace_at', '$.start_grace_s',
        '$.insist_at', '$.insisted', '$.restart_after_stop', '$.context', '$.context_process',
        '$.context_problem', '$.context_at', '$.context_limit_at', '$.context_limit_s'
    ),
    '$.id', id
)
WHERE CASE WHEN json_valid(record) THEN json_type(record) = 'object' END;
