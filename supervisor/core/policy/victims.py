"""Who makes room: all jobs that a rule could ask, in the order in which it asks them, each with its why.

Covers: who may be asked at all, what each would free, the order.
Does not cover: when (policy.py), how much is short (shortage.py).

First comes who is paused already and still has what is short: that costs no
training. Then, among users, who has had most for his weight (shares.py); of one
user's jobs the lowest priority. Among equals: who frees enough alone; who is
paused soonest; who frees most; who has the least work at stake should the pause
go wrong; who came last. Last come those who only go deeper because it lasts.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from supervisor.core.jobs.job import Job
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.jobs.verdict import Candidate
from supervisor.core.policy.rulebook import Instance
from supervisor.core.policy.scene import Scene, is_rules
from supervisor.core.policy.shares import gives_way, merged
from supervisor.core.policy.shortage import (
    DEPTHS,
    depth_for,
    freed,
    gives_back,
    resource,
    shortfall,
)

__all__ = ["Option", "chosen", "left_alone", "options", "stays_a_while"]

#: Bytes a second that a save is reckoned with where nobody has measured one.
_SAVE_BYTES_PER_S = 500e6

#: Less than that share of what is short does not help; a job that is stopped for it pays in vain.
_LEAST_SHARE = 0.05

#: Whose turn it is: see above.
_DEEPEN, _PAUSE, _ESCALATE = 0, 1, 2

#: A pause takes at least the rest of a batch.
_LEAST_PAUSE_S = 1.0


class Option(NamedTuple):
    """One job that the rule is about."""

    job: Job
    kind: Literal["pause", "deepen"]
    #: None: it cannot be asked, and `why` says why not.
    depth: Depth | None
    why: str
    rank: tuple[float, ...] = ()

    @property
    def is_eligible(self) -> bool:
        """Say whether it may be asked."""
        return self.depth is not None

    def candidate(self, *, is_chosen: bool) -> Candidate:
        """Return it as it is stored with a verdict."""
        return Candidate(job=self.job.name, why=self.why, is_chosen=is_chosen, is_eligible=self.is_eligible)


def options(instance: Instance, scene: Scene) -> list[Option]:
    """Return every job that the rule is about, who is asked first first."""
    found = [
        _option(instance, job, scene)
        for job in scene.jobs.values()
        if not job.is_over
        and job.state not in (JobState.QUEUED, JobState.STOPPING)
        and scene.concerns(instance, job)
    ]
    found.sort(key=lambda option: (not option.is_eligible, option.rank, option.job.name))

    def turn(option: Option) -> tuple[float, ...]:
        return (not option.is_eligible, *option.rank[:1], *gives_way(option.job, scene))

    return list(merged(found, lambda option: option.job, turn))


def chosen(ranking: list[Option]) -> Option | None:
    """Return whom the rule asks now."""
    return ranking[0] if ranking and ranking[0].is_eligible else None


def stays_a_while(instance: Instance, option: Option, scene: Scene) -> str:
    """Return why a job that has just come back does not yield to this shortage yet, or "".

    Who comes after it in the ranking does not yield in its place: that would turn the priorities round.
    """
    returned_at, again_after_s = scene.known(option.job.name).returned_at, instance.rule.pause_again_after_s
    short_s = instance.short_s(scene.now)
    if option.kind != "pause" or instance.is_urgent or returned_at is None or short_s >= again_after_s:
        return ""
    ago_s = scene.now - returned_at
    if ago_s > scene.settings.policy.flap_window_s:
        return ""
    return (
        f"{option.job.name} came back {ago_s:.0f} s ago, so it yields only to a shortage of "
        f"{again_after_s:.0f} s; this one has lasted for {short_s:.0f} s"
    )


def _option(instance: Instance, job: Job, scene: Scene) -> Option:
    kind: Literal["pause", "deepen"] = "deepen" if job.state is JobState.PAUSED else "pause"
    why_not = left_alone(instance.key, job, scene)
    if why_not:
        return Option(job, kind, None, why_not, (job.spec.priority,))
    if kind == "deepen":
        return _deeper(instance, job, scene)
    depth = depth_for(instance.rule, job.depths)
    if depth is None:
        able = ", ".join(job.depths)
        return Option(job, kind, None, f"can do {able}: that frees no {resource(instance.rule)}")
    return _ranked(instance, scene, job, _PAUSE, depth)


def left_alone(key: str, job: Job, scene: Scene) -> str:
    """Return why this job is not asked, or ""."""
    known, now = scene.known(job.name), scene.now
    if job.spec.protected:
        return "it is protected"
    if key in known.overruled:
        return "a person resumed it while the rule was on; it is left alone until the rule has been off"
    if now < known.ask_again_at:
        return (
            f"it could not be paused ({job.problem}); it is asked again in {known.ask_again_at - now:.0f} s"
        )
    match job.state:
        case JobState.PAUSING:
            frozen = ", and frozen" if job.frozen_at is not None else ""
            return "it is pausing already" + (f", and late{frozen}" if job.late else "")
        case JobState.PAUSED if not job.alive:
            return "it is paused and has given everything back"
        case JobState.PAUSED:
            return ""
        case JobState.RUNNING if not job.depths:
            return "no shim is connected: it cannot be paused"
        case JobState.RUNNING if now - job.since < scene.settings.policy.min_run_s:
            return f"it has run for {now - job.since:.0f} s only, of {scene.settings.policy.min_run_s:.0f} s"
        case JobState.RUNNING:
            return ""
        case _:
            return f"it is {job.state}"


def _deeper(instance: Instance, job: Job, scene: Scene) -> Option:
    """A paused job that still has what is short, or that the rule moves on when the shortage lasts."""
    rule = instance.rule
    at = job.depth or Depth.HOLD
    short = resource(rule)
    deeper = [d for d in DEPTHS[DEPTHS.index(at) + 1 :] if d in job.depths]
    has_given = gives_back(short, at)
    # A depth that the owner wrote down is a limit: only escalation goes beyond it.
    is_as_told = rule.depth != "auto" and DEPTHS.index(at) >= DEPTHS.index(Depth(rule.depth))
    if not has_given and not is_as_told:
        wanted = depth_for(rule, deeper)
        if wanted is not None:
            return _ranked(instance, scene, job, _DEEPEN, wanted)
        return Option(job, "deepen", None, f"paused ({at}); it can do nothing that frees {short}")
    lasts_s = scene.now - job.since
    is_ours = is_rules(job) and instance.key in scene.known(job.name).paused_by
    if not is_ours or rule.escalate_after_s is None or not deeper:
        done = "has given back what is short" if has_given else "gave back all that the rule asks for"
        return Option(job, "deepen", None, f"paused ({at}): it {done}")
    if lasts_s < rule.escalate_after_s:
        left_s = rule.escalate_after_s - lasts_s
        return Option(job, "deepen", None, f"paused ({at}); goes on to {deeper[0]} in {left_s:.0f} s")
    return _ranked(instance, scene, job, _ESCALATE, deeper[0])


def _ranked(instance: Instance, scene: Scene, job: Job, turn: int, depth: Depth) -> Option:
    use, known = scene.use(job.name), scene.known(job.name)
    gives = freed(instance.rule, instance.place, use, known.footprint, scene.sample)
    missing = shortfall(instance.rule, instance.looks, scene.sample)
    amount = gives.amount or 0.0
    kind: Literal["pause", "deepen"] = "pause" if turn == _PAUSE else "deepen"
    is_known = gives.amount is not None and missing is not None
    if turn != _ESCALATE and is_known and amount < (missing or 0.0) * _LEAST_SHARE:
        return Option(job, kind, None, f"{gives.text}: too little to help")
    is_enough = missing is None or gives.amount is None or amount >= missing
    words = [f"priority {job.spec.priority}", gives.text]
    if turn != _PAUSE:
        words += [f"paused already ({job.depth})"]
        return Option(job, kind, depth, ", ".join(words), (turn, job.spec.priority, not is_enough, -amount))
    words += [f"saves in about {_pause_s(job):.0f} s", _last_checkpoint(job, scene.now)]
    cost = (_pause_s(job), -amount, _unsaved_s(job, scene.now), -job.since)
    return Option(job, kind, depth, ", ".join(words), (turn, job.spec.priority, not is_enough, *cost))


def _pause_s(job: Job) -> float:
    if job.checkpoint is None:
        return _LEAST_PAUSE_S
    return max(_LEAST_PAUSE_S, job.checkpoint.took_s or job.checkpoint.size_bytes / _SAVE_BYTES_PER_S)


def _unsaved_s(job: Job, now: float) -> float:
    return max(0.0, now - (job.since if job.checkpoint is None else job.checkpoint.at))


def _last_checkpoint(job: Job, now: float) -> str:
    if job.checkpoint is None:
        return "no checkpoint yet"
    return f"last checkpoint {_unsaved_s(job, now):.0f} s ago"
