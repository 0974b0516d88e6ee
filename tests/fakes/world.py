"""A supervised machine in memory: one engine at a time over a disk, processes and shims that outlive it.

Covers: every way in which the daemon can be killed between an event and its
effects; what the engine does to the world, checked as it does it.
Does not cover: sockets, real processes.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable

from msgspec.structs import replace

from supervisor.core.jobs import apply as core
from supervisor.core.jobs import cuda_context
from supervisor.core.jobs.effects import AskCheckpoint, AskPause, AskResume, AskStop
from supervisor.core.jobs.events import (
    Admitted,
    JobEvent,
    PauseReached,
    RestartAsked,
    ResumeAsked,
    Submitted,
    TimerFired,
)
from supervisor.core.jobs.job import Job, JobSpec, Pid
from supervisor.core.jobs.states import FINAL, Depth, JobState
from supervisor.engine import Engine
from supervisor.last_look import LastLook
from supervisor.paths import Paths
from supervisor.ports import Batch, Journal, LaunchSpec, World
from supervisor.settings.config import Config, JobsConfig
from tests.fakes.clock import FakeClock
from tests.fakes.freezer import FakeFreezer
from tests.fakes.journal import BrakedJournal
from tests.fakes.launcher import FakeLauncher, FakeMachine
from tests.fakes.shims import FakeShims, FakeTrainer
from trainer_shim.protocol import Pause

__all__ = ["Killed", "SupervisedMachine"]

_PAUSE = (JobState.PAUSING, JobState.PAUSED)


class Killed(BaseException):
    """The daemon was killed here; nothing of it may catch this."""


class SupervisedMachine:
    """`open_journal` gives a new life's view of the one disk."""

    def __init__(self, open_journal: Callable[[], Journal]) -> None:
        self.clock = FakeClock()
        self.machine = FakeMachine()
        self.shims = FakeShims()
        #: Processes without their CUDA context, and whether daemons are to free it.
        self.suspended: set[Pid] = set()
        self.frees_contexts = False
        #: Processes that the driver can do nothing with just now.
        self.driver_problems: dict[Pid, str] = {}
        self.paths = Paths.find(tempfile.gettempdir() + "/never-written")
        #: Jobs whose script has no shim.
        self.plain: set[str] = set()
        #: Jobs of which a person was told that they exist.
        self.told: set[str] = set()
        #: How many more effects the daemon lives to carry out; None: all.
        self.effects_left: int | None = None
        self._receipts: dict[tuple[str, int], PauseReached] = {}
        #: Reasons for effects that have reached the disk.
        self._stored: set[tuple[str, str]] = set()
        self._open_journal = open_journal
        self._start()

    # --- one life of the daemon -----------------------------------------------------------------

    def _start(self) -> None:
        self.journal = BrakedJournal(self._open_journal(), self._check_batch)
        self.launcher = FakeLauncher(self.machine)
        self.freezer = FakeFreezer(self.suspended)
        self.freezer.problems = self.driver_problems
        world = World(self.clock, self.journal, _Launcher(self), _Shims(self), _Freezer(self), self._receipt)
        self.look = LastLook()
        self.engine = Engine(world, self.paths, self.look, on_stored=lambda _row: None)
        self.configure()
        self._before = {job.name: job for job in self.journal.jobs()}
        for job in self._before.values():
            self._remember(job)
        self.engine.recover()

    def configure(self) -> None:
        """Take over `frees_contexts`."""
        self.engine.config = Config(jobs=JobsConfig(free_cuda_context=self.frees_contexts))

    def crash(self, *, stored: int, effects: int) -> None:
        """Kill the daemon after that many more batches and effects; then start the next one."""
        try:
            self.effects_left = effects
            self._note(self.journal.let_through(stored))
            self.engine.settle()
        except Killed:
            pass
        finally:
            self.effects_left = None
        for trainer in self.shims.connected():
            trainer.disconnect()
        self.launcher.close()
        self.freezer.close()
        self.journal.close()
        self._start()

    def turn(self, *, stored: int = 1000) -> None:
        """One turn of the daemon's loop; the disk manages that many batches meanwhile."""
        self.engine.take_launcher_news()
        self.engine.take_freezer_news()
        self._note(self.journal.let_through(stored))
        self.engine.settle()
        self.stage()

    def stage(self) -> None:
        """Let all start that are in the queue, as a policy without limits does, and store what happened."""
        for job in list(self.engine.jobs.values()):
            if job.state is JobState.QUEUED:
                self.engine.ask(job.name, Admitted(start_grace_s=60.0))
        self.engine.stage()

    def turns(self) -> None:
        """Turn until nothing more happens by itself."""
        for _ in range(50):
            self.turn()
            if not self.journal.waiting and not self.launcher._news and not self.freezer._news:
                return
        raise AssertionError("the loop never comes to rest")

    def close(self) -> None:
        self.launcher.close()
        self.freezer.close()
        self.journal.close()

    # --- people ---------------------------------------------------------------------------------

    def submit(self, name: str, spec: JobSpec) -> None:
        job = self.engine.submit(name, spec)
        self.engine.then(lambda: self.told.update({job.name} & set(self.engine.jobs)))

    def spec(self, **fields: object) -> JobSpec:
        return JobSpec(argv=("train",), cwd="/work", **fields)  # type: ignore[arg-type]

    # --- training processes ---------------------------------------------------------------------

    def running(self, name: str) -> bool:
        return any(key[0] == name and _runs(command) for key, command in self.machine._commands.items())

    def trainer(self, name: str) -> FakeTrainer | None:
        """Return the shim in the job's newest process, if that runs and has one."""
        keys = [key for key, command in self.machine._commands.items() if key[0] == name and _runs(command)]
        if not keys or name in self.plain:
            return None
        trainer = self.shims.trainers.get(name)
        if trainer is None or trainer.incarnation != keys[-1][1]:
            wrapper = self.machine._commands[keys[-1]].process
            process = replace(wrapper, pid=wrapper.pid + 50_000)
            trainer = self.shims.trainers[name] = FakeTrainer(name, keys[-1][1], process=process)
        return trainer

    def hello(self, name: str) -> None:
        """Let the shim connect, where the daemon knows its process by now."""
        trainer, job = self.trainer(name), self.engine.find(name)
        if trainer is None or self.is_frozen(name) or job is None or not job.alive or job.process is None:
            return
        if job.incarnation == trainer.incarnation:
            self.engine.observe(name, trainer.hello())

    def deliver(self, name: str, count: int = 1000) -> None:
        """Let the daemon hear what the shim has said."""
        trainer = self.shims.trainers.get(name)
        while trainer is not None and trainer.is_connected and trainer.outbox and count:
            count -= 1
            event = trainer.outbox.popleft()
            job = self.engine.find(name)
            if job is not None and job.incarnation == trainer.incarnation:
                self.engine.observe(name, event)

    def is_frozen(self, name: str) -> bool:
        return any(key[0] == name for key in self.machine.frozen)

    def is_suspended(self, name: str) -> bool:
        """It waits in its next call of CUDA; its line to the daemon lives."""
        trainer = self.trainer(name)
        return trainer is not None and trainer.process in self.suspended

    def boundary(self, name: str, *, can_save: bool) -> None:
        trainer = self.trainer(name)
        if self.is_suspended(name) and trainer is not None:
            # A pause that it holds for already may be said again: that takes no device.
            is_old = [isinstance(one, Pause) and one.depth != "exit" for one in trainer.inbox]
            assert all(is_old), "asked before it could do anything"
        if trainer is not None and not self.is_frozen(name):
            trainer.boundary(can_save=can_save)
            self._keep_receipt(trainer)

    def go_on_alone(self, name: str) -> None:
        """The shim has been without a daemon for long."""
        trainer = self.trainer(name)
        if trainer is not None and not self.is_suspended(name):
            trainer.go_on_alone()
            self._keep_receipt(trainer)

    def _keep_receipt(self, trainer: FakeTrainer) -> None:
        if trainer.receipt is not None:
            self._receipts[trainer.job, trainer.incarnation] = trainer.receipt

    def end(self, name: str, code: int = 0, *, killed_by: int | None = None) -> None:
        if self.running(name):
            self.machine.finish(name, code, killed_by=killed_by)

    def come_to_rest(self) -> None:
        """Every shim answers, every save works, every process that wants to end ends, time goes on."""
        self.machine.release()
        for _ in range(30):
            self.turns()
            for name in list(self.engine.jobs):
                trainer = self.trainer(name)
                if trainer is None:
                    continue
                if not trainer.is_connected:
                    self.hello(name)
                    self.turns()
                self.boundary(name, can_save=True)
                self.deliver(name)
                if trainer.is_leaving:
                    self.machine.finish(name, 75)
            self.turns()
            if not self.unsettled():
                return
            # For scripts without a shim, and processes that do not listen.
            self.clock.advance(40.0)
        raise AssertionError(f"never settled: {self.unsettled()}")

    def unsettled(self) -> list[Job]:
        """Return jobs that are still on their way, or whose shim is not where the journal has it."""
        return [job for job in self.engine.jobs.values() if not self._is_at_rest(job)]

    def _is_at_rest(self, job: Job) -> bool:
        trainer = self.trainer(job.name)
        if self.is_frozen(job.name) != (job.frozen_at is not None):
            return False
        if job.frozen_at is not None:
            return True
        if self.is_suspended(job.name) and cuda_context.where(job) not in ("freed", "unsure"):
            return False
        if cuda_context.where(job) in ("freeing", "taking", "lost"):
            return False
        if trainer is not None and (not trainer.is_connected or trainer.inbox or trainer.outbox):
            return False
        runs = self.running(job.name)
        match job.state:
            case JobState.RUNNING:
                return runs and (trainer is None or trainer.holding is None)
            case JobState.PAUSED if job.depth is not Depth.EXIT:
                return (
                    trainer is not None and trainer.holding is not None and trainer.holding.depth == job.depth
                )
            case JobState.PAUSED:
                return not runs
            case _:
                return job.state in FINAL and job.restart_at is None and not runs

    # --- what must always hold --------------------------------------------------------------------

    def check(self) -> None:
        """No process twice, none beside another, none of a job that is over, no job lost."""
        starts = self.machine.starts
        assert len(starts) == len(set(starts)), "an incarnation was launched twice"
        alive = [key[0] for key, command in self.machine._commands.items() if _runs(command)]
        assert len(alive) == len(set(alive)), "two live processes of one job"
        assert self.told <= set(self.engine.jobs), "a job was lost"
        for job in self.engine.jobs.values():
            assert not (job.alive and job.state in (*FINAL, JobState.QUEUED)), job
        jobs = self.engine.jobs.values()
        assert {job.name: job for job in jobs if not job.is_over} == self.engine.present
        timers = [at for job in jobs if (at := core.next_due(job)) is not None]
        if not self.engine._staging.has_due and self.engine.next_due() != self.engine._job_table._quiet_until:
            assert min(timers, default=None) == self.engine.next_due()

    def _check_batch(self, batch: Batch) -> None:
        for row in batch.rows:
            before = self._before.pop(row.job, None)
            if row.after is not None:
                self._before[row.job] = row.after
                _check_person_is_obeyed(before, row.event, row.after)

    def _note(self, batches: list[Batch]) -> None:
        for batch in batches:
            for row in batch.rows:
                self._remember(row.after)
            self.told -= {row.job for row in batch.rows if row.after is None}

    def _remember(self, job: Job | None) -> None:
        """Note what a job on the disk gives reason for."""
        if job is not None:
            self._stored |= {(job.name, f"{job.incarnation} {job.state}"), (job.name, job.request)}

    def _receipt(self, job: str, incarnation: int) -> PauseReached | None:
        return self._receipts.get((job, incarnation))

    def effect(self, name: str, reasons: list[str]) -> None:
        """Called before each effect: die here, or see that the disk knows why it is done."""
        if self.effects_left is not None:
            if self.effects_left == 0:
                raise Killed
            self.effects_left -= 1
        assert not reasons or any((name, reason) in self._stored for reason in reasons), "done before stored"


