"""A loop of the script with the functions it calls written into it, as if they stood there.

Covers: functions, methods, closures, properties and callable objects of the script, some calls deep;
functions that are handed on, as to `optimizer.step(closure)`.
Does not cover: generators, networks' `forward()`, what a call stands for (script_names.py), what the loop
carries (loop_names.py).

This is procedure inlining as compilers do it: variables of a function get names of their own (they begin with
`<`), its arguments become assignments or, where they are names already, those names; `return` becomes an
assignment. Bounded: what is left out stays a call.
"""

from __future__ import annotations

import ast
import copy
import functools
import inspect
from collections.abc import Iterable, Iterator, Mapping
from types import CodeType, FunctionType
from typing import Any

from trainer_shim.script_names import Called, Names
from trainer_shim.source_places import FILE, SHOWING, called, first_line_of, set_in, source_tree

__all__ = ["Inlining", "Rename", "definition", "is_inner"]

#: Bounds that come out the same on a busy machine; all of it takes a fraction of a second.
_MAX_DEPTH, _MAX_CALLS, _MAX_NODES = 5, 200, 40_000
_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
#: What only shows stays a call, which is known to; the averages that people keep have `update()`, too.
_LEFT = SHOWING - {"update"}


def is_inner(place: str) -> bool:
    """Whether this is a variable of a function that is called, new at each call."""
    return place.startswith("<")


class Inlining:
    """One function's statements, with what they call in the place of the calls."""

    def __init__(self, names: Names) -> None:
        self._names = names
        #: The variables that have the results of each function that was called.
        self.results: dict[CodeType, list[str]] = {}
        self._num_calls = 0
        self._num_nodes = 0

    def loop(self, node: ast.For | ast.While) -> list[ast.stmt]:
        """Return a loop anew, behind what comes before it."""
        before: list[ast.stmt] = []
        new = self._copy(node, before, 0)
        return [*before, new]

    def body(self, statements: Iterable[ast.stmt], depth: int = 0) -> list[ast.stmt]:
        """Return them anew; the tree itself stays as it is."""
        return [one for statement in statements for one in self._statement(statement, depth)]

    def _statement(self, node: ast.stmt, depth: int) -> list[ast.stmt]:
        """What stands in its place: first what its calls do, then the statement with what they gave."""
        if isinstance(node, _FUNCTIONS):
            return [node]
        before: list[ast.stmt] = []
        if isinstance(node, ast.For) and isinstance(node.target, ast.Name):
            # Over a list of callbacks, say: once for each of them.
            items = self._names.items(node.iter)
            turns = [Rename({node.target.id: one}) for one in items]
            if turns:
                return [
                    x for turn in turns for one in node.body for x in self._statement(turn.visit(one), depth)
                ]
        new = self._copy(node, before, depth)
        if isinstance(new, ast.While):
            new.body = [*new.body, *before]  # Its test is made again behind each turn.
        return [*before, new]

    def _copy(self, node: Any, before: list[ast.stmt], depth: int) -> Any:
        self._num_nodes += 1
        new = copy.copy(node)
        for field, value in ast.iter_fields(node):
            if isinstance(value, list):
                is_body = bool(value) and isinstance(value[0], ast.stmt)
                some = self.body(value, depth) if is_body else [self._inner(x, before, depth) for x in value]
                setattr(new, field, some)
            else:
                setattr(new, field, self._inner(value, before, depth))
        return new

    def _inner(self, node: Any, before: list[ast.stmt], depth: int) -> Any:
        if not isinstance(node, ast.AST) or isinstance(node, ast.Lambda | ast.expr_context):
            return node
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            found = self._names.property_of(node)
            result = None if found is None else self._call(found, [], {}, before, depth)
            if result is not None:
                return ast.copy_location(result, node)
        new = self._copy(node, before, depth)
        return self._of_call(new, before, depth) if isinstance(new, ast.Call) else new

    def _of_call(self, call: ast.Call, before: list[ast.stmt], depth: int) -> ast.expr:
        if called(call) in _LEFT:
            return call
        function = call.func
        args = list(call.args)
        if isinstance(function, ast.Name) and function.id == "next" and args:
            # What an object with `__next__` does is a method like others.
            function, args = ast.Attribute(args[0], "__next__", ast.Load()), []
        found = self._names.called(function)
        if found is not None:
            words = {word.arg or "**": word.value for word in call.keywords}
            result = self._call(found, args, words, before, depth)
            if result is not None:
                return ast.copy_location(result, call)
        for hook in self._names.hooks(function):
            self._call(hook, [], {}, before, depth)
        for arg in (*call.args, *(word.value for word in call.keywords)):
            handed = self._names.called(arg) if isinstance(arg, ast.Name | ast.Attribute) else None
            if handed is not None:
                self._call(handed, [], {}, before, depth)
        return call

    def _call(
        self,
        what: Called,
        args: list[ast.expr],
        words: Mapping[str, ast.expr],
        before: list[ast.stmt],
        depth: int,
    ) -> ast.expr | None:
        """Add what a function does with these arguments; return what it gives, None where it stays a call."""
        function, first, named = what
        node = definition(function)
        if node is None or depth >= _MAX_DEPTH or self._num_calls >= _MAX_CALLS:
            return None
        if self._num_nodes > _MAX_NODES:
            return None
        self._num_calls += 1
        mark = f"<{self._num_calls}>"
        code = function.__code__
        self.results.setdefault(code, []).append(f"{mark}return")
        mapping: dict[str, ast.expr] = {
            name: _name(f"{mark}{name}") for name in (*code.co_varnames, *code.co_cellvars)
        }
        mapping.update({name: _name(known) for name, known in self._names.free(function).items()})
        mapping.update(self._defaults(function))
        for name, value in _bound(node, [*first, *args], {**named, **words}):
            is_kept = _is_dotted(value) or isinstance(value, ast.Constant)
            if is_kept and name not in set_in(ast.walk(node)):
                mapping[name] = value
            else:
                mapping[name] = _name(f"{mark}{name}")
                before.append(_assignment(f"{mark}{name}", value, node))
        rename = Rename(mapping, f"{mark}return", code.co_filename)
        body = [rename.visit(one) for one in _straight(node.body)]
        before.extend(self.body([one for one in body if one is not None], depth + 1))
        return _name(f"{mark}return")

    def _defaults(self, function: FunctionType) -> Iterator[tuple[str, ast.expr]]:
        """Containers that are default values live as long as the function."""
        values = function.__defaults__ or ()
        code = function.__code__
        names = code.co_varnames[: code.co_argcount][code.co_argcount - len(values) :]
        for name, value in zip(names, values, strict=True):
            if type(value) in (list, dict, set):
                yield name, _name(self._names.stand_for(value, name))


