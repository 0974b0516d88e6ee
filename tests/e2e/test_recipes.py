"""Every recipe in examples/recipes is exact: ended, killed, and begun again, and under `prove`.

Covers: the hash of all weights, that the shim warns of nothing, the table in docs/RECIPES.md; Ctrl-C and a
`--resume` that are the script's own; recorded speech.
Does not cover: the other examples (test_examples.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import wave
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.trainers.runs import Run

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "recipes"
HELPERS = ("fingerprint", "speech")
RECIPES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in HELPERS)
#: Light ones of several shapes, which every run of the tests tries; `make test-recipes` tries all.
ALWAYS = ("diffusion", "own_resume", "semi_supervised")
#: One at a time under `prove`, which knows one training a process.
ONLY = {"folds": ("--only", "1"), "sweep": ("0.1",)}
ENDS = ({"signal": "SIGTERM"}, {"signal": "SIGKILL", "step": 33})
#: Where a process trains several times.
LATER = tuple({**end, "training": number} for end in ENDS for number in (2, 3))
CODES = {"SIGTERM": 143, "SIGKILL": -9}
ENV = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(*argv, cwd, said=""):
    return subprocess.run(
        [sys.executable, *argv],
        cwd=cwd,
        env=ENV,
        input=said,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def ran(runs):
    """
    What became of each, in their order.
    """
    for one in runs:
        Path(one.folder).mkdir(exist_ok=True)
    said = "".join(json.dumps(asdict(one)) + "\n" for one in runs)
    done = start("-m", "tests.trainers.forked", cwd=ROOT, said=said)
    assert "" == done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def trials(name, folder, ends):
    """
    The recipe left alone; then ended and begun again, for each of the ends.
    """
    script = str(FOLDER / f"{name}.py")
    runs = [Run(script, f"{folder}/{name}")]
    for number, end in enumerate(ends):
        cut = f"{folder}/{name}-{number}"
        runs += [Run(script, cut, **end), Run(script, cut)]
    return runs


def warnings(said):
    """What the shim said beside what it does."""
    lines = [line for line in said.splitlines() if line.startswith("trainer_shim: ")]
    plain = (
        "is durable; ending because",
        "going on from step",
        "of this process begins anew",
        "the run was complete",
    )
    return [line for line in lines if not any(one in line for one in plain)]


def check_same(done, ends):
    """
    Each was ended as it was to be, went on from a checkpoint, and came to the result of the first one;
    nothing was warned of.
    """
    whole, *others = done
    assert 0 == whole["code"], whole["err"]
    assert whole["out"].startswith("sha256 ")
    for end, cut, again in zip(ends, others[::2], others[1::2], strict=True):
        assert (CODES[end["signal"]], 0) == (cut["code"], again["code"]), (end, cut["err"], again["err"])
        assert "going on from step" in again["err"], end
        assert whole["out"] == again["out"], end
    assert [] == [line for one in done for line in warnings(one["err"])]


def test_light_recipes_that_are_ended_and_begun_again_end_with_the_same_bits(tmp_path):
    """
    SIGTERM in their middle, and nothing that the shim has to warn of. One process loads torch for all.
    """
    ends = ENDS[:1]
    done = ran([one for name in ALWAYS for one in trials(name, tmp_path, ends)])

    num_runs = len(done) // len(ALWAYS)
    for number in range(len(ALWAYS)):
        check_same(done[number * num_runs : (number + 1) * num_runs], ends)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_that_is_ended_or_killed_and_begun_again_ends_with_the_same_bits(name, tmp_path):
    """
    SIGTERM in its middle; kill -9 where it saves every few steps, so that it goes on from the newest
    checkpoint that is durable. In the first training of the process, and in later ones where there are any.
    """
    ends = (*ENDS, *LATER) if name in ONLY else ENDS

    check_same(ran(trials(name, tmp_path, ends)), ends)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", RECIPES)
def test_prove_finds_no_difference(name, tmp_path):
    """
    At exits and holds, with each batch and each number compared.
    """
    words = ["-m", "supervisor.cli.main", "prove", "--json", "--seed=3", "--", sys.executable]
    done = start(*words, str(FOLDER / f"{name}.py"), *ONLY.get(name, ()), cwd=tmp_path)

    assert "identical" == json.loads(done.stdout)[0]["verdict"], done.stdout + done.stderr


@pytest.mark.soak
def test_ctrl_c_is_the_scripts_own_where_it_says_so(tmp_path):
    """
    It evaluates what it has; started again it goes on from its last checkpoint and ends as if never stopped.
    """
    script, cut = str(FOLDER / "stopping.py"), f"{tmp_path}/cut"
    runs = [Run(script, f"{tmp_path}/whole"), Run(script, cut, signal="SIGINT", step=50), Run(script, cut)]
    whole, stopped, again = ran(runs)

    assert (0, "") == (stopped["code"], stopped["err"])
    assert stopped["out"].startswith("stopped after 5")
    assert "\nsha256 " in stopped["out"]
    assert "going on from step" in again["err"]
    assert whole["out"] == again["out"]


@pytest.mark.soak
@pytest.mark.parametrize("end", ENDS, ids=CODES)
def test_a_resume_of_the_scripts_own_is_followed_once(tmp_path, end):
    """
    A run that begins with a file of another one, and overwrites it, is exact as any: after a pause the shim's
    checkpoint counts, and the file not.
    """
    script = str(FOLDER / "own_resume.py")
    folders = [f"{tmp_path}/{name}" for name in ("whole", "cut")]
    first = [Run(script, folder, ["--epochs", "2"]) for folder in folders]
    assert [0, 0] == [one["code"] for one in ran(first)]
    for folder in folders:
        Path(folder, "checkpoints").rename(f"{folder}/of-the-first-run")
    argv = ["--epochs", "7", "--resume", "best.pt"]
    before, _ = begun = [Path(folder, "best.pt").read_bytes() for folder in folders]
    runs = [
        Run(script, folders[0], argv),
        Run(script, folders[1], argv, **end),
        Run(script, folders[1], argv),
    ]
    done = ran(runs)

    check_same(done, [end])
    assert begun[0] == begun[1]
    ended = [Path(folder, "best.pt").read_bytes() for folder in folders]
    assert before != ended[0]
    assert ended[0] == ended[1]


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_recorded_speech_is_taken_and_what_is_none_is_left_out(tmp_path):
    """
    Two voices of Debian's packages (CC-BY-SA-3.0); an empty file, a short one and one that is no sound.
    """
    packages = [f"asterisk-core-sounds-{language}-wav" for language in ("en", "ru")]
    found = subprocess.run(
        [ROOT / "tests/unpacked.sh", tmp_path / "packages", *packages],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        pytest.skip(f"no recorded speech: {found.stderr.strip()}")
    folders = sorted(str(path) for path in (tmp_path / "packages/usr/share/asterisk/sounds").iterdir())
    for folder in folders:
        Path(folder, "0-empty.wav").touch()
        Path(folder, "0-other.wav").write_text("no sound")
        with wave.open(f"{folder}/0-short.wav", "wb") as clip:
            clip.setparams((1, 2, 8000, 0, "NONE", ""))
            clip.writeframes(b"\0\0" * 100)
    runs = [
        Run(one.script, one.folder, folders, one.signal, one.step) for one in trials("voices", tmp_path, ENDS)
    ]
    done = ran(runs)

    check_same(done, ENDS)
    assert 2 == len(folders)
    assert 100 < int(done[0]["out"].split(" from ")[1].split()[0]) < 190


def lines_with_the_shim(name):
    text = (FOLDER / f"{name}.py").read_text()
    return sum("shim" in line for line in text.split('"""', 2)[2].splitlines())


def test_the_readme_says_how_many_lines_they_take():
    """
    The least and the most.
    """
    counts = [lines_with_the_shim(name) for name in RECIPES]

    assert f" take {min(counts)} to {max(counts)} lines each" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", RECIPES)
def test_the_page_has_each_recipe_with_the_lines_that_it_takes(name):
    """
    Counted, not remembered; and none is longer than a screen.
    """
    text = (FOLDER / f"{name}.py").read_text()
    num_lines = lines_with_the_shim(name)
    page = (ROOT / "docs" / "RECIPES.md").read_text()

    assert f"[{name}.py](../examples/recipes/{name}.py) | {num_lines} |" in page
    assert len(text.splitlines()) < 60
