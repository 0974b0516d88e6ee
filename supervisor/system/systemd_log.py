"""Lines for systemd's journal, with fields: `journalctl -u training-supervisord JOB=night`.

Covers: whether stderr is the journal, the form of an entry (journald's native protocol), sending one.
Does not cover: what is logged, and that nobody waits for it (log.py).

One entry is one datagram, the form is promised to stay, and writing it takes fewer lines than telling a
library that nothing here may wait or fail.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import struct
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

__all__ = ["JOURNAL_SOCKET", "as_record", "entry", "is_journal", "send", "syslog_level"]

JOURNAL_SOCKET: Final = "/run/systemd/journal/socket"

_IDENTIFIER: Final = "training-supervisord"

#: Those of the journal itself; ours of the same name get another one.
_RESERVED: Final = frozenset(
    {"MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER", "SYSLOG_FACILITY", "CODE_FILE", "UNIT"}
)
_NO_FIELD: Final = re.compile(r"[^A-Z0-9_]")
#: The journal drops an entry whose field has a longer name.
_NAME_MAX: Final = 64


def is_journal(environ: MutableMapping[str, str], fd: int) -> bool:
    """Say whether a descriptor leads to the journal; what told so is taken out, jobs write elsewhere."""
    device, _, inode = environ.pop("JOURNAL_STREAM", "").partition(":")
    try:
        info = os.fstat(fd)
    except OSError:
        return False
    return (device, inode) == (str(info.st_dev), str(info.st_ino))


def as_record(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> tuple[tuple[str], dict[str, Any]]:
    """Be the last processor of structlog: hand text and fields apart to a logging.Handler."""
    text = str(event.pop("text"))
    return (text,), {"extra": {"fields": {name: str(value) for name, value in event.items()}}}


def entry(record: logging.LogRecord, text: str) -> bytes:
    """Return a record as the journal takes it; the event, the job and all else that was logged are fields."""
    fields: Mapping[str, str] = getattr(record, "fields", {})
    named = {_field(name): value for name, value in fields.items()}
    known = {"MESSAGE": text, "PRIORITY": str(syslog_level(record.levelno)), "SYSLOG_IDENTIFIER": _IDENTIFIER}
    return b"".join(_encoded(name, value) for name, value in (named | known).items() if name)


def send(data: bytes, address: str = JOURNAL_SOCKET) -> None:
    """Hand an entry to the journal; may wait, raises OSError where it is away or the entry too long."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(data, address)


def syslog_level(level: int) -> int:
    """Return the number by which the journal knows a severity of `logging`."""
    return next(number for least, number in ((40, 3), (30, 4), (20, 6), (0, 7)) if level >= least)


def _field(name: str) -> str:
    """Return a name that the journal takes for a field, "" where nothing is left of it."""
    field = _NO_FIELD.sub("_", name.upper()).lstrip("_0123456789")[:_NAME_MAX]
    return f"{field}_" if field in _RESERVED else field


def _encoded(name: str, value: str) -> bytes:
    data = value.encode(errors="backslashreplace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    # Of several lines: the length in front, so that no value can pass for another field.
    return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
