"""Places in the source of a script: what expressions read, what statements bind and change.

Covers: names, attributes (`a.b.c`) and containers, by what stands in the text; what is read before it is
assigned (upward exposed uses, as compilers say).
Does not cover: what a loop carries (loop_names.py), what becomes of it (loop_uses.py).
"""

from __future__ import annotations

import ast
import functools
import linecache
from collections.abc import Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet

__all__ = [
    "FILE",
    "PASSES",
    "PURE",
    "SHOWING",
    "Loop",
    "assigned_by",
    "beside",
    "bound_by",
    "called",
    "calls_in",
    "changed_by",
    "changes",
    "first_changes",
    "first_line_of",
    "flow",
    "forget",
    "own",
    "own_and",
    "place_of",
    "read_by",
    "set_in",
    "source_tree",
    "thing_changed_by",
    "turn_of",
    "with_files",
]

Loop = ast.For | ast.While
#: The attribute of a statement that came from another function: the file that it stands in.
FILE = "shim_file"
#: What of a session gives batches.
PASSES = ("batches", "steps")
#: Calls that only reckon: what they give is followed, not what they are given.
PURE = frozenset(
    {
        "abs", "float", "int", "len", "max", "mean", "min", "round", "str", "sum", "item", "format", "time",
        "range", "sorted", "exp", "log", "log10", "sqrt", "isnan", "isfinite", "bool", "tensor",
        "perf_counter", "monotonic", "detach", "cpu", "numpy", "tolist", "repr", "join", "items", "keys",
        "values", "get", "split", "strip", "copy", "deepcopy", "list", "dict", "tuple", "set", "zip",
        "enumerate", "map", "any", "all", "isinstance", "getattr", "hasattr", "type", "std", "median",
        "array", "asarray", "stack", "cat", "norm", "argmax", "square", "strftime", "ljust", "rjust",
        "upper", "lower", "time_ns", "process_time", "now", "total_seconds", "isoformat",
        "reshape", "view", "flatten", "squeeze", "unsqueeze", "permute", "transpose", "clone", "sigmoid",
        "softmax", "clamp", "clip", "ones", "zeros", "full", "arange", "linspace",
        "OrderedDict", "defaultdict", "Counter", "asdict", "vars", "open", "writer", "DictWriter",
    }
)  # fmt: skip
#: Calls that show something and change nothing, by the last part of their name.
SHOWING = frozenset(
    {
        "print", "debug", "info", "warning", "log", "write", "report", "update",
        "set_postfix", "set_description", "add_scalar", "add_scalars",
    }
)  # fmt: skip
#: Methods of Python's containers that change them.
_CHANGING = frozenset(
    {
        "add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "insert", "pop", "popitem",
        "popleft", "remove", "reverse", "rotate", "setdefault", "sort", "update",
    }
)  # fmt: skip
#: Functions that change their first argument.
_CHANGING_FIRST = frozenset(
    {
        "copyto", "heapify", "heappop", "heappush", "heappushpop", "heapreplace", "insort", "insort_left",
        "insort_right", "place", "put", "putmask", "shuffle",
    }
)  # fmt: skip
#: Methods that give a tensor or a container a content that does not depend on what it had.
_OVERWRITING = frozenset(
    {"bernoulli_", "clear", "copy_", "exponential_", "fill_", "normal_", "random_", "uniform_", "zero_"}
)
_LIBRARIES = frozenset({"F", "init", "nn", "torch"})
_NOTHING = ast.Constant(None)
#: Nodes of which something is remembered during one look.
_MAX_REMEMBERED = 1 << 15
_SYMBOLS = (ast.expr_context, ast.operator, ast.unaryop, ast.boolop)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_PLACES = (ast.Name, ast.Attribute, ast.Subscript)
_LEAVING = (ast.Continue, ast.Break, ast.Return, ast.Raise)


@functools.lru_cache(maxsize=8)
def source_tree(file: str) -> ast.Module | None:
    """The source of a file as a tree, None where it cannot be had."""
    try:
        return ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError, RecursionError):  # What runs came from somewhere else.
        return None


def called(call: ast.Call) -> str:
    """The last part of the name of what is called."""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def forget() -> None:
    """Let go of what is remembered of the statements of one look."""
    for one in (_children, read_by, _flow_of):
        one.cache_clear()


@functools.lru_cache(maxsize=_MAX_REMEMBERED)
def _children(node: ast.AST) -> list[ast.AST]:
    """What lies directly in a node; no operators, and not whether a name is read or set."""
    found: list[ast.AST] = []
    for field in node._fields:
        value = getattr(node, field, None)
        if isinstance(value, list):
            found += [one for one in value if isinstance(one, ast.AST)]
        elif isinstance(value, ast.AST) and not isinstance(value, _SYMBOLS):
            found.append(value)
    return found