class _Launcher:
    """The fake launcher, watched."""

    def __init__(self, world: SupervisedMachine) -> None:
        self._world, self._inner = world, world.launcher
        self.adopt, self.drain = self._inner.adopt, self._inner.drain
        self.orphans, self.last_incarnation = self._inner.orphans, self._inner.last_incarnation
        self.end_group, self.follow, self.left = self._inner.end_group, self._inner.follow, self._inner.left
        self.cannot_limit = self._inner.cannot_limit
        self.fileno, self.close, self.is_alive = self._inner.fileno, self._inner.close, self._inner.is_alive

    def launch(self, spec: LaunchSpec) -> None:
        self._world.effect(spec.job, [f"{spec.incarnation} {state}" for state in ("starting", "resuming")])
        self._inner.launch(spec)

    def signal(self, job: str, incarnation: int, number: int, *, whole_tree: bool) -> None:
        states = ("stopping", "pausing")
        if number == signal.SIGCONT:
            states = (*states, "paused", "resuming", "running")
        self._world.effect(job, [f"{incarnation} {state}" for state in states])
        self._inner.signal(job, incarnation, number, whole_tree=whole_tree)


class _Shims:
    """The fake shims, watched."""

    def __init__(self, world: SupervisedMachine) -> None:
        self._world = world

    def is_saving(self, job: str) -> bool:
        return self._world.shims.is_saving(job)

    def process(self, job: str) -> Pid | None:
        return self._world.shims.process(job)

    def send(self, effect: AskPause | AskResume | AskStop | AskCheckpoint) -> bool:
        self._world.effect(effect.name, [] if isinstance(effect, AskCheckpoint) else [effect.request])
        return self._world.shims.send(effect)


