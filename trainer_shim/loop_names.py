"""Which variables a loop of the script carries from one turn to the next, from its source.

Covers: names, attributes and containers that the body reads before it assigns them and that it changes, where
they decide about more than what is shown; what an outer loop that counts epochs by itself does again.
Does not cover: values (strays.py), the number of `enumerate()` (enumerated.py).

A loop carries what its body can read before it assigns it (upward exposed uses, as compilers say) and
changes. After a restart such a variable has its first value again. Whether that matters is followed by name
through the assignments of the loop: what only reaches calls that print, log or report does not.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import CodeType
from typing import NamedTuple

from trainer_shim.branch_names import told_apart
from trainer_shim.inlining import Inlining, is_inner
from trainer_shim.loop_heads import made_at_head
from trainer_shim.loop_repeats import is_harmless
from trainer_shim.loop_uses import ITERATED, Uses, is_over
from trainer_shim.script_names import Names
from trainer_shim.source_places import (
    FILE,
    PASSES,
    Loop,
    assigned_by,
    beside,
    called,
    calls_in,
    first_changes,
    first_line_of,
    flow,
    own,
    own_and,
    place_of,
    read_by,
    set_in,
    source_tree,
    turn_of,
)

__all__ = ["CarriedVariable", "LoopFindings", "carried_at", "repeated_at", "unset_behind"]

#: What the result of a loop is handed to.
_ENDING = frozenset({"load_state_dict", "save"})
#: Calls whose result nobody else has.
_MAKING = frozenset({"OrderedDict", "clone", "copy", "deepcopy", "dict", "list"})
#: The names of the shim's own places for what a script keeps.
_KEEPING = frozenset({"extra"})


class CarriedVariable(NamedTuple):
    """A variable that a loop carries, and the first line that changes it."""

    name: str
    line: int
    #: Where that line is, if in another file than the loop.
    file: str = ""
    #: Whether it decides about more than what is shown.
    matters: bool = True


class LoopFindings(NamedTuple):
    """What the loops around a line of a function carry, and whose results decide about something there."""

    carried: list[CarriedVariable]
    #: The code of functions that are called there.
    using: frozenset[CodeType] = frozenset()
    #: What each turn of the innermost loop makes before it reads it.
    made_anew: frozenset[str] = frozenset()
    #: Objects that decide about something and whose methods are called: those of libraries may change by it.
    used: Sequence[str] = ()
    #: What an epoch makes of the network before its passes.
    at_head: Sequence[CarriedVariable] = ()


def carried_at(
    file: str,
    first_line: int,
    line: int,
    *,
    keepers: frozenset[str] = frozenset(),
    names: Names | None = None,
    is_result_used: bool = False,
) -> LoopFindings:
    """Return what the loops around a line of a function carry; nothing where its source cannot be had.

    `keepers` are names of objects that a checkpoint has: what a statement hands to one is kept. With `names`,
    what the names of the function stand for, what it calls is followed too. `is_result_used`: what the
    function returns decides about something.
    """
    scope = _scope(file, first_line)
    if scope is None:
        return LoopFindings([])
    loops = _around(scope, line)
    if not loops:
        return LoopFindings([])
    behind, results_of = _behind(scope, loops[0]), {}
    if names is not None:
        inlining = Inlining(names)
        loops = _around(ast.Module(inlining.loop(loops[0]), []), line)
        behind, results_of = inlining.body(behind), inlining.results
    # One that attaches in each turn is over several trainings: a restart goes through its turns again.
    loops = [one for one in loops if not _attaches(one)]
    if not loops:
        return LoopFindings([])
    kept = _kept(loops[0], _KEEPING | keepers)
    uses = Uses(told_apart([loops[0], *behind]), names, is_result_used=is_result_used)
    results = _results(behind).difference(*(flow(turn_of(one))[1] for one in loops))
    found: dict[str, CarriedVariable] = {}
    for loop in loops:
        exposed, _ = flow(turn_of(loop))
        for name, (at, where) in first_changes(loop, {id(one) for one in _caching(loop)}).items():
            if name in exposed | results and name not in kept and not is_inner(name):
                matters = name in results or uses.matters(name)
                found.setdefault(name, CarriedVariable(name, at, "" if where == file else where, matters))
    using = {code for code, own in results_of.items() if any(map(uses.matters, own))}
    heads = () if names is None else made_at_head(loops, names)
    at_head = {name: CarriedVariable(name, at, where) for name, at, where in heads if name not in found}
    used = {name for loop in loops for name in _asked(loop) if uses.matters(name)}
    return LoopFindings(
        _in_order(found), frozenset(using), _made_anew(loops[-1]), sorted(used), _in_order(at_head)
    )


def _asked(loop: Loop) -> set[str]:
    """The objects from before a turn whose methods it calls."""
    exposed, _ = flow(turn_of(loop))
    functions = [call.func for call in calls_in(loop)]
    owners = {place_of(one.value) for one in functions if isinstance(one, ast.Attribute)}
    return {name for name in owners & exposed if not is_inner(name) and not name.startswith("@")}


def _made_anew(loop: Loop) -> frozenset[str]:
    """What each turn makes before it reads it, and has from nobody else: a copy of the weights, say."""
    reads, writes = flow(turn_of(loop))
    assigned = [one for one in own(loop) if isinstance(one, ast.Assign)]
    others = {place for one in assigned if not _makes(one.value) for place in assigned_by(one.targets)}
    return frozenset(name for name in writes - reads - others if not is_inner(name))


def _makes(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return called(value) in _MAKING
    return isinstance(value, ast.Dict | ast.List | ast.DictComp | ast.ListComp)


def _in_order(found: Mapping[str, CarriedVariable]) -> list[CarriedVariable]:
    return sorted(found.values(), key=lambda one: (one.file != "", one.line, one.name))


def _attaches(loop: Loop) -> bool:
    """Whether each turn is a training of its own."""
    return any(called(call) == "attach" for call in calls_in(loop))


def unset_behind(file: str, first_line: int, line: int) -> list[str]:
    """Return what is read behind a loop over `batches()` and only set in it, or long before.

    Such a name is not there, or has the value of another epoch, where the loop has no turn left.
    """
    scope = _scope(file, first_line)
    loops = [] if scope is None else _around(scope, line)
    if scope is None or not loops or not is_over(loops[-1], "batches"):
        return []
    loop, block = loops[-1], loops[-2].body if len(loops) > 1 else getattr(scope, "body", [])
    before, after = beside(block, loop)
    return sorted(flow(after)[0] & set_in(own(loop)) - flow(before)[1])


def repeated_at(
    file: str, first_line: int, line: int, is_given_back: Callable[[ast.expr], bool] = lambda _: False
) -> int:
    """Return the line of what an outer loop that is not the shim's does again after a restart, or 0.

    `is_given_back` says which expressions stand for a part: what is done to it is undone there.
    """
    scope = _scope(file, first_line)
    loops = [] if scope is None else _around(scope, line)
    if not any(is_over(one, *PASSES) for one in loops[1:]):
        return 0
    for outer in loops[:-1]:
        if isinstance(outer, ast.For) and not is_over(outer, *ITERATED) and not _attaches(outer):
            for statement in outer.body:
                is_inner = statement.lineno <= line <= (statement.end_lineno or line)
                if not is_inner and not is_harmless(statement, is_given_back):
                    return statement.lineno
    return 0


def _scope(file: str, first_line: int) -> ast.AST | None:
    """The function whose code begins in this line, or the module."""
    tree = source_tree(file)
    if tree is None:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and first_line_of(node) == first_line:
            return node
    return tree if first_line <= 1 else None


def _around(scope: ast.AST, line: int) -> list[Loop]:
    """The loops of a scope around a line, the outermost first; not those of functions inside."""
    return [
        one
        for one in own(scope)
        if isinstance(one, Loop)
        and not hasattr(one, FILE)
        and one.lineno <= line <= (one.end_lineno or one.lineno)
    ]


def _behind(scope: ast.AST, loop: Loop) -> list[ast.stmt]:
    """The statements that come after a loop."""
    end, found = loop.end_lineno or loop.lineno, []
    for one in own(scope):
        if isinstance(one, ast.stmt) and one.lineno > end:
            found.append(one)
            end = one.end_lineno or one.lineno
    return found


def _results(statements: Iterable[ast.stmt]) -> set[str]:
    """What is loaded into a network or written to a file: the best weights that a loop met, say."""
    calls = (call for one in statements for call in calls_in(one) if called(call) in _ENDING)
    return {place for call in calls for one in call.args for place in read_by(one)}


def _caching(loop: Loop) -> Iterator[ast.Assign]:
    """The assignments that make something once, when it is not there: a restart makes it again.

    `if key not in table: table[key] = ...`, or `if window is None: window = ...` of what no turn sets.
    """
    _, set_in_turn = flow(turn_of(loop))
    for branch in own_and(loop):
        if not isinstance(branch, ast.If):
            continue
        table, variable = _absent(branch.test)
        for one in branch.body:
            if isinstance(one, ast.Assign) and len(one.targets) == 1:
                target = one.targets[0]
                is_made_of_turn = bool(read_by(one.value) & set_in_turn)
                if (isinstance(target, ast.Subscript) and table and place_of(target) == table) or (
                    variable and place_of(target) == variable and not is_made_of_turn
                ):
                    yield one


def _absent(test: ast.expr) -> tuple[str, str]:
    """The table and the variable, "" for none, that a test finds something missing in."""
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        if isinstance(test.ops[0], ast.NotIn):
            return place_of(test.comparators[0]), ""
        other = test.comparators[0]
        if isinstance(test.ops[0], ast.Is) and isinstance(other, ast.Constant) and other.value is None:
            return "", place_of(test.left)
    return "", ""


def _kept(loop: Loop, keepers: frozenset[str]) -> set[str]:
    """The names in statements that mention `shim.extra` or the like: the script sees to them."""
    found: set[str] = set()
    for one in own(loop):
        if isinstance(one, ast.Expr | ast.Assign | ast.AugAssign) and any(
            getattr(node, "attr", getattr(node, "id", "")) in keepers for node in ast.walk(one)
        ):
            found |= {place_of(node) for node in ast.walk(one)}
    return found - {""}