def _all_below(node: ast.AST) -> Iterator[ast.AST]:
    """A node, and all that lies in it."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        yield one
        waiting += _children(one)


def own(scope: ast.AST) -> Iterator[ast.AST]:
    """All below a node but what lies in functions and classes that are defined there; outer ones first."""
    waiting = _children(scope)[::-1]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, _DEFINITIONS):
            yield one
            waiting += _children(one)[::-1]


def own_and(node: ast.AST) -> Iterator[ast.AST]:
    """A node, and all below it that `own` yields."""
    yield node
    yield from own(node)


def calls_in(node: ast.AST) -> list[ast.Call]:
    """All calls, also those inside of others."""
    return [one for one in own_and(node) if isinstance(one, ast.Call)]


def place_of(node: ast.AST) -> str:
    """What an expression reads or changes: `a`, `self.a`; of `a[0]` what `a` is; "" for anything else."""
    while isinstance(node, ast.Subscript):
        node = node.value
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else ""


def changed_by(call: ast.Call) -> str:
    """The place of what a call changes in place: `a.append(...)`, `a[0].mul_(...)`; "" for other calls."""
    return place_of(thing_changed_by(call))


def thing_changed_by(call: ast.Call) -> ast.AST:
    """The expression of what a call changes in place; one without a place for calls that change nothing."""
    name = called(call)
    first = call.args[0] if call.args else _NOTHING
    if name in _CHANGING_FIRST:
        return first
    if not isinstance(call.func, ast.Attribute) or not (name in _CHANGING or is_in_place(name)):
        return _NOTHING
    thing: ast.AST = call.func.value
    if place_of(thing).partition(".")[0] in _LIBRARIES:  # `nn.init.normal_(weight)`
        return first
    # `a.mul_(...).add_(...)` changes `a` as well.
    while isinstance(thing, ast.Call) and isinstance(thing.func, ast.Attribute):
        thing = thing.func.value
    return thing


def is_in_place(name: str) -> bool:
    """Whether torch names what changes a tensor in place so."""
    return name.endswith("_") and not name.startswith("__") and name != "requires_grad_"


def _is_target(node: ast.AST) -> bool:
    return isinstance(getattr(node, "ctx", None), ast.Store)


@functools.lru_cache(maxsize=_MAX_REMEMBERED)
def read_by(node: ast.AST) -> frozenset[str]:
    """All that is read; a function or comprehension inside may read it as well."""
    found, bound = set(), set()
    for one in _all_below(node):
        if isinstance(one, _PLACES):
            found.add(place_of(one))
        elif isinstance(one, ast.comprehension):
            bound |= {name.id for name in _all_below(one.target) if isinstance(name, ast.Name)}
    return frozenset(found - bound - {""})


def _inner_reads(targets: Iterable[ast.AST]) -> set[str]:
    """What assigning to `a[i]` or `a.b` reads on the way."""
    found: set[str] = set()
    for target in targets:
        for one in _all_below(target):
            if isinstance(one, ast.Subscript):
                found |= read_by(one.slice) | ({place_of(one)} - {""})
    return found


def bound_by(targets: Iterable[ast.AST]) -> set[str]:
    """What is bound as a whole: names and attributes, not the items of a container."""
    found = set()
    for target in targets:
        for one in _all_below(target):
            if isinstance(one, ast.Name | ast.Attribute) and _is_target(one):
                found.add(place_of(one))
    return found - {""}


def assigned_by(targets: Iterable[ast.AST]) -> set[str]:
    """What an assignment changes: names and attributes, and containers whose items it sets."""
    found: set[str] = set()
    for target in targets:
        if isinstance(target, ast.Tuple | ast.List):
            found |= assigned_by(target.elts)
        elif isinstance(target, ast.Starred):
            found |= assigned_by([target.value])
        else:
            found.add(place_of(target))
    return found - {""}


def changes(node: ast.AST) -> set[str]:
    """What one statement or call changes by itself, not by what stands inside of it."""
    if isinstance(node, ast.Assign):
        return assigned_by(node.targets)
    if isinstance(node, ast.AugAssign | ast.AnnAssign | ast.NamedExpr):
        return assigned_by([node.target])
    return {place_of(thing_changed_by(node))} - {""} if isinstance(node, ast.Call) else set()


def first_changes(node: ast.AST, but: Collection[int] = ()) -> dict[str, tuple[int, str]]:
    """What is changed below a node, with the first line of it, and the file where that is another.

    `but` are the ids of nodes that do not count.
    """
    found: dict[str, tuple[int, str]] = {}
    for one, file in with_files(node, ""):
        for place in set() if id(one) in but else changes(one):
            found.setdefault(place, (getattr(one, "lineno", getattr(node, "lineno", 0)), file))
    return found


def set_in(nodes: Iterable[ast.AST]) -> set[str]:
    """The names among nodes that are set or deleted."""
    return {one.id for one in nodes if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Load)}


def first_line_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The line where its code begins: that of its first decorator, if it has any."""
    return min([function.lineno, *(one.lineno for one in function.decorator_list)])


