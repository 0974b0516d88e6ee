"""Files written and read by several threads, on real file systems."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import subprocess
import threading

import pytest

from trainer_shim.checkpoint import digest, directread, directwrite
from trainer_shim.checkpoint.chunks import each_chunk, set_direct
from trainer_shim.checkpoint.digest import CHUNK_BYTES
from trainer_shim.errors import Damaged

SIZES = [0, 1, 511, 4095, 4096, 4097, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * CHUNK_BYTES + 4097]


class Memory:
    """A file that is all in memory, and what goes wrong with it."""

    def __init__(self, data, fail_at=None):
        self.data, self.size_bytes, self.fail_at = data, len(data), fail_at

    def chunk(self, chunk, buffer):
        if chunk.number == self.fail_at:
            raise MemoryError
        buffer[: chunk.end - chunk.begin] = self.data[chunk.begin : chunk.end]
        return buffer

    def pieces(self, chunk):
        return [memoryview(self.data)[chunk.begin : chunk.end]]


@pytest.fixture(params=["here", "tmpfs", "ext4", "refuses"])
def folder(request, tmp_path, monkeypatch):
    """A folder on each kind of file system; one that refuses what goes past the cache."""
    if request.param == "here":
        return tmp_path
    if request.param == "refuses":

        def refuse(descriptor, data, at):
            if os.O_DIRECT & fcntl_flags(descriptor):
                raise OSError(22, "Invalid argument")
            return pwrite(descriptor, data, at)

        pwrite = os.pwrite
        monkeypatch.setattr(os, "pwrite", refuse)
        return tmp_path
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", mounted]
    if request.param == "ext4":
        if shutil.which("mkfs.ext4") is None:
            pytest.skip("cannot mount ext4 here: there is no mkfs.ext4")
        image = tmp_path / "image"
        with image.open("wb") as file:
            file.truncate(64 << 20)
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        command = ["mount", "-o", "loop", image, mounted]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount {request.param} here: {done.stderr.decode().strip()}")
    request.addfinalizer(  # noqa: PT021  # Only some of the ways mount anything.
        lambda: subprocess.run(["umount", mounted], check=True)
    )
    return mounted


def fcntl_flags(descriptor):
    return fcntl.fcntl(descriptor, fcntl.F_GETFL)


def digest_of(data):
    chunks = [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]
    return digest.combine([digest.of_chunk([memoryview(chunk)]) for chunk in chunks])


@pytest.mark.parametrize("size_bytes", SIZES)
def test_every_size_is_written_and_read_back_on_every_file_system(folder, size_bytes):
    """
    The last page, an empty file and a disk that wants it another way are no special cases for a user.
    """
    data = random.randbytes(size_bytes)
    path = folder / "file"
    found = directwrite.write(path, Memory(data))
    begins = sorted(random.randrange(size_bytes) for _ in range(9)) if size_bytes else []
    places = [
        (begin, memoryview(bytearray(end - begin)))
        for begin, end in zip(begins, [*begins[1:], size_bytes], strict=False)
    ]
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert found == directread.read(descriptor, size_bytes, places)
    finally:
        os.close(descriptor)

    assert data == path.read_bytes()
    assert found == digest_of(data) == directwrite.digest_of(Memory(data))
    assert all(memory == data[begin : begin + memory.nbytes] for begin, memory in places)


@pytest.mark.parametrize(
    ("before", "after"),
    [(9, 5 * CHUNK_BYTES + 7), (5 * CHUNK_BYTES + 7, 9), (2 * CHUNK_BYTES, 2 * CHUNK_BYTES)],
)
def test_nothing_of_an_overwritten_file_shines_through(folder, before, after):
    """
    A recycled file holds the new bytes and only those, whatever its length was.
    """
    path = folder / "file"
    path.write_bytes(random.randbytes(before))
    data = random.randbytes(after)
    directwrite.write(path, Memory(data))

    assert data == path.read_bytes()


def test_a_file_that_is_cut_while_it_is_read_is_damage(tmp_path):
    """
    A reader ends with words, not with a hang or wrong numbers.
    """
    (tmp_path / "file").write_bytes(bytes(CHUNK_BYTES))
    with (tmp_path / "file").open("rb") as file, pytest.raises(Damaged, match="ends too early"):
        directread.read(file.fileno(), 3 * CHUNK_BYTES, [])


def test_an_error_in_one_thread_ends_them_all_and_is_told(tmp_path):
    """
    A save that fails leaves no thread behind that still writes.
    """
    with pytest.raises(MemoryError):
        directwrite.write(tmp_path / "file", Memory(bytes(40 * CHUNK_BYTES), fail_at=3))

    assert [] == [thread for thread in threading.enumerate() if "trainer_shim.disk" in thread.name]


def test_a_ctrl_c_ends_all_threads_before_it_goes_on():
    """
    Nothing writes to a folder that is being removed.
    """
    num_done, interrupted = [], threading.Event()

    def work(chunk, buffer):
        num_done.append(chunk)
        if threading.current_thread() is threading.main_thread():
            interrupted.set()
            raise KeyboardInterrupt
        assert interrupted.wait(60)

    with pytest.raises(KeyboardInterrupt):
        each_chunk(10_000 * CHUNK_BYTES, work)

    assert len(num_done) < 10_000
    assert [] == [thread for thread in threading.enumerate() if "trainer_shim.disk" in thread.name]


def test_a_disk_that_takes_only_a_little_at_a_time_gets_everything(tmp_path, monkeypatch):
    """
    A short write is no error and no hole.
    """
    pwrite, preadv = os.pwrite, os.preadv
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[: 64 << 10], at))
    monkeypatch.setattr(os, "preadv", lambda fd, data, at: preadv(fd, [data[0][: 64 << 10]], at))
    data = random.randbytes(CHUNK_BYTES + 5000)
    found = directwrite.write(tmp_path / "file", Memory(data))
    with (tmp_path / "file").open("rb") as file:
        assert found == directread.read(file.fileno(), len(data), [])

    assert data == (tmp_path / "file").read_bytes()


def test_going_past_the_cache_is_really_asked_for(tmp_path):
    """
    On a disk that can do it, the fast way is the one that is taken.
    """
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        if not set_direct(descriptor, is_on=True):
            pytest.skip("this file system cannot go past the cache")
        with pytest.raises(OSError, match="Invalid argument"):
            os.pwrite(descriptor, b"unaligned", 1)
    finally:
        os.close(descriptor)
