"""`checkpoints export` and `diff`: a model leaves its run and is the same model elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from safetensors import safe_open

import trainer_shim
from supervisor.cli.main import main
from tests.trainers.small_model import Small, make, tokens
from trainer_shim.checkpoint import Keep, Store

TREE = Path(__file__).parents[2]

FRESH = """
import sys, torch
from pathlib import Path
from safetensors.torch import load_file
from tests.trainers.small_model import make, tokens
out = Path(sys.argv[1])
for state in (load_file(out / "model.safetensors"), torch.load(out / "model.pt", weights_only=True)):
    model = make()
    print(model.load_state_dict(state, strict=True))
    print(torch.equal(model.eval()(tokens()), torch.load(sys.argv[2], weights_only=True)))
"""


SMALL = "tests.trainers.small_model"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class Compiled(torch.nn.Module):
    """The names that torch.compile gives, without the seconds that it takes."""

    def __init__(self, model):
        super().__init__()
        self._orig_mod = model


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a few steps, its folder of checkpoints, and what its model says at the end."""
    folder = tmp_path_factory.mktemp("run")
    model = make()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    shim = trainer_shim.attach(
        checkpoints=folder / "ckpt",
        keep=Keep(last=9, best=1, metric="val_loss"),
        labels={"dataset": "counting"},
        preprocessing={"vocabulary": 20},
        model=Compiled(model),
        optimizer=optimizer,
    )
    shim.extra["note"] = "first"
    for _ in shim.epochs(2):
        for _ in shim.batches(range(3)):
            loss = torch.nn.functional.cross_entropy(model(tokens()).flatten(0, 1), tokens().flatten())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            shim.report(loss=loss, val_loss=loss)
        shim.checkpoint()
    shim.detach()
    torch.save(model.eval()(tokens()).detach(), folder / "said.pt")
    return folder


@pytest.fixture
def ctl(home, trained):
    def run(*args, **env):
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        env = kept | {"PYTHONPATH": str(TREE), "TRAINING_SUPERVISOR_HOME": str(home)} | env
        command = [sys.executable, "-m", "supervisor.cli.main", "checkpoints", *map(str, args)]
        return subprocess.run(
            command, env=env, cwd=TREE, capture_output=True, text=True, timeout=100, check=False
        )

    return run


@pytest.fixture
def here(home, monkeypatch, capsys):
    """The same command in this process, which has torch already."""

    def run(*args):
        words = ["supervisorctl", "--home", str(home), "checkpoints", *map(str, args)]
        monkeypatch.setattr(sys, "argv", words)
        monkeypatch.setattr(sys, "path", list(sys.path))
        code = main()
        return subprocess.CompletedProcess(words, code, *capsys.readouterr())

    return run


def test_an_exported_model_is_the_model_that_was_trained(ctl, trained, tmp_path):
    """
    In a fresh process, with the stock readers and strict loading, tied and
    compiled as it was: the same outputs, bit for bit; the real sha256sum agrees.
    """
    out = tmp_path / "models" / "counting"
    done = ctl(
        "export", trained / "ckpt", "--to", out, "--format", "safetensors", "--format", "torch",
        "--version", "1.2.0", "--license", "CC-BY-4.0", "--data", "numbers | up to <20>",
    )  # fmt: skip
    assert (0, "") == (done.returncode, done.stderr)

    environment = os.environ | {"PYTHONPATH": str(TREE)}
    command = [sys.executable, "-c", FRESH, str(out), str(trained / "said.pt")]
    fresh = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert ["<All keys matched successfully>", "True"] * 2 == fresh.stdout.splitlines()

    subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=out, check=True, capture_output=True)
    (out / "model.pt").write_bytes(b"x")
    assert (
        1
        == subprocess.run(
            ["sha256sum", "-c", "SHA256SUMS"], cwd=out, check=False, capture_output=True
        ).returncode
    )
    assert ["counting"] == names(out.parent)


