"""What an event does to a job: the one function through which every job changes.

Covers: the new job record and the effects to carry out, for every event in
every state. States come from the table alone (`_move`).
Does not cover: when events are raised (engine.py), how effects are carried out
(the adapters), which job is chosen by a rule.

A request from a person that cannot be met raises `Refused`. A fact from the
world never raises: one that comes too late, or twice, changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from msgspec.structs import replace

from supervisor.core.jobs import cuda_context, detaching
from supervisor.core.jobs.asking import ask_pause
from supervisor.core.jobs.effects import AskCheckpoint, AskResume, AskStop, Effect, EndGroup, Launch, Signal
from supervisor.core.jobs.events import (
    AbleTo,
    Admitted,
    Attached,
    CheckpointAsked,
    CheckpointReported,
    ContextMoved,
    ContextUnknown,
    JobEvent,
    PauseAsked,
    PauseFailed,
    PauseReached,
    ProcessEnded,
    ProcessStarted,
    RestartAsked,
    ResumeAsked,
    SpecChanged,
    StopAsked,
    Submitted,
    SuspendAsked,
    TimerFired,
    TrainingResumed,
)
from supervisor.core.jobs.job import Asker, Exit, GoAhead, Job
from supervisor.core.jobs.states import FINAL, Depth, JobState, Kind, accepts, next_state
from supervisor.core.jobs.verdict import QUEUE, Verdict
from supervisor.errors import Refused

__all__ = ["EXIT_YIELDED", "Outcome", "apply", "create", "due", "next_due"]

#: The exit code of a shim that checkpointed and ended because it was asked to (EX_TEMPFAIL).
EXIT_YIELDED = 75

Outcome = tuple[Job, tuple[Effect, ...]]

#: A start that ran that long was no part of a series of failures.
_HEALTHY_RUN_S = 3600.0

#: Doubling the delay ends here, unless the first one is longer already.
_LONGEST_DELAY_S = 3600.0

#: A save gets at least that much when a pause is late.
_SAVING_S = 10.0

#: SIGKILL and SIGTERM, as the system numbers them everywhere that has pidfds.
_ENDING = (9, 15)

_ORDER = tuple(Depth)


def create(name: str, event: Submitted, now: float) -> Job:
    """Return the new, queued job."""
    last = event.incarnation
    return Job(
        name=name, spec=event.spec, created_at=now, since=now, incarnation=last, first_incarnation=last + 1
    )


def apply(job: Job, event: JobEvent, now: float) -> Outcome:
    """Return the job as it is after the event, and what is to be done. Pure; see the module's text."""
    after, effects = _HANDLERS[type(event)](job, cuda_context.with_more_time(job, event), now)
    if after.frozen_at is not None and after.state is not JobState.PAUSING:
        # Only a pausing job stands still: whatever comes after the pause lets it go first.
        after, thaw = _thaw(after, now)
        effects = (*thaw, *effects)
    return cuda_context.in_order(after, effects, now)


def next_due(job: Job) -> float | None:
    """Return when the job's next timer fires."""
    moments = [at for _, at in _timers(job)]
    return min(moments, default=None)


def due(job: Job, now: float, *, start_grace_s: float) -> TimerFired | None:
    """Return the timer that is due, if any; the earliest first."""
    ready = sorted((at, name) for name, at in _timers(job) if at <= now)
    return TimerFired(timer=ready[0][1], start_grace_s=start_grace_s) if ready else None


def _timers(job: Job) -> list[tuple[Any, float]]:
    deadline = None if job.late else job.deadline_at
    named = (
        ("start-grace", job.start_grace_at),
        ("deadline", deadline),
        ("wake", job.wake_at),
        ("insist", job.insist_at),
        ("restart", job.restart_at),
        ("context", job.context_at),
    )
    return [(name, at) for name, at in named if at is not None]


def _move(job: Job, kind: Kind, now: float, **changes: Any) -> Job:
    """Change state by the table, and nothing but by the table."""
    state = next_state(job.name, job.state, kind)
    since = job.since if state is job.state else now
    return replace(job, state=state, since=since, **changes)


#: What stood in the way of the pause before is not said of the next one.
_NO_PROBLEM: dict[str, Any] = {"problem": "", "is_pause_refused": False}

