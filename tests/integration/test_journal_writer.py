"""Entries on their way to systemd's journal, with a socket as journald makes one.

Covers: a journal that listens, one that is away, an entry that is too long.
Does not cover: systemd itself (tests/systemd/).
"""

from __future__ import annotations

import logging
import os
import socket

import pytest

from supervisor.system.log import JournalWriter


@pytest.fixture
def journal(home):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(home / "journal"))
        listener.settimeout(20)
        yield listener


@pytest.fixture
def stream():
    """The end from which journald reads stderr, and ours."""
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def record(text):
    made = logging.LogRecord("x", logging.WARNING, "", 0, text, (), None)
    made.fields = {"job": "night"}
    return made


def test_an_entry_arrives_with_its_fields(journal, stream):
    """
    As a datagram of its own; nothing goes to the stream.
    """
    writer = JournalWriter(stream[1], address=journal.getsockname())
    writer.handle(record("told"))
    data = journal.recv(4096)
    writer.close()
    os.set_blocking(stream[0], False)

    assert b"JOB=night\nMESSAGE=told\nPRIORITY=4\n" in data
    with pytest.raises(BlockingIOError):
        os.read(stream[0], 1)


def test_without_a_journal_lines_go_to_its_stream(home, stream):
    """
    It is being restarted; each line says how severe it is.
    """
    writer = JournalWriter(stream[1], address=str(home / "nobody"))
    writer.handle(record("first\nsecond"))
    writer.close()

    assert b"<4>first\n<4>second\n" == os.read(stream[0], 4096)


def test_what_is_too_long_for_an_entry_is_not_lost(journal, stream):
    """
    A datagram has a longest; a line of the stream has none that matters.
    """
    writer = JournalWriter(stream[1], address=journal.getsockname())
    text = "x" * 2_000_000
    writer.handle(record(text))
    got = b""
    while not got.endswith(b"\n"):
        got += os.read(stream[0], 1 << 20)
    writer.close()

    assert f"<4>{text}\n".encode() == got