def test_the_card_says_what_is_known_of_the_model(ctl, trained, tmp_path):
    """
    One set of facts, for programs and for people; nothing that was not said is made up.
    """
    done = ctl("export", trained / "ckpt", "best", "--to", tmp_path / "out", "--version", "1.2.0", "--json")
    (row,) = json.loads(done.stdout)
    card = json.loads((tmp_path / "out" / "model_card.json").read_text())
    page = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    (checkpoint,) = json.loads(ctl("show", trained / "ckpt", "best", "--json").stdout)
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        found = set(file.keys())

    assert found == set(make().state_dict())
    assert sum(parameter.numel() for parameter in make().parameters()) + 2 * 12 + 1 == row["num_parameters"]
    assert ("1.2.0", None, None) == (card["version"], card["license"], card["data"])
    assert ({"dataset": "counting"}, {"vocabulary": 20}) == (card["labels"], card["preprocessing"])
    assert checkpoint["digest"] == card["source"]["digest"]
    assert checkpoint["metrics"] == card["training"]["metrics"]
    assert torch.__version__ == card["environment"]["torch"]
    assert f"torch=={torch.__version__.partition('+')[0]}" in [
        package.partition("+")[0] for package in card["environment"]["packages"]
    ]
    assert [["embed.weight", "out.weight"]] == card["weights"]["tied"]
    assert "| licence | not stated |" in page
    assert row["files"] == names(tmp_path / "out")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--part", "optimizer"], "`state` is no tensor"),
        (["--part", "extra"], "cannot find a part `extra`"),
        (["--version", "1.2"], "it is no semantic one"),
        (["--version", "01.2.0"], "it is no semantic one"),
        (["--onnx"], "--model mine.nets:make"),
        (["--model", "a:b"], "without --onnx"),
        (["--onnx", "--model", SMALL, "--example-input", "4"], "it is not `package.module:"),
        (["--onnx", "--model", f"{SMALL}:make", "--example-input", "4,x"], "cannot make an ex"),
    ],
)  # fmt: skip
def test_what_cannot_be_exported_is_said_and_leaves_nothing(ctl, trained, tmp_path, args, words):
    """
    Exit code 2, what is wrong and what to do; no half export anywhere.
    """
    done = ctl("export", trained / "ckpt", "--to", tmp_path / "out", *args)

    assert 2 == done.returncode
    assert words in done.stderr
    assert "\n\nhint: " in done.stderr
    assert [] == names(tmp_path)


@pytest.mark.parametrize(
    ("model", "example", "words"),
    [
        ("nowhere:make", "4", "cannot import `nowhere`"),
        (f"{SMALL}:not_a_model", "4", "it does not make a torch.nn.Module"),
        (f"{SMALL}:make", "4:float1", "an example input of type `float1`"),
        ("torch.nn:Identity", "4", "cannot load the weights into `torch.nn:Identity`"),
    ],
)
def test_a_model_that_is_not_the_one_is_refused(here, trained, tmp_path, model, example, words):
    """
    Before the exporter is asked; nothing is left behind.
    """
    done = here(
        "export",
        trained / "ckpt",
        "--to",
        tmp_path / "out",
        "--onnx",
        "--model",
        model,
        "--example-input",
        example,
    )

    assert (1 if "weights" in words else 2, "") == (done.returncode, done.stdout)
    assert words in done.stderr
    assert [] == names(tmp_path)


def test_only_an_earlier_export_is_ever_replaced(ctl, trained, tmp_path):
    """
    With --force, and only as long as nobody put anything of their own there.
    """
    out = tmp_path / "out"
    export = ["export", trained / "ckpt", "--to", out]
    assert 0 == ctl(*export).returncode
    assert "there is an export already" in ctl(*export).stderr
    assert 0 == ctl(*export, "--force", "--version", "2.0.0").returncode
    assert "2.0.0" == json.loads((out / "model_card.json").read_text())["version"]
    (out / "mine.txt").write_text("mine")
    assert (2, True) == (ctl(*export, "--force").returncode, (out / "mine.txt").exists())
    assert 2 == ctl("export", trained / "ckpt", "--to", tmp_path, "--force").returncode
    assert 2 == ctl("export", trained / "ckpt", "--to", out / "mine.txt", "--force").returncode
    assert ["out"] == names(tmp_path)


