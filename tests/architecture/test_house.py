"""The rules of the house that a tool can see.

Covers: who imports whom, what an import costs, public names, sizes, the few
places that may catch everything, the one that changes a state.
Does not cover: formatting, lint and types of the packages; `make check` runs those tools.
"""

from __future__ import annotations

import ast
import functools
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import trainer_shim
from supervisor import client
from supervisor.core.jobs import apply
from supervisor.core.readings.metrics import METRICS
from tests.architecture.test_documents import INNER
from trainer_shim import at_boundary

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for package in ("supervisor", "trainer_shim") for path in (ROOT / package).rglob("*.py")
)

MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 400
#: Longer, and why that reads better than two files.
LONG_FILES = {
    "supervisor/core/jobs/apply.py": "one handler an event; what a pause means is read in one place",
    "supervisor/launcher/keeper.py": "runs without our package, as one script",
    "supervisor/api.py": "the whole wire of the commands, one struct after the other",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_of(path: Path) -> str:
    return name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def taken_by_name() -> frozenset[tuple[str, str]]:
    """Return module and name of all that modules of ours take from each other."""
    imports = (node for path in SOURCES for node in ast.walk(tree(path)) if isinstance(node, ast.ImportFrom))
    return frozenset((node.module or "", alias.name) for node in imports for alias in node.names)


def public_names(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, check=False, capture_output=True, text=True, timeout=290
    )


def test_the_floors_hold():
    """
    No module imports what lies above it or beside it; the core imports nothing that can block.
    """
    done = run("-c", "from importlinter.cli import lint_imports_command as run; run(['--no-cache'])")

    assert "0 broken" in done.stdout, done.stdout + done.stderr
    assert 0 == done.returncode


def test_every_module_stands_on_a_floor():
    """
    One that the contract does not name could import anything, and nobody would be told.
    """
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    floors = tuple(name for layer in layers for name in layer.split(" | "))
    modules = [module_of(path) for path in SOURCES if path.name != "__init__.py"]
    ours = [name for name in modules if name.startswith("supervisor.")]

    assert len(ours) > 100
    assert [] == [name for name in ours if not any(f"{name}.".startswith(f"{floor}.") for floor in floors)]
    assert [] == [floor for floor in floors if not any(f"{name}.".startswith(f"{floor}.") for name in ours)]


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        (
            "trainer_shim",
            "torch numpy psutil sqlite3 asyncio structlog click supervisor safetensors torchdata",
        ),
        ("supervisor.core.jobs.apply", "zmq psutil sqlite3 structlog asyncio trainer_shim"),
        ("supervisor.cli.main", "torch numpy psutil sqlite3 asyncio structlog watchdog supervisor.daemon"),
        # The records of the core that answers hold, and not what decides about them.
        (
            "supervisor.cli.commands.look, supervisor.client",
            "supervisor.core.policy.decide supervisor.core.policy.rules supervisor.core.jobs.job",
        ),
        ("supervisor.daemon", "torch numpy click"),
    ],
)
def test_importing_it_is_light(module, forbidden):
    """
    Seen in a fresh interpreter: what is not needed at once is not loaded.
    """
    done = run("-c", f"import sys, {module}; print(*set(sys.modules) & set({forbidden.split()}))")

    assert ("", "\n") == (done.stderr, done.stdout)


# Importing `__main__` runs it.
@pytest.mark.parametrize("path", [path for path in SOURCES if path.stem != "__main__"], ids=name_of)
def test_public_names_are_complete_and_sorted(path):
    """
    `__all__` says what others may use: every public class, function and constant of the module
    that others do use, and nothing that is not there.
    """
    listed = getattr(importlib.import_module(module_of(path)), "__all__", None)
    made = {node.name for node in tree(path).body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    public = {name for name in made if not name.startswith("_")}
    if listed is None:
        # A module that is run, not imported, offers nothing.
        assert public <= {"main"}
        return

    # Constants first, then classes, then the rest: as ruff sorts them.
    assert sorted(listed, key=lambda name: (not name.isupper(), name[0].islower(), name)) == list(listed)
    assert all(hasattr(importlib.import_module(module_of(path)), name) for name in listed)
    # What no other module takes by name is part of something that is public: a base, a part of a message.
    assert set() == {name for name in public - set(listed) if (module_of(path), name) in taken_by_name()}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_and_functions_have_a_size_that_can_be_read(path):
    """
    400 lines a file, 60 a function; what is longer stands in a list with its reason.
    """
    text = path.read_text()
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES
    }

    assert {} == long
    is_long = len(text.splitlines()) > MAX_FILE_LINES
    assert is_long == (name_of(path) in LONG_FILES), f"{len(text.splitlines())} lines"