_NO_PAUSE: dict[str, Any] = {
    "depth": None,
    "held_depth": None,
    "bytes_freed": 0,
    "asked_by": None,
    "reason": "",
    "yielded": False,
    "deadline_at": None,
    "late": False,
    "at_deadline": "wait",
    "verdict": None,
    "wake_at": None,
    "is_pause_refused": False,
}


#: A pause that waits for nothing any more.
_REACHED: dict[str, Any] = {"deadline_at": None, "late": False, "insist_at": None, "insisted": ""}

#: A paused job whose process is no more.
_GONE: dict[str, Any] = {
    "depth": Depth.EXIT,
    "held_depth": None,
    "bytes_freed": 0,
    "is_pause_refused": False,
    **_REACHED,
}


def _launch(job: Job, kind: Kind, now: float, start_grace_s: float, **changes: Any) -> Outcome:
    """Begin the next incarnation; without new GPUs it gets those of the one before."""
    launched = _move(
        job,
        kind,
        now,
        **_NO_PAUSE,
        incarnation=job.incarnation + 1,
        alive=True,
        process=None,
        depths=(),
        started_at=now,
        start_grace_at=now + start_grace_s,
        start_grace_s=start_grace_s,
        exit=None,
        restart_at=None,
        frozen_at=None,
        was_frozen=False,
        **changes,
    )
    return launched, (Launch(launched),)


def _admitted(job: Job, event: Admitted, now: float) -> Outcome:
    if not accepts(job.state, Kind.LAUNCH):
        return job, ()
    # Who wanted it to be started anew says more than that there was room for it.
    went_on = job.went_on or _go_ahead(Asker("rule", QUEUE), "started it", event.verdict)
    return _launch(job, Kind.LAUNCH, now, event.start_grace_s, gpus=event.gpus or job.gpus, went_on=went_on)


def _go_ahead(by: Asker, did: str, verdict: Verdict | None) -> GoAhead:
    return GoAhead(by, did, "" if verdict is None else verdict.reason)


def _process_started(job: Job, event: ProcessStarted, _now: float) -> Outcome:
    if not job.alive or event.incarnation != job.incarnation:
        return job, ()
    return replace(job, process=event.process), ()


def _process_ended(job: Job, event: ProcessEnded, now: float) -> Outcome:
    if not job.alive or event.incarnation != job.incarnation:
        return job, ()
    after, effects = _after_its_end(job, event, now)
    if after.state is JobState.COMPLETED:
        after = replace(after, problem=detaching.problem(job, now))
    is_natural = after.state in (JobState.COMPLETED, JobState.FAILED) and after.restart_at is None
    return after, (effects if is_natural else (*_end_group(job), *effects))


def _end_group(job: Job) -> tuple[Effect, ...]:
    """End what it left: it would hold what was to be given back, or starve the next start."""
    return () if job.spec.keep_children else (EndGroup(job.name, job.incarnation, job.kill_grace_s),)


def _after_its_end(job: Job, event: ProcessEnded, now: float) -> Outcome:
    has_word = job.yielded or event.yielded
    yielded = has_word or event.exit.code == EXIT_YIELDED
    never_ran = job.process is None and not job.depths and bool(event.exit.error)
    # Where no shim was, the exit code is the script's own.
    goes_on = has_word or (yielded and bool(job.depths) and job.state is JobState.RESUMING)
    # A pause that was late had ended it when it was called off.
    was_killed = job.state is JobState.RESUMING and event.exit.signal in _ENDING
    goes_on |= bool(job.insisted) and (yielded or was_killed)
    # Without its context it has done nothing since its checkpoint, whatever ended it.
    is_away = cuda_context.is_away(job) and event.exit.code != 0
    goes_on |= is_away
    ended = replace(
        job,
        alive=False,
        process=None,
        depths=(),
        start_grace_at=None,
        insist_at=None,
        insisted="",
        frozen_at=None,
        exit=event.exit,
        yielded=yielded,
        goes_on=job.goes_on or not never_ran,
        **cuda_context.NOT_SUSPENDED,
    )
    if job.state is JobState.PAUSED or (
        job.state is JobState.PAUSING and (job.held_depth is not None or is_away)
    ):
        if event.exit.code == 0 and not yielded and not _is_persons(job):
            return _over(ended, event.exit, now)
        lost = (
            ""
            if yielded
            else f"the held process ended ({event.exit}); resume starts it again from its checkpoint"
        )
        # What ended it says more than how it ended.
        lost = job.problem if job.context == "lost" else lost
        return _move(ended, Kind.ENDED_YIELDED, now, **_GONE, problem=lost), ()
    if job.state is JobState.PAUSING and yielded:
        return _move(ended, Kind.ENDED_YIELDED, now, **_GONE), ()
    if job.state is JobState.PAUSING and event.exit.code != 0 and (job.insisted or _may_restart(job, now)):
        return _paused_by_its_end(ended, job, now), ()
    if job.state in (JobState.RESUMING, JobState.RUNNING) and goes_on and not never_ran:
        return _launch(ended, Kind.ENDED_YIELDED, now, job.start_grace_s)
    return _over(ended, event.exit, now)


