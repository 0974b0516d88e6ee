"""Restores from checkpoints that somebody forged, each in a process of its own that is measured.

As a program it takes a folder and prints, for every forgery, what came of it: the type and text of the error,
the seconds and the memory it took.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import stat
import sys
import time
from pathlib import Path

import torch

from tests.fakes.forgery import forge, forge_body, forge_manifest
from trainer_shim.checkpoint import Store
from trainer_shim.checkpoint.reader import load

MANIFEST, STATE, ENVIRONMENT = "manifest.json", "rank-00000.json", "environment.txt"
TENSORS, STILL = "rank-00000.safetensors", "rank-00000.still.safetensors"
STEP = "step-000000003"


def make(root: Path) -> Path:
    """A good checkpoint with every file, whose folder is returned."""
    frozen = torch.arange(20_000)
    with Store(root, job="j", keep_last=1) as store:
        for step in (1, 2, 3):
            state = {"w": torch.ones(5), "n": bytes(2000), "frozen": frozen, "t": torch.ones(2, 2).bool()}
            state["turned"] = torch.ones(3, 2, dtype=torch.uint8).T
            store.save(state, step=step, epoch=0, facts={})
    return root / STEP


def file_named(name):
    def attack(folder):
        def change(fields):
            fields["files"][name] = fields["files"][ENVIRONMENT]

        (folder.parent / "outside").write_bytes((folder / ENVIRONMENT).read_bytes())
        forge_manifest(folder, change)

    return attack


def field(**changes):
    return lambda folder: forge_manifest(folder, lambda fields: fields.update(changes))


def size(file, size_bytes):
    """The manifest and a sparse file say so."""

    def attack(folder):
        os.truncate(folder / file, size_bytes)
        forge_manifest(folder, lambda fields: fields["files"][file].update(size_bytes=size_bytes))

    return attack


def instead(file, put):
    """Something else stands where a file should."""

    def attack(folder):
        (folder / file).rename(folder.parent / "moved")
        put(folder / file)

    return attack


def pointing(path):
    path.symlink_to(path.parent.parent / "moved")


def device(path):
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # Zeros without end.


def listening(path):
    os.chdir(path.parent)
    socket.socket(socket.AF_UNIX).bind(path.name)


def folder_is_a(put):
    def attack(folder):
        folder.rename(folder.parent / "moved")
        put(folder)

    return attack


def folder_is_a_link(folder):
    folder.rename(folder.parent / "moved")
    folder.symlink_to(folder.parent / "moved")


def text(file, old, new):
    """One text in a file is another."""

    def change(data):
        assert old in data, (file, old)
        return data.replace(old, new, 1)

    return lambda folder: forge(folder, file, change)


def header(change):
    """The header of the tensor file is another one, of whatever length."""

    def changed(data):
        length = int.from_bytes(data[:8], "little")
        new = change(data[8 : 8 + length])
        return len(new).to_bytes(8, "little") + new + data[8 + length :]

    return lambda folder: forge(folder, TENSORS, changed)


def in_header(old, new):
    def change(found):
        assert old in found, (old, found)
        return found.replace(old, new, 1)

    return header(change)


def whole(file, data):
    return lambda folder: forge(folder, file, lambda _: data)


def larger_than_memory(folder):
    """A file that fits together, full of holes, and larger than the machine."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    num = 4 * pages

    def change(data):
        return data.replace(b"[20000]", b"[%d]" % (num // 8)).replace(b"[0,160000]", b"[0,%d]" % num)

    forge(folder, STATE, lambda data: data.replace(b"[20000]", b"[%d]" % (num // 8)))

    def longer(data):
        length = int.from_bytes(data[:8], "little")
        new = change(data[8 : 8 + length])
        new += b" " * (-len(new) % 8)
        return len(new).to_bytes(8, "little") + new

    forge(folder, STILL, longer)
    size(STILL, (folder / STILL).stat().st_size + num)(folder)


ATTACKS = {
    # Names and counts in the manifest.
    "a name that leads out": file_named("../outside"),
    "an absolute name": file_named("/etc/passwd"),
    "a name with a zero": file_named("a\0b"),
    "a hidden name": file_named(".outside"),
    "a hundred thousand files": lambda folder: forge_manifest(
        folder,
        lambda fields: fields["files"].update({f"x{n}": fields["files"][ENVIRONMENT] for n in range(40_000)}),
    ),
    "a million ranks": field(world_size=1_000_000),
    "a negative step": field(step=-3),
    "a huge step": field(step=10**40),
    "a size that is no number": size(ENVIRONMENT, 1 << 40),
    "a manifest of deep lists": lambda folder: forge_body(
        folder, lambda body: body[:-1] + b',"x":' + b"[" * 100_000
    ),
    "a manifest of bad text": lambda folder: forge_body(
        folder, lambda body: body.replace(b'"j"', b'"\xff\xfe"')
    ),
    "a manifest with NaN": lambda folder: forge_body(folder, lambda body: body.replace(b"3", b"NaN", 1)),
    "a manifest with two steps": lambda folder: forge_body(
        folder,
        lambda body: body.replace(b'"epoch"', b'"step": 9, "epoch"').replace(
            b'"epoch"', b'"step": 3, "epoch"'
        ),
    ),
    "a manifest that never ends": lambda folder: os.truncate(folder / MANIFEST, 1 << 40),
    # Other things in place of files and folders.
    **{
        f"a link for {file}": instead(file, pointing)
        for file in (MANIFEST, TENSORS, STILL, STATE, ENVIRONMENT)
    },
    **{
        f"a pipe for {file}": instead(file, os.mkfifo)
        for file in (MANIFEST, TENSORS, STILL, STATE, ENVIRONMENT)
    },
    "a folder for a file": instead(TENSORS, os.mkdir),
    "a socket for a file": instead(STATE, listening),
    "a link for the folder": folder_is_a_link,
    "a pipe for the folder": folder_is_a(os.mkfifo),
    **(
        {
            "a device for a file": instead(TENSORS, device),
            "a device for the manifest": instead(MANIFEST, device),
        }
        if os.geteuid() == 0
        else {}
    ),
    # Sizes.
    "a tensor file full of holes": size(TENSORS, 1 << 42),
    "a state full of holes": size(STATE, 1 << 40),
    "a state of many holes": size(STATE, 64 << 20),
    "tensors larger than the machine": larger_than_memory,
    "a header that claims all": lambda folder: forge(folder, TENSORS, lambda data: b"\xff" * 8 + data[8:]),
    "a header of 20 MB": header(lambda _: b"{" + b" " * 20_000_000 + b"}"),
    "a header over the limit": lambda folder: forge(
        folder, TENSORS, lambda data: (100_000_001).to_bytes(8, "little") + data[8:]
    ),
    "a header of many nothings": header(
        lambda _: b"{" + b",".join(b'"%x":0' % n for n in range(300_000)) + b"}"
    ),
    "a header of deep lists": header(lambda _: b'{"w":' + b"[" * 200_000),
    "a header of bad text": in_header(b'"w"', b'"\xff"'),
    "a header with NaN": in_header(b"[5]", b"[NaN]"),
    "a header that says it twice": in_header(b'{"__metadata__"', b'{"w":{"dtype":"F32"},"__metadata__"'),
    "a header with two remarks": in_header(b'{"__metadata__"', b'{"__metadata__":{"a":"b"},"__metadata__"'),
    "an entry with two types": in_header(b'"dtype":"F32"', b'"dtype":"U8","dtype":"F32"'),
    # Blocks that do not fit.
    "an unknown type": in_header(b'"F32"', b'"F3"'),
    "another type": in_header(b'"F32"', b'"I32"'),
    "another shape": in_header(b"[5]", b"[1,5]"),
    "a negative shape": in_header(b"[5]", b"[-5]"),
    "a shape of many dimensions": in_header(b"[5]", b"[" + b"1," * 70 + b"5]"),
    "a shape that overflows": in_header(b"[5]", b"[281474976710656,281474976710656,0]"),
    "a block before the file": in_header(b"[0,20]", b"[-20,0]"),
    "a block beyond the file": in_header(b"[0,20]", b"[0,18446744073709551616]"),
    "blocks that overlap": in_header(b"[20,2020]", b"[0,2000]"),
    "a gap between blocks": in_header(b"[20,2020]", b"[24,2024]"),
    "a block in both files": in_header(b'"w":', b'"frozen":'),
    "a block that nobody names": in_header(b'"w":', b'"x":'),
    # The state.
    "a function for a type": text(STATE, b'"dtype":"float32"', b'"dtype":"load"'),
    "a module for a type": text(STATE, b'"dtype":"float32"', b'"dtype":"onnx"'),
    "a private name for a type": text(STATE, b'"dtype":"float32"', b'"dtype":"__dict__"'),
    "a type that needs more": text(STATE, b'"dtype":"float32"', b'"dtype":"qint32"'),
    "a list for a type": text(STATE, b'"dtype":"float32"', b'"dtype":["float32"]'),
    "strides that overlap": text(STATE, b"[1,2]", b"[1,1]"),
    "strides with a gap": text(STATE, b"[1,2]", b"[1,4]"),
    "negative strides": text(STATE, b"[1,2]", b"[-1,2]"),
    "strides beyond all memory": text(STATE, b"[1,2]", b"[1,4611686018427387905]"),
    "strides of another shape": text(STATE, b"[1,2]", b"[1,2,6]"),
    "strides that are no list": text(STATE, b"[1,2]", b'"12"'),
    "an unknown kind": text(STATE, b'"$":"tensor"', b'"$":"builtins.eval"'),
    "a list for a kind": text(STATE, b'"$":"tensor"', b'"$":["tensor"]'),
    "an array of objects": text(
        STATE, b'"$":"tensor","dtype":"float32"', b'"$":"numpy.ndarray","dtype":"|O"'
    ),
    "a number of gigabytes": text(
        STATE, b'{"state":{', b'{"state":{"z":{"$":"numpy.scalar","dtype":"<U999999999","hex":""},'
    ),
    "a size beyond the file": text(STATE, b'"size":2000', b'"size":1000000000000'),
    "a size that is a half": text(STATE, b'"size":2000', b'"size":2000.5'),
    "a state of deep lists": whole(STATE, b'{"state":' + b"[" * 200_000),
    "a state of lists, not too deep": whole(STATE, b'{"state":{"a":' + b"[" * 900 + b"]" * 900 + b"}}"),
    "a state of many lists": whole(STATE, b'{"state":{"a":[' + b"[]," * 300_000 + b"[]]}}"),
    "a state of bad text": text(STATE, b'"n"', b'"\xc0\x80"'),
    "a state with NaN": text(STATE, b"2000", b"NaN"),
    "a state that says it twice": text(STATE, b'{"state":{', b'{"state":{"n":1,'),
    "a state with half a pair": text(STATE, b'"n"', b'"\\ud800"'),
    "a huge number": text(STATE, b"[5]", b"[1" + b"0" * 100_000 + b"]"),
    "a number out of range": text(STATE, b"[5]", b"[1e999]"),
    "a key that is a list": text(STATE, b'{"state":{', b'{"state":{"z":{"$":"dict","items":[[[1],2]]},'),
    "a device of another world": text(
        STATE, b'{"state":{', b'{"state":{"z":{"$":"torch.device","name":"evil:9"},'
    ),
    "bytes that are none": text(STATE, b'{"state":{', b'{"state":{"z":{"$":"bytes","base64":"*"},'),
}


def outcome(folder: Path) -> dict[str, object]:
    """What a restore makes of it, measured."""
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    began_s = time.monotonic()
    try:
        load(folder)
        found = {"error": "", "said": ""}
    except BaseException as error:  # noqa: BLE001  # whatever it is, it is told
        found = {"error": type(error).__name__, "said": str(error)}
    after_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    disk_mb = sum(path.stat(follow_symlinks=False).st_blocks for path in folder.glob("*")) >> 11
    return {
        **found,
        "took_s": time.monotonic() - began_s,
        "took_mb": after_mb - before_mb,
        "disk_mb": disk_mb,
    }


def names(root: Path) -> list[str]:
    return sorted(str(path) for path in root.rglob("*"))


def tried(good: Path, root: Path, attack) -> dict[str, object]:
    """Forge and restore in a child, which an alarm ends."""
    listened, told = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os.close(listened)
        folder = shutil.copytree(good, root) / STEP
        attack(folder)
        before = names(root)
        found = outcome(folder)
        found["changed"] = names(root) != before
        os.write(told, json.dumps(found).encode())
        os._exit(0)
    os.close(told)
    with os.fdopen(listened, "rb") as source:
        answer = source.read()
    _, status = os.waitpid(child, 0)
    return json.loads(answer) if answer else {"error": f"the process ended with {status}", "said": ""}


def main(folder: str) -> None:
    # Threads and a fork do not go together; torch has not started any yet.
    torch.set_num_threads(1)
    good = make(Path(folder) / "good").parent
    found = {}
    for number, (name, attack) in enumerate(ATTACKS.items()):
        root = Path(folder) / str(number)
        found[name] = tried(good, root, attack)
        shutil.rmtree(root)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
