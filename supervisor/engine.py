"""World -> event -> core -> journal -> effects -> world: the one way through the house.

Covers: applying events to jobs, staging them for the journal, carrying out
effects once they are stored, timers, taking up jobs after a restart.
Does not cover: sockets, files, processes (the adapters); what follows what
(core/); choosing which job yields.

Jobs in memory run ahead of the journal by the batch that is being written.
Whatever the world sees of it (effects, answers, published events) waits until
that batch is safe. So a crash at any point forgets only what nobody was told.
"""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Literal

import structlog

from supervisor.accounts import Accounts
from supervisor.core.jobs import apply as core
from supervisor.core.jobs import cuda_context, leftovers, names
from supervisor.core.jobs.effects import (
    AskCheckpoint,
    AskPause,
    AskResume,
    AskStop,
    Effect,
    EndGroup,
    Launch,
    Signal,
    Suspend,
    TakeUp,
    Unsuspend,
)
from supervisor.core.jobs.events import (
    Attached,
    ContextMoved,
    ContextUnknown,
    JobEvent,
    ProcessEnded,
    ProcessStarted,
    Removed,
    ResumeAsked,
    Submitted,
    SuspendAsked,
    TimerFired,
)
from supervisor.core.jobs.job import Asker, Exit, Job, JobSpec
from supervisor.core.replacing import replace
from supervisor.errors import NameTaken, Refused, SupervisorError, UnknownJob
from supervisor.job_table import JobTable
from supervisor.last_look import LastLook
from supervisor.launching import launch_spec
from supervisor.numbering import Numbering
from supervisor.past_jobs import PastJobs
from supervisor.paths import Paths
from supervisor.ports import (
    Ended,
    JournalRow,
    Started,
    World,
)
from supervisor.set_aside import SetAside
from supervisor.settings.config import Config
from supervisor.staging import Staging
from supervisor.system.owners import is_users_to_signal
from supervisor.taken import Taken

__all__ = ["Engine"]

_JOURNAL_ID = "journal.id"

_SIGNALS = MappingProxyType(
    {name: int(signal.Signals[f"SIG{name}"]) for name in ("TERM", "KILL", "STOP", "CONT")}
)


