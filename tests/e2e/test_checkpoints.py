"""`supervisorctl checkpoints` on real folders: exit codes, and what stands on stdout and on stderr."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click import Context

from supervisor import api
from supervisor.cli.checkpoints.places import complete_steps
from supervisor.cli.parser import cli
from tests.fakes.daemon import FakeDaemon
from trainer_shim.checkpoint import Keep, Store
from trainer_shim.checkpoint.reader import visible

TREE = Path(__file__).parents[2]
KEEP = {"last": 2, "best": 1, "metric": "val_loss", "mode": "min", "every_h": None}
LOSSES = {1: 0.5, 2: 0.1, 3: 0.4, 4: 0.6, 5: 0.7}


def save(store, step):
    facts = {
        "keep": KEEP,
        "metrics": {"val_loss": LOSSES[step], "loss": "nan"},
        "labels": {"dataset": "digits"},
        "preprocessing": {"mean": [0.5]},
        "command": ["python", "train.py"],
    }
    store.save({"w": bytes(range(256)) * 40, "n": step}, step=step, epoch=step // 2, facts=facts)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Five checkpoints of a run that keeps all of them."""
    root = tmp_path_factory.mktemp("made") / "ckpt"
    with Store(root, job="digits", keep=Keep(last=9)) as store:
        for step in LOSSES:
            save(store, step)
    return root


@pytest.fixture
def root(made, tmp_path):
    return shutil.copytree(made, tmp_path / "ckpt")


@pytest.fixture
def ctl(home):
    def run(*args, cwd=TREE, **env):
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        env = kept | {"PYTHONPATH": str(TREE), "TRAINING_SUPERVISOR_HOME": str(home)} | env
        command = [sys.executable, "-m", "supervisor.cli.main", "checkpoints", *map(str, args)]
        return subprocess.run(
            command, env=env, cwd=cwd, capture_output=True, text=True, timeout=60, check=False, input=""
        )

    return run


def flip(root, step, file="rank-00000.safetensors"):
    path = root / f"step-{step:09}" / file
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def steps(root):
    return [name.step for name in visible(root)]


def test_a_folder_is_listed_without_a_daemon(ctl, root):
    """
    Newest first, each with its reason; a narrow terminal still has the reason.
    """
    (root / "step-000000003").rename(root / "step-000000003.damaged")
    done = ctl("list", root, COLUMNS="60")
    rows = json.loads(ctl("list", root, "--json").stdout)

    assert (0, "") == (done.returncode, done.stderr)
    assert ["STEP", "5", "4", "3.damaged", "2", "1"] == [line.split()[0] for line in done.stdout.splitlines()]
    assert 60 >= max(map(len, done.stdout.splitlines()))
    assert [
        (5, True, "newest; among the last 2"),
        (4, True, "among the last 2"),
        (3, True, "set aside: damaged; remove it by hand"),
        (2, True, "best 1 of 1 by val_loss (0.1)"),
        (1, False, "older than the last 2, not among the best by val_loss"),
    ] == [(row["step"], row["stays"], row["why"]) for row in rows]
    assert {"val_loss": 0.7} == rows[0]["metrics"]


@pytest.mark.parametrize("pair", [("latest",), ("latest", "latest"), ("5", "step-000000005"), ("5", None)])
def test_a_checkpoint_that_is_compared_with_itself_is_said_to_be(ctl, root, pair):
    """
    2026-11-29: `diff latest` answered that nothing differs, as if it had compared two.
    """
    words = [word or root / "step-000000005" for word in pair]
    done = ctl("diff", root, *words)
    other = ctl("diff", root, "4")

    assert (0, "") == (done.returncode, done.stdout)
    assert (
        "step-000000005 is one checkpoint, compared with itself: no leaves of the state differ" in done.stderr
    )
    assert "hint: name another step; there are the steps 5, 4, 3, 2, 1" in done.stderr
    assert (1, False) == (other.returncode, "itself" in other.stderr)


def test_a_checkpoint_that_is_named_twice_is_read_once(ctl, root):
    """
    `latest` and `5` are the same one: one row, and half of the time.
    """
    rows = json.loads(ctl("verify", root, "latest", "4", "5", "step-000000005", "--json").stdout)

    assert ["step-000000005", "step-000000004"] == [row["name"] for row in rows]


def test_the_folder_of_a_job_is_asked_of_the_daemon(ctl, home, root):
    """
    A name is a job; without a daemon, or for a name that no job has, a folder of that name will do.
    """
    with FakeDaemon(home) as daemon:
        daemon.add("job-1", "completed")
        daemon.shows["job-1"] = api.ShowReply(
            row=daemon.rows["job-1"], argv=(), cwd="/", checkpoints=str(root)
        )
        assert 6 == len(ctl("list", "job-1").stdout.splitlines())
        assert 6 == len(ctl("list", root.name, cwd=root.parent).stdout.splitlines())
        assert (2, "") == (ctl("list", "nope").returncode, ctl("list", "nope").stdout)
    assert 6 == len(ctl("list", root.name, cwd=root.parent).stdout.splitlines())
    assert 4 == ctl("list", "job-1").returncode


