"""What a newcomer runs and reads: the example scripts, the demo, the README."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Event
from time import monotonic
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

#: Importing torch alone takes seconds on a busy machine.
GUARD_S = 90.0

SHORT = {"digits": ["--epochs", "1"], "text": ["--epochs", "1"]}


def until(what, condition):
    """Return what the condition returns, once that is true."""
    deadline = monotonic() + GUARD_S
    while not (found := condition()):
        assert monotonic() < deadline, f"waited {GUARD_S:g} s until {what}"
        Event().wait(0.01)
    return found


def catches(pid, number):
    """Say whether a process has a handler for a signal (proc(5), SigCgt)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    mask = int(re.search(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)[1], 16)
    return bool(mask >> (number - 1) & 1)


@pytest.fixture
def train(tmp_path):
    """Start an example in the test's folder, as a person types it."""
    started = []

    def start(script, folder="."):
        env = {key: value for key, value in os.environ.items() if not key.startswith("TRAINING_SUPERVISOR_")}
        (tmp_path / folder).mkdir(exist_ok=True)
        started.append(
            subprocess.Popen(
                [sys.executable, EXAMPLES / f"{script}.py", *SHORT[script]],
                cwd=tmp_path / folder,
                env=env | {"PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def outcome(process):
    """Return the last line that a script printed when it ended well."""
    output, errors = process.communicate(timeout=GUARD_S)
    assert 0 == process.returncode, errors
    return output.splitlines()[-1]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("script", ["digits", pytest.param("text", marks=pytest.mark.soak)])
def test_an_example_that_is_interrupted_and_run_again_ends_with_the_same_bits(script, train, tmp_path):
    """
    SIGTERM in the middle, the same command again: weights, optimizer and result are those of a run in one go.
    """
    process = train(script, "interrupted")
    until("the shim is attached", lambda: catches(process.pid, signal.SIGUSR1))
    process.send_signal(signal.SIGUSR1)
    checkpoints = tmp_path / "interrupted/checkpoints" / script
    until("a first checkpoint is there", lambda: list(checkpoints.glob("step-*")))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=GUARD_S)
    assert 128 + signal.SIGTERM == process.returncode, errors

    assert outcome(train(script, "in one go")) == outcome(train(script, "interrupted"))


@pytest.mark.parametrize("script", list(SHORT))
def test_an_example_is_short_enough_to_read(script):
    """
    Somebody who copies an example reads all of it.
    """
    assert 60 > len((EXAMPLES / f"{script}.py").read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("page", ["README.md", "docs/RECIPES.md"])
def test_the_code_on_a_page_is_the_code_of_the_example_it_names(page):
    """
    Each Python block names its file; its lines stand there in the same order, so what is read also runs.
    """
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- from (\S+) -->\n```python\n(.*?)```", text, re.DOTALL)

    assert blocks
    assert len(blocks) == text.count("```python")
    for name, block in blocks:
        lines = iter((ROOT / name).read_text(encoding="utf-8").splitlines())
        missing = [line for line in block.splitlines() if line and line not in lines]
        assert [] == missing, name


def test_every_file_that_the_readme_links_to_is_there():
    """
    No link of the front page is broken.
    """
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", readme) if "://" not in link]

    assert links
    assert [] == [link for link in links if not (ROOT / link).exists()]


@pytest.mark.parametrize("page", ["POLICY", "CONFIGURATION"])
def test_the_rules_in_the_documentation_are_rules(page, tmp_path):
    """
    Whoever copies one has a file that `policy check` takes.
    """
    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL) if "[[rules]]" in block]
    file = tmp_path / "config.toml"
    said = []
    for block in blocks:
        file.write_text(block, encoding="utf-8")
        argv = [sys.executable, "-m", "supervisor.cli.main", "--home", tmp_path, "policy", "check", file]
        said.append(subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False))

    assert blocks
    for one in said:
        assert 0 == one.returncode, one.stderr
        assert " rules: host-memory, " in one.stdout


def processes_naming(folder):
    """Return the processes with that folder in their environment or command."""
    mark = os.fsencode(folder)
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (process / "environ").read_bytes() + (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


@pytest.mark.soak
@pytest.mark.timeout(400)
@pytest.mark.parametrize("moment", ["supervisorctl pause digits", "kill -9"])
def test_ctrl_c_in_the_middle_of_the_demo_leaves_nothing_behind(moment):
    """
    Also while the daemon was just killed: no training, no daemon, no folder stays.
    """
    with subprocess.Popen(
        [sys.executable, EXAMPLES / "demo.py"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as demo:
        seen = []
        for line in demo.stdout:
            seen.append(line)
            if line.startswith(f"$ {moment}"):
                break
        home = re.search(r"/tmp/ts-\w+", "".join(seen))[0]
        assert processes_naming(home), "".join(seen)
        # As a terminal does: to all in the foreground.
        os.killpg(demo.pid, signal.SIGINT)
        rest, _ = demo.communicate(timeout=GUARD_S)

    assert 130 == demo.returncode, "".join(seen) + rest
    assert not Path(home).exists()
    until("all processes are gone", lambda: not processes_naming(home))


class PlayedStage:
    """A demo whose jobs and reference runs have ended, with the hashes that were given."""

    def __init__(self, paused, alone):
        self._paused, self._alone = paused, alone

    def ask(self, line, *, as_json=True):
        if shlex.split(line)[0] == "events":
            return [{"kind": "pause-asked", "detail": "hold by person"}]
        return f"sha256 {self._paused} accuracy 1\n"

    def train_alone(self, script):
        return SimpleNamespace(communicate=lambda: (f"sha256 {self._alone} accuracy 1\n", None))


@pytest.mark.parametrize(("alone", "same"), [("aa", True), ("ab", False)])
def test_the_demo_fails_when_a_hash_differs(alone, same, monkeypatch):
    """
    The proof at its end is one: other bits are not passed over.
    """
    monkeypatch.syspath_prepend(str(EXAMPLES))
    demo = importlib.import_module("demo")

    assert same is demo.compare(PlayedStage("aa", alone))