def _over(job: Job, exit_: Exit, now: float) -> Outcome:
    """The process ended for good: completed, failed or stopped, with what was planned after it."""
    ok = exit_.code == 0
    was_stopping = job.state is JobState.STOPPING
    over = _move(job, Kind.ENDED_OK if ok else Kind.ENDED_BAD, now, **_NO_PAUSE)
    if was_stopping:
        if job.restart_after_stop:
            over = _move(over, Kind.RESTART, now, restart_after_stop=False, **_anew(job.asked_by))
        return over, ()
    if ok:
        return replace(over, problem="", num_failures=0), ()
    return _plan_restart(replace(over, problem=str(exit_)), now), ()


def _paused_by_its_end(ended: Job, job: Job, now: float) -> Job:
    """A pause that is under way outlives the process: it was ended for it, or would be started again."""
    since = f"checkpoint at step {ended.checkpoint.step}" if ended.checkpoint else "beginning"
    goes_on = f"resume starts it again from its {since}"
    if job.insisted:
        problem = f"it reached no batch boundary in time and was ended ({ended.exit}); {goes_on}"
        num_failures = job.num_failures
    else:
        problem = f"it failed while it was to pause ({ended.exit}); {goes_on}"
        num_failures = _failures(job, now) + 1
    return _move(ended, Kind.ENDED_YIELDED, now, **_GONE, num_failures=num_failures, problem=problem)


def _failures(job: Job, now: float) -> int:
    """Return the failures in a row; a long run wipes the slate clean."""
    ran_s = now - (job.started_at if job.started_at is not None else now)
    return 0 if ran_s >= _HEALTHY_RUN_S else job.num_failures


def _may_restart(job: Job, now: float) -> bool:
    return job.spec.restart == "on-failure" and _failures(job, now) < job.spec.max_restarts


def _plan_restart(job: Job, now: float) -> Job:
    """Start a failed job again after a while, twice as long each time."""
    if not _may_restart(job, now):
        num_restarts = _failures(job, now)
        if job.spec.restart == "never" or not num_restarts:
            return job
        often = "1 restart" if num_restarts == 1 else f"{num_restarts} restarts"
        return replace(job, problem=f"{job.problem}; gave up after {often}")
    spec, num_failures = job.spec, _failures(job, now)
    wait_s = min(spec.restart_delay_s * 2**num_failures, max(_LONGEST_DELAY_S, spec.restart_delay_s))
    return replace(job, restart_at=now + wait_s, num_failures=num_failures + 1)


def _attached(job: Job, event: Attached, now: float) -> Outcome:
    """Bring a shim that (re)connects in line with what the journal wants of it."""
    if not job.alive or event.incarnation != job.incarnation:
        return job, ()
    was_connected = bool(job.depths)
    held_depth = job.held_depth if event.holding else None
    job = replace(job, depths=event.depths, start_grace_at=None, held_depth=held_depth)
    match job.state:
        case JobState.STARTING | JobState.RESUMING if not event.holding:
            # The pause that was called off may still wait in a gate for its boundary.
            call_off = job.state is JobState.RESUMING and was_connected
            effects = (AskResume(job.name, job.request),) if call_off else ()
            return _move(job, Kind.READY, now, **_NO_PAUSE | {"yielded": job.yielded}, problem=""), effects
        case JobState.RESUMING | JobState.RUNNING if event.holding:
            return job, (AskResume(job.name, job.request),)
        case JobState.PAUSING:
            return job, (ask_pause(job, now),)
        case JobState.PAUSED if not event.holding:
            return _paused_but_running(job, now)
        case JobState.PAUSED:
            # Somebody else may have taken the pause over while it was away.
            return job, (ask_pause(job, now),)
        case JobState.STOPPING if job.insisted != "KILL":
            return job, (AskStop(job.name, job.request),)
        case _:
            return job, ()


