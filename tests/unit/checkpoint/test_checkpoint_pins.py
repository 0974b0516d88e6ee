"""Pins and readers: what somebody wants is not removed, whatever comes first."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from itertools import combinations
from pathlib import Path

import pytest

from tests.fakes.disk import PowerCut
from trainer_shim.checkpoint import Keep, Store, pins, reading, removal
from trainer_shim.checkpoint.commit import LocalDisk, erase
from trainer_shim.checkpoint.layout import Name
from trainer_shim.checkpoint.reader import load, visible
from trainer_shim.errors import CannotRestore, CannotSave

ONE = Name(1)


@pytest.fixture
def root(tmp_path):
    with Store(tmp_path / "ckpt", job="j") as store:
        store.save({"n": 1}, step=1, epoch=0, facts={})
    return tmp_path / "ckpt"


def saved(root, *steps, **keep):
    """A run that goes on from there; what is visible afterwards."""
    with Store(root, job="j", keep=Keep(**keep)) as store:
        for step in steps:
            store.save({"n": step}, step=step, epoch=0, facts={})
        return sorted(str(name) for name in visible(root)), store.notices


#: What tests want to happen at an event, by the name of the event.
_AT = {}


def _audited(event, args):
    if event in _AT:
        _AT[event](args)


sys.addaudithook(_audited)


@contextmanager
def at(event, act):
    """Do something just before each event of that name."""
    _AT[event] = act
    try:
        yield
    finally:
        del _AT[event]


class Turns:
    """Two actors that take turns in a given order, so that every order of what they do can be tried."""

    def __init__(self, order):
        self._order = [*order, *"r" * 9, *"p" * 9]
        self._alive = {"p", "r"}
        self._changed = threading.Condition()

    def take(self, who):
        with self._changed:
            assert self._changed.wait_for(lambda: self._next() == who, timeout=20)

    def give(self, who, *, is_over=False):
        """The turn is over, and perhaps the actor's whole part."""
        with self._changed:
            if is_over:
                self._alive.discard(who)
            else:
                self._order.pop(0)
            self._changed.notify_all()

    def _next(self):
        while self._order and self._order[0] not in self._alive:
            self._order.pop(0)
        return self._order[0]


class TurnDisk(LocalDisk):
    """Gives its turn away before each renaming and after each flush of the folder; may be cut."""

    def __init__(self, turns, who, cut_at=None):
        self._turns, self._who, self._cut_at, self._num_calls = turns, who, cut_at, 0

    def sync(self, path):
        self._call()
        if path.is_dir():
            self.switch()

    def rename(self, source, target):
        self.switch()
        self._call()
        super().rename(source, target)

    def switch(self):
        self._turns.give(self._who)
        self._turns.take(self._who)
        return True

    def _call(self):
        if self._num_calls == self._cut_at:
            raise PowerCut
        self._num_calls += 1


def race(root, order, cut_at=None):
    """A pinner and a remover in this order; whether the pin was reported as done."""
    turns, done = Turns(order), []
    removers, pinners = TurnDisk(turns, "r", cut_at), TurnDisk(turns, "p")
    patience = iter([True, True, False])

    def remove():
        turns.take("r")
        with suppress(PowerCut):
            doomed = removal.take_away(root, ONE, removers)
            if doomed is not None:
                erase(doomed)
        turns.give("r", is_over=True)

    def pin():
        turns.take("p")
        with suppress(CannotRestore):
            pins.pin(root, ONE, "mine", disk=pinners, wait=lambda: pinners.switch() and next(patience))
            done.append(True)
        turns.give("p", is_over=True)

    threads = [threading.Thread(target=part) for part in (remove, pin)]
    # The mark itself is made without the disk's port: one turn ends just before it.
    with at(
        "open",
        lambda args: pinners.switch() if str(args[0]).endswith(".pin") and args[2] & os.O_CREAT else None,
    ):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return bool(done)


ORDERS = [
    "".join("p" if place in places else "r" for place in range(7))
    for num_turns in (2, 3, 4)
    for places in combinations(range(7), num_turns)
]


@pytest.mark.parametrize("cut_at", [None, 0, 1, 2, 3], ids=lambda at: f"cut-{at}")
def test_a_checkpoint_whose_pin_is_done_is_never_removed(root, tmp_path, cut_at):
    """
    In every order of pinning and removing, also when the remover is killed in
    between: done means that it is there after the next start. A pin that came
    too late says so and leaves no mark.
    """
    outcomes = set()
    for order in ORDERS:
        here = tmp_path / "here"
        shutil.copytree(root, here)
        is_done = race(here, order, cut_at)
        is_marked = (here / "step-000000001.pin").exists()
        with Store(here, job="j") as store:
            is_there = store.newest() is not None
        assert is_marked == is_done, order
        assert is_there or not is_done, order
        outcomes.add((is_done, is_there))
        shutil.rmtree(here)

    expected = {(True, True), (False, False)} if cut_at is None else {(True, True)}
    assert expected <= outcomes


