"""Rows in messages: as many as fit, and never a frame over the limit."""

from supervisor import api
from supervisor.server import request_context
from trainer_shim import protocol


def rows(count, **fields):
    return [
        api.JobRow(name=f"job-{number}", state="running", since_s=1.0, **fields) for number in range(count)
    ]


def test_long_rows_are_sent_in_more_messages():
    """
    `status` answers however much the jobs have to say.
    """
    chatty = rows(100, metrics={f"{'m' * 60}-{number}": 0.5 for number in range(64)}, problem="p" * 4000)
    parts = request_context.parted(chatty)
    frames = [protocol.encode(api.JobRows(id="x", rows=part, alerts=("a" * 1000,) * 20)) for part in parts]

    assert chatty == [row for part in parts for row in part]
    assert all(len(frame) <= protocol.MAX_FRAME_BYTES for frame in frames)


def test_no_rows_are_one_empty_message():
    """
    Whoever asks about nothing is answered all the same.
    """
    assert [()] == request_context.parted([])