def _able_to(job: Job, event: AbleTo, _now: float) -> Outcome:
    if not job.depths or event.incarnation != job.incarnation:
        return job, ()
    return replace(job, depths=event.depths), ()


def _paused_but_running(job: Job, now: float) -> Outcome:
    """A held shim went on while the daemon was away. A rule's pause is over; a person's is asked again."""
    if job.asked_by is not None and job.asked_by.kind == "rule":
        alone = GoAhead(None, "its training shim let it go on while no daemon was there")
        return _move(job, Kind.RESUMED, now, **_NO_PAUSE, went_on=alone), ()
    again = _move(job, Kind.PAUSE, now, deadline_at=now + job.deadline_s)
    return again, (ask_pause(again, now),)


def _pause_asked(job: Job, event: PauseAsked, now: float) -> Outcome:
    asked: dict[str, Any] = {
        "asked_by": event.by,
        "reason": event.reason,
        "wake_at": None if event.for_s is None else now + event.for_s,
        **_NO_PROBLEM,
        "verdict": event.verdict,
        "at_deadline": event.at_deadline,
    }
    is_deeper = _ORDER.index(event.depth) > _ORDER.index(job.depth or Depth.HOLD)
    if _is_persons(job) and event.by.kind == "rule":
        # A rule may make a person's pause deeper, but never takes it over.
        if not is_deeper:
            return job, ()
        asked = {**_NO_PROBLEM}
    if job.state is JobState.PAUSED and (not job.alive or not is_deeper):
        taken_over = replace(job, **asked)
        # Alone, a shim ends the pause of a rule, so it hears whose this one is now.
        is_other_kind = job.alive and job.asked_by is not None and job.asked_by.kind != event.by.kind
        return taken_over, ((ask_pause(taken_over, now),) if is_other_kind else ())
    if job.state is JobState.QUEUED:
        return _move(job, Kind.PAUSE, now, depth=Depth.EXIT, **asked), ()
    is_ended = job.state is JobState.PAUSING and bool(job.insisted)
    if is_ended or (job.frozen_at is not None and not is_deeper):
        # The late pause has done what can be done; this one only takes it over.
        return replace(job, **asked), ()
    job, thaw = _thaw(job, now)
    next_state(job.name, job.state, Kind.PAUSE)
    _check_pausable(job, event.depth)
    asked |= {
        "request": event.request,
        "depth": event.depth,
        "deadline_at": now + event.deadline_s,
        "deadline_s": event.deadline_s,
        "held_depth": job.depth if job.state is JobState.PAUSED else job.held_depth,
        "late": False,
        "yielded": False,
        "insisted": "",
        "kill_grace_s": event.kill_grace_s,
    }
    pausing = _move(job, Kind.PAUSE, now, **asked)
    return pausing, (*thaw, ask_pause(pausing, now))


def _is_persons(job: Job) -> bool:
    return (
        job.state in (JobState.PAUSING, JobState.PAUSED)
        and job.asked_by is not None
        and job.asked_by.kind == "person"
    )


def _refuse_rule(job: Job, verb: str, by: Asker) -> None:
    """What a person paused goes on when a person says so."""
    if _is_persons(job) and by.kind == "rule":
        raise Refused(
            f"cannot {verb} job `{job.name}` by {by}: {job.asked_by} paused it",
            hint=f"a person may: `supervisorctl {verb} {job.name}`",
        )