def test_a_pinned_checkpoint_stays_through_a_whole_run(root):
    """
    Pinned by another process while the run goes on; unpinned, it goes at the next save.
    """
    with Store(root, job="j", keep=Keep(last=1)) as store:
        pins.pin(root, ONE, "for the paper")
        store.save({"n": 2}, step=2, epoch=0, facts={})
        assert [Name(2), ONE] == visible(root)
        assert 1 == load(root / str(ONE)).state["n"]
        assert pins.unpin(root, ONE)
        store.save({"n": 3}, step=3, epoch=0, facts={})

    assert ["step-000000003"] == [str(name) for name in visible(root)]
    assert not pins.unpin(root, ONE)


def test_a_note_is_read_back_and_can_be_changed(root):
    """
    Whoever finds it in two years knows why it is there; a mark made by hand is a pin too.
    """
    pins.pin(root, ONE, "first")
    pins.pin(root, ONE, "second")
    (root / "step-000000002.pin").write_text("not JSON")

    assert {ONE: "second", Name(2): ""} == {name: pin.note for name, pin in pins.read_all(root).items()}
    assert pins.is_pinned(root, Name(2))
    assert 0o600 == (root / "step-000000001.pin").stat().st_mode & 0o777


def test_what_is_not_there_cannot_be_pinned(root):
    """
    No mark is left for a later checkpoint of that name, and the error says where to look.
    """
    with pytest.raises(CannotRestore, match="there is no such checkpoint") as caught:
        pins.pin(root, Name(7))

    assert "checkpoints list" in caught.value.hint
    assert {} == pins.read_all(root)


def test_a_pin_that_cannot_be_written_is_no_pin(root):
    """
    A full disk is said, and no half mark is left.
    """

    class FullDisk(LocalDisk):
        def sync(self, path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(CannotSave, match="No space left"):
        pins.pin(root, ONE, disk=FullDisk())
    assert {} == pins.read_all(root)

    pins.pin(root, ONE)
    with pytest.raises(CannotSave, match="No space left"):
        pins.pin(root, ONE, "another note", disk=FullDisk())
    with pytest.raises(CannotSave, match="cannot unpin"):
        pins.unpin(root, ONE, disk=FullDisk())


def test_one_that_was_pinned_too_late_is_not_brought_back_in_pieces(root):
    """
    Its blocks were overwritten already; a half one must not be taken for a checkpoint.
    """
    doomed = root / "step-000000001.removed.partial"
    (root / str(ONE)).rename(doomed)
    (doomed / "rank-00000.safetensors").unlink()
    (root / "step-000000001.pin").write_text("{}")

    assert [] == saved(root)[0]
    assert not doomed.exists()


def test_one_that_was_pinned_in_time_is_brought_back_and_told(root):
    """
    The remover was killed before it could; the next start does it.
    """
    (root / str(ONE)).rename(root / "step-000000001.removed.partial")
    (root / "step-000000001.pin").write_text("{}")
    names, notices = saved(root)

    assert ["step-000000001"] == names
    assert ["is back"] == [word for notice in notices for word in ["is back"] if word in notice.text]


READ = """
import sys
from pathlib import Path
from trainer_shim.checkpoint import reading
with reading.reading(Path(sys.argv[1])):
    print("reading", flush=True)
    sys.stdin.readline()
"""


def test_what_another_process_reads_stays_until_it_has_read_it(root):
    """
    An export of an hour is not cut off by the run that goes on.
    """
    command = [sys.executable, "-c", READ, str(root / str(ONE))]
    pipe = subprocess.PIPE
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as reader:
        assert "reading\n" == reader.stdout.readline()
        assert reading.is_read(root / str(ONE))
        assert removal.take_away(root, ONE, LocalDisk()) is None
        assert ["step-000000001", "step-000000002"] == saved(root, 2, last=1)[0]
        reader.communicate("\n")

    assert not reading.is_read(root / str(ONE))
    assert ["step-000000003"] == saved(root, 3, last=1)[0]


def test_a_reader_that_comes_too_late_says_so(root):
    """
    Nobody reads a folder that is being emptied.
    """
    folder = root / str(ONE)
    with reading.alone(folder) as is_alone:
        assert is_alone
        late = threading.Thread(target=lambda: said.append(refusal(folder)))
        said = []
        folder.rename(root / "elsewhere")
        late.start()
        late.join()
    # One that opened the folder before it lost its name and got the lock afterwards.
    (root / "elsewhere").rename(folder)
    with reading.alone(folder):
        late = threading.Thread(target=lambda: said.append(refusal(folder)))
        late.start()
        while not waits_for_lock(folder):
            pass
        folder.rename(root / "elsewhere")
    late.join()

    assert ["No such file or directory", "it was just removed"] == said


def refusal(folder):
    with pytest.raises(CannotRestore) as caught, reading.reading(folder):
        pass
    return str(caught.value).partition("`: ")[2]


def waits_for_lock(folder):
    """The kernel lists who waits behind an arrow."""
    inode = f":{folder.stat().st_ino} "
    return any("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF])
def test_a_file_system_without_locks_keeps_and_removes_as_before(root, code):
    """
    Nobody can tell who reads there; everything else goes on.
    """

    def refuse(_):
        raise OSError(code, os.strerror(code))

    with at("fcntl.flock", refuse):
        with reading.reading(root / str(ONE)):
            assert not reading.is_read(root / str(ONE))
        assert removal.take_away(root, ONE, LocalDisk()) is not None

    assert [] == visible(root)