def definition(function: FunctionType) -> ast.FunctionDef | None:
    """The source of a function that does what it does when it is called; None where there is none."""
    code = function.__code__
    if code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        return None
    return _definitions(code.co_filename).get((code.co_name, code.co_firstlineno))


@functools.lru_cache(maxsize=64)
def _definitions(file: str) -> dict[tuple[str, int], ast.FunctionDef]:
    tree = source_tree(file)
    found: dict[tuple[str, int], ast.FunctionDef] = {}
    several = set()
    for node in () if tree is None else ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            found[node.name, first_line_of(node)] = node
        elif isinstance(node, ast.Lambda):
            place = ("<lambda>", node.lineno)
            several.update([place] if place in found else [])
            result = ast.copy_location(ast.Return(node.body), node)
            found[place] = ast.copy_location(ast.FunctionDef("<lambda>", node.args, [result], []), node)
    # Which of two in one line it is cannot be told.
    return {place: node for place, node in found.items() if place not in several}


def _bound(
    node: ast.FunctionDef, given: list[Any], words: Mapping[str, ast.expr]
) -> Iterator[tuple[str, ast.expr]]:
    """Which parameter gets which argument."""
    takes = node.args
    names = [one.arg for one in (*takes.posonlyargs, *takes.args)]
    plain = [one for one in given if not isinstance(one, ast.Starred)]
    yield from zip(names, plain, strict=False)
    known = {*names, *(one.arg for one in takes.kwonlyargs)}
    rest: list[ast.expr] = [
        *plain[len(names) :],
        *(one.value for one in given if isinstance(one, ast.Starred)),
    ]
    for word, value in words.items():
        if word in known:
            yield word, value
        else:
            rest.append(value)
    catching = [one.arg for one in (takes.vararg, takes.kwarg) if one is not None]
    if rest:
        # Where they land cannot be told: in what catches the rest, or in all that has nothing yet.
        num_plain = min(len(plain), len(names))
        for name in catching or [one for one in names[num_plain:] if one not in words]:
            yield name, ast.Tuple(rest, ast.Load())


def _straight(body: list[ast.stmt]) -> list[ast.stmt]:
    """A body in which nothing stands behind a branch that returned: it becomes the other branch."""
    found: list[ast.stmt] = []
    for index, one in enumerate(body):
        if isinstance(one, ast.If):
            new = copy.copy(one)
            new.body, new.orelse = _straight(one.body), _straight(one.orelse)
            rest = body[index + 1 :]
            if one.body and isinstance(one.body[-1], ast.Return) and rest:
                new.orelse = [*new.orelse, *_straight(rest)]
                return [*found, new]
            found.append(new)
        else:
            found.append(one)
            if isinstance(one, ast.Return):
                break
    return found


def _is_dotted(node: ast.AST) -> bool:
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


def _name(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _assignment(name: str, value: ast.expr, at: ast.stmt) -> ast.stmt:
    return ast.copy_location(ast.Assign([ast.Name(name, ast.Store())], value), at)


_LEFT_OUT = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Global, ast.Nonlocal)


class Rename(ast.NodeTransformer):
    """A copy of statements in other names; those of a function with what gets its result, and its file."""

    def __init__(self, mapping: Mapping[str, ast.expr], result: str = "", file: str = "") -> None:
        self._mapping, self._result, self._file = mapping, result, file

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Copy a node, with all below it; a statement says its file."""
        new = super().generic_visit(_with_own_lists(node))
        if self._file and isinstance(new, ast.stmt) and not hasattr(new, FILE):
            setattr(new, FILE, self._file)
        return new

    def visit_Name(self, node: ast.Name) -> ast.expr:  # ast calls it so.
        """Put what a name is called here in its place."""
        known = self._mapping.get(node.id)
        if known is None:
            return node
        if isinstance(known, ast.Name):
            return ast.copy_location(ast.Name(known.id, node.ctx), node)
        return known

    def visit_Return(self, node: ast.Return) -> ast.AST:
        """Make an assignment of what a function returns, where its result is wanted."""
        if not self._result:
            return self.generic_visit(node)
        value = ast.Constant(None) if node.value is None else self.visit(node.value)
        new = _assignment(self._result, value, node)
        setattr(new, FILE, self._file)
        return new

    def visit(self, node: ast.AST) -> Any:
        """Leave out functions inside, whose doing is followed where they are called."""
        return None if isinstance(node, _LEFT_OUT) else super().visit(node)


def _with_own_lists(node: ast.AST) -> ast.AST:
    new = copy.copy(node)
    for field, value in ast.iter_fields(node):
        if isinstance(value, list):
            setattr(new, field, list(value))
    return new
