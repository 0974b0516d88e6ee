"""A plain installation is the shim alone; the programs then say in a line what to install.

Covers: what a training environment gets, training without the daemon's packages, both programs without them.
Does not cover: pip itself.
"""

import json
import os
import re
import subprocess
import sys
import tomllib

import pytest

from tests.harness import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRA = PROJECT["optional-dependencies"]["daemon"]
#: Module names of distributions that have others.
MODULES = {"nvidia-ml-py": "pynvml"}
OF_THE_DAEMON = [MODULES.get(name, name) for name in (re.split("[<>=]", one)[0] for one in EXTRA)]

BLOCK = """
import sys
sys.modules.update(dict.fromkeys({blocked}))
"""

TRAINING = """
import torch, trainer_shim
model = torch.nn.Linear(2, 1)
shim = trainer_shim.attach(model=model, checkpoints="checkpoints")
for batch in shim.batches(torch.utils.data.DataLoader(torch.ones(4, 2))):
    model(batch).sum().backward()
print(shim.step)
"""


@pytest.fixture
def plain(tmp_path):
    """Run a program with nothing of the daemon's packages."""

    def run(*words, blocked=OF_THE_DAEMON):
        (tmp_path / "sitecustomize.py").write_text(BLOCK.format(blocked=json.dumps(blocked)))
        env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
        argv = [sys.executable, *words]
        return subprocess.run(
            argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def test_a_training_environment_gets_three_packages():
    assert ["msgspec", "pyzmq", "xxhash"] == [re.split("[<>=]", one)[0] for one in PROJECT["dependencies"]]


def test_a_script_trains_without_the_packages_of_the_daemon(plain):
    """
    Nothing of them is imported on its way.
    """
    done = plain("-c", TRAINING)

    assert "4\n" == done.stdout, done.stderr


@pytest.mark.parametrize("program", ["command", "daemon"])
@pytest.mark.parametrize("missing", OF_THE_DAEMON)
def test_a_program_says_what_to_install(plain, program, missing):
    """
    From where this was installed, because no index has a package of this name.
    """
    done = plain(
        "-c", f"import sys; from supervisor.entry import {program}; sys.exit({program}())", blocked=[missing]
    )
    if program == "command" and missing != "click":
        assert 2 == done.returncode, "it shows its help"
        return

    assert 1 == done.returncode
    error, hint = done.stderr.split("\n\n")
    name = {"command": "supervisorctl", "daemon": "training-supervisord"}[program]
    assert f"error: cannot run {name}: `{missing}` is not installed here" in error
    assert re.fullmatch(rf"hint: {sys.executable} -m pip install '/.+\[daemon\]'\n", hint)


def test_a_command_that_needs_no_parser_says_the_same(plain):
    """
    Not some commands run here and others not.
    """
    code = "import sys; sys.argv[1:] = ['status']; from supervisor.entry import command; sys.exit(command())"
    done = plain("-c", code, blocked=["click"])

    assert 1 == done.returncode
    assert "error: cannot run supervisorctl: `click` is not installed here" in done.stderr


def test_what_is_missing_otherwise_is_no_matter_of_the_extra(plain):
    """
    A broken installation is not explained away.
    """
    done = plain("-c", "from supervisor.entry import command; command()", blocked=["msgspec"])

    assert "ModuleNotFoundError" in done.stderr