def test_several_models_in_one_run_are_told_apart(ctl, tmp_path):
    """
    None is guessed; each can be chosen, also one inside another part.
    """
    model, average = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    odd = torch.zeros(2, dtype=torch.complex128)
    parts = {
        "model": model.state_dict(),
        "ema": {"inner.one": average.state_dict(), "decay": 0.9},
        "teacher": average.state_dict(),
        "odd": {"w": odd},
    }
    with Store(tmp_path / "ckpt", job="j") as store:
        store.save({"parts": parts}, step=1, epoch=0, facts={})
    export = ["export", tmp_path / "ckpt", "--to", tmp_path / "out"]
    unclear = ctl(*export)
    assert 2 == unclear.returncode
    assert "choose with --part: `model` (a module), `teacher` (a module), `ema`, `odd`" in unclear.stderr
    assert 0 == ctl(*export, "--part", "ema.inner.one").returncode
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert torch.equal(average.weight, file.get_tensor("weight"))
    assert "the format has no type complex128" in ctl(*export, "--force", "--part", "odd").stderr
    assert 0 == ctl(*export, "--force", "--part", "odd", "--format", "torch").returncode
    assert torch.equal(odd, torch.load(tmp_path / "out" / "model.pt", weights_only=True)["w"])


def test_a_damaged_checkpoint_is_not_exported(ctl, tmp_path):
    """
    Exit code 1, which file, and nothing appears.
    """
    with Store(tmp_path / "ckpt", job="j") as store:
        saved = store.save(
            {"parts": {"model": torch.nn.Linear(2, 2).state_dict()}}, step=1, epoch=0, facts={}
        )
    path = saved.path / "rank-00000.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    done = ctl("export", tmp_path / "ckpt", "--to", tmp_path / "out")

    assert 1 == done.returncode
    assert "`rank-00000.safetensors`: its bytes are not those that were saved" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.soak  # Importing the exporter alone takes as long as all others here.