def test_a_name_of_a_class_means_one_thing():
    """
    Whoever reads `Verdict` in a module need not look up whose it is.
    """
    found = {}
    for path in SOURCES:
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(name_of(path))

    assert {} == {name: places for name, places in found.items() if len(places) > 1}


def test_only_a_few_places_catch_everything():
    """
    The engine's tick, a request handler, a file of people's, the shim's link, its background saves;
    each with its reason. What cleans up and raises again catches nothing.
    """
    found = set()
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            names = (
                {part.id for part in ast.walk(node.type) if isinstance(part, ast.Name)} if node.type else {""}
            )
            raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            if names & {"", "Exception", "BaseException"} and not raises:
                found.add(name_of(path))

    assert {
        "supervisor/daemon.py",
        "supervisor/server/requests.py",
        "supervisor/settings/reload.py",
        "trainer_shim/link.py",
        "trainer_shim/periodic.py",
    } == found
    assert 5 == sum(path.read_text().count("BLE001") for path in SOURCES)


def test_a_state_changes_by_the_table_and_nowhere_else():
    """
    Only `_move` hands a state to a job, and it takes it from the table.
    """
    found = []
    for path in SOURCES:
        for function in ast.walk(tree(path)):
            if not isinstance(function, ast.FunctionDef):
                continue
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and getattr(call.func, "id", "") in ("replace", "Job"):
                    found += [(name_of(path), function.name) for word in call.keywords if word.arg == "state"]

    assert [("supervisor/core/jobs/apply.py", "_move")] == found


def test_what_holds_for_a_metric_stands_in_its_record():
    """
    No other table or branch asks for one by its name; whoever adds one has one place to write.
    """
    #: Rules name metrics; the others mean fields of a sample that have the same name.
    may = {
        "supervisor/core/readings/metrics.py",
        "supervisor/core/policy/default_rules.py",
        "supervisor/core/readings/thinning.py",
        "supervisor/cli/commands/recording.py",
    }
    found = {
        name_of(path)
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in METRICS
    }

    assert may == found


#: Callables in a public attribute, and why.
HUNG_FOR_A_TIME = {
    ("trainer_shim/births.py", "maker"): "for as long as one batch is fetched",
    ("trainer_shim/weaving.py", "loader"): "a look at a loader that does not keep it",
}


def test_nobody_hangs_a_call_on_something_that_is_built_already():
    """
    What a part calls it is given when it is made, so that the imports tell who knows whom.
    """
    found = []
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            match node:
                case ast.AnnAssign(target=ast.Attribute(attr=name), annotation=kind):
                    if "Callable" in ast.unparse(kind) and not name.startswith("_"):
                        found.append((name_of(path), name))
                case ast.Assign(targets=[ast.Attribute(attr=name)], value=ast.Lambda()):
                    if not name.startswith("_"):
                        found.append((name_of(path), name))

    assert list(HUNG_FOR_A_TIME) == found


