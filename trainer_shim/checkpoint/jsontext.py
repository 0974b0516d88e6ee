"""JSON that says each thing once.

Covers: noticing a name that stands twice in one object.
Does not cover: everything else that can be wrong with a text; the parser does.

A parser keeps one of two equal names and says nothing, and not every parser
keeps the same one. So what one program checked could differ from what another
one uses.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["num_members", "num_names"]

# Every string, and whether a colon follows. Possessive, so that no text takes more than one pass.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"(\s*+:)?+', re.DOTALL)


def num_names(text: bytes | bytearray) -> int:
    """How many names stand in a text that a parser has found well-formed."""
    return sum(1 for found in _STRING.finditer(text) if found[1])


def num_members(document: Any) -> int:
    """How many names a parsed text has kept."""
    found, todo = 0, [document]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            found += len(node)
            todo.extend(node.values())
        elif isinstance(node, list):
            todo.extend(node)
    return found
