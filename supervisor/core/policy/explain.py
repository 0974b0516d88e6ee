"""Why a job is where it is: the answers, as data.

Covers: what `supervisorctl why JOB` tells, and what `status` tells of jobs that wait.
Does not cover: how it is laid out (cli/), rules without regard to a job (rule_states.py),
deciding (policy.py): what is said here comes from the same functions that decide, so the
two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from supervisor.core import windows
from supervisor.core.jobs import cuda_context
from supervisor.core.jobs.job import Asker, Job
from supervisor.core.jobs.names import user_of
from supervisor.core.jobs.states import JobState
from supervisor.core.jobs.verdict import Verdict
from supervisor.core.policy.admission import Standing, holding, line
from supervisor.core.policy.decide import look_around, waits_for
from supervisor.core.policy.explanation import Explanation, RuleState, Share, WentOn
from supervisor.core.policy.hysteresis import Side
from supervisor.core.policy.memory import Memory
from supervisor.core.policy.returning import keepers, may_come_back, resume_after_s
from supervisor.core.policy.room import least_wrong, needs_of
from supervisor.core.policy.rule_states import alarms, clear_at, name_of, rule_state, rule_states
from supervisor.core.policy.rulebook import Instance
from supervisor.core.policy.rules import Settings
from supervisor.core.policy.scene import Scene
from supervisor.core.policy.shares import share_states
from supervisor.core.policy.victims import chosen, options, stays_a_while
from supervisor.core.readings.sample import Missing, Sample
from supervisor.core.replacing import replace

# Who answers needs both: what is so of a job, and what is so of the rules.
__all__ = [
    "alarms",
    "explain",
    "explain_all",
    "for_want_of_a_shim",
    "rule_states",
    "shares",
    "waiting",
]

_GOES = frozenset({JobState.STARTING, JobState.RUNNING, JobState.RESUMING})

#: Less of the way to a threshold is not near.
_NEAR_PCT = 0.5


class _Line(NamedTuple):
    """Those who wait, and what their users have had; looked at once for all that are asked about."""

    standings: tuple[Standing, ...]
    shares: tuple[Share, ...]


def explain(
    job: Job, jobs: Sequence[Job], sample: Sample, settings: Settings, memory: Memory, now: float
) -> Explanation:
    """Return why this job is where it is, and what has to happen for that to change."""
    return next(iter(explain_all((job,), look_around(jobs, sample, settings, memory, now))))


def explain_all(some: Sequence[Job], scene: Scene) -> Iterator[Explanation]:
    """Yield the same for some of the jobs; the line is looked at once for all of them."""
    waits = _look_at_line(scene) if any(_is_in_line(job) for job in some) else _Line((), ())
    for job in some:
        yield _explained(job, scene, waits)


def waiting(
    jobs: Sequence[Job], sample: Sample, settings: Settings, memory: Memory, now: float
) -> dict[str, str]:
    """Return what each job that waits to go on waits for, but for the rule that it yielded to: by name."""
    scene = look_around(jobs, sample, settings, memory, now)
    settling = waits_for(scene)
    told = {
        standing.job.name: standing.why_not or settling
        for standing in line(scene)
        if not _is_kept(standing.job, scene)
    }
    return {name: text for name, text in told.items() if text}


def shares(scene: Scene) -> tuple[Share, ...]:
    """Return what each user has had, whose turn is next first; nothing where there is one user."""
    return _look_at_line(scene).shares


def _look_at_line(scene: Scene) -> _Line:
    standings = tuple(line(scene))
    # One that a rule keeps, or that never fits, is not next, wherever it stands.
    first = next((one.job for one in standings if one.may_go or one.lacks), None)
    return _Line(standings, share_states(scene, [one.job for one in standings], first))


def _is_kept(job: Job, scene: Scene) -> bool:
    """Say whether a rule that paused it is still on."""
    keys = keepers(job, scene) if job.state is not JobState.QUEUED else ()
    return any(key in scene.instances and scene.instances[key].is_on for key in keys)


def _is_in_line(job: Job) -> bool:
    return job.state is JobState.QUEUED or may_come_back(job)


def _explained(job: Job, scene: Scene, waits: _Line) -> Explanation:
    known = scene.known(job.name)
    by, by_kind = _who(job.asked_by)
    answer = Explanation(
        job=job.name,
        state=job.state,
        summary=_summary(job),
        for_s=max(0.0, scene.now - job.since),
        by=by,
        by_kind=by_kind,
        reason=job.pause.reason if job.pause else "",
        went_on=_went_on(job),
        verdict=_verdict(job, scene),
        deadline_in_s=_until_late(job, scene.now),
        wakes_in_s=None if job.wake_at is None else max(0.0, job.wake_at - scene.now),
        num_flaps=known.num_flaps,
    )
    match job.state:
        case JobState.QUEUED:
            return _of_waiting(answer, job, scene, waits)
        case JobState.PAUSED | JobState.PAUSING if may_come_back(job):
            return _of_waiting(answer, job, scene, waits)
        case JobState.PAUSED | JobState.PAUSING:
            return _of_yielding(answer, job, scene.now)
        case JobState.RUNNING:
            return _of_running(answer, job, scene)
        case _:
            return replace(answer, next=_of_other(job, scene.now))


def _until_late(job: Job, now: float) -> float | None:
    deadline_at = job.pause.deadline_at if job.pause else None
    return None if deadline_at is None else deadline_at - now


def _who(by: Asker | None) -> tuple[str, Literal["", "person", "rule"]]:
    return ("", "") if by is None else (by.name, by.kind)


def _went_on(job: Job) -> WentOn | None:
    if job.went_on is None or job.state not in _GOES:
        return None
    by, by_kind = _who(job.went_on.by)
    return WentOn(by, by_kind, job.went_on.did, job.went_on.why)


def _verdict(job: Job, scene: Scene) -> Verdict | None:
    """Return what the policy decided where that led here, not what it once decided of this job."""
    last = scene.memory.last.get(job.name)
    if job.pause is not None:
        is_rules = job.pause.by is not None and job.pause.by.kind == "rule"
        # A pause that began under an earlier version does not know its verdict.
        is_last = is_rules and last is not None and last.kind in ("pause", "deepen")
        return job.pause.verdict or (last if is_last else None)
    is_policys = job.state in _GOES and job.went_on is not None and _who(job.went_on.by)[1] == "rule"
    return last if is_policys and last is not None and last.kind in ("resume", "start") else None


def _of_other(job: Job, now: float) -> str:
    """A job that is on its way to something, or over: what comes next."""
    match job.state:
        case JobState.STARTING | JobState.RESUMING:
            if job.depths:
                return "its training shim tells that it goes on"
            left = (
                ""
                if job.start_grace_at is None
                else f"; without one it counts as running in {_left(job.start_grace_at, now)}"
            )
            return f"its training shim connects{left}"
        case JobState.STOPPING if job.is_ending or job.yielded or not job.depths:
            return "its process ends"
        case JobState.STOPPING:
            return "it reaches its next batch boundary, saves and ends"
        case JobState.FAILED if job.restart_at is not None:
            often = f"restart {job.num_failures} of {job.spec.max_restarts}"
            return f"it is started again in {_left(job.restart_at, now)}, {often}"
        case JobState.FAILED if job.spec.by_hand != "once":
            from_there = ", from its newest checkpoint" if job.checkpoint else ""
            return f"a person restarts it{from_there}: `supervisorctl restart {job.name}`"
        case _:
            return ""


def for_want_of_a_shim(job: Job, now: float) -> str:
    """Return what becomes of a pause of a job that starts, if no training shim comes; or ""."""
    if job.state is not JobState.PAUSING or job.depths or job.start_grace_at is None:
        return ""
    return f"without one the pause is called off in {_left(job.start_grace_at, now)}, and it runs on"


def _left(at: float, now: float) -> str:
    return f"{max(0.0, at - now):.0f} s"


def _summary(job: Job) -> str:
    depth = f" ({job.depth})" if job.depth is not None else ""
    context = f", {words}" if (words := cuda_context.words(job)) else ""
    by = f" by {job.asked_by}" if job.asked_by is not None else ""
    problem = f": {job.problem}" if job.problem else ""
    late = ", late" if job.late else ""
    return f"{job.state}{depth}{context}{by}{late}{problem}"


def _of_waiting(answer: Explanation, job: Job, scene: Scene, waits: _Line) -> Explanation:
    """A job in the line: what keeps it, and its place."""
    position = next(i for i, standing in enumerate(waits.standings, 1) if standing.job.name == job.name)
    standing = waits.standings[position - 1]
    settling = waits_for(scene)
    blocks = tuple(text for text in (standing.why_not, settling) if text)
    if job.state is JobState.QUEUED:
        kept_by = holding(job, scene)
    else:
        kept_by = [scene.instances[key] for key in keepers(job, scene) if key in scene.instances]
    factors = [
        resume_after_s(i, job, scene) / i.rule.resume_after_s for i in kept_by if i.rule.resume_after_s
    ]
    next_ = _has_to(kept_by, job, scene) or standing.why_not or settling or "it goes on with the next tick"
    return replace(
        answer,
        rules=tuple(rule_state(instance, scene) for instance in kept_by),
        waits_for=blocks,
        next=next_,
        shares=tuple(replace(one, is_jobs=one.user == user_of(job.name)) for one in waits.shares),
        can_be_started=_can_be_started(job, scene),
        position=position,
        line_length=len(waits.standings),
        wait_factor=max(factors, default=answer.wait_factor),
    )


def _can_be_started(job: Job, scene: Scene) -> bool:
    needs = needs_of(job, scene.known(job.name).footprint)
    return not needs.num_gpus or bool(least_wrong(job, needs, scene))


def _has_to(kept_by: list[Instance], job: Job, scene: Scene) -> str:
    """Return what the rules that are on still ask for."""
    wanted = []
    for instance in kept_by:
        if instance.is_on:
            clear = " and ".join(
                f"{condition.metric} {clear_at(condition)}"
                if condition.metric
                else windows.circumstance(name_of(condition), "no longer")
                for condition in instance.rule.when
            )
            comma = "" if instance.rule.when[-1].metric else ","
            hold_s = resume_after_s(instance, job, scene)
            wanted.append(f"{clear}{comma} for {hold_s:.0f} s" if hold_s else clear)
    return "; ".join(wanted)


def _of_yielding(answer: Explanation, job: Job, now: float) -> Explanation:
    if job.state is JobState.PAUSING:
        return replace(answer, next=_of_pausing(job, now))
    if job.wake_at is not None:
        return replace(answer, next="the time that it was paused for ends")
    return replace(answer, next=f"a person resumes it: `supervisorctl resume {job.name}`")


def _of_pausing(job: Job, now: float) -> str:
    """What a pause still waits for: often it is not the boundary."""
    if job.frozen_at is not None:
        return f"a person resumes it: `supervisorctl resume {job.name}`; until then it stands still"
    if job.yielded:
        return "its process ends; its checkpoint is durable"
    if job.is_ending:
        return "its process ends; it reached no batch boundary in time"
    if job.pause and job.pause.held_depth is not None:
        return f"it goes from {job.pause.held_depth} to {job.depth}; its checkpoint is durable"
    if called_off := for_want_of_a_shim(job, now):
        return f"its training shim connects; {called_off}"
    return "it reaches its next batch boundary and saves"


def _of_running(answer: Explanation, job: Job, scene: Scene) -> Explanation:
    """A running job: the rule that is nearest to asking it."""
    about = scene.about(job)
    if not about:
        return replace(answer, next="nothing asks it to yield: no rule is about it")
    states = {instance.key: rule_state(instance, scene) for instance in about}
    nearest = max(about, key=lambda i: (i.is_on, states[i.key].near_pct))
    state = states[nearest.key]
    ranking = options(nearest, scene)
    mine = next((option for option in ranking if option.job.name == job.name), None)
    if nearest.is_on:
        text = f"rule {nearest.rule.name} is on"
        first = chosen(ranking)
        if first is not None and nearest.is_short and (why_not_yet := stays_a_while(nearest, first, scene)):
            text += f"; {why_not_yet}"
    elif nearest.side is Side.SHORT:
        held = f"for {state.held_s:.0f} s of {state.hold_s:.0f} s"
        text = f"nothing asks it to yield yet; rule {nearest.rule.name} is short, {held}"
    elif state.near_pct < _NEAR_PCT:
        text = "nothing asks it to yield, and no rule is near"
    else:
        text = f"nothing asks it to yield; nearest is rule {nearest.rule.name}{_distance(state)}"
    if blind := [instance.rule.name for instance in about if instance.side is Side.UNKNOWN]:
        text += f"; without a reading: {', '.join(dict.fromkeys(blind))}"
    if mine is not None and not mine.is_eligible:
        text += f"; this job is left alone: {mine.why}"
    return replace(
        answer,
        rules=(state,),
        next=text,
        candidates=tuple(option.candidate(is_chosen=False) for option in ranking),
    )


def _distance(state: RuleState) -> str:
    """The condition that is furthest from being short, in its own unit: a share would need to say of what."""
    furthest = min(state.conditions, key=lambda condition: condition.near_pct)
    if isinstance(furthest.reading, Missing) or not furthest.short:
        return ""
    unit = f" {furthest.unit}" if furthest.unit else ""
    return f": {furthest.what} is {furthest.reading:.4g}{unit}, short is {furthest.short}"