def with_files(node: ast.AST, file: str) -> Iterator[tuple[ast.AST, str]]:
    """All that `own` yields, each with the file of its source; `file` is that of the node."""
    for child in _children(node):
        if not isinstance(child, _DEFINITIONS):
            inner = getattr(child, FILE, file)
            yield child, inner
            yield from with_files(child, inner)


def beside(block: list[ast.stmt], loop: Loop) -> tuple[list[ast.stmt], list[ast.stmt]]:
    """What is done before and behind a loop in a block, also where it stands in a branch or a `with`."""
    for index, one in enumerate(block):
        if one is loop:
            return block[:index], block[index + 1 :]
        if any(inner is loop for inner in own(one)):
            parts = [value for _, value in ast.iter_fields(one) if isinstance(value, list)]
            inner_block = next(part for part in parts if any(loop in own_and(x) for x in part))
            before, after = beside(inner_block, loop)
            return [*block[:index], *before], [*after, *block[index + 1 :]]
    return [], []


def turn_of(loop: Loop) -> list[ast.AST]:
    """What a turn runs through, in order."""
    head: list[ast.AST] = [loop.target] if isinstance(loop, ast.For) else [loop.test]
    return [*head, *loop.body]


def flow(nodes: Iterable[ast.AST]) -> tuple[set[str], set[str]]:
    """Return what is read before it is assigned for certain, and what is assigned for certain."""
    exposed: set[str] = set()
    written: set[str] = set()
    for node in nodes:
        reads, writes = _flow_of(node)
        exposed |= {place for place in reads if not _is_in(place, written)}
        written |= writes
    return exposed, written


def _is_in(place: str, written: set[str]) -> bool:
    """Whether it, or the object that it is an attribute of, was assigned."""
    while place not in written:
        place, _, last = place.rpartition(".")
        if not last:
            return False
    return bool(place)


@functools.lru_cache(maxsize=_MAX_REMEMBERED)
def _flow_of(node: ast.AST) -> tuple[AbstractSet[str], AbstractSet[str]]:
    if isinstance(node, ast.If):
        test, (yes_reads, yes), (no_reads, no) = read_by(node.test), flow(node.body), flow(node.orelse)
        leaves = [bool(body) and isinstance(body[-1], _LEAVING) for body in (node.body, node.orelse)]
        sure = no if leaves[0] else yes if leaves[1] else yes & no
        return test | yes_reads | no_reads, sure
    if isinstance(node, Loop):
        reads, sure = flow(turn_of(node))
        more, _ = flow(node.orelse)
        if isinstance(node, ast.While):
            return reads | more, set()
        # A loop over data or numbers is taken to have a turn: what is printed behind it was assigned in it.
        return read_by(node.iter) | reads | more, sure
    if isinstance(node, ast.With | ast.AsyncWith):
        heads = [head for item in node.items for head in (item.context_expr, item.optional_vars) if head]
        return flow([*heads, *node.body])
    if isinstance(node, ast.Try):
        reads, writes = flow([*node.body, *node.orelse])
        handled = [flow(one.body) for one in node.handlers]
        last_reads, last = flow(node.finalbody)
        sure = writes.intersection(*(one for _, one in handled)) | last
        return reads.union(last_reads, *(one for one, _ in handled)), sure
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        read = frozenset() if node.value is None else read_by(node.value)
        return read | _inner_reads(targets), bound_by(targets) if node.value is not None else set()
    if isinstance(node, ast.AugAssign):
        return read_by(node.value) | read_by(node.target) | {place_of(node.target)} - {""}, set()
    if isinstance(node, ast.Name | ast.Tuple | ast.List | ast.Starred | ast.Attribute) and _is_target(node):
        return set(), bound_by([node])
    if isinstance(node, ast.Expr) and (place := _overwritten(node.value)):
        assert isinstance(node.value, ast.Call)
        handed = [*node.value.args, *(one.value for one in node.value.keywords)]
        return set().union(*map(read_by, handed)), {place}
    named = {one.target.id for one in own_and(node) if isinstance(one, ast.NamedExpr)}
    return read_by(node), named


def _overwritten(node: ast.AST) -> str:
    """The place whose whole content a call makes anew: `a.copy_(...)`, not `a[0].copy_(...)`."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return ""
    is_whole = node.func.attr in _OVERWRITING and isinstance(node.func.value, ast.Name | ast.Attribute)
    return place_of(node.func.value) if is_whole else ""