def names_in(path: str) -> set[str]:
    """Return the functions of a module and what it assigns, where a command is made of a function."""
    body = tree(ROOT / path).body
    made = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    return made | {
        target.id
        for node in body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


@pytest.mark.parametrize("verb", ["pause", "resume", "stop", "kill", "restart", "checkpoint"])
def test_a_verb_is_found_by_its_name_on_each_floor(verb):
    """
    From the command to the request to what it does to a job. A kill is a stop that asks nobody.
    """
    asked = {"kill": "stop"}.get(verb, verb)

    assert verb in names_in("supervisor/cli/commands/jobs.py")
    assert verb in names_in("supervisor/server/requests.py")
    assert f"{asked}_asked" in names_in("supervisor/core/jobs/apply.py")


TESTS = sorted((ROOT / "tests").rglob("*.py"))


def test_no_test_needs_a_benchmark():
    """
    Who measures may use what tests use, and not the other way round: a figure that is measured anew breaks
    no test.
    """
    found = []
    for path in TESTS:
        for node in ast.walk(tree(path)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [name_of(path) for name in names if name.split(".")[0] == "benchmarks"]

    assert [] == found


def test_fast_tests_wait_for_what_they_want_to_see_and_never_for_a_time():
    """
    One that sleeps is slow on every machine and wrong on a slow one; tests/harness.py has `until`.
    """
    found = [
        name_of(path)
        for path in TESTS
        if path.relative_to(ROOT / "tests").parts[0] in ("unit", "contract", "property")
        for node in ast.walk(tree(path))
        if (isinstance(node, ast.Attribute) and node.attr == "sleep")
        or (isinstance(node, ast.Name) and node.id == "sleep")
        or (isinstance(node, ast.alias) and node.name == "sleep")
    ]

    assert [] == found


def test_only_ascii_is_in_the_code():
    """
    What cannot be typed on every keyboard, or seen, is written as an escape.
    """
    assert [] == [name_of(path) for path in SOURCES if not path.read_bytes().isascii()]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("file", ["api.py", "client.py", "records.py"])
def test_right_calls_type_check_and_wrong_ones_are_found(file):
    """
    Of the public API as a user writes it; of a job's records, where a misspelt field would else be
    found at run time. mypy in strict mode reads tests/typing; `.ci/check` lets another checker read the
    first two, as users have either.
    """
    done = run("-m", "mypy", "--strict", "--warn-unused-ignores", f"tests/typing/{file}")

    assert 0 == done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("api.py", {*trainer_shim.__all__, *public_names(trainer_shim.Shim)} - INNER),
        ("client.py", {*client.__all__, *public_names(client.Client), *public_names(client.Watch)}),
    ],
)
def test_all_that_is_public_is_type_checked_as_it_is_used(file, names):
    """
    A name that no checker has seen in use may have any type.
    """
    module = tree(ROOT / "tests/typing" / file)
    used = {node.attr for node in ast.walk(module) if isinstance(node, ast.Attribute)}
    used |= {node.id for node in ast.walk(module) if isinstance(node, ast.Name)}

    assert set() == names - used


#: Where names of fields come from a table, and why.
NAMES_FROM_TABLES = {
    "supervisor/cli/checkpoints/exporting.py": "options of a command, by the names of the fields",
    "supervisor/cli/checkpoints/pruning.py": "options of a command, by the names of the fields",
    "supervisor/cli/commands/new_command.py": "options of a command, by the names of the fields",
    "supervisor/cli/commands/recording.py": "columns of a file, which are the fields of a sample",
    "supervisor/cli/prove/command.py": "all fields of the base of the record",
    "supervisor/core/readings/thinning.py": "all fields of whatever is in a sample",
    "supervisor/core/replacing.py": "what others take",
    "supervisor/server/bounded_messages.py": "all fields of any message",
    "supervisor/server/views.py": "all fields of any answer",
}


def test_a_record_is_made_and_changed_in_a_form_that_mypy_reads():
    """
    `replace` of msgspec takes any name, and so does whatever gets a table splatted into it: a misspelt
    field would be found when it runs, if a test runs it at all. The core splats nothing into anything.
    """
    found = set()
    for path in [path for path in SOURCES if path.is_relative_to(ROOT / "supervisor")]:
        is_core = path.is_relative_to(ROOT / "supervisor/core")
        for node in ast.walk(tree(path)):
            match node:
                case ast.ImportFrom(module="msgspec.structs", names=names):
                    hides = any(one.name == "replace" for one in names)
                case ast.Attribute(value=ast.Attribute(attr="structs"), attr="replace"):
                    hides = True
                case ast.Call(func=called, keywords=words) if any(word.arg is None for word in words):
                    name = ast.unparse(called).rpartition(".")[2]
                    hides = is_core or name == "replace" or name[:1].isupper()
                case _:
                    hides = False
            if hides:
                found.add(name_of(path))

    assert set(NAMES_FROM_TABLES) == found


def test_pattern_of_names():
    """
    No module is called after nothing in particular; such names collect lines.
    """
    vague = re.compile(r"(utils?|helpers?|common|managers?|base|misc)\.py")

    assert [] == [name_of(path) for path in SOURCES if vague.fullmatch(path.name)]


def test_both_sides_mean_the_same_exit_code():
    """
    The core may not import the shim, so the number stands twice.
    """
    assert apply.EXIT_YIELDED == at_boundary.EXIT_YIELDED
