"""A checkpoint that does not keep its word is never handed out."""

from __future__ import annotations

import os
import random
import resource
import shutil

import msgspec
import pytest
import torch

from tests.fakes.disk import FailingDisk
from trainer_shim.checkpoint import Store, digest
from trainer_shim.checkpoint.arrays import make_place
from trainer_shim.checkpoint.manifest import File, parse, render
from trainer_shim.checkpoint.reader import _verify, load
from trainer_shim.errors import CannotRestore, CannotStore, Damaged

FILES = [
    "manifest.json",
    "rank-00000.json",
    "rank-00000.safetensors",
    "environment.txt",
    "preprocessing.json",
]


@pytest.fixture
def root(tmp_path):
    with Store(tmp_path / "ckpt", job="j") as store:
        for step in (1, 2):
            state = {
                "w": torch.full((5,), float(step)),
                "step": step,
                "b": torch.ones(2).bool(),
                "n": bytes(2000),
            }
            store.save(state, step=step, epoch=0, facts={"preprocessing": {"a": step}})
    return tmp_path / "ckpt"


def newest(root):
    with Store(root, job="j") as store:
        return store.newest(), store.notices


def forge(folder, file, change):
    """Change a file and make the manifest agree, as an attacker would."""
    manifest, _ = parse((folder / "manifest.json").read_bytes())
    data = change((folder / file).read_bytes())
    (folder / file).write_bytes(data)
    running = digest.start_like(manifest.files[file].digest)
    running.update(data)
    manifest.files[file] = File(len(data), digest.finish(running))
    (folder / "manifest.json").write_bytes(render(manifest)[0])


