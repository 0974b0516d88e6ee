"""What can be seen of checkpoints at a glance, and what only by reading them."""

from __future__ import annotations

import os
import shutil

import pytest

from trainer_shim.checkpoint import Keep, Store, digest, survey
from trainer_shim.checkpoint.layout import Name
from trainer_shim.checkpoint.retention import decide
from trainer_shim.checkpoint.verify import verify


@pytest.fixture
def root(tmp_path):
    with Store(tmp_path / "ckpt", job="j", keep=Keep(last=9)) as store:
        for step in (1, 2, 3):
            facts = {"preprocessing": {"mean": step}, "metrics": {"loss": step / 10}}
            store.save({"n": bytes(3000), "step": step}, step=step, epoch=0, facts=facts)
    return tmp_path / "ckpt"


def folder(root, step):
    return root / str(Name(step))


def glance(root):
    return {seen.known.name.step: seen for seen in survey.look(root)}


def from_the_future(path):
    """A manifest that a later version would write."""
    text = (path / "manifest.json").read_bytes()
    body = text[98:-2].replace(b'"format": 1', b'"format": 9')
    own = digest.of_bytes(body).encode()
    (path / "manifest.json").write_bytes(b'{"digest": "%s", "manifest": %s}\n' % (own, body))


def test_whole_ones_are_known_by_their_manifests(root):
    """
    When, how good, what for; newest first.
    """
    found = glance(root)

    assert [3, 2, 1] == list(found)
    assert {"loss": 0.2} == found[2].known.metrics
    assert {"mean": 2} == survey.preprocessing_of(found[2])
    assert found[1].known.saved_s <= found[2].known.saved_s <= found[3].known.saved_s
    assert [("", False)] * 3 == [(seen.problem, seen.known.is_damaged) for seen in found.values()]


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda path: (path / "manifest.json").unlink(), "No such file or directory"),
        (lambda path: (path / "manifest.json").write_bytes(b"{}"), "it is malformed"),
        (lambda path: (path / "rank-00000.json").unlink(), "`rank-00000.json` is missing"),
        (lambda path: os.truncate(path / "rank-00000.safetensors", 9), "has 9 bytes instead of"),
    ],
)
def test_what_is_no_checkpoint_any_more_is_damaged(root, harm, problem):
    """
    It takes no place among the last ones, and goes when it is old.
    """
    harm(folder(root, 2))
    seen = glance(root)[2]
    fates = {
        one.name.step: one.stays for one in decide([one.known for one in survey.look(root)], Keep(last=2))
    }

    assert problem in seen.problem
    assert seen.known.is_damaged
    assert {3: True, 2: True, 1: True} == fates
    assert [] != verify(folder(root, 2), Name(2)).problems


def test_one_of_a_later_format_cannot_be_judged_and_stays(root):
    """
    Another version wrote it; this one has no right to call it damaged, or old.
    """
    from_the_future(folder(root, 1))
    seen = glance(root)[1]
    (oldest,) = [
        one for one in decide([one.known for one in survey.look(root)], Keep(last=1)) if one.name == Name(1)
    ]

    assert (False, None) == (seen.known.is_damaged, seen.manifest)
    assert (True, True) == (oldest.stays, oldest.why.startswith("cannot be judged: cannot restore"))
    assert ["manifest.json"] == [problem.file for problem in verify(folder(root, 1), Name(1)).problems]


def test_those_set_aside_are_seen_apart(root):
    """
    They are no checkpoints any more, and still there for a person.
    """
    folder(root, 2).rename(root / "step-000000002.damaged")
    shutil.copytree(folder(root, 1), root / "step-000000001.damaged.2")

    assert [3, 1] == list(glance(root))
    assert ["step-000000002.damaged", "step-000000001.damaged.2"] == [
        seen.folder.name for seen in survey.aside(root) if seen.is_aside
    ]


def test_preprocessing_that_cannot_be_read_is_none(root):
    """
    It is shown to people only, so it fails nothing.
    """
    found = glance(root)
    (folder(root, 3) / "preprocessing.json").write_bytes(
        b"?" * found[3].manifest.files["preprocessing.json"].size_bytes
    )
    (folder(root, 2) / "preprocessing.json").unlink()

    assert [None, None, {"mean": 1}] == [survey.preprocessing_of(found[step]) for step in (3, 2, 1)]


def test_verify_reads_shared_files_once_and_all_others_each_time(root):
    """
    A frozen base model that stands in many checkpoints is read once; a bad one is bad in all of them.
    """
    shared = folder(root, 1) / "rank-00000.safetensors"
    for step in (2, 3):
        (folder(root, step) / "rank-00000.safetensors").unlink()
        (folder(root, step) / "rank-00000.safetensors").hardlink_to(shared)
    seen, num_bytes = {}, []
    for step in (1, 2, 3):
        assert [] == verify(folder(root, step), Name(step), on_bytes=num_bytes.append, seen=seen).problems
    assert sum(num_bytes) == sum(verify(folder(root, step), Name(step)).size_bytes for step in (1, 2, 3))
    data = bytearray(shared.read_bytes())
    data[-1] ^= 1
    shared.write_bytes(data)
    seen.clear()

    assert [1, 1, 1] == [
        len(verify(folder(root, step), Name(step), seen=seen).problems) for step in (1, 2, 3)
    ]
    assert 1 == len([identity for identity in seen if identity[1] == shared.stat().st_ino])
