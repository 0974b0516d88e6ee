"""What the fault campaign acts on: a real daemon, real trainings, and what must hold after every fault.

Covers: starting and replacing trainings, the invariants, cleaning up.
Does not cover: the faults (on_processes.py, on_files.py, on_sockets.py), their order (campaign.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from supervisor import api
from supervisor.client import Client, new_id
from supervisor.errors import NoDaemon, SupervisorError
from supervisor.system.procfs import read_stat
from tests.harness import CONFIG, Run, RunningDaemon, is_running, until
from trainer_shim.checkpoint.layout import parse_name
from trainer_shim.checkpoint.verify import verify

__all__ = ["BOUND_S", "IS_ROOT", "Ground", "Lost", "Trainer"]

IS_ROOT = os.geteuid() == 0

#: A busy machine is slow; so long may `status` take after whatever happened.
BOUND_S = 15.0
#: Beyond what the daemon had when it was first looked at: buffers that are kept, a thread that ends late.
_MORE_FILES, _MORE_THREADS, _MORE_KB = 12, 2, 48 * 1024
_STEP_S = 0.01
#: As `restart` has it by default.
_MOST_KILLS = 2

#: Nobody waits for the bounds of one user where the frames of a million are to be understood.
_USERS = (
    "[users]\nrequests_per_s = 10000\nrequests_at_once = 100000\nmax_jobs = 40\n[jobs]\nkill_grace_s = 1\n"
)
_LIVES = frozenset({"starting", "running", "pausing", "resuming"})


class Lost(AssertionError):
    """An invariant that did not hold: a defect of the daemon, or of the campaign."""


class Trainer(NamedTuple):
    """A training run, and how often the campaign has killed it."""

    name: str
    run: Run
    num_kills: int = 0
    #: Of the newest checkpoint that the daemon told of.
    step: int = 0


class Use(NamedTuple):
    """What the daemon takes."""

    num_files: int
    num_threads: int
    rss_kb: int


class Ground:
    """A context manager; all that it started is gone afterwards."""

    def __init__(self, *, num_trainers: int, steps: int) -> None:
        """Take how many trainings there are at a time, and how long one is."""
        self._num, self._steps = num_trainers, steps
        self.folder = Path(tempfile.mkdtemp(prefix="tf-"))
        self.offset = self.folder / "offset"
        self.offset.write_text("0")
        env = {"FAULTS_CLOCK": str(self.offset), "LD_PRELOAD": str(_library(self.folder))}
        self.daemon = RunningDaemon(CONFIG + _USERS, env=env, words=("--system",) if IS_ROOT else ())
        self.trainers: dict[str, Trainer] = {}
        self._num_started = 0
        self._first_use: dict[int, Use] = {}
        #: The longest time until `status` was answered after a fault.
        self.slowest_s = 0.0
        self.num_exact = 0

    def __enter__(self) -> Self:
        home, state = self.daemon.home, self.daemon.paths.state_dir
        for folder in (self.folder, home):
            folder.chmod(0o755)
        self.daemon.work.chmod(0o1777)
        state.mkdir(mode=0o700, exist_ok=True)
        if IS_ROOT:
            options = ["-t", "tmpfs", "-o", "size=24m,mode=0711", "none"]
            subprocess.run(["mount", *options, str(state)], check=True)
        try:
            self.daemon.start()
            self.fill_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        until(lambda: not self.daemon._kill_jobs())
        if IS_ROOT:
            subprocess.run(["umount", "--lazy", str(self.daemon.paths.state_dir)], check=False)
        self.daemon.close()
        subprocess.run(["rm", "-rf", str(self.folder)], check=True)

    # --- trainings ----------------------------------------------------------------------------

    def fill_up(self) -> None:
        """Start trainings until there are as many as there are to be."""
        while len(self.trainers) < self._num:
            self._num_started += 1
            name = f"train-{self._num_started}"
            run = self.daemon.train(
                name,
                steps=self._steps,
                restart="on-failure",
                treated={"every_s": 1.0},
                wait=False,
                CHAIN_STEP_S=_STEP_S,
            )
            self.trainers[name] = Trainer(name, run)

    def running(self) -> Iterator[tuple[Trainer, api.JobRow]]:
        """Yield trainings that may be touched, with their rows."""
        for row in self.status():
            trainer = self.trainers.get(row.name)
            if trainer is not None and row.state == "running" and row.pausable and row.pid:
                yield trainer, row

    def one_running(self) -> tuple[Trainer, api.JobRow]:
        """Return one of them, as soon as there is one."""
        return until(lambda: next(self.running(), None), "a training that runs")

    def one_to_kill(self) -> tuple[Trainer, api.JobRow]:
        """Return one that is started again when it is killed, and has something to go on from."""
        self.replace_worn()

        def found() -> tuple[Trainer, api.JobRow] | None:
            return next((one for one in self.running() if one[1].checkpoint_step), None)

        return until(found, "a training with a checkpoint")

    def replace_worn(self) -> None:
        """Stop trainings that would not be started again, and begin others."""
        for trainer in list(self.trainers.values()):
            if trainer.num_kills >= _MOST_KILLS:
                self.retire(trainer.name)
        self.fill_up()

    def killed(self, name: str) -> None:
        """Take note that a training is to be started once more."""
        trainer = self.trainers[name]
        self.trainers[name] = trainer._replace(num_kills=trainer.num_kills + 1)

    def retire(self, name: str) -> None:
        """End a training with a checkpoint; it is expected to do so."""
        del self.trainers[name]
        self.daemon.try_to(api.StopRequest, name)
        state = self.daemon.until(name, lambda row: row.state in ("stopped", "completed")).state
        if state == "completed":
            until(lambda: Run(self.daemon.work / name, self._steps).is_exact(), f"{name} is exact")

    # --- what must hold -----------------------------------------------------------------------

    def status(self) -> list[api.JobRow]:
        """Return all rows, asked by somebody who has just come."""
        began = time.monotonic()
        while True:
            try:
                with Client(self.daemon.paths, connect_s=1.0, answer_s=BOUND_S) as client:
                    rows = client.status().rows
            except NoDaemon as error:
                if time.monotonic() - began > BOUND_S:
                    raise Lost(f"no answer within {BOUND_S:g} s: {error}") from None
                time.sleep(0.02)
            else:
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                return rows

    def check(self) -> None:
        """Raise Lost where something does not hold."""
        rows = {row.name: row for row in self.status()}
        for trainer in list(self.trainers.values()):
            if trainer.name not in rows:
                raise Lost(f"{trainer.name} is not known any more")
            self._check_one(trainer)
        self._check_use()
        self.fill_up()

    def _check_one(self, trainer: Trainer) -> None:
        """See that it is what it should be, as soon as nothing is under way."""
        last: list[object] = []

        def is_true() -> bool:
            row = self.daemon.row(trainer.name)
            alive = [pid for pid in trainer.run.starts if is_running(pid)]
            last[:] = [row.state, row.incarnation, row.pid, row.problem, alive, trainer]
            if len(alive) > 1:
                raise Lost(f"started twice: {last}")
            is_over = row.state == "stopped" or (row.state == "failed" and row.restart_in_s is None)
            if row.incarnation > 1 + trainer.num_kills or is_over:
                raise Lost(f"it was to go on as start {1 + trainer.num_kills}: {last}")
            if row.state == "completed":
                return not alive
            is_told = row.state in _LIVES and row.pid is not None and row.pid in alive and bool(row.pausable)
            return is_told and row.incarnation == 1 + trainer.num_kills

        try:
            until(is_true)
        except AssertionError as error:
            raise Lost(f"{error}: {last}") from None
        if self.daemon.row(trainer.name).state == "completed":
            if not trainer.run.is_exact():
                raise Lost(f"{trainer.name} ended otherwise than an undisturbed run")
            self.num_exact += 1
            del self.trainers[trainer.name]
            return
        self.trainers[trainer.name] = trainer._replace(step=self._verified(trainer))

    def _verified(self, trainer: Trainer) -> int:
        """Return the step of its newest checkpoint that was told, which is there and whole."""
        last: list[object] = []

        def is_whole() -> bool:
            # The shim tells of a newer one a second late at most, and removes the oldest at once.
            told = self.daemon.client.show(trainer.name)
            path, step = told.checkpoint_path, told.row.checkpoint_step or 0
            last[:] = [step, path]
            if step < trainer.step:
                raise Lost(f"{trainer.name}: checkpoint {trainer.step} was told, and is {step} now")
            if not path:
                return True
            name = parse_name(Path(path).name)
            last.append(verify(Path(path), name).problems if name else "no name of a checkpoint")
            return not last[-1]

        try:
            until(is_whole)
        except AssertionError as error:
            raise Lost(f"{error}: {last}") from None
        return int(str(last[0]))

    def _check_use(self) -> None:
        pid = self.daemon.pid
        first = self._first_use.setdefault(pid, use_of(pid))
        most = Use(first.num_files + _MORE_FILES, first.num_threads + _MORE_THREADS, first.rss_kb + _MORE_KB)
        try:
            until(lambda: all(now <= top for now, top in zip(use_of(pid), most, strict=True)))
        except AssertionError:
            raise Lost(f"the daemon grows: {first} became {use_of(pid)}") from None

    # --- tools of faults ----------------------------------------------------------------------

    def goes_on(self, run: Run) -> None:
        """Return when a training has told of a later step."""
        before = self.daemon.row(run.folder.name).step or 0
        self.daemon.until(run.folder.name, lambda row: (row.step or 0) > before or row.state == "completed")

    @contextmanager
    def sleeper(self, name: str) -> Iterator[api.JobRow]:
        """Yield the row of a job that does nothing; it is gone afterwards."""
        name = f"{name}-{new_id()[:8]}"
        self.daemon.command(name, "sleep", "600")
        row = self.daemon.until(name, lambda row: row.pid)
        try:
            yield row
        finally:
            try:
                self.daemon.try_to(api.KillRequest, name)
            except (AssertionError, SupervisorError):
                os.kill(row.pid or 0, 9)


def use_of(pid: int) -> Use:
    """Return what a process takes."""
    proc = Path("/proc", str(pid))
    words = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines() if ":" in line)
    return Use(len(list((proc / "fd").iterdir())), int(words["Threads"]), int(words["VmRSS"].split()[0]))


def parent_of(pid: int) -> int:
    """Return the process that started one."""
    stat = read_stat(pid)
    assert stat is not None
    return stat.parent


def _library(folder: Path) -> Path:
    library, source = folder / "clock.so", Path(__file__).with_name("clock.c")
    command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return library