@pytest.mark.parametrize("file", FILES)
def test_one_flipped_bit_anywhere_is_noticed(root, file):
    """
    No number changes in silence between a save and a restore.
    """
    path = root / "step-000000002" / file
    whole = path.read_bytes()
    random_offsets = random.sample(range(len(whole)), min(60, len(whole)))
    for at in {0, 7, 8, len(whole) // 2, len(whole) - 1, *random_offsets}:
        flipped = bytearray(whole)
        flipped[at] ^= 1 << random.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(Damaged, match="step-000000002"):
            load(path.parent)


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_short_long_or_gone_is_noticed(root, file):
    """
    Torn copies and half a download are not restored from.
    """
    path = root / "step-000000002" / file
    whole = path.read_bytes()
    for data in (b"", whole[:-1], whole[: len(whole) // 2], whole + b"\0", None):
        path.write_bytes(data) if data is not None else path.unlink()
        with pytest.raises(Damaged):
            load(path.parent)


@pytest.mark.parametrize("file", FILES)
def test_a_file_of_another_step_is_noticed(root, file):
    """
    Parts of two checkpoints are never mixed.
    """
    shutil.copy(root / "step-000000001" / file, root / "step-000000002" / file)
    if file == "environment.txt":  # The same in both.
        return
    with pytest.raises(Damaged):
        load(root / "step-000000002")


def test_a_damaged_one_is_kept_aside_and_the_one_before_is_used(root):
    """
    Training goes on from the newest good state, and a person is told where the bad one is.
    """
    (root / "step-000000002" / "rank-00000.safetensors").write_bytes(b"junk")
    loaded, notices = newest(root)

    assert 1 == loaded.step
    assert [root / "step-000000002.damaged"] == [notice.path for notice in notices]
    assert "it has 4 bytes instead of" in notices[0].text
    assert b"junk" == (root / "step-000000002.damaged" / "rank-00000.safetensors").read_bytes()


def test_damaged_ones_are_never_overwritten(root):
    """
    The second damaged checkpoint of a step is kept beside the first.
    """
    (root / "step-000000002.damaged").mkdir()
    (root / "step-000000002" / "manifest.json").unlink()
    (root / "step-000000001" / "manifest.json").unlink()
    loaded, _ = newest(root)

    assert loaded is None
    expected = {"step-000000001.damaged", "step-000000002.damaged", "step-000000002.damaged.2"}
    assert expected == {path.name for path in root.iterdir() if "damaged" in path.name}


def test_a_damaged_one_that_cannot_be_renamed_does_not_stop_the_restore(root):
    """
    On a read-only disk the older checkpoint is still found.
    """
    (root / "step-000000002" / "manifest.json").unlink()
    with Store(root, job="j") as store:
        store._disk = FailingDisk(30, fail_at=None)
        assert 1 == store.newest().step
        assert "could not be renamed: Read-only file system" in store.notices[0].text


def test_a_checkpoint_from_the_future_stays_where_it_is(root):
    """
    A downgrade does not throw away newer work: it says to upgrade.
    """
    folder = root / "step-000000002"
    body = b'{"format": 2, "shards": []}'
    (folder / "manifest.json").write_bytes(
        b'{"digest": "%s", "manifest": %s}\n' % (digest.of_bytes(body).encode(), body)
    )
    with pytest.raises(CannotRestore, match="format 2"):
        newest(root)

    assert folder.is_dir()


def test_a_link_in_place_of_a_file_or_folder_is_not_followed(root):
    """
    A checkpoint cannot point at somebody else's files.
    """
    folder = root / "step-000000002"
    folder.rename(root / "real")
    folder.symlink_to(root / "real")
    with pytest.raises(Damaged):
        load(folder)
    folder.unlink()
    (root / "real").rename(folder)
    (folder / "rank-00000.json").rename(root / "outside")
    (folder / "rank-00000.json").symlink_to(root / "outside")
    with pytest.raises(Damaged):
        load(folder)


@pytest.mark.timeout(10)
def test_a_pipe_or_a_folder_in_place_of_a_file_does_not_hang(root):
    """
    A restore always ends.
    """
    path = root / "step-000000002" / "rank-00000.json"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Damaged, match="not a plain file"):
        load(path.parent)
    path.unlink()
    path.mkdir()
    with pytest.raises(Damaged):
        load(path.parent)


def test_a_folder_under_another_steps_name_is_not_used(root):
    """
    A copied folder does not set the training back or forward unnoticed.
    """
    shutil.copytree(root / "step-000000001", root / "step-000000009")
    loaded, notices = newest(root)

    assert 2 == loaded.step
    assert "it is of step 1" in notices[0].text


def test_a_manifest_of_any_length_is_not_read_into_memory(root):
    """
    A huge file is refused by its size.
    """
    os.truncate(root / "step-000000002" / "manifest.json", 1 << 40)
    with pytest.raises(Damaged, match="longer than"):
        load(root / "step-000000002")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"float32"', b'"load"'),
        (b'"float32"', b'"nosuchtype"'),
        (b'"float32"', b'"__class__"'),
        (b"[5]", b"[6]"),
        (b"[5]", b"[-5]"),
        (b"[5]", b"[99999999999999999999]"),
        (b"[5]", b'"5"'),
        (b"[5]", b"[1000000000000]"),
        (b'"size":2000', b'"size":1000000000000'),
        (b'"block":"w"', b'"block":"x"'),
        (b'"block":"w"', b'"block":[]'),
        (b'"$":"tensor"', b'"$":"numpy.ndarray"'),
        (b'"$":"tensor"', b'"$":"eval"'),
        (b'"size":2000', b'"size":-1'),
        (b'"size":2000', b'"size":1e99'),
        (b'"size":2000', b'"size":1999'),
        (b'{"state":', b'{"state":[],"x":'),
    ],
)
def test_a_forged_state_with_right_digests_ends_in_a_refusal(root, old, new):
    """
    Nothing from a file is run, and what does not fit together is refused in words.
    """
    folder = root / "step-000000002"
    forge(folder, "rank-00000.json", lambda data: data.replace(old, new, 1))
    with pytest.raises(CannotRestore):
        load(folder)


def test_a_state_with_a_tensor_too_many_is_refused(root):
    """
    The two files of a rank belong together.
    """
    folder = root / "step-000000002"
    forge(folder, "rank-00000.json", lambda _: b'{"state":{}}')

    with pytest.raises(Damaged, match="other tensors than the state says"):
        load(folder)


def test_a_manifest_without_the_ranks_files_is_damage(root):
    """
    A checkpoint of other ranks is not taken for ours.
    """
    path = root / "step-000000002" / "manifest.json"
    manifest, _ = parse(path.read_bytes())
    files = {name: file for name, file in manifest.files.items() if "rank" not in name}
    path.write_bytes(render(msgspec.structs.replace(manifest, files=files))[0])

    with pytest.raises(Damaged, match=r"does not name `rank-00000\.json`"):
        load(path.parent)