def _check_pausable(job: Job, depth: Depth) -> None:
    """Refuse what the shim cannot do. While a job starts its shim may still be on its way."""
    starting = job.start_grace_at is not None
    if not job.depths and not starting:
        raise Refused(
            f"cannot pause job `{job.name}`: no training shim has connected, so it is not pausable",
            hint="add `trainer_shim.attach(...)` and `shim.batches(...)` to the script (see README); "
            f"`supervisorctl stop {job.name}` ends it without a checkpoint",
        )
    if job.depths and depth not in job.depths:
        able = ", ".join(job.depths)
        raise Refused(
            f"cannot pause job `{job.name}` at depth {depth}: its shim can do {able}",
            hint=f"`supervisorctl pause {job.name} --depth {job.depths[-1]}`",
        )


def _resume_asked(job: Job, event: ResumeAsked, now: float) -> Outcome:
    _refuse_rule(job, "resume", event.by)
    if job.state is JobState.QUEUED and job.spec.num_gpus and not event.gpus:
        wanted = "a GPU" if job.spec.num_gpus == 1 else f"{job.spec.num_gpus} GPUs"
        raise Refused(
            f"cannot start job `{job.name}`: it asks for {wanted}, and none could be found",
            hint=f"`supervisorctl why {job.name}` tells what it waits for",
        )
    if event.gpus and not job.alive:
        job = replace(job, gpus=event.gpus)
    did = "started it" if job.state is JobState.QUEUED else "let it go on"
    went_on = _go_ahead(event.by, did, event.verdict)
    return _resume(replace(job, went_on=went_on), event.request, event.start_grace_s, now)


def _resume(job: Job, request: str, start_grace_s: float, now: float) -> Outcome:
    next_state(job.name, job.state, Kind.RESUME)
    if not job.alive:
        return _launch(job, Kind.RESUME, now, start_grace_s, request=request, problem="")
    # It may be on its way out for a late pause: nothing more is done for that.
    job = replace(job, insist_at=None)
    keep_yielded = _NO_PAUSE | {"yielded": job.yielded}
    resuming = _move(
        job, Kind.RESUME, now, **keep_yielded, request=request, start_grace_s=start_grace_s, problem=""
    )
    return resuming, (AskResume(job.name, request),)


def _stop_asked(job: Job, event: StopAsked, now: float) -> Outcome:
    kill = event.how == "kill"
    left = (EndGroup(job.name, job.incarnation, 0.0),) if kill and event.has_left and not job.alive else ()
    if left and job.is_over:
        return job, left
    stopping, effects = _stop(job, event.request, kill, (event.stop_grace_s, event.kill_grace_s), now)
    return (replace(stopping, asked_by=event.by) if stopping.alive else stopping), (*left, *effects)


def _stop(job: Job, request: str, kill: bool, graces_s: tuple[float, float], now: float) -> Outcome:  # noqa: FBT001
    stop_grace_s, kill_grace_s = graces_s
    if not job.alive and not job.is_over:
        return _move(job, Kind.STOP_IDLE, now, **_NO_PAUSE, restart_at=None), ()
    next_state(job.name, job.state, Kind.STOP, verb="kill" if kill else "")
    ask_shim = bool(job.depths) and not kill
    signal: Literal["TERM", "KILL"] = "KILL" if kill else "TERM"
    stopping = _move(
        job,
        Kind.STOP,
        now,
        **_NO_PAUSE | {"yielded": job.yielded},
        request=request,
        restart_after_stop=False,
        kill_grace_s=kill_grace_s,
        insist_at=now + (stop_grace_s if ask_shim else kill_grace_s),
        insisted="" if ask_shim else signal,
    )
    if ask_shim:
        return stopping, (AskStop(job.name, request),)
    return stopping, (Signal(job.name, job.incarnation, signal),)


def _restart_asked(job: Job, event: RestartAsked, now: float) -> Outcome:
    _refuse_rule(job, "restart", event.by)
    if job.alive:
        graces_s = (event.stop_grace_s, event.kill_grace_s)
        stopping, effects = _stop(job, event.request, False, graces_s, now)
        return replace(stopping, restart_after_stop=True, asked_by=event.by), effects
    if job.state not in FINAL:
        job = _move(job, Kind.STOP_IDLE, now, **_NO_PAUSE)
    return _move(job, Kind.RESTART, now, restart_at=None, exit=None, **_anew(event.by)), _end_group(job)


