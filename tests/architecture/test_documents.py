"""Documents say what is: links lead somewhere, names exist, the diagram is the table."""

from __future__ import annotations

import ast
import re
from inspect import signature
from pathlib import Path

import pytest

import trainer_shim
from supervisor.core.jobs.diagram import mermaid
from supervisor.core.readings.metrics import METRICS

ROOT = Path(__file__).parents[2]
#: What other modules of the shim call of a session.
INNER = {"turn", "left", "pass_is_over", "pass_is_inside", "attached", "make_way"}
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")])

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"^#+\s+(.*)$", re.MULTILINE)
#: A path of this repository, or a module of it, as documents write them.
_OURS = re.compile(r"(?:supervisor|trainer_shim|tests|docs|examples|benchmarks|systemd|\.ci)/[\w./-]*\w/?")
_MODULE = re.compile(r"(?:supervisor|trainer_shim)(?:\.[a-z_]+)+(?:\.[A-Za-z_]+)?")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(path: Path) -> set[str]:
    headings = _HEADING.findall(_FENCE.sub("", path.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_every_public_name_of_the_shim_is_in_its_page():
    """
    Names of the package, methods of a session, arguments of attach().
    """
    page = (ROOT / "docs/API.md").read_text()
    methods = [name for name in vars(trainer_shim.Shim) if not name.startswith("_") and name not in INNER]
    arguments = [
        f"{one.name}="
        for one in signature(trainer_shim.attach).parameters.values()
        if one.kind is one.KEYWORD_ONLY
    ]

    assert [] == [name for name in (*trainer_shim.__all__, *methods, "extra", *arguments) if name not in page]


def test_every_kind_of_warning_has_its_section_and_no_other_is_there():
    """
    The word in brackets at the end of a warning leads to what to do about it.
    """
    source = "".join(path.read_text() for path in (ROOT / "trainer_shim").glob("*.py"))
    kinds = set(re.findall(r"(?:^| |\")\[([a-z-]+)\]\"", source))
    sections = re.findall(r"^## (.*)$", (ROOT / "docs/WARNINGS.md").read_text(), re.MULTILINE)

    assert len(kinds) > 15
    assert kinds == {kind for section in sections for kind in section.split(", ")}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path):
    """
    To a file that is there, and to a heading that it has.
    """
    broken = []
    for link in _LINK.findall(_FENCE.sub("", path.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(link)

    assert [] == broken


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_files_and_modules_that_are_named_exist(path):
    """
    A document that names what was moved misleads.
    """
    named = _CODE.findall(_FENCE.sub("", path.read_text()))
    paths = [name for name in named if _OURS.fullmatch(name)]
    modules = [name for name in named if _MODULE.fullmatch(name)]

    assert [] == [name for name in paths if not (ROOT / name).exists()]
    assert [] == [name for name in modules if not _is_there(name)]


def _is_there(name: str) -> bool:
    """Say whether it is a module, or a name in one."""
    path = ROOT / name.replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").exists():
        return True
    module, word = path.parent, path.name
    files = [module.with_suffix(".py"), module / "__init__.py"]
    return any(file.exists() and re.search(rf"\b{word}\b", file.read_text()) for file in files)


def test_messages_in_the_page_by_symptom_are_those_of_the_program():
    """
    Whoever looks for what he sees finds it in the very words; `...`, numbers and signals stand for others.
    """
    page = (ROOT / "docs/OPERATIONS.md").read_text().partition("## What to do when")[2]
    seen = re.findall(r"^\| (.*?) \|", page, re.MULTILINE)
    messages = [message for cell in seen for message in _CODE.findall(cell)]
    parts = {part.strip() for one in messages for part in re.split(r"\.\.\.|\d+|SIG[A-Z]+", one)}
    trees = [ast.parse(path.read_text()) for path in ROOT.glob("supervisor/**/*.py")]
    trees += [ast.parse(path.read_text()) for path in ROOT.glob("trainer_shim/**/*.py")]
    said = "\0".join(
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )

    assert len(messages) > 20
    assert [] == sorted(part for part in parts if part not in said)


def test_every_threat_names_the_test_that_shows_it_is_met():
    """
    Each row of each table that has such a column; that these files are there is tested for all documents.
    """
    tables = re.findall(r"(?:^\|.*\n)+", (ROOT / "docs/SECURITY.md").read_text(), re.MULTILINE)
    rows = [
        row
        for table in tables
        if (lines := table.splitlines())[0].endswith("| shown by |")
        for row in lines[2:]
    ]

    assert len(rows) > 20
    assert [] == [row for row in rows if not re.search(r"`tests/\w+/[\w/]+\.py` \|$", row)]


def test_every_metric_is_in_the_table_of_the_policy():
    """
    Whoever writes a rule finds all there is to look at, and nothing else.
    """
    text = (ROOT / "docs/POLICY.md").read_text()
    rows = [f"| `{one.name}` | {one.place} | {one.unit} | {one.about} |" for one in METRICS.values()]

    assert rows == re.findall(r"^\| `\w+` \| (?:host|gpu|job) \|.*$", text, re.MULTILINE)


def test_the_diagram_of_states_is_the_table():
    """
    `python -m supervisor.core.jobs.diagram` prints what docs/ARCHITECTURE.md has to show.
    """
    text = (ROOT / "docs/ARCHITECTURE.md").read_text()
    blocks = re.findall(r"^```mermaid\n(.*?)^```", text, re.MULTILINE | re.DOTALL)

    assert mermaid() in blocks


@pytest.mark.parametrize(
    "path", [*DOCUMENTS, *ROOT.glob("supervisor/**/*.py"), *ROOT.glob("trainer_shim/**/*.py")], ids=name_of
)
def test_nobody_is_told_to_install_this_package_from_an_index(path):
    """
    The name is not ours there: whoever takes it would be installed.
    """
    assert [] == re.findall(r"pip install [^`\n]*\btraining[-_]supervisor\b[^`\n]*", path.read_text())
