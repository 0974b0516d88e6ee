"""The manifest notices every change of itself, and tells the future from damage."""

from __future__ import annotations

import msgspec
import pytest

from trainer_shim.checkpoint import digest
from trainer_shim.checkpoint.manifest import FORMAT, MAX_BYTES, File, Manifest, parse, render
from trainer_shim.errors import CannotRestore, CannotStore, Damaged

MANIFEST = Manifest(
    job="job-3", incarnation=2, step=1200, epoch=4, saved_at="2026-11-22T12:00:00+00:00", world_size=1,
    files={"rank-00000.json": File(12, digest.of_bytes(b"x"))}, versions={"python": "3.11.7", "cuda": None},
    git_commit="7e4ce54", command=["python", "train.py"], labels={"lr": 0.1}, facts={},
)  # fmt: skip


def rendered(**changes) -> bytes:
    """A manifest with a right digest around wrong fields."""
    fields = msgspec.to_builtins(MANIFEST) | changes
    body = msgspec.json.encode({key: value for key, value in fields.items() if value is not ...})
    return b'{"digest": "%s", "manifest": %s}\n' % (digest.of_bytes(body).encode(), body)


def test_a_manifest_is_read_back():
    """
    What was said about a checkpoint is what is shown about it.
    """
    text, own = render(MANIFEST)

    assert (MANIFEST, own) == parse(text)


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])
def test_no_byte_of_it_changes_unnoticed(mask):
    """
    A flipped bit in a step number or a label is damage, like one in a tensor.
    """
    text, _ = render(MANIFEST)
    unnoticed = []
    for at in range(len(text)):
        flipped = bytearray(text)
        flipped[at] ^= mask
        try:
            parse(bytes(flipped))
        except Damaged:
            continue
        unnoticed.append(at)

    assert [] == unnoticed


def test_cut_short_anywhere_it_is_damage():
    """
    A torn manifest is never taken for a whole one.
    """
    text, _ = render(MANIFEST)
    for length in range(len(text)):
        with pytest.raises(Damaged):
            parse(text[:length])


@pytest.mark.parametrize(
    "changes",
    [
        {"step": -1},
        {"step": 10**18},  # One digit more than the name of a folder may have.
        {"step": 10**30},
        {"step": "12"},
        {"step": True},
        {"world_size": 0},
        {"job": None},
        {"job": ...},
        {"extra": 1},
        {"format": 0},
        {"format": "1"},
        {"files": []},
        {"files": {"a": {"size_bytes": -1, "digest": ""}}},
        {"files": {"a": {"size_bytes": 1, "digest": "", "mode": 7}}},
        *(
            {"files": {name: {"size_bytes": 1, "digest": ""}}}
            for name in (
                "../a",
                "/etc/passwd",
                "a/b",
                "..",
                ".",
                "",
                ".hidden",
                "a\n",
                "a\0",
                "x" * 101,
                "a\\b",
            )
        ),
    ],
)
def test_a_manifest_that_makes_no_sense_is_damage(changes):
    """
    Names that lead out of the folder and absurd sizes are not followed, even under a right digest.
    """
    with pytest.raises(Damaged):
        parse(rendered(**changes))


@pytest.mark.parametrize(
    "text", [rendered(format=2, news=[1]), rendered(format=2).replace(b"sha256:", b"xxh3:00")]
)
def test_a_format_from_the_future_is_said_and_is_no_damage(text):
    """
    After a downgrade the new checkpoints stay in place, and the message says to upgrade.
    """
    with pytest.raises(CannotRestore, match=f"format 2: this version reads up to format {FORMAT}") as caught:
        parse(text)

    assert not isinstance(caught.value, Damaged)
    assert "upgrade" in caught.value.hint


def test_a_manifest_too_long_to_be_read_is_not_written():
    """
    A huge label is refused at the save, not found out at the restore.
    """
    with pytest.raises(CannotStore, match="facts"):
        render(msgspec.structs.replace(MANIFEST, labels={"story": "x" * MAX_BYTES}))
