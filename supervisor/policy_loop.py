"""Looks at the machine, asks the policy, and passes on what it wants: from sample to request.

Covers: when a sample is taken, what becomes of it, verdicts as requests to the
engine, the policy's memory across restarts of the daemon.
Does not cover: measuring (monitors/), deciding (core/policy/decide.py), what a
request does to a job (core/jobs/apply.py).

A verdict is a request like any other, by a rule instead of a person: the
engine may refuse it, and then the policy learns of it by what the job does.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from supervisor.core.jobs import apply as core
from supervisor.core.jobs.events import Admitted, JobEvent, PauseAsked, ResumeAsked, Submitted
from supervisor.core.jobs.job import Asker, Job, JobSpec
from supervisor.core.jobs.names import user_of
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.jobs.verdict import Verdict
from supervisor.core.policy.decide import decide, look_around, waits_for
from supervisor.core.policy.explain import (
    alarms,
    explain,
    explain_all,
    rule_states,
    shares,
    waiting,
)
from supervisor.core.policy.explanation import Explanation, RuleState, Share
from supervisor.core.policy.memory import Footprint, Memory
from supervisor.core.policy.room import fit, needs_of
from supervisor.core.policy.rule_check import unreachable
from supervisor.core.policy.rulebook import next_turn
from supervisor.core.policy.rules import Settings
from supervisor.core.policy.scene import Scene, is_rules
from supervisor.core.policy.shares import OWN_USER
from supervisor.core.readings.sample import Sample
from supervisor.core.replacing import replace
from supervisor.errors import Refused, SupervisorError
from supervisor.last_look import MEMORY_FACT, LastLook, recalled
from supervisor.ports import Clock, Journal, Sampler, WatchedJob
from supervisor.settings.config import Config
from supervisor.system.users import unknown_in, weights_of

__all__ = ["PolicyLoop"]

#: Nobody uses anything, and nobody waits: looking more often would only wake the machine.
_IDLE_S = 10.0

#: Readings are stored in blocks of that many, or of so many seconds, whichever comes first.
_BLOCK = 60
_BLOCK_S = 600.0

#: Without a verdict the memory is stored that often at most.
_REMEMBER_S = 60.0

#: A longer silence between two samples is a time in which nobody looked.
_GAP_S = 30.0

#: Two looks are never exactly an interval apart.
_ABOUT = 0.9

_MIB = 1 << 20


class _Engine(Protocol):
    """What is needed of the engine."""

    config: Config

    @property
    def jobs(self) -> Mapping[str, Job]: ...
    @property
    def present(self) -> Mapping[str, Job]: ...
    def job(self, name: str) -> Job: ...
    def ask(self, name: str, event: JobEvent) -> Job: ...
    def remember(self, facts: Mapping[str, str]) -> None: ...


class PolicyLoop:
    """Used from the loop's thread. `turn()` in every round, `next_at()` for how long the loop may sleep."""

    def __init__(
        self, engine: _Engine, sampler: Sampler, clock: Clock, journal: Journal, look: LastLook
    ) -> None:
        self._engine = engine
        self._sampler = sampler
        self._clock = clock
        self._journal = journal
        self._log = structlog.get_logger("policy")
        self._last = look
        # What users have had has a place of its own there.
        self._last.memory = replace(_with_a_gap(recalled(journal.facts())), usage=look.memory.usage)
        self._remembered_at = 0.0
        self._sample_at = 0.0
        #: What can never be met in the rules in force.
        self._idle_rules: tuple[str, ...] = ()
        #: What users have a right to, beside each other, as far as it was looked up; and who is not known.
        self._weights: dict[str, float] = {}
        self._unknown: tuple[str, ...] = ()
        #: Steady clock when a holding time ends (None: none runs); who is to yield then waits for no tick.
        self._turns_at: float | None = None
        self._idles = False
        self._block: list[Sample] = []
        self._recorded_at = -math.inf
        #: Queued jobs that the policy has been asked about with the present sample.
        self._asked_about: frozenset[str] = frozenset()

    # --- the loop's turn ----------------------------------------------------------------------

    @property
    def sample(self) -> Sample | None:
        """The newest one, if there is any."""
        return self._last.sample

    def configure(self, config: Config) -> None:
        """Take over new settings."""
        rules = [rule for rule in config.rules if rule.enabled and config.policy.enabled]
        programs = {condition.program for rule in rules for condition in rule.when if condition.program}
        self._idle_rules = tuple(f"{error} ({error.hint})" for error in unreachable(rules))
        self._sampler.watch(programs)
        self._weights = {}
        words = unknown_in(config.shares.weights)
        self._unknown = tuple(
            f"`{one}` in `shares.weights` is no user or group of this machine" for one in words
        )

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is a reason to look at once."""
        return self._sampler.fileno()

    def wake(self) -> None:
        """Look at once; the kernel said that memory is short."""
        self._sampler.acknowledge()
        self._sample_at = 0.0

    def next_at(self) -> float:
        """Return when to look: at the tick, when a holding time ends, at once when idling is over."""
        if self._idles:
            return self._sample_at if self._is_idle() else 0.0
        return self._sample_at if self._turns_at is None else min(self._sample_at, self._turns_at)

    def turn(self) -> bool:
        """Take a sample when it is due and act on it; ask again where a job has just come into the queue."""
        now = self._clock.now()
        is_due = now >= self.next_at()
        if is_due:
            self._look(now)
        if is_due or self._queued() - self._asked_about:
            self._decide(now)
        return is_due

    def close(self) -> None:
        """Hand over what is not stored yet, and let go."""
        self._store_block()
        self._remember(self._clock.now())
        self._sampler.close()

    def _look(self, now: float) -> None:
        wall = self._clock.wall()
        if self._last.sample is not None and now - self._last.sample.at > self._longest_gap_s():
            self._log.info("not-watched", for_s=round(now - self._last.sample.at))
            self._last.memory = _with_a_gap(self._last.memory)
        # First: a look that fails is not tried again at once, for ever.
        self._sample_at, self._turns_at = now + self._engine.config.daemon.sample_s, None
        watched = [_watched(job) for job in self._engine.present.values()]
        self._last.sample = self._sampler.sample(watched, at=now, wall=wall)
        interval_s = self._engine.config.daemon.sample_s
        pace_s = self._sampler.wait_s(interval_s)
        self._idles = self._is_idle()
        self._sample_at = now + (max(pace_s, _IDLE_S) if self._idles else pace_s)
        # In an emergency there are ten looks a second; a day of readings is not worth less for that.
        if now - self._recorded_at >= interval_s * _ABOUT:
            self._record(self._last.sample)

    def _record(self, sample: Sample) -> None:
        self._recorded_at = sample.at
        self._block.append(replace(sample, totals={}))
        if len(self._block) >= _BLOCK or sample.at - self._block[0].at >= _BLOCK_S:
            self._store_block()

    def _is_idle(self) -> bool:
        """Nobody runs, and nobody waits for a verdict."""
        return not any(
            job.alive or job.state is JobState.QUEUED or is_rules(job)
            for job in self._engine.present.values()
        )

    def _longest_gap_s(self) -> float:
        return max(_GAP_S, 3 * _IDLE_S, 3 * self._engine.config.daemon.sample_s)

    def _store_block(self) -> None:
        limit_mib = self._engine.config.policy.sample_history_mib
        block, self._block = self._block, []
        if block and limit_mib > 0:
            self._journal.record(block, limit_bytes=int(limit_mib * _MIB))

    def _queued(self) -> frozenset[str]:
        return frozenset(job.name for job in self._engine.present.values() if job.state is JobState.QUEUED)

    def fresh(self, *, after_wall: float, before_wall: float) -> list[Sample]:
        """Return readings that are not stored yet, of that time."""
        return [sample for sample in self._block if after_wall < sample.wall < before_wall]

    # --- deciding -----------------------------------------------------------------------------

    def _decide(self, now: float) -> None:
        """Ask the policy, and pass on what it wants."""
        assert self._last.sample is not None
        jobs = tuple(self._engine.present.values())
        settings = self._settings
        self._asked_about = self._queued()
        verdicts, self._last.memory = decide(jobs, self._last.sample, settings, self._last.memory, now)
        self._turns_at = next_turn(settings, self._last.memory)
        for verdict in verdicts:
            self._carry_out(verdict)
        self._asked_about = self._queued()
        if verdicts and self._last.sample.at > self._recorded_at:
            # What led to a verdict is what somebody will want to see.
            self._record(self._last.sample)
        if verdicts or now - self._remembered_at >= _REMEMBER_S:
            self._remember(now)

    def _carry_out(self, verdict: Verdict) -> None:
        log = self._log.bind(verdict=verdict.kind, job=verdict.job, rule=verdict.rule)
        try:
            self._engine.ask(verdict.job, self._event(verdict))
        except SupervisorError as error:
            # The job is another one by now than the policy saw; it sees that with the next sample.
            log.warning("verdict-refused", reason=verdict.reason, error=str(error))
        else:
            log.info("verdict", reason=verdict.reason)

    def _event(self, verdict: Verdict) -> JobEvent:
        config = self._engine.config.jobs
        by = Asker("rule", verdict.rule)
        request = uuid.uuid4().hex[:12]
        match verdict.kind:
            case "start":
                return Admitted(start_grace_s=config.start_grace_s, gpus=verdict.gpus, verdict=verdict)
            case "resume":
                return ResumeAsked(
                    request=request,
                    by=by,
                    start_grace_s=config.start_grace_s,
                    gpus=verdict.gpus,
                    verdict=verdict,
                )
            case _:
                return PauseAsked(
                    request=request,
                    by=by,
                    depth=verdict.depth or Depth.HOLD,
                    deadline_s=verdict.deadline_s,
                    reason=verdict.reason,
                    at_deadline=verdict.at_deadline,
                    kill_grace_s=config.kill_grace_s,
                    verdict=verdict,
                )

    # --- remembering --------------------------------------------------------------------------

    def _remember(self, now: float) -> None:
        """Store the memory with the next batch; where there are no jobs there is nothing worth a write."""
        self._remembered_at = now
        if self._engine.present:
            memory = replace(self._last.memory, usage={})
            self._engine.remember({MEMORY_FACT: msgspec.json.encode(memory).decode()})

    # --- answers ------------------------------------------------------------------------------

    def explain(self, name: str) -> Explanation:
        """Return why a job is where it is."""
        job, sample = self._engine.job(name), self._seen()
        jobs, settings = tuple(self._engine.present.values()), self._settings
        return explain(job, jobs, sample, settings, self._last.memory, self._clock.now())

    def explain_all(self) -> Iterator[Explanation]:
        """Yield why each job is where it is."""
        return explain_all(tuple(self._engine.jobs.values()), self._scene(self._seen()))

    def waiting(self) -> dict[str, str]:
        """Return what each job that waits to go on waits for, by name; nothing before the first look."""
        if self._last.sample is None:
            return {}
        jobs, settings = tuple(self._engine.present.values()), self._settings
        return waiting(jobs, self._last.sample, settings, self._last.memory, self._clock.now())

    def never_fits(self, spec: JobSpec) -> str:
        """Return what a new job asks for that this machine does not have at all, or ""."""
        if self._last.sample is None:
            return ""
        job = core.create("", Submitted(id="", spec=spec), self._clock.now())
        scene = self._scene(self._last.sample)
        answer = fit(job, needs_of(job, Footprint()), scene)
        return answer.why_not if answer.is_hopeless else ""

    def rule_states(self) -> tuple[RuleState, ...]:
        """Return every rule at every place as it is now."""
        jobs, settings = tuple(self._engine.present.values()), self._settings
        return rule_states(jobs, self._seen(), settings, self._last.memory, self._clock.now())

    def shares(self) -> tuple[Share, ...]:
        """Return what each user has had, whose turn it is first; nothing where there is one user."""
        return shares(self._scene(self._seen()))

    def settling(self) -> str:
        """Return what has to show its effect before anything else is decided, or ""."""
        return waits_for(self._scene(self._seen()))

    def alerts(self) -> tuple[str, ...]:
        """Return what the machine's owner has to know: rules that cannot be read, or can never act."""
        if self._last.sample is None:
            return ()
        jobs, settings = tuple(self._engine.present.values()), self._settings
        return (
            self._idle_rules
            + self._unknown
            + alarms(jobs, self._last.sample, settings, self._last.memory, self._clock.now())
        )

    @property
    def _settings(self) -> Settings:
        """What the policy is told, with a weight for each user who has or had something."""
        settings = self._engine.config.settings
        said = settings.shares.weights
        if not said:
            return settings
        users = {*map(user_of, self._engine.present), *self._last.memory.usage}
        self._weights |= weights_of({one or OWN_USER for one in users} - self._weights.keys(), said)
        return replace(settings, shares=replace(settings.shares, weights=self._weights))

    def _scene(self, sample: Sample) -> Scene:
        jobs, settings = tuple(self._engine.present.values()), self._settings
        return look_around(jobs, sample, settings, self._last.memory, self._clock.now())

    def _seen(self) -> Sample:
        if self._last.sample is None:
            raise Refused("cannot tell yet: nothing has been measured", hint="ask again in a moment")
        return self._last.sample


def _watched(job: Job) -> WatchedJob:
    checkpoints = Path(job.spec.checkpoints) if job.spec.checkpoints else None
    gpus = job.gpus if job.alive else ()
    return WatchedJob(
        name=job.name, process=job.process, checkpoints=checkpoints, uid=job.spec.uid, gpus=gpus
    )


def _with_a_gap(memory: Memory) -> Memory:
    """Nobody has looked for a while: no holding time runs on over that."""
    return replace(
        memory, triggers={key: replace(trigger, held_at=None) for key, trigger in memory.triggers.items()}
    )
