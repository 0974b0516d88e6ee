"""What every place of the shim keeps to, seen in its source: refusals have a hint, records do not change.

Covers: each error that is made, each record class, the names of its unit tests. Does not cover: whether a
hint helps; tests of the refusal do. Quick, so the mutation campaign runs it for every file.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from trainer_shim import errors
from trainer_shim.safe_files import Unsafe

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "trainer_shim").rglob("*.py"))

#: Errors that are made without a hint, and why.
WITHOUT_HINT = {
    "Damaged": "the class has one for all: what helps is the same wherever the damage is",
    "CannotReturn": "told as what is waited for; the shim itself tries again, or ends to be started anew",
}
#: Records that change, and why.
CHANGING = {
    "FoundTensors": "is filled while devices are looked through",
    "Live": "takes in what another record has",
    "_Away": "its pieces go back one by one",
    "_Header": "is only read, where a message itself cannot be",
}
REFUSALS = {
    name
    for name, kind in (vars(errors) | {"Unsafe": Unsafe}).items()
    if isinstance(kind, type) and issubclass(kind, errors.ShimError | Unsafe)
}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def name_of(node: ast.AST | None) -> str:
    """The last part of a dotted name."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def refused(module: ast.Module) -> Iterator[tuple[ast.AST, str, ast.expr | None]]:
    """Each error that a module makes: where, of which class, and the hint if it has one."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and name_of(node.func) in REFUSALS:
            words = {word.arg: word.value for word in node.keywords}
            yield node, name_of(node.func), words.get("hint")
        elif isinstance(node, ast.Raise) and name_of(node.exc) in REFUSALS:
            yield node, name_of(node.exc), None


def says_something(hint: ast.expr | None, module: ast.Module) -> bool:
    """Whether a hint has words; of one with a name, every text that gets this name in the module."""
    if isinstance(hint, ast.Name):
        texts = [
            node.value
            for node in ast.walk(module)
            if isinstance(node, ast.Assign) and hint.id in map(name_of, node.targets)
        ]
        return all(says_something(text, module) for text in texts)
    return hint is not None and not (isinstance(hint, ast.Constant) and not hint.value)


def test_whoever_is_refused_reads_what_to_do_next():
    """
    No error without a hint, but of the classes that are named above with a reason.
    """
    silent = {
        f"{path.relative_to(ROOT)}:{node.lineno}": kind
        for path in SOURCES
        for node, kind, hint in refused(tree(path))
        if not says_something(hint, tree(path))
    }

    assert {} == {where: kind for where, kind in silent.items() if kind not in WITHOUT_HINT}
    assert set(WITHOUT_HINT) == set(silent.values()), "a class in the list needs to be there no more"
    assert "verify" in errors.Damaged("cannot use it").hint


def records(module: ast.Module) -> Iterator[tuple[str, ast.expr | None]]:
    """Each record class of a module, and what it says of `frozen`."""
    for node in ast.walk(module):
        if not isinstance(node, ast.ClassDef):
            continue
        words = {word.arg: word.value for word in node.keywords}
        if "Struct" in map(name_of, node.bases):
            yield node.name, words.get("frozen")
        for mark in node.decorator_list:
            call = mark if isinstance(mark, ast.Call) else ast.Call(mark, [], [])
            if name_of(call.func) == "dataclass":
                yield node.name, {word.arg: word.value for word in call.keywords}.get("frozen")


def test_what_one_part_hands_to_another_does_not_change():
    """
    Threads read records without a lock, and what was checked stays what was checked.
    """
    changing = {
        name
        for path in SOURCES
        for name, frozen in records(tree(path))
        if not (isinstance(frozen, ast.Constant) and frozen.value is True)
    }

    assert set(CHANGING) == changing


def test_a_file_of_unit_tests_has_the_name_of_the_module_that_it_tests():
    """
    A module that was renamed takes its tests with it.
    """
    files = sorted((ROOT / "tests/unit/trainer_shim").glob("*.py"))
    names = [path.name.removeprefix("test_") for path in files]

    assert len(names) >= 12
    assert [] == [name for name in names if not (ROOT / "trainer_shim" / name).exists()]
