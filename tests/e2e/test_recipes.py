"""Every recipe in examples/recipes is exact: ended in its middle and begun again, and under `prove`.

Covers: the hash of all weights, that the shim warns of nothing, the table in docs/RECIPES.md.
Does not cover: the other examples (test_examples.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "recipes"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "fingerprint")
#: Those that every run of the tests tries; `make test-recipes` tries all.
ALWAYS = ("characters", "early_stopping", "semi_supervised")
ENV = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run(*argv, cwd):
    return subprocess.run(
        [sys.executable, *argv], cwd=cwd, env=ENV, capture_output=True, text=True, timeout=200, check=False
    )


def warnings(said):
    """What the shim said beside what it does."""
    lines = [line for line in said.splitlines() if line.startswith("trainer_shim: ")]
    plain = ("is durable; ending because", "going on from step", "of this process begins anew")
    return [line for line in lines if not any(one in line for one in plain)]


def marked(names):
    return [pytest.param(one, marks=[] if one in ALWAYS else pytest.mark.soak) for one in names]


@pytest.mark.parametrize("name", marked(RECIPES))
def test_a_recipe_that_is_ended_and_begun_again_ends_with_the_same_bits(name, tmp_path):
    """
    SIGTERM in its middle, and nothing that the shim has to warn of.
    """
    script = str(FOLDER / f"{name}.py")
    for folder in ("whole", "cut"):
        (tmp_path / folder).mkdir()
    whole = run(script, cwd=tmp_path / "whole")
    ended = run("-m", "tests.trainers.ended_at", script, "25", cwd=tmp_path / "cut")
    again = run(script, cwd=tmp_path / "cut")

    assert (0, 143, 0) == (whole.returncode, ended.returncode, again.returncode), (ended.stderr, again.stderr)
    assert whole.stdout.startswith("sha256 ")
    assert whole.stdout == again.stdout
    assert [] == warnings(whole.stderr + ended.stderr + again.stderr)


@pytest.mark.soak
@pytest.mark.parametrize("name", RECIPES)
def test_prove_finds_no_difference(name, tmp_path):
    """
    At exits and holds, with each batch and each number compared.
    """
    words = ["-m", "supervisor.cli.main", "prove", "--json", "--seed=3", "--", sys.executable]
    only = ("--only", "1") if name == "folds" else ()
    done = run(*words, str(FOLDER / f"{name}.py"), *only, cwd=tmp_path)

    assert "identical" == json.loads(done.stdout)[0]["verdict"], done.stdout + done.stderr


@pytest.mark.parametrize("name", RECIPES)
def test_the_page_has_each_recipe_with_the_lines_that_it_takes(name):
    """
    Counted, not remembered; and none is longer than a screen.
    """
    text = (FOLDER / f"{name}.py").read_text()
    num_lines = sum("shim" in line for line in text.split('"""', 2)[2].splitlines())
    page = (ROOT / "docs" / "RECIPES.md").read_text()

    assert f"[{name}.py](../examples/recipes/{name}.py) | {num_lines} |" in page
    assert len(text.splitlines()) < 60
