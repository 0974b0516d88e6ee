"""Whatever happens to the files of a checkpoint of a real training, it is noticed and the one before is used.

Covers: a flipped byte at sampled places of each file, a byte less or more, files swapped, of another step or
another job, missing files and ranks, a folder under another name; files that should not be there.
Does not cover: forgery with right digests (test_hostile_checkpoints.py).
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

from tests.fakes.forgery import forge_manifest
from trainer_shim import rng
from trainer_shim.checkpoint import Store
from trainer_shim.checkpoint.layout import Name
from trainer_shim.checkpoint.verify import verify

NEWEST, BEFORE, OTHER = "step-000000030", "step-000000020", "other"
MANIFEST, STATE, ENVIRONMENT = "manifest.json", "rank-00000.json", "environment.txt"
TENSORS, STILL = "rank-00000.safetensors", "rank-00000.still.safetensors"
FILES = (MANIFEST, STATE, TENSORS, STILL, ENVIRONMENT, "preprocessing.json")


class Training:
    """A frozen base under a trained head, as in fine-tuning."""

    def __init__(self, seed):
        torch.manual_seed(seed)
        base = torch.nn.Linear(100, 200).requires_grad_(requires_grad=False)
        self.model = torch.nn.Sequential(base, torch.nn.ReLU(), torch.nn.Linear(200, 3))
        self.optimizer = torch.optim.AdamW([one for one in self.model.parameters() if one.requires_grad])

    def train(self):
        self.optimizer.zero_grad()
        self.model(torch.randn(4, 100)).square().mean().backward()
        self.optimizer.step()

    def state(self):
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": rng.capture(),
        }


def trained(root, job, seed):
    training = Training(seed)
    with Store(root, job=job, keep_last=5) as store:
        for step in range(40):
            if step in (1, 5, 10, 20, 30):
                facts = {"preprocessing": {"step": step, "of": job}, "labels": {"job": job}}
                store.save({**training.state(), "at": [job, step]}, step=step, epoch=0, facts=facts)
            training.train()


@pytest.fixture(scope="module")
def folders():
    """Two trainings; copies of them lose the links between their files."""
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where) as folder:
        trained(Path(folder) / "ours", "j", 1)
        trained(Path(folder) / "other", "other", 2)
        assert (Path(folder) / "ours" / NEWEST / STILL).stat().st_nlink > 1
        yield Path(folder)


@pytest.fixture
def root(folders):
    with tempfile.TemporaryDirectory(dir=folders) as folder:
        for step in (BEFORE, NEWEST):
            shutil.copytree(folders / "ours" / step, Path(folder) / "ckpt" / step)
        (Path(folder) / "ckpt").chmod(0o700)
        shutil.copytree(folders / "other", Path(folder) / OTHER)
        yield Path(folder) / "ckpt"


def changed(change):
    """Every file in turn."""

    def damage(file):
        return lambda root: (root / NEWEST / file).write_bytes(change((root / NEWEST / file).read_bytes()))

    return {file: damage(file) for file in FILES}


def flipped(data):
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ random.randrange(1, 256)]) + data[at + 1 :]


def from_(where, *files):
    def damage(root):
        for file in files:
            shutil.copy(root / where / file, root / NEWEST / file)

    return damage


def swapped(one, two):
    def damage(root):
        first, second = (root / NEWEST / name for name in (one, two))
        first.rename(root / "between")
        second.rename(first)
        (root / "between").rename(second)

    return damage


def without(file):
    return lambda root: (root / NEWEST / file).unlink()


def fields(change):
    return lambda root: forge_manifest(root / NEWEST, change)


DAMAGE = {
    **{f"a flipped byte of {file}": damage for file, damage in changed(flipped).items()},
    **{f"{file} without its last byte": damage for file, damage in changed(lambda data: data[:-1]).items()},
    **{f"{file} with a byte more": damage for file, damage in changed(lambda data: data + b"\0").items()},
    **{f"{file} empty": damage for file, damage in changed(lambda _: b"").items()},
    **{f"no {file}": without(file) for file in FILES},
    **{f"{file} of another step": from_(BEFORE, file) for file in (MANIFEST, STATE, TENSORS, FILES[-1])},
    **{
        f"{file} of another job": from_(f"../{OTHER}/{NEWEST}", file)
        for file in (MANIFEST, STATE, TENSORS, STILL, "preprocessing.json")
    },
    "all but the manifest of another job": from_(f"../{OTHER}/{NEWEST}", *FILES[1:]),
    "all tensors of another step": from_(BEFORE, TENSORS, STATE),
    "both tensor files swapped": swapped(TENSORS, STILL),
    "two texts swapped": swapped(STATE, ENVIRONMENT),
    "a rank that is missing": fields(lambda found: found.update(world_size=2)),
    "a rank under another's name": fields(
        lambda found: found["files"].update({"rank-00001.json": found["files"].pop(STATE)})
    ),
    "a rank whose files are not there": fields(
        lambda found: found.update(
            world_size=2,
            files=found["files"]
            | {name.replace("00000", "00001"): found["files"][name] for name in (STATE, TENSORS)},
        )
    ),
    "another step in the manifest": fields(lambda found: found.update(step=31)),
}


def newest(root):
    with Store(root, job="j") as store:
        return store.newest(), store.notices


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_noticed_told_set_aside_and_the_one_before_is_used(root, name):
    """
    No number changes in silence; nothing is lost or overwritten, and a person reads what was found.
    """
    for _ in range(8 if "flipped" in name else 1):
        DAMAGE[name](root)
        problems = verify(root / NEWEST, Name(30)).problems
        left = sorted((path.name, path.read_bytes()) for path in (root / NEWEST).iterdir())
        loaded, notices = newest(root)

        assert 20 == loaded.step
        assert [f"{NEWEST}.damaged"] == [notice.path.name for notice in notices]
        assert NEWEST in notices[0].text
        assert "it is kept as" in notices[0].text
        assert notices[0].hint
        assert left == sorted((path.name, path.read_bytes()) for path in notices[0].path.iterdir())
        assert problems, "`checkpoints verify` did not notice it"

        notices[0].path.rename(root / NEWEST)
        if "flipped" in name:
            shutil.rmtree(root / NEWEST)
            shutil.copytree(root.parents[1] / "ours" / NEWEST, root / NEWEST)


def test_a_folder_under_the_name_of_another_step_is_not_used(root):
    """
    A renamed or copied folder sets no training back or forth.
    """
    shutil.copytree(root / BEFORE, root / "step-000000040")
    loaded, notices = newest(root)

    assert 30 == loaded.step
    assert "it is of step 20" in notices[0].text


def test_a_whole_checkpoint_of_another_job_is_used_and_said(root):
    """
    A run that was given another name goes on from its own checkpoints; whoever
    mixed up two folders reads it.
    """
    shutil.copytree(root.parent / OTHER / NEWEST, root / "step-000000030.1")
    loaded, notices = newest(root)

    assert ("other", 30) == (loaded.manifest.job, loaded.step)
    assert ["was written by job `other`; `j` goes on from it"] == [
        notice.text[notice.text.index("was") :] for notice in notices
    ]
    assert "a checkpoint folder of its own" in notices[0].hint


def test_a_file_that_somebody_put_there_changes_nothing(root):
    """
    Notes beside the files are nobody's business, and go with the folder.
    """
    (root / NEWEST / "notes.txt").write_text("best so far")
    (root / NEWEST / "rank-00001.json").write_text("junk")
    loaded, notices = newest(root)

    assert 30 == loaded.step
    assert [] == notices


def test_damage_to_a_file_that_several_share_costs_all_of_them(folders):
    """
    That is the price of writing what does not change once; each is said.
    """
    root = folders / "ours"
    before = (root / NEWEST / STILL).read_bytes()
    shared = [path for path in root.glob("step-*") if path.joinpath(STILL).exists()]
    with (root / NEWEST / STILL).open("r+b") as file:
        file.write(b"\xff")
    loaded, notices = newest(root)
    for path in root.glob("*.damaged"):
        path.rename(root / path.name.removesuffix(".damaged"))
    with (root / NEWEST / STILL).open("r+b") as file:
        file.write(before[:1])

    assert len(shared) == len(notices) >= 2
    assert loaded is None or loaded.path not in shared
    assert 30 == newest(root)[0].step
