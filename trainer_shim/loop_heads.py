"""What an epoch makes of the network at its head, and its passes use.

Covers: names and attributes, by the source of the loop over `epochs()`.
Does not cover: what goes on from turn to turn (loop_names.py); random numbers and parts, which are as they
were the first time (epoch_marks.py, redone.py).

A restart in the middle of an epoch runs its head again, with the weights of the middle: labels, a rollout or
a copy of the weights that was made there is another one then.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from trainer_shim.inlining import is_inner
from trainer_shim.loop_uses import Uses, is_over
from trainer_shim.script_names import Names
from trainer_shim.source_places import PASSES, Loop, beside, first_changes, flow, own, read_by

__all__ = ["made_at_head"]


def made_at_head(loops: Sequence[Loop], names: Names) -> Iterator[tuple[str, int, str]]:
    """Yield the names that decide about something, with the line that makes each, and the file ("" for here).

    Of `loops`, those around a line, the one over `epochs()` is looked at.
    """
    outer = next((one for one in loops if is_over(one, "epochs")), None)
    if outer is None:
        return
    for inner in own(outer):
        if isinstance(inner, ast.For) and is_over(inner, *PASSES):
            before, after = beside(outer.body, inner)
            made = Uses(before, names).made_of(names.is_trained)
            exposed, _ = flow([inner, *after])
            uses, data = Uses([inner, *after], names), read_by(inner.iter)
            places = first_changes(ast.Module(before, []))
            for name in sorted(made & exposed):
                if not is_inner(name) and (name in data or uses.matters(name)):
                    yield name, *places.get(name, (0, ""))