def _anew(by: Asker | None) -> dict[str, Any]:
    """Return what a person's restart forgets."""
    went_on = GoAhead(by, "restarted it")
    return {"num_failures": 0, "problem": "", "goes_on": False, "went_on": went_on}


def _checkpoint_asked(job: Job, event: CheckpointAsked, _now: float) -> Outcome:
    if job.state is JobState.RUNNING and job.depths:
        return job, (AskCheckpoint(job.name, event.request),)
    if job.state is JobState.RUNNING:
        raise Refused(
            f"cannot checkpoint job `{job.name}`: no training shim has connected",
            hint="add `trainer_shim.attach(...)` and `shim.batches(...)` to the script (see README)",
        )
    raise Refused(
        f"cannot checkpoint job `{job.name}`: it is {job.state}",
        hint="only a running job writes a checkpoint; a paused one has written its own",
    )


def _checkpointed(job: Job, event: CheckpointReported, now: float) -> Outcome:
    return _with_checkpoint(job, event, now), ()


def _with_checkpoint(job: Job, event: CheckpointReported | PauseReached, now: float) -> Job:
    if job.checkpoint is not None and job.checkpoint.digest == event.checkpoint.digest:
        return job
    return replace(job, checkpoint=replace(event.checkpoint, at=now))


def _yielded(job: Job, event: PauseReached, now: float) -> Outcome:
    job = _with_checkpoint(job, event, now)
    if not job.alive:
        return job, ()
    if event.depth is Depth.EXIT:
        # Paused only when the process is gone: memory that is still taken is not given back.
        return replace(job, yielded=True), ()
    if job.state in (JobState.RUNNING, JobState.RESUMING):
        # It holds for a pause that was called off; a line that broke has lost the word of it.
        return job, (AskResume(job.name, job.request),)
    if job.state is not JobState.PAUSING or event.request != job.request:
        return job, ()
    reached = {"depth": event.depth, "held_depth": None, "bytes_freed": event.bytes_freed}
    return _move(job, Kind.YIELDED, now, **reached, **_REACHED), ()


def _pause_failed(job: Job, event: PauseFailed, now: float) -> Outcome:
    if event.request != job.request or not accepts(job.state, Kind.NOT_PAUSED):
        # A checkpoint that was asked for by itself; the job runs as before.
        running = job.state is JobState.RUNNING
        return (replace(job, problem=f"cannot checkpoint: {event.why}") if running else job), ()
    if job.insisted == "KILL":
        return job, ()
    if event.holding_depth is not None and accepts(job.state, Kind.STILL_HELD):
        problem = f"cannot pause at depth {job.depth}: {event.why}"
        held = {"depth": event.holding_depth, "held_depth": None, "is_pause_refused": True}
        return _move(job, Kind.STILL_HELD, now, **held, **_REACHED, problem=problem), ()
    verb = "stop" if job.state is JobState.STOPPING else "pause"
    back = _move(
        job,
        Kind.NOT_PAUSED,
        now,
        **_NO_PAUSE | {"is_pause_refused": verb == "pause"},
        went_on=None,
        insist_at=None,
        insisted="",
        restart_after_stop=False,
        problem=f"cannot {verb}: {event.why}",
    )
    return back, ()


def _resumed(job: Job, event: TrainingResumed, now: float) -> Outcome:
    if job.state is JobState.RESUMING and event.request == job.request:
        return _move(job, Kind.RESUMED, now, **_NO_PAUSE), ()
    if job.state is JobState.PAUSED and job.alive:
        return _paused_but_running(job, now)
    if job.held_depth is not None:
        # It went on alone, for a rule and without a daemon, before it heard that it is to go deeper.
        return replace(job, held_depth=None), ()
    return job, ()


def _spec_changed(job: Job, event: SpecChanged, _now: float) -> Outcome:
    return replace(job, spec=event.spec), ()


def _timer_fired(job: Job, event: TimerFired, now: float) -> Outcome:
    match event.timer:
        case "start-grace":
            return _without_shim(replace(job, start_grace_at=None), now)
        case "deadline":
            return _deadline(job, event, now)
        case "wake":
            return _wake(job, event, now)
        case "insist":
            return _insist(job, now)
        case "context":
            return cuda_context.again(job, now)
        case _:  # restart
            job = replace(job, restart_at=None)
            if not accepts(job.state, Kind.RESTART):
                return job, ()
            again = (
                f"it had failed and was started again, {job.num_failures} of {job.spec.max_restarts} times"
            )
            return _move(job, Kind.RESTART, now, went_on=GoAhead(None, again)), ()


