"""A loop that numbers its batches, `for i, batch in enumerate(shim.batches(loader))`, and uses the number.

Covers: finding such a loop in the source of the caller, and whether its number matters.
Does not cover: other variables of a script, which nobody sees.

The number begins at 0 again where a pass is taken up. One that is only printed or reported does not matter.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Callable
from typing import Any

from trainer_shim.loop_state import decides
from trainer_shim.source_places import PASSES, SHOWING, called, source_tree

__all__ = ["numbered_batches", "numbered_steps"]

_BATCHES = (
    "`{}` of enumerate() around batches() begins at 0 again where a pass is taken up: write "
    "`shim.batches(enumerate(loader))`, which goes on counting [numbered]"
)
_STEPS = (
    "`{}` of enumerate() around steps() begins at 0 again after a restart: use `shim.step`, which goes on "
    "[numbered]"
)


def numbered_batches(depth: int, *, accumulate: int, is_of_run: Callable[[Any], bool]) -> list[str]:
    """What to say of the loop over batches() `depth` calls away, if it goes by a number that matters."""
    number = _number_of_caller(depth + 1, accumulate, is_of_run)
    return [_BATCHES.format(number)] if number else []


def numbered_steps(depth: int, *, accumulate: int, is_of_run: Callable[[Any], bool]) -> list[str]:
    """The same of a loop over steps()."""
    number = _number_of_caller(depth + 1, accumulate, is_of_run)
    return [_STEPS.format(number)] if number else []


def _number_of_caller(depth: int, accumulate: int, is_of_run: Callable[[Any], bool]) -> str:
    """The name of the number that the loop `depth` calls away goes by; empty if there is none that matters.

    That it counts the batches which are accumulated is no matter: they are taken up together.
    """
    frame = sys._getframe(depth + 1)  # noqa: SLF001  # There is no other way to one's caller.
    for loop, name in _numbered_loops(frame.f_code.co_filename):
        if loop.lineno <= frame.f_lineno <= (loop.iter.end_lineno or loop.lineno):
            is_used = any(_uses(one, name, accumulate > 1) for one in loop.body)
            return name if is_used and decides(frame, loop, name, is_of_run) else ""
    return ""


@functools.lru_cache(maxsize=8)
def _numbered_loops(file: str) -> list[tuple[ast.For, str]]:
    tree = source_tree(file)
    if tree is None:
        return []
    loops = [one for one in ast.walk(tree) if isinstance(one, ast.For)]
    return [(loop, name) for loop in loops if (name := _number(loop))]


def _number(loop: ast.For) -> str:
    """The name of the number of a loop over `enumerate(....batches(...))`; empty for any other loop."""
    counting = [
        one for one in ast.walk(loop.iter) if isinstance(one, ast.Call) and called(one) == "enumerate"
    ]
    if not any(
        isinstance(one, ast.Call) and called(one) in PASSES for call in counting for one in ast.walk(call)
    ):
        return ""
    # `batches(enumerate(loader))` goes on counting.
    outer = next(one for one in ast.walk(loop.iter) if isinstance(one, ast.Call) and called(one) in _BOTH)
    if called(outer) in PASSES or not isinstance(loop.target, ast.Tuple):
        return ""
    first = loop.target.elts[0]
    return first.id if isinstance(first, ast.Name) else ""


_BOTH = ("enumerate", *PASSES)


def _uses(node: ast.AST, name: str, is_accumulating: bool) -> bool:  # noqa: FBT001
    """Whether a number decides about anything but what is shown."""
    if isinstance(node, ast.Name):
        return node.id == name and isinstance(node.ctx, ast.Load)
    if isinstance(node, ast.Call) and called(node) in SHOWING:
        return False
    if isinstance(node, ast.If) and not node.orelse and all(map(_shows, node.body)):
        return False
    if is_accumulating and isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return False
    return any(_uses(child, name, is_accumulating) for child in ast.iter_child_nodes(node))


def _shows(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Call)
        and called(statement.value) in SHOWING
    )