def test_an_unknown_digest_of_a_file_is_damage(root):
    """
    What cannot be verified is not used.
    """
    path = root / "step-000000002" / "manifest.json"
    manifest, _ = parse(path.read_bytes())
    manifest.files["environment.txt"] = File(manifest.files["environment.txt"].size_bytes, "crc:00")
    path.write_bytes(render(manifest)[0])

    with pytest.raises(Damaged, match=r"`environment.txt` has the digest `crc:00`"):
        load(path.parent)


def test_an_absurd_size_in_a_manifest_is_not_believed(root):
    """
    Memory is not taken on a manifest's word.
    """
    path = root / "step-000000002" / "manifest.json"
    manifest, _ = parse(path.read_bytes())
    manifest.files["rank-00000.json"] = File(1 << 50, manifest.files["rank-00000.json"].digest)
    path.write_bytes(render(manifest)[0])

    with pytest.raises(Damaged, match="larger than any state"):
        load(path.parent)


def test_a_checkpoint_that_cannot_be_read_right_now_is_not_called_damaged(root):
    """
    A process that ran out of descriptors does not set good checkpoints aside.
    """
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Store(root, job="j") as store:
        taken = os.dup(0)
        os.close(taken)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (taken + 1, before[1])
        )  # Room for the folder, not for a file.
        try:
            with pytest.raises(CannotRestore, match="Too many open files") as caught:
                store.newest()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)

    assert not isinstance(caught.value, Damaged)
    assert (root / "step-000000002").is_dir()


def test_a_root_that_is_no_map_is_refused(root):
    """
    A session can rely on getting a map.
    """
    forge(
        root / "step-000000002",
        "rank-00000.json",
        lambda data: data.replace(b'{"state":', b'{"state":[', 1)[:-1] + b"]}",
    )

    with pytest.raises(Damaged, match="its root is not a map"):
        load(root / "step-000000002")


def test_a_state_that_does_not_fit_into_memory_is_no_damage():
    """
    A good checkpoint on too small a machine is not set aside (found by reading, November 2026: torch reports
    a lack of memory as it reports nonsense, and every checkpoint of the folder was called damaged).
    """
    num = 1 << 50
    with pytest.raises(MemoryError):
        make_place({"$": "tensor", "dtype": "float32", "shape": [num]}, "F32", (num,))


def test_a_shape_that_no_tensor_has_is_nonsense_and_no_lack_of_memory():
    """
    It takes no bytes in the file, so nothing else finds it out.
    """
    shape = (0, 1 << 48, 1 << 48)
    with pytest.raises(RuntimeError, match="overflow"):
        make_place({"$": "tensor", "dtype": "float32", "shape": list(shape)}, "F32", shape)


@pytest.mark.parametrize("name", ["|O8", "O", "object", "f4,f4", "datetime64[s]"])
def test_bytes_of_a_file_become_no_objects_and_no_records(name):
    """
    The bytes of an array of objects are addresses: forged ones would end the process, or worse.
    """
    with pytest.raises(ValueError, match="is no numpy type"):
        make_place({"$": "numpy.ndarray", "dtype": name, "shape": [1]}, "U8", (1, 8))


@pytest.mark.soak
def test_a_state_too_long_to_be_read_is_not_written(tmp_path):
    """
    It is refused at the save, not found out at the restore.
    """
    with (
        Store(tmp_path, job="j") as store,
        pytest.raises(CannotStore, match=r"rank-00000\.json: cannot store"),
    ):
        store.save({"story": "x" * (257 << 20)}, step=1, epoch=0, facts={})


def test_a_file_that_ends_before_its_size_is_damaged():
    """
    It had that size when it was opened. The kernel has such files: they say a page, and hold some bytes.
    """
    at = os.open("/sys/devices/system/cpu", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(Damaged, match="it ends too early"):
            _verify(
                at,
                "online",
                File(size_bytes=os.stat("online", dir_fd=at).st_size, digest=digest.of_bytes(b"")),
            )
    finally:
        os.close(at)
