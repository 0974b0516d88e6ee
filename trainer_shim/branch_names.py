"""Names that a branch uses for itself, told apart from the same names outside of it.

Covers: what a branch assigns and nothing reads behind it: `fake` of a picture now and then is not the `fake`
that the training uses.
Does not cover: what becomes of names (loop_uses.py).
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable, Sequence

from trainer_shim.inlining import Rename
from trainer_shim.source_places import Loop, flow, turn_of

__all__ = ["told_apart"]


def told_apart(statements: Sequence[ast.stmt], read_behind: Iterable[str] = ()) -> list[ast.stmt]:
    """Return the statements with other names for what only a branch uses.

    `read_behind` is what may be read after them.
    """
    found: list[ast.stmt] = []
    live = set(read_behind)
    for one in reversed(statements):
        found.append(_told_apart(one, live))
        reads, writes = flow([one])
        live = reads | (live - writes)
    return found[::-1]


def _told_apart(statement: ast.stmt, live: set[str]) -> ast.stmt:
    if isinstance(statement, ast.If):
        new = copy.copy(statement)
        new.body, new.orelse = (_branch(one, live) for one in (statement.body, statement.orelse))
        return new
    if isinstance(statement, Loop):
        again = copy.copy(statement)
        again.body = told_apart(statement.body, live | flow(turn_of(statement))[0])
        return again
    if isinstance(statement, ast.With):
        inside = copy.copy(statement)
        inside.body = told_apart(statement.body, live)
        return inside
    return statement


def _branch(block: list[ast.stmt], live: set[str]) -> list[ast.stmt]:
    block = told_apart(block, live)
    reads, writes = flow(block)
    # An object that a name stands for is looked up by name: dotted ones stay.
    own = {name for name in writes - reads - live if "." not in name}
    if not own:
        return block
    rename = Rename({name: ast.Name(f"{name}@{block[0].lineno}", ast.Load()) for name in own})
    # Without the functions that are defined there, which are followed where they are called.
    return [new for one in block if (new := rename.visit(one)) is not None]