def _without_shim(job: Job, now: float) -> Outcome:
    """The time for a shim to connect is over: the job runs, and cannot be paused for now."""
    if job.state is JobState.PAUSING:
        why = "cannot pause: no training shim has connected"
        refused = _NO_PAUSE | {"is_pause_refused": True}
        return _move(job, Kind.NOT_PAUSED, now, **refused, went_on=None, problem=why), ()
    return (_move(job, Kind.READY, now, **_NO_PAUSE) if accepts(job.state, Kind.READY) else job), ()


def _wake(job: Job, event: TimerFired, now: float) -> Outcome:
    """End a pause that was asked for a certain time; its asker asked for the end as well."""
    job = replace(job, wake_at=None)
    if event.gpus and not job.alive:
        job = replace(job, gpus=event.gpus)
    if not accepts(job.state, Kind.RESUME):
        return job, ()
    job = replace(job, went_on=GoAhead(None, "the time that it was paused for is over"))
    return _resume(job, f"{job.request}-wake", event.start_grace_s, now)


def _deadline(job: Job, event: TimerFired, now: float) -> Outcome:
    """The pause is late; do with it what was asked for."""
    if job.deadline_at is None:
        return job, ()
    if event.is_saving and job.at_deadline != "wait":
        # It is at its boundary: what it needs is time, and it gets as much again.
        return replace(job, deadline_at=now + max(job.deadline_s, _SAVING_S)), ()
    late = replace(job, late=True)
    if not job.alive or job.state is not JobState.PAUSING:
        return late, ()
    if job.at_deadline == "terminate":
        late = replace(late, insisted="TERM", insist_at=now + job.kill_grace_s)
        return late, (() if job.yielded else (Signal(job.name, job.incarnation, "TERM"),))
    if job.at_deadline == "freeze" and not job.yielded:
        late = replace(late, frozen_at=now, was_frozen=True, start_grace_at=None)
        return late, (Signal(job.name, job.incarnation, "STOP"),)
    return late, ()


def _thaw(job: Job, now: float) -> Outcome:
    """Let a frozen job go; a shim that had not connected yet gets its time to do so."""
    if job.frozen_at is None:
        return job, ()
    grace_at = job.start_grace_at if job.depths or not job.alive else now + job.start_grace_s
    thawed = replace(job, frozen_at=None, start_grace_at=grace_at)
    return thawed, ((Signal(job.name, job.incarnation, "CONT"),) if job.alive else ())


def _insist(job: Job, now: float) -> Outcome:
    """First ask (done), then SIGTERM, then SIGKILL until it is gone."""
    is_ending = job.state is JobState.STOPPING or (job.state is JobState.PAUSING and job.insisted)
    if not is_ending:
        return replace(job, insist_at=None), ()
    # `yielded`: it hangs on its way out, where SIGTERM asks for nothing that is not under way.
    signal: Literal["TERM", "KILL"] = "KILL" if job.insisted or job.yielded else "TERM"
    pushed = replace(job, insist_at=now + job.kill_grace_s, insisted=signal)
    return pushed, (Signal(job.name, job.incarnation, signal),)


_HANDLERS: dict[type, Callable[[Job, Any, float], Outcome]] = {
    Admitted: _admitted,
    ProcessStarted: _process_started,
    ProcessEnded: _process_ended,
    Attached: _attached,
    AbleTo: _able_to,
    PauseAsked: _pause_asked,
    ResumeAsked: _resume_asked,
    StopAsked: _stop_asked,
    RestartAsked: _restart_asked,
    CheckpointAsked: _checkpoint_asked,
    CheckpointReported: _checkpointed,
    PauseReached: _yielded,
    PauseFailed: _pause_failed,
    TrainingResumed: _resumed,
    SpecChanged: _spec_changed,
    SuspendAsked: cuda_context.suspend,
    ContextUnknown: cuda_context.taken_up,
    ContextMoved: cuda_context.moved,
    TimerFired: _timer_fired,
}