def test_onnx_says_what_the_model_says(ctl, trained, tmp_path):
    """
    The maintained exporter writes it, and the reference evaluator computes the same.
    """
    done = ctl(
        "export", trained / "ckpt", "--to", tmp_path / "out", "--onnx",
        "--model", f"{SMALL}:make", "--example-input", "4,7:int64",
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    path = tmp_path / "out" / "model.onnx"
    onnx.checker.check_model(path)
    model = onnx.load(path)
    (scores,) = ReferenceEvaluator(model).run(None, {model.graph.input[0].name: tokens().numpy()})
    said = torch.load(trained / "said.pt", weights_only=True)

    assert f"{tmp_path / 'out'}: `model` of step-000000006, " in done.stdout
    assert 1 == len(done.stdout.splitlines())
    np.testing.assert_allclose(said.numpy(), scores, rtol=1e-4, atol=1e-5)
    assert "  model.onnx\n" in (tmp_path / "out" / "SHA256SUMS").read_text()


@pytest.mark.parametrize("package", ["torch", "onnx", "onnxscript"])
def test_what_onnx_needs_is_named_before_any_work(home, tmp_path, package):
    """
    With the line that installs it; torch is not needed to say so.
    """
    script = f"""
import sys
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == {package!r} else found(name, *rest)
from supervisor.cli.main import main
words = "supervisorctl checkpoints export x/ --to out --onnx --model a:b --example-input 1"
sys.argv = words.split()
sys.exit(main())
"""
    environment = os.environ | {"PYTHONPATH": str(TREE), "TRAINING_SUPERVISOR_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert 1 == done.returncode
    assert done.stderr.startswith(f"error: cannot export ONNX: {package} is not installed")
    assert "`pip install onnx onnxscript`" in done.stderr


@pytest.mark.parametrize(("kind", "code"), [("safetensors", 0), ("torch", 1)])
def test_torch_is_needed_for_its_own_format_only(trained, home, tmp_path, kind, code):
    """
    Weights leave a server that has no torch; where torch is needed, the error says so.
    """
    words = ["supervisorctl", "checkpoints", "export", str(trained / "ckpt"), "--to", str(tmp_path / "out")]
    script = f"""
import sys
sys.modules["torch"] = sys.modules["numpy"] = None
from supervisor.cli.main import main
sys.argv = {[*words, "--format", kind]}
sys.exit(main())
"""
    environment = os.environ | {"PYTHONPATH": str(TREE), "TRAINING_SUPERVISOR_HOME": str(home)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert (code, code == 0) == (done.returncode, (tmp_path / "out").exists())
    assert code == 0 or "`pip install torch`" in done.stderr


def test_diff_names_what_changed_and_by_how_much(here, tmp_path, monkeypatch):
    """
    Tensors with type, shape, number and size of the differences; values and facts as they are.
    """
    state = {
        "same": torch.ones(3),
        "w": torch.tensor([1.0, 2.0, float("nan"), 0.0]),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "flag": torch.tensor([True, False]),
        "z": torch.zeros(2, dtype=torch.complex64),
        "array": np.arange(3),
        "dates": np.array(["2026-01-01"], "M8[D]"),
        "long": bytes(2000),
        "grown": torch.ones(2),
        "gone": 1,
        "lr": 0.1,
        "list": list(range(100)),
        "groups": [{"lr": (1, 2)}],
        "keys": {1: "a"},
    }
    other = state | {
        "w": torch.tensor([1.0, 2.5, float("nan"), -0.0]),
        "half": torch.tensor([1.0, 1.5], dtype=torch.bfloat16),
        "flag": torch.tensor([True, True]),
        "z": torch.tensor([0, 3 + 4j]).to(torch.complex64),
        "array": np.array([0, 1, 7]),
        "dates": np.array(["2026-01-02"], "M8[D]"),
        "long": bytes(1999) + b"x",
        "grown": torch.ones(3),
        "lr": 0.2,
        "list": [*range(99), 0],
        "groups": [{"lr": (1, 3)}],
        "keys": {1: "b"},
        "new": torch.ones(1),
    }
    del other["gone"]
    with Store(tmp_path / "ckpt", job="j", keep=Keep(last=9)) as store:
        store.save(state, step=1, epoch=0, facts={"labels": {"lr": 0.1}})
        store.save(other, step=2, epoch=0, facts={"labels": {"lr": 0.2}})
    done = here("diff", tmp_path / "ckpt", "1", "2", "--json")
    rows = {row["name"]: row for row in json.loads(done.stdout) if row["kind"] != "fact"}
    numbers = {
        name: (row["num_differing"], row["num_elements"], row["max_abs_difference"])
        for name, row in rows.items()
        if row["num_elements"]
    }

    assert 1 == done.returncode
    assert {
        "w": (2, 4, 0.5),
        "half": (1, 2, 0.5),
        "flag": (1, 2, 1.0),
        "z": (1, 2, 5.0),
        "array": (1, 3, 5.0),
        "dates": (1, 1, None),
        "long": (1, 2000, None),
    } == numbers
    assert ("float32 [2]", "float32 [3]") == (rows["grown"]["a"], rows["grown"]["b"])
    assert (None, "float32 [1]") == (rows["new"]["a"], rows["new"]["b"])
    assert ("1", None) == (rows["gone"]["a"], rows["gone"]["b"])
    assert {"lr", "list", "groups.0.lr.1", "keys.1"} == {
        name for name, row in rows.items() if row["kind"] == "value" and name != "gone"
    }
    facts = {row["name"]: (row["a"], row["b"]) for row in json.loads(done.stdout) if row["kind"] == "fact"}
    assert ("0.1", "0.2") == facts["labels.lr"]
    assert {"step", "saved_at", "labels.lr"} == facts.keys()
    monkeypatch.setenv("COLUMNS", "60")
    assert 60 >= max(map(len, here("diff", tmp_path / "ckpt", "1", "2").stdout.splitlines()))

    same = here("diff", tmp_path / "ckpt", "2", tmp_path / "ckpt" / "step-000000002")
    assert (0, "") == (same.returncode, same.stdout)
    assert "no leaves of the state differ" in same.stderr


def test_the_model_of_these_tests_is_tied():
    """
    Or they would prove nothing about tied weights.
    """
    assert isinstance(make(), Small)
    model = make()
    assert model.out.weight is model.embed.weight
