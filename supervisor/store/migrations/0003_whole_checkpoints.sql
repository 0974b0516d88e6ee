-- Events have the checkpoint that they tell of as one record, as the job has it.
UPDATE events SET event = json_set(
    json_remove(event, '$.step', '$.epoch', '$.path', '$.digest'),
    '$.checkpoint',
    json_object(
        'step', json_extract(event, '$.step'),
        'epoch', json_extract(event, '$.epoch'),
        'path', json_extract(event, '$.path'),
        'digest', json_extract(event, '$.digest')
    )
)
WHERE CASE WHEN json_valid(event) THEN
    json_extract(event, '$.event') IN ('checkpointed', 'yielded') AND json_type(event, '$.digest') = 'text'
END;