def test_further_trainings_of_a_process_are_listed_by_their_number(ctl, home, root):
    """
    A cross-validation has a folder for each fold; the job is that of the first, and the others are named.
    """
    further = [shutil.copytree(root, root.parent / f"{root.name}+{number}") for number in (2, 10)]
    shutil.rmtree(further[0] / "step-000000005")
    (root.parent / f"{root.name}+x").mkdir()
    with FakeDaemon(home) as daemon:
        daemon.add("job-1", "completed")
        daemon.shows["job-1"] = api.ShowReply(
            row=daemon.rows["job-1"], argv=(), cwd="/", checkpoints=str(root)
        )
        first, second = ctl("list", "job-1"), ctl("list", "job-1+2")
    by_path = ctl("list", f"{root}/")

    assert "the others are job-1+2, job-1+10\n" in first.stderr
    assert [6, 5] == [len(done.stdout.splitlines()) for done in (first, second)]
    assert f"the others are {root}+2, {root}+10\n" in by_path.stderr
    assert "" == second.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["list", "{root}/nothing"], "there is no folder"),
        (["list", "{root}/step-000000005"], "it is one of them"),
        (["show", "{root}", "77"], "cannot find step 77"),
        (["show", "{root}", "{root}/elsewhere"], "cannot find a checkpoint"),
        (["pin", "{root}", "5", "--note", "x" * 201], "a note of 201 characters"),
        (["prune", "{root}"], "stdin is no terminal"),
        (["prune", "{root}", "--keep-last", "0"], "the newest one always stays"),
        (["prune", "{root}", "--keep-best", "2", "--metric", ""], "give both, or neither"),
        (["purge", "{root}"], "no such command"),
    ],
)
def test_what_cannot_be_right_is_a_usage_error(ctl, root, args, words):
    """
    Exit code 2, what is wrong, and where to look; nothing is removed.
    """
    done = ctl(*(arg.format(root=root) for arg in args))

    assert 2 == done.returncode
    assert words in done.stderr
    assert "\n\nhint: " in done.stderr
    assert [5, 4, 3, 2, 1] == steps(root)


def test_show_tells_what_a_checkpoint_says_of_itself(ctl, root):
    """
    Of the latest, of the best, of one step; NaN is told to people and left out of the numbers.
    """
    latest, best, first = (
        json.loads(ctl("show", root, *which, "--json").stdout)[0] for which in ([], ["best"], ["1"])
    )

    assert [5, 2, 1] == [row["step"] for row in (latest, best, first)]
    assert ({"dataset": "digits"}, {"mean": [0.5]}) == (best["labels"], best["preprocessing"])
    assert {"val_loss": 0.1, "loss": "nan"} == best["metrics"]
    text = ctl("show", root, root / "step-000000002").stdout
    assert "loss         nan" in text
    assert "command      python train.py" in text


def test_verify_reads_every_byte_and_names_the_bad_file(ctl, root):
    """
    Exit code 0 when all is well, 1 when one byte of one file is not.
    """
    assert 0 == ctl("verify", root).returncode
    flip(root, 3)
    flip(root, 2, "environment.txt")
    (root / "step-000000001" / "manifest.json").unlink()
    done = ctl("verify", root, "--json")
    rows = {row["id"]: row for row in json.loads(done.stdout)}

    assert 1 == done.returncode
    assert [("5", True), ("4", True), ("3", False), ("2", False), ("1", False)] == [
        (name, row["good"]) for name, row in rows.items()
    ]
    assert ["rank-00000.safetensors"] == [problem["file"] for problem in rows["3"]["problems"]]
    assert ["environment.txt"] == [problem["file"] for problem in rows["2"]["problems"]]
    assert ["manifest.json"] == [problem["file"] for problem in rows["1"]["problems"]]
    assert 0 == ctl("verify", root, "5", "4").returncode
    assert "3     bad" in ctl("verify", root, "3").stdout


def test_a_pin_is_heeded_by_the_run_that_goes_on(ctl, root):
    """
    Made while another process holds the folder; taken away, the checkpoint goes.
    """
    with Store(root, job="digits", keep=Keep(last=1)) as store:
        done = ctl("pin", root, "1", "--note", "for the paper")
        assert (0, "step-000000001 pinned: for the paper\n") == (done.returncode, done.stdout)
        save(store, 5)
        assert [5, 1] == steps(root)
        assert [("1", True, "for the paper")] == [
            (row["id"], row["pinned"], row["note"])
            for row in json.loads(ctl("list", root, "--json").stdout)
            if row["pinned"]
        ]
        assert "unpinned" in ctl("unpin", root, "1").stdout
        assert "was not pinned" in ctl("unpin", root, "1").stdout
        save(store, 5)

    assert [5] == steps(root)


