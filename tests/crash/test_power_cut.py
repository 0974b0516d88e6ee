"""The power goes at every system call that changes anything, and the disk keeps what it likes.

Covers: saves, saves of one step again, retention, overwriting retired files, linked files that stand still,
staged saves, a pause and a restart, a kill, setting aside, sweeping; after each call the states in which a
disk may be found: only what was flushed, names before bytes, bytes before names, mixtures by chance.
Does not cover: torn pages, disks that lie about a flush (nobody can), metadata that breaks by itself.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter

import pytest

from tests.fakes.powercut import Disk, Keeps, calls, same, write
from tests.fakes.syscalls import run_with_library, why_not
from tests.trainers.logged_disk import NOTES
from trainer_shim.checkpoint import Store
from trainer_shim.checkpoint.commit import LocalDisk
from trainer_shim.checkpoint.reader import load, visible
from trainer_shim.errors import Damaged

#: The one into which the life's own damage is written.
DAMAGED = "step-000000007"

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can be done")


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    """The calls of one life, and the inode of its folder."""
    folder = tmp_path_factory.mktemp("life")
    root, log = folder / "world", folder / "log"
    root.mkdir()
    run_with_library("-m", "tests.trainers.logged_disk", str(root), str(log))
    return root, list(calls(log.read_bytes()))


def test_no_call_escapes_the_log(life):
    """
    What the calls leave in the model is what they left on the disk: nothing changes a file behind its back.
    """
    root, every = life
    disk = Disk(root.stat().st_ino)
    for call in every:
        disk.feed(call)
    kinds = Counter(call.kind for call in every)

    assert same(disk.after(Keeps.extremes()[-1]), root)
    assert kinds["write"] >= 60
    assert kinds["flush"] >= 80
    assert kinds["rename"] >= 30
    assert kinds["link"] >= 3
    assert kinds["allocate"] >= 10
    assert kinds["unlink"] >= 40


def looked_at(life, folder, keeps_at):
    """Check every state after every call, each state once; return how many there were."""
    root, every = life
    disk, promised, seen = Disk(root.stat().st_ino), "", set()
    for number, call in enumerate(every):
        disk.feed(call)
        if call.kind == "mark":
            promised = promised[:-1] if call.name == "-" else promised + call.name
        for keeps in keeps_at(number):
            tree = disk.after(keeps)
            if (tree, promised[-1:]) not in seen:
                seen.add((tree, promised[-1:]))
                check(
                    tree,
                    folder / "after",
                    promised[-1:],
                    f"call {number} ({call.kind} {call.name}), {keeps.name}",
                )
    return len(seen)


class Hasty(LocalDisk):
    """Flushes nothing: no power is cut after the restart, and there are many."""

    def sync(self, path):
        pass


def check(tree, folder, promised, when):
    """A restart finds what was promised, or something newer, and nothing torn."""
    write(tree, folder)
    root = folder / "runs" / "ckpt"
    torn = (
        [] if not root.exists() else [str(name) for name in visible(root) if not is_whole(root / str(name))]
    )
    with Store(root, job="j", keep_last=2, disk=Hasty()) as store:
        loaded = store.newest()
        note = loaded.state["note"] if loaded else ""
        assert NOTES.find(promised) <= NOTES.find(note), when
        if loaded:
            assert loaded.state["long"] == note.encode() * len(loaded.state["long"]), when
        # The one that a test writes into is torn; no other ever is.
        assert set(torn) <= {DAMAGED}, (when, torn)
        store.save({"note": "next"}, step=99, epoch=0, facts={})
        assert store.newest().state["note"] == "next", when
    assert [] == list(root.glob("*.partial")), when
    shutil.rmtree(folder)


def is_whole(folder):
    try:
        load(folder)
    except Damaged:
        return False
    return True


def test_a_power_cut_at_any_system_call_loses_nothing_that_was_promised(life, memory):
    """
    Whatever of the unflushed the disk has kept, the newest durable checkpoint is there and every visible
    one is whole; the next save works.
    """
    num_states = looked_at(life, memory, lambda number: [*Keeps.extremes(), Keeps.some(number)])

    assert num_states >= 300


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_whatever_a_disk_keeps_by_chance_loses_nothing_that_was_promised(life, memory, capsys):
    """
    The same with SEEDS mixtures (default 40) after each call.
    """
    num_seeds = int(os.environ.get("SEEDS", "40"))
    num_states = looked_at(
        life, memory, lambda number: [Keeps.some(1000 * number + seed) for seed in range(num_seeds)]
    )
    with capsys.disabled():
        print(f"\n{num_states} different states after a power cut")

    assert num_states >= 300
