"""A verified checkpoint that is looked at in parts; one that makes no sense is said to be so."""

from __future__ import annotations

import errno
import shutil

import numpy as np
import pytest
import torch

from tests.fakes.forgery import forge
from trainer_shim.checkpoint import Store
from trainer_shim.checkpoint.layout import Name
from trainer_shim.checkpoint.view import viewed
from trainer_shim.errors import CannotRestore, Damaged

STATE = {"w": torch.arange(5.0), "a": np.arange(4), "n": bytes(2000), "x": {"y": (1, torch.ones(2))}}


@pytest.fixture
def folder(tmp_path):
    with Store(tmp_path, job="j") as store:
        return store.save(STATE, step=3, epoch=0, facts={"preprocessing": {"mean": 1}}).path


def test_any_part_of_a_state_can_be_had_alone(folder):
    """
    One tensor of a checkpoint that is larger than memory, or one part with all that is in it.
    """
    seen = []
    with viewed(folder, Name(3), seen.append) as view:
        nodes = view.skeleton
        tensor, array = view.value(nodes["w"]), view.value(nodes["a"])
        number, inner = view.value(nodes["x"])["y"]
        data = view.value(nodes["n"])
        memory = bytes(view.memory("w"))
        texts = set(view.texts)

    assert torch.equal(STATE["w"], tensor)
    assert STATE["a"].tolist() == array.tolist()
    assert (1, [1.0, 1.0]) == (number, inner.tolist())
    assert STATE["n"] == data
    assert STATE["w"].numpy().tobytes() == memory
    assert {"environment.txt", "preprocessing.json", "rank-00000.json"} == texts
    assert sum(seen) == sum(path.stat().st_size for path in folder.iterdir() if path.name != "manifest.json")


def test_what_was_taken_out_has_memory_of_its_own(folder):
    """
    It lives on when the view is closed, and may be changed.
    """
    with viewed(folder, Name(3)) as view:
        tensor = view.value(view.skeleton["w"])
        tensor += 1
        again = view.value(view.skeleton["w"])

    assert 1.0 == tensor[0].item()
    assert 0.0 == again[0].item()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"dtype":"float32","shape":[5]', b'"dtype":"float32","shape":[4]'),
        (b'"dtype":"float32","shape":[5]', b'"dtype":"int32","shape":[5]'),
        (b'"dtype":"float32","shape":[5]', b'"dtype":"float32","shape":7'),
        (b'"dtype":"float32","shape":[5]', b'"dtype":"float32","shape":["a"]'),
        (b'"dtype":"float32","shape":[5]', b'"dtype":"float32","shape":[5],"strides":[2]'),
        (b'"dtype":"float32","shape":[5]', b'"dtype":["float32"],"shape":[5]'),
        (b'"block":"w"', b'"block":"nowhere"'),
    ],
)
def test_a_node_that_does_not_fit_its_bytes_is_an_error_that_names_the_checkpoint(folder, old, new):
    """
    The digests are right and the sense is not: a tool says which folder it cannot use, and does not crash.
    """

    def change(text):
        assert old in text
        return text.replace(old, new)

    forge(folder, "rank-00000.json", change)
    with viewed(folder, Name(3)) as view, pytest.raises(Damaged, match="step-000000003") as caught:
        view.value(view.skeleton["w"])
    assert "cannot use the checkpoint" in str(caught.value)


def test_a_checkpoint_whose_bytes_changed_is_not_looked_at(folder):
    """
    It is read whole before any of it is shown, and the file at fault is named.
    """
    path = folder / "rank-00000.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)

    with (
        pytest.raises(Damaged, match=r"step-000000003`: `rank-00000\.safetensors`") as caught,
        viewed(folder, Name(3)),
    ):
        pass
    assert "checkpoints verify" in caught.value.hint


def test_a_folder_that_is_not_there_is_said(folder):
    """
    It may have been removed since it was listed.
    """
    shutil.rmtree(folder)

    with pytest.raises(CannotRestore, match="No such file") as caught, viewed(folder, Name(3)):
        pass
    assert errno.ENOENT == caught.value.__cause__.errno
    assert caught.value.hint
