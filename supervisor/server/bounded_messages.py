"""Messages of the daemon as frames that are never over the limit, whatever texts are in them.

Covers: cutting long texts and lists, text that is not UTF-8. Does not cover: many rows (context.py
parts them), what peers send.

Paths, reasons and file names come from people, files and programs. One of them that is too long or
odd for a message must not keep everybody from the answer that it is a part of.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec.structs import replace

from trainer_shim import protocol
from trainer_shim.protocol import ProtocolError

__all__ = ["fitted"]

#: Characters of a text and items of a list, from what hurts least on.
_LIMITS: Final = ((4000, 1000), (1000, 500), (200, 100))


def fitted(message: protocol.Message) -> bytes:
    """Return the frame, with what is too long cut; raises ProtocolError where even that does not help."""
    try:
        return protocol.encode(message)
    except (ProtocolError, UnicodeEncodeError):
        for num_chars, num_items in _LIMITS[:-1]:
            try:
                return protocol.encode(_cut(message, num_chars, num_items))
            except ProtocolError:
                continue
        return protocol.encode(_cut(message, *_LIMITS[-1]))


def _cut(value: Any, num_chars: int, num_items: int) -> Any:
    if isinstance(value, str):
        text = value.encode(errors="backslashreplace").decode()
        return text if len(text) <= num_chars else text[: num_chars - 3] + "..."
    if isinstance(value, tuple):
        return tuple(_cut(item, num_chars, num_items) for item in value[:num_items])
    if isinstance(value, dict):
        items = list(value.items())[:num_items]
        return {_cut(key, num_chars, num_items): _cut(item, num_chars, num_items) for key, item in items}
    if isinstance(value, msgspec.Struct):
        fields = {name: _cut(getattr(value, name), num_chars, num_items) for name in value.__struct_fields__}
        return replace(value, **fields)
    return value
