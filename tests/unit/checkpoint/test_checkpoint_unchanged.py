"""Tensors that do not change are linked, and those that do never are."""

from __future__ import annotations

import errno
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from tests.fakes.device import FakeDevice
from tests.fakes.disk import MeasuredDisk
from trainer_shim.checkpoint import Store
from trainer_shim.checkpoint.commit import LocalDisk
from trainer_shim.checkpoint.reader import load
from trainer_shim.errors import CannotSave, Damaged
from trainer_shim.offload import Offloader

STILL = "rank-00000.still.safetensors"
SIZE = 20_000


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "ckpt", job="j", keep_last=2) as opened:
        yield opened


def tuned():
    """A model of which only the head is trained."""
    return {"base": torch.randn(SIZE), "base2": torch.randn(SIZE), "head": torch.zeros(SIZE)}


def save(store, state, step):
    state["head"] += 1
    return store.save({"model": state}, step=step, epoch=0, facts={})


def inode(saved):
    path = saved.path / STILL
    return path.stat().st_ino if path.exists() else None


def same(state, found):
    return state.keys() == found.keys() and all(torch.equal(state[name], found[name]) for name in state)


def test_frozen_parameters_are_written_once(store):
    """
    Fine-tuning a small head costs the disk a small head, from the third save on.
    """
    state = tuned()
    inodes = [inode(save(store, state, step)) for step in range(5)]
    loaded = store.newest()

    assert inodes[0] is None
    assert 1 == len(set(inodes[1:]))
    assert same(state, loaded.state["model"])
    assert {"model.base", "model.base2"} == set(load_file(loaded.path / STILL))


def test_the_first_save_after_a_pause_links_too(store):
    """
    Coming back does not cost a full write.
    """
    state = tuned()
    before = [inode(save(store, state, step)) for step in range(3)][-1]
    store.close(for_now=True)
    with Store(store._root, job="j") as again:
        state = again.newest().state["model"]

        assert before == inode(save(again, state, 4))


def test_memory_that_was_given_back_meanwhile_is_linked_all_the_same(store):
    """
    After depth `offload` a frozen model lies elsewhere, and is the same.
    """
    state = tuned()
    before = [inode(save(store, state, step)) for step in range(3)][-1]
    offloader = Offloader({}, lambda: state, ("cpu",), memory=FakeDevice())
    places = [tensor.data_ptr() for tensor in state.values()]
    offloader.give_back()
    elsewhere = [torch.zeros(SIZE) for _ in state]
    offloader.take_back()
    after = inode(save(store, state, 3))

    assert before == after
    assert 3 == len(elsewhere)
    assert places != [tensor.data_ptr() for tensor in state.values()]


def test_a_checkpoint_whose_links_cannot_be_made_is_written(store, monkeypatch):
    """
    A file system without hard links only costs time.
    """

    def refuse(*_args, **_kwargs):
        raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))

    state = tuned()
    for step in range(3):
        save(store, state, step)
    monkeypatch.setattr(os, "link", refuse)
    saved = save(store, state, 3)

    assert 1 == (saved.path / STILL).stat().st_nlink
    assert same(state, store.newest().state["model"])


def test_a_flipped_bit_in_a_linked_file_is_noticed(store):
    """
    What was not written again is verified all the same.
    """
    state = tuned()
    saved = [save(store, state, step) for step in range(3)][-1]
    data = bytearray((saved.path / STILL).read_bytes())
    data[len(data) // 2] ^= 4
    (saved.path / STILL).write_bytes(data)

    with pytest.raises(Damaged, match=r"still\.safetensors"):
        load(saved.path)


def test_a_change_that_no_counter_told_of_needs_room_like_any_other(store):
    """
    What seemed unchanged was not reckoned with; on a full disk it is refused,
    and the older checkpoint stays.
    """
    state = tuned()
    for step in range(3):
        save(store, state, step)
    state["base"].numpy()[7] += 1
    store._disk = MeasuredDisk((16 << 20) + 150_000)
    with pytest.raises(CannotSave, match="the disk is too full"):
        save(store, state, 3)
    assert 2 == store.newest().step
    store._disk = LocalDisk()
    save(store, state, 4)

    assert same(state, store.newest().state["model"])


def behind_torchs_back(tensor):
    tensor.numpy()[7] += 1


def in_place(tensor):
    tensor.mul_(2).add_(1)


CHANGES = {"nothing": lambda _: None, "in place": in_place, "behind": behind_torchs_back}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(*[st.sampled_from([*CHANGES, "nothing", "new", "other size"])] * 3), max_size=9))
def test_whatever_changes_however_is_saved(tmp_path_factory, rounds):
    """
    A parameter that thaws, is replaced, or is written to behind torch's back
    is in the next checkpoint as it is, and so are all the others.
    """
    names = ["a", "b", "c"]
    state = {name: torch.randn(SIZE) for name in names}
    with Store(tmp_path_factory.mktemp("ckpt"), job="j", keep_last=2) as store:
        for step, changes in enumerate([("nothing",) * 3] * 3 + rounds):
            for name, change in zip(names, changes, strict=True):
                if change in CHANGES:
                    CHANGES[change](state[name])
                else:
                    state[name] = torch.randn(SIZE + (change == "other size"))
            store.save({"model": state}, step=step, epoch=0, facts={})

            assert same(state, load(store._root / f"step-{step:09d}").state["model"])


def test_a_model_that_is_trained_whole_stays_in_one_file(store):
    """
    Nothing is split where nothing is gained.
    """
    state = {f"{i}": torch.randn(SIZE) for i in range(20)}
    for step in range(4):
        for tensor in list(state.values())[1:]:
            tensor.add_(1)
        saved = store.save(state, step=step, epoch=0, facts={})

    assert not (saved.path / STILL).exists()