class _Freezer:
    """The fake freezer, watched: only what waits at a boundary loses its context."""

    def __init__(self, world: SupervisedMachine) -> None:
        self._world, self._inner = world, world.freezer
        self.drain, self.fileno, self.close = self._inner.drain, self._inner.fileno, self._inner.close

    def freeze(self, process: Pid) -> None:
        trainer = self._trainer(process)
        self._world.effect(trainer.job if trainer else "", [])
        if trainer is not None:
            assert trainer.holding is not None, "its context was taken while it trained"
            assert trainer.holding.depth == "offload"
        self._inner.freeze(process)

    def thaw(self, process: Pid) -> None:
        trainer = self._trainer(process)
        self._world.effect(trainer.job if trainer else "", [])
        self._inner.thaw(process)

    def _trainer(self, process: Pid) -> FakeTrainer | None:
        trainers = self._world.shims.trainers.values()
        return next((one for one in trainers if one.process == process), None)


def _runs(command: object) -> bool:
    return command.process is not None and command.exit is None  # type: ignore[attr-defined]


def _check_person_is_obeyed(before: Job | None, event: JobEvent, after: Job) -> None:
    """What a person paused goes on only when a person says so, or at the time that was said with it."""
    if before is None or before.state not in _PAUSE or isinstance(event, Submitted):
        return
    if before.asked_by is None or before.asked_by.kind != "person":
        return
    goes_on = after.state in (JobState.RESUMING, JobState.STARTING, JobState.QUEUED)
    goes_on |= before.state is JobState.PAUSED and after.state is JobState.RUNNING
    taken_over = after.state in _PAUSE and (after.asked_by is None or after.asked_by.kind != "person")
    assert not taken_over, (before, event, after)
    if not goes_on:
        return
    by_person = isinstance(event, ResumeAsked | RestartAsked) and event.by.kind == "person"
    by_its_own_time = isinstance(event, TimerFired) and event.timer == "wake" and before.wake_at is not None
    assert by_person or by_its_own_time, (before, event, after)