def test_prune_keeps_what_the_run_would_keep(ctl, root):
    """
    Shown first, then removed; pinned ones and the best stay, leftovers of a crash go too.
    """
    (root / "step-000000009.partial").mkdir()
    ctl("pin", root, "1")
    would = ctl("prune", root, "--dry-run", "--json")
    assert [5, 4, 3, 2, 1] == steps(root)
    done = ctl("prune", root, "--yes")

    assert (0, 0) == (would.returncode, done.returncode)
    assert [3] == [row["step"] for row in json.loads(would.stdout) if not row["stays"]]
    assert "removed 1 checkpoint, " in done.stderr
    assert [5, 4, 2, 1] == steps(root)
    assert not (root / "step-000000009.partial").exists()


def test_rules_that_are_given_stand_in_for_those_of_the_run(ctl, root):
    """
    The others stay in force.
    """
    assert 0 == ctl("prune", root, "--keep-last", "1", "--yes").returncode
    assert [5, 2] == steps(root)
    assert 0 == ctl("prune", root, "--keep-last", "1", "--keep-best", "0", "--yes").returncode
    assert [5] == steps(root)


def test_prune_reads_the_newest_before_it_removes_the_others(ctl, root):
    """
    When the newest ones turn out to be damaged, the newest good one stays, whatever was asked.
    """
    flip(root, 5)
    flip(root, 4)
    done = ctl("prune", root, "--keep-last", "1", "--keep-best", "0", "--yes")

    assert 0 == done.returncode
    assert "step-000000005 is damaged, so an older one has to stay" in done.stderr
    assert [5, 4, 3] == steps(root)


def test_prune_is_refused_while_a_process_trains_there(ctl, root):
    """
    Exit code 3 and who it is; what would go can still be seen.
    """
    with Store(root, job="digits", keep=Keep(last=9)):
        done = ctl("prune", root, "--yes")
        assert 0 == ctl("prune", root, "--dry-run").returncode

    assert 3 == done.returncode
    assert f"it is in use by pid {os.getpid()}" in done.stderr
    assert [5, 4, 3, 2, 1] == steps(root)


@pytest.mark.parametrize("step", [None, 6])
def test_a_run_that_comes_back_while_prune_asks_is_not_kept_out(root, home, step):
    """
    A person went for coffee at the question, and a rule brought the job back: it trains, and what it
    changed meanwhile is not pruned by what was true before.
    """
    person, terminal = os.openpty()
    asking = subprocess.Popen(
        [sys.executable, "-m", "supervisor.cli.main", "checkpoints", "prune", str(root)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(TREE), "TRAINING_SUPERVISOR_HOME": str(home)},
        cwd=TREE, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert asking.stderr is not None
    said = b""
    while b"remove 2?" not in said:
        piece = os.read(asking.stderr.fileno(), 4096)
        assert piece, said
        said += piece
    with Store(root, job="digits", keep=Keep(last=9)) as store:
        if step is not None:
            store.save({"n": 1}, step=step, epoch=0, facts={})
    os.write(person, b"y\n")
    _, rest = asking.communicate(timeout=60)
    os.close(person)
    os.close(terminal)

    if step is None:
        assert (0, [5, 4, 2]) == (asking.returncode, steps(root))
    else:
        assert (3, [6, 5, 4, 3, 2, 1]) == (asking.returncode, steps(root))
        assert b"the checkpoints changed while you were asked" in rest


def test_a_folder_of_no_run_needs_rules_to_be_pruned(ctl, tmp_path):
    """
    Nobody said what is to be kept, so nothing is guessed.
    """
    with Store(tmp_path / "old", job="j", keep=Keep(last=9)) as store:
        for step in (1, 2):
            store.save({"n": step}, step=step, epoch=0, facts={})

    assert 2 == ctl("prune", tmp_path / "old", "--yes").returncode
    assert 0 == ctl("prune", tmp_path / "old", "--yes", "--keep-last", "1").returncode
    assert [2] == steps(tmp_path / "old")
    assert 2 == ctl("show", tmp_path / "old", "best").returncode
    (tmp_path / "empty").mkdir()
    assert (0, "") == (ctl("list", tmp_path / "empty").returncode, ctl("list", tmp_path / "empty").stdout)
    assert 1 == ctl("verify", tmp_path / "empty").returncode


def test_a_shell_completes_steps(root, home):
    """
    Those that are there, and the two words; what is not there is no error.
    """
    parent = Context(cli)
    parent.params["home"] = str(home)
    ctx = Context(cli, parent=parent)
    ctx.params["job"] = str(root)

    assert ["latest", "best", "5", "4", "3", "2", "1"] == complete_steps(ctx, None, "")
    assert ["latest"] == complete_steps(ctx, None, "l")
    ctx.params["job"] = "nope"
    assert [] == complete_steps(ctx, None, "")
