"""Saves, starts and trains while system calls fail, one by one; runs with tests/fakes/syscalls.c before libc.

As a program it takes the name of a scene and a folder, and prints what it saw as JSON: how many calls of
each kind there are, how many cases were tried, and every one that went wrong.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import torch

import trainer_shim
from tests.fakes.syscalls import CHANGES, KINDS, SHORT, Faults
from trainer_shim.checkpoint import Store
from trainer_shim.checkpoint.reader import load, visible
from trainer_shim.errors import CannotRestore, CannotSave, ShimError

FULL, QUOTA, BROKEN = errno.ENOSPC, errno.EDQUOT, errno.EIO
READ_ONLY, FORBIDDEN, GONE, MANY = errno.EROFS, errno.EACCES, errno.ENOENT, errno.EMFILE
#: What each kind of call can really fail with.
CODES = {
    "open": (BROKEN, FORBIDDEN, MANY, GONE),
    "make": (FULL, QUOTA, BROKEN, READ_ONLY, FORBIDDEN, MANY),
    "read": (BROKEN, SHORT),
    "write": (FULL, QUOTA, BROKEN, SHORT),
    "allocate": (FULL, QUOTA, BROKEN, errno.EOPNOTSUPP),
    "cut": (BROKEN, FULL),
    "flush": (FULL, QUOTA, BROKEN),
    "close": (FULL, QUOTA, BROKEN),
    "rename": (FULL, QUOTA, BROKEN, READ_ONLY, FORBIDDEN, GONE),
    "link": (FULL, QUOTA, BROKEN, errno.EMLINK, errno.EPERM),
    "unlink": (BROKEN, READ_ONLY, FORBIDDEN),
    "mkdir": (FULL, QUOTA, BROKEN, READ_ONLY, FORBIDDEN),
    "rmdir": (BROKEN, READ_ONLY, FORBIDDEN),
    "mode": (BROKEN, READ_ONLY, errno.EPERM),
    "lock": (errno.ENOLCK, BROKEN),
    "flags": (errno.EINVAL,),
    "lease": (errno.EAGAIN, errno.EINVAL, BROKEN),
    "room": (BROKEN, FORBIDDEN),
    "look": (BROKEN, FORBIDDEN),
    "list": (BROKEN, MANY),
}
#: A disk in this state refuses everything that changes it from now on.
STATES = (FULL, BROKEN, READ_ONLY)
WORDS = {
    FULL: "the disk is full",
    QUOTA: "the disk quota is used up",
    BROKEN: "input/output error",
    READ_ONLY: "read-only",
    FORBIDDEN: "permission denied",
}


class Case(NamedTuple):
    """Which call is to fail, how, and whether all that follow do as well."""

    kinds: frozenset[str]
    at: int
    code: int
    always: bool = False

    def __str__(self) -> str:
        kinds = "any change" if len(self.kinds) > 1 else next(iter(self.kinds))
        how = "short" if self.code == SHORT else errno.errorcode[self.code]
        return f"{kinds} {self.at} {how}{' for ever' if self.always else ''}"


class Scene:
    """One thing that is done again and again, each time with another failure."""

    kinds = KINDS

    def __init__(self, root: Path, stride: int) -> None:
        self.root, self.stride = root, stride
        self.faults = Faults()
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()
        self.num_cases = 0
        self.case: Case | None = None

    def prepare(self) -> None:
        """Before each case, while nothing fails."""

    def act(self) -> None:
        """What is done while something fails; raises what the case brings about."""
        raise NotImplementedError

    def judge(self, error: BaseException | None) -> None:
        """After each case: everything is as it must be."""
        raise NotImplementedError

    def run(self) -> None:
        for kind in KINDS:
            self.counts[kind] = self.once(Case(frozenset({kind}), -2, BROKEN))
        for case in self.cases():
            self.case = case
            self.num_cases += 1
            self.once(case)

    def cases(self) -> Iterator[Case]:
        for kind in self.kinds:
            for number, code in enumerate(CODES[kind]):
                yield from (
                    Case(frozenset({kind}), at, code)
                    for at in range(number % self.stride, self.counts[kind], self.stride)
                )
        num_changes = sum(self.counts[kind] for kind in CHANGES)
        for number, code in enumerate(STATES):
            yield from (
                Case(CHANGES, at, code, always=True)
                for at in range(number % self.stride, num_changes, self.stride)
            )

    def once(self, case: Case) -> int:
        self.prepare()
        error = None
        self.faults.arm(self.root, case.kinds, case.at, case.code, always=case.always)
        try:
            self.act()
        except ShimError as caught:
            error = caught
        except OSError as caught:
            self.expect(what=f"an OSError came through: {caught!r}", holds=False)
            error = caught
        finally:
            num_calls = self.faults.disarm()
        if error is not None:
            self.expect(what=f"error without words: {error}", holds=self.has_words(str(error), case))
            hint = getattr(error, "hint", "")
            self.expect(what=f"error without a hint: {error}", holds=bool(hint))
        self.judge(error)
        return num_calls

    def has_words(self, text: str, case: Case) -> bool:
        if case.code in (SHORT, errno.EOPNOTSUPP):
            return False
        return "cannot" in text and WORDS.get(case.code, "").lower() in text.lower()

    def expect(self, *, what: str, holds: bool) -> None:
        if not holds:
            self.wrong.append(f"{self.case}: {what}")

    def check_folder(self) -> None:
        """No rubbish but what the next start removes."""
        names = {path.name for path in self.root.iterdir()}
        rubbish = {
            name
            for name in names - {".lock", "latest"}
            if not (name.startswith("step-") or name.endswith(".partial"))
        }
        self.expect(what=f"left behind: {rubbish}", holds=not rubbish)


class Saving(Scene):
    """A save that overwrites a retired checkpoint, links what stands still, and retires another one."""

    def __init__(self, root: Path, stride: int) -> None:
        super().__init__(root, stride)
        self.store = Store(root, job="j", keep_last=2)
        self.store.open()
        self.frozen = torch.arange(20_000)
        self.step = 0
        for _ in range(4):
            self.save()

    def save(self) -> None:
        self.step += 1
        state = {"step": self.step, "long": bytes([self.step % 251]) * 9000, "frozen": self.frozen}
        self.store.save(state, step=self.step, epoch=0, facts={})

    def act(self) -> None:
        self.promised = self.step
        self.save()
        self.promised = self.step

    def judge(self, error: BaseException | None) -> None:
        self.expect(what=f"{error!r}", holds=error is None or isinstance(error, CannotSave))
        for notice in self.store.notices:
            self.expect(what=notice.text, holds="cannot" in notice.text and bool(notice.hint))
        self.store.notices.clear()
        self.check_newest()
        self.save()  # Training goes on, and so do checkpoints.
        self.promised = self.step
        self.store.close(for_now=True)
        self.check_folder()
        self.store.open()
        self.check_newest()
        self.expect(what="nothing is linked any more", holds=bool(self.store._guesses.last))
        partial = [path.name for path in self.root.glob("*.partial")]
        self.expect(what=f"still there: {partial}", holds=len(partial) <= 1)
        folders = len(visible(self.root))
        self.expect(what=f"{folders} checkpoints are kept", holds=folders == 2)
        self.save()

    def check_newest(self) -> None:
        found = self.store.newest()
        self.expect(what=f"notices {self.store.notices}", holds=not self.store.notices)
        self.store.notices.clear()
        step = found.step if found else 0
        self.expect(
            what=f"step {step} loads, {self.promised} was promised", holds=self.promised <= step <= self.step
        )
        if found:
            good = found.state["long"] == bytes([step % 251]) * 9000
            self.expect(what="other bytes", holds=good and torch.equal(found.state["frozen"], self.frozen))


class Starting(Scene):
    """A start in a folder with leftovers: lock, sweep, restore."""

    #: Closing what was only read does not fail.
    kinds = tuple(kind for kind in KINDS if kind != "close")

    def __init__(self, root: Path, stride: int) -> None:
        super().__init__(root, stride)
        self.step = 0

    def prepare(self) -> None:
        with Store(self.root, job="j", keep_last=2) as store:
            for _ in range(2 if self.step else 4):
                self.step += 1
                state = {"step": self.step, "w": torch.ones(5)}
                store.save(state, step=self.step, epoch=0, facts={})
            store.close(for_now=True)
        for name in ("step-999999999.partial", "step-999999998.removed.partial"):
            folder = self.root / name
            folder.mkdir()
            (folder / "rank-00000.safetensors").write_bytes(bytes(5000))
        self.found, self.notices = None, []

    def act(self) -> None:
        store = Store(self.root, job="j", keep_last=2)
        try:
            with store:
                self.found = store.newest()
        finally:
            self.notices = store.notices

    def judge(self, error: BaseException | None) -> None:
        allowed = (CannotSave, CannotRestore)
        self.expect(what=f"{error!r}", holds=error is None or isinstance(error, allowed))
        text = " ".join(notice.text for notice in self.notices)
        case = self.case
        # A file that cannot be found or read is damaged; the one before is used, and it is said.
        lost = case and case.code in (BROKEN, GONE) and case.kinds & {"open", "read", "look"}
        if error is None:
            step = self.found.step if self.found else 0
            oldest = self.step - 1 if lost and "cannot read" in text else self.step
            self.expect(what=f"step {step} of {self.step}: {text}", holds=oldest <= step <= self.step)
        with Store(self.root, job="j", keep_last=2) as store:
            found = store.newest()
            self.expect(what=f"then {store.notices}", holds=not store.notices)
            oldest = self.step - 1 if lost else self.step
            self.expect(what="then none is there", holds=found is not None and found.step >= oldest)
        left = [path.name for path in self.root.glob("*.partial")]
        self.expect(what=f"still there: {left}", holds=not left)
        for aside in self.root.glob("*.damaged*"):
            self.expect(what=f"{aside.name} was set aside", holds=bool(lost))
            aside.rename(self.root / aside.name.split(".damaged")[0])


class Chain:
    """A part whose value depends on every step before."""

    def __init__(self) -> None:
        self.value = b"0"

    def step(self, number: int) -> None:
        self.value = hashlib.sha256(self.value + bytes([number])).digest()

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value, "long": self.value * 300}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


class Training(Scene):
    """A whole run: periodic checkpoints in the background, one asked for, retention, the end."""

    NUM_STEPS = 6
    #: Due after 2; after 3 one is asked for, so the next is due after 5.
    LAST = 5

    def __init__(self, root: Path, stride: int) -> None:
        super().__init__(root, stride)
        self.folders = (root / str(number) for number in count())
        self.expected = Chain()
        for number in range(self.NUM_STEPS):
            self.expected.step(number)

    def prepare(self) -> None:
        self.folder = next(self.folders)
        self.said = io.StringIO()
        self.chain = Chain()
        with contextlib.redirect_stderr(self.said):
            self.shim = trainer_shim.attach(checkpoints=self.folder, keep=1, every_steps=2, chain=self.chain)

    def act(self) -> None:
        with contextlib.redirect_stderr(self.said):
            for number in range(self.NUM_STEPS):
                self.chain.step(number)
                if number == 3:
                    try:
                        self.shim.checkpoint()
                    except CannotSave as error:
                        self.said.write(f"{error} ({error.hint})")
                self.shim.boundary()
                self.shim._background._periodic.wait()
            self.shim._yield()
            last = self.shim._report.checkpoint
            self.promised = last.step if last else 0
            self.shim.detach()

    def judge(self, error: BaseException | None) -> None:
        self.expect(what=f"{error!r}", holds=error is None)
        self.expect(what="another result", holds=self.chain.value == self.expected.value)
        said = self.said.getvalue()
        if self.promised < self.LAST:
            self.expect(what=f"not said: {said!r}", holds="cannot" in said and "(" in said)
        self.expect(what=f"said: {said}", holds="in the background: [" not in said)
        with Store(self.folder, job="chain") as store:
            found = store.newest()
            step = found.step if found else 0
            self.expect(what=f"step {step} of {self.promised}", holds=self.promised <= step)
            bad = [notice.text for notice in store.notices if "was written by" not in notice.text]
            self.expect(what=f"then {bad}", holds=not bad)
        left = [path.name for path in self.folder.glob("*.partial")]
        self.expect(what=f"still there: {left}", holds=not left)
        for name in visible(self.folder):
            load(self.folder / str(name))


SCENES = {"saving": Saving, "starting": Starting, "training": Training}


def main(name: str, folder: str, stride: str) -> None:
    root = Path(folder)
    root.mkdir(exist_ok=True)
    scene = SCENES[name](root, int(stride))
    scene.run()
    seen = {"counts": scene.counts, "num_cases": scene.num_cases, "wrong": scene.wrong}
    print(json.dumps(seen))


if __name__ == "__main__":
    os.umask(0o077)
    main(*sys.argv[1:])