class Engine:
    """All jobs, and the only thing that changes them. Used from one thread, the loop's.

    Call `stage()` after every round of events and `settle()` when the journal
    says that something was stored; both return at once.
    """

    def __init__(
        self, world: World, paths: Paths, look: LastLook, *, on_stored: Callable[[JournalRow], None]
    ) -> None:
        self.config = Config()
        self._clock = world.clock
        self._journal = world.journal
        self._launcher = world.launcher
        self._shims = world.shims
        self._freezer = world.freezer
        self._receipt = world.receipt
        self._paths = paths
        #: For GPUs of a job that starts again without a verdict: the policy knows which are free.
        self._look = look
        self._log = structlog.get_logger("engine")
        self._job_table = JobTable()
        self._staging = Staging(world.journal, on_stored)
        self._next_seq = world.journal.last_seq() + 1
        facts = world.journal.facts()
        #: Run folders are bound to the journal that knows of them.
        self._journal_id = facts.get(_JOURNAL_ID) or uuid.uuid4().hex
        if _JOURNAL_ID not in facts:
            self._staging.remember({_JOURNAL_ID: self._journal_id})
        self._taken = Taken({}, (), "")
        self._numbering = Numbering(facts, self._staging.remember)
        self._accounts = Accounts(world.journal, self._staging.remember, look)
        self.past = PastJobs(facts, self._staging.remember)

    @property
    def jobs(self) -> Mapping[str, Job]:
        """All jobs by name, as they are now."""
        return MappingProxyType(self._job_table.all)

    @property
    def present(self) -> Mapping[str, Job]:
        """Those that are not over."""
        return MappingProxyType(self._job_table.present)

    @property
    def held(self) -> frozenset[str]:
        """Jobs for which nothing is done of what was asked, because it cannot be stored."""
        return self._staging.held

    # --- what the world tells ---------------------------------------------------------------

    def submit(self, name: str | None, spec: JobSpec) -> Job:
        """Make a job by its key; without one it gets its user's next number, which is never used twice."""
        folder = names.plain(name or "")
        if name is None:
            owner = spec.owner and names.user_part(spec.owner.uid, spec.owner.name)
            name = self._numbering.next_key(owner or "", self._job_table.all)
            # A run without a name never goes on from the checkpoints of another, whoever numbered that.
            folder = f"{names.plain(name)}-{uuid.uuid4().hex[:6]}"
        elif name in self._job_table.all:
            raise NameTaken(name, self._job_table.all[name].state)
        self._taken.check(name)
        if why_not := self._launcher.cannot_limit(spec.limits):
            raise Refused(f"cannot run it with these limits: {why_not}", hint="leave out that limit")
        if not spec.checkpoints:
            spec = replace(spec, checkpoints=os.path.join(spec.cwd, "checkpoints", folder))  # noqa: PTH118  # pure
        # Whatever other journals left there: a run folder is never used a second time.
        last = self._launcher.last_incarnation(self._paths.job_dir(name))
        event = Submitted(id=_new_id(), spec=spec, incarnation=max(self.past.num_starts(name), last))
        now = self._clock.now()
        job = core.create(name, event, now)
        self._record(job, event, now)
        return job

    def ask(self, name: str, event: JobEvent) -> Job:
        """Apply a request of a person or rule; raises what it is refused with, and then changes nothing."""
        job = self.job(name)
        return self._apply(job, self._completed(job, event))

    def observe(self, name: str, event: JobEvent) -> None:
        """Apply a fact of the world; one about a job that is no more means nothing."""
        if (job := self.find(name)) is None:
            return
        job = self._apply(job, event)
        if isinstance(event, Attached) and event.incarnation == job.incarnation:
            self._follow_shim(job)
        if self.config.jobs.free_cuda_context and cuda_context.may_begin(job, event):
            self._suspend(job)

    def remove(self, name: str, by: Asker) -> None:
        """Forget a job that is over."""
        job = None if self._taken.is_unreadable(name) else self.job(name)
        if job is not None and not job.is_over:
            raise Refused(
                f"cannot remove job `{name}`: it is {job.state}",
                hint=f"`supervisorctl stop {name}` ends it first",
            )
        now, wall = self._clock.now(), self._clock.wall()
        row = JournalRow(seq=self._take_seq(), job=name, at=now, wall=wall, event=Removed(by=by), after=None)
        self._staging.add(row)
        if job is None:
            self._taken.free(name)
            return
        self.past.removed(job)
        self._job_table.drop(name)

    def job(self, name: str) -> Job:
        """Return one job; raises UnknownJob."""
        job = self.find(name)
        if job is None:
            self._taken.check_readable(name)
            raise UnknownJob(name, nearest=self._job_table.nearest(name))
        return job

    def find(self, name: str) -> Job | None:
        """Return one job, or None."""
        return self._job_table.all.get(name)

    def then(self, call: Callable[[], None]) -> None:
        """Call it once everything that happened so far is stored."""
        self._staging.then(call)

    def take_launcher_news(self) -> None:
        """Apply what the launcher noticed."""
        for news in self._launcher.drain():
            if isinstance(news, Started):
                self.observe(news.job, ProcessStarted(incarnation=news.incarnation, process=news.process))
            else:
                self._ended(news)

    def take_freezer_news(self) -> None:
        """Apply what came of freeing CUDA contexts and taking them back."""
        for news in self._freezer.drain():
            event = ContextMoved(process=news.process, is_freed=news.is_frozen, why=news.problem)
            for job in list(self._job_table.present.values()):
                if job.run and job.run.context and job.run.context.process == news.process:
                    self.observe(job.name, event)

    # --- the loop's turn --------------------------------------------------------------------

    def next_due(self) -> float | None:
        """Return when there is something to do without news: a timer, or what an error left undone."""
        return self._clock.now() if self._staging.has_due else self._job_table.next_due()

    def stage(self) -> None:
        """Fire due timers, and hand all changes to the journal as one batch."""
        self._fire_timers()
        self._staging.stage()

    def settle(self) -> None:
        """Carry out what waited for batches that are stored by now."""
        self._staging.settle()

    def remember(self, facts: Mapping[str, str]) -> None:
        """Store small things with the next batch."""
        self._staging.remember(facts)

    # --- after a restart ----------------------------------------------------------------------

    def recover(self) -> None:
        """Take up all jobs as the journal has them; nothing is started twice, nothing is lost."""
        self._job_table = JobTable(
            sorted(self._journal.jobs(), key=lambda job: job.created_at), self._clock.now()
        )
        for job in list(self._job_table.present.values()):
            if job.alive:
                self._take_up(job)
        known = {(job.name, job.incarnation) for job in self._job_table.present.values() if job.alive}
        orphans = self._launcher.orphans(self._paths.jobs_state_dir, known)
        self._taken = Taken(self._journal.unreadable(), orphans, str(self._paths.journal))
        left = self._launcher.left(self._paths.jobs_state_dir)
        for effect in leftovers.to_end(self._job_table.all.values(), left):
            self._carry_out(effect)

    def look_for_orphans(self) -> bool:
        """Let go of commands that lived unknown and have ended; say whether there were any."""
        return self._taken.look(self._launcher.is_alive)

    def aside(self) -> tuple[SetAside, ...]:
        """Return the records and commands that keep their names from being used."""
        return self._taken.aside()

    def _take_up(self, job: Job) -> None:
        run_dir = self._paths.incarnation_dir(job.name, job.incarnation)
        journal, process = self._journal_id, job.process
        if self._launcher.adopt(job.name, job.incarnation, run_dir, journal=journal, process=process):
            if job.run and job.run.was_frozen:
                # Whether the last word on it was carried out is not known.
                word: Literal["STOP", "CONT"] = "CONT" if job.frozen_at is None else "STOP"
                self._carry_out(Signal(job.name, job.incarnation, word))
            if job.run and cuda_context.is_away(job.run):
                self.observe(job.name, ContextUnknown(incarnation=job.incarnation))
            return
        if job.process is None:
            # Journaled, but perhaps not launched before the daemon died; or a keeper is on its way that
            # cannot be seen yet. Launching again is safe, and whatever was asked since is told then.
            self._launch(job, is_first=False)
            return
        gone = Exit(error="exit status unknown: its run folder is gone")
        self.observe(job.name, ProcessEnded(incarnation=job.incarnation, exit=gone))

    # --- inside -------------------------------------------------------------------------------

    def _apply(self, job: Job, event: JobEvent) -> Job:
        now = self._clock.now()
        after, effects = core.apply(job, event, now)
        if after != job:
            self._record(after, event, now)
        for effect in effects:
            self._staging.after(partial(self._carry_out, effect), job=job.name, is_urgent=_is_kill(effect))
        return after

    def _record(self, job: Job, event: JobEvent, now: float) -> None:
        if (before := self._job_table.put(job)) is not None:
            self._accounts.note(before, job, self.config.shares, now)
        row = JournalRow(
            seq=self._take_seq(), job=job.name, at=now, wall=self._clock.wall(), event=event, after=job
        )
        self._staging.add(row)
        self._log.info(
            type(event).__name__,
            job=job.name,
            seq=row.seq,
            **({"old": before.state.value} if before else {}),
            new=job.state.value,
            **({"problem": job.problem} if job.problem else {}),
        )

    def _take_seq(self) -> int:
        self._next_seq += 1
        return self._next_seq - 1

    def _fire_timers(self) -> None:
        now = self._clock.now()
        for job in self._job_table.due(now):
            # Each timer clears or moves its own moment, so this ends.
            while event := core.due(job, now, start_grace_s=self.config.jobs.start_grace_s):
                job = self._apply(job, self._completed(job, event))  # noqa: PLW2901

    def _completed(self, job: Job, event: JobEvent) -> JobEvent:
        """Return an event with what only the world of this moment can tell."""
        if isinstance(event, TimerFired) and event.timer == "deadline":
            return replace(event, is_saving=self._shims.is_saving(job.name))
        if not (job.spec.num_gpus and not job.alive):
            return event
        if isinstance(event, ResumeAsked) and not event.gpus:
            return replace(event, gpus=self._gpus_for(job))
        if isinstance(event, TimerFired) and event.timer == "wake":
            return replace(event, gpus=self._gpus_for(job))
        return event

    def _gpus_for(self, job: Job) -> tuple[str, ...]:
        jobs, now = self._job_table.present.values(), self._clock.now()
        return self._look.gpus_for(job, jobs, self.config.settings, now)

    def _follow_shim(self, job: Job) -> None:
        process = self._shims.process(job.name)
        if process is not None:
            self._launcher.follow(job.name, job.incarnation, process)

    def _suspend(self, job: Job) -> None:
        process, limit_s = self._shims.process(job.name), self.config.jobs.cuda_restore_limit_s
        if process is not None:
            self._apply(job, SuspendAsked(process=process, restore_limit_s=limit_s))

    def _ended(self, news: Ended) -> None:
        if (receipt := self._receipt(news.job, news.incarnation)) is not None:
            self.observe(news.job, receipt)
        left_word = receipt is not None
        self.observe(news.job, ProcessEnded(incarnation=news.incarnation, exit=news.exit, yielded=left_word))

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Launch(job):
                self._launch(job, is_first=True)
            case TakeUp(job):
                self._take_up(job)
            case Signal(name, incarnation, word):
                meant = self.find(name)
                if meant is not None and not is_users_to_signal(meant):
                    return
                spares = meant is not None and meant.spec.keep_children and word in ("TERM", "KILL")
                self._launcher.signal(name, incarnation, _SIGNALS[word], whole_tree=not spares)
            case EndGroup(name, incarnation, grace_s):
                starts = [self._paths.incarnation_dir(name, one) for one in range(1, incarnation + 1)]
                self._launcher.end_group(name, starts, grace_s=grace_s)
            case AskPause() | AskResume() | AskStop() | AskCheckpoint():
                # Not connected just now: the shim says Hello when it is, and is told then.
                self._shims.send(effect)
            case Suspend(_, process):
                self._freezer.freeze(process)
            case Unsuspend(_, process):
                self._freezer.thaw(process)

    def _launch(self, job: Job, *, is_first: bool) -> None:
        try:
            self._taken.check(job.name)
            spec = launch_spec(job, self._paths, journal=self._journal_id, is_first=is_first)
            self._launcher.launch(spec)
        except (OSError, SupervisorError) as error:
            why = Exit(error=str(error) if isinstance(error, SupervisorError) else f"cannot start: {error}")
            self.observe(job.name, ProcessEnded(incarnation=job.incarnation, exit=why))


def _new_id() -> str:
    return f"j-{os.urandom(8).hex()}"


def _is_kill(effect: Effect) -> bool:
    """Whether a person or a deadline wants a process gone at once, and nothing of it is needed any more."""
    return isinstance(effect, Signal) and effect.signal == "KILL"
