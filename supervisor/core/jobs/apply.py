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

from supervisor.core.jobs import by_hand, cuda_context, detaching, names
from supervisor.core.jobs.asking import ask_pause
from supervisor.core.jobs.effects import (
    AskCheckpoint,
    AskResume,
    AskStop,
    Effect,
    EndGroup,
    Launch,
    Signal,
    TakeUp,
)
from supervisor.core.jobs.events import (
    AbleTo,
    Admitted,
    Adopted,
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
from supervisor.core.jobs.job import THE_QUEUE, Asker, Exit, GoAhead, Job, JobPause, JobRun, JobStop
from supervisor.core.jobs.states import FINAL, Depth, JobState, Kind, accepts, next_state
from supervisor.core.jobs.verdict import Verdict
from supervisor.core.replacing import replace
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

_PAUSES = frozenset({JobState.PAUSING, JobState.PAUSED})

#: Arrows that say nothing else of a pause than was said: a refusal stays told. All others end it.
_WITHIN_A_PAUSE = frozenset({Kind.PAUSE, Kind.YIELDED, Kind.STILL_HELD, Kind.NOT_PAUSED})


def create(name: str, event: Submitted, now: float) -> Job:
    """Return the new, queued job."""
    last = event.incarnation
    return Job(
        id=event.id,
        name=name,
        spec=event.spec,
        created_at=now,
        since=now,
        incarnation=last,
        first_incarnation=last + 1,
    )


def apply(job: Job, event: JobEvent, now: float) -> Outcome:
    """Return the job as it is after the event, and what is to be done. Pure; see the module's text."""
    after, effects = _HANDLERS[type(event)](job, cuda_context.with_more_time(job, event), now)
    if job.frozen_at is not None and after.frozen_at is None:
        # Only a pausing job stands still: whatever comes after the pause lets it go first.
        after, thaw = _thaw(job, after, now)
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
    run, pause = job.run, job.pause
    named: list[tuple[str, float | None]] = [("restart", job.restart_at)]
    if run is not None:
        named += [("start-grace", run.start_grace_at), ("insist", run.insist_at)]
        named += [("context", run.context.at)] if run.context else []
    if pause is not None:
        named += [("deadline", None if pause.late else pause.deadline_at), ("wake", pause.wake_at)]
    return [(name, at) for name, at in named if at is not None]


def _move(job: Job, kind: Kind, now: float) -> Job:
    """Change state by the table, and nothing but by the table; what the new one has no room for goes."""
    state = next_state(job.name, job.state, kind)
    return replace(
        job,
        state=state,
        since=job.since if state is job.state else now,
        pause=job.pause if state in _PAUSES else None,
        stop=job.stop if state is JobState.STOPPING else None,
        is_pause_refused=job.is_pause_refused and kind in _WITHIN_A_PAUSE,
    )


def _reached(pause: JobPause, depth: Depth, bytes_freed: int) -> JobPause:
    """A pause that waits for nothing any more."""
    return replace(
        pause,
        depth=depth,
        held_depth=None,
        bytes_freed=bytes_freed,
        deadline_at=None,
        late=False,
        frozen_at=None,
    )


def _gone(ended: Job, now: float) -> Job:
    """A paused job whose process is no more."""
    assert ended.pause is not None
    pause = _reached(ended.pause, Depth.EXIT, 0)
    return _move(replace(ended, pause=pause), Kind.ENDED_YIELDED, now)


def _launch(job: Job, kind: Kind, now: float, start_grace_s: float) -> Outcome:
    """Begin the next incarnation."""
    run = JobRun(started_at=now, start_grace_at=now + start_grace_s, start_grace_s=start_grace_s)
    launched = _move(_with_next_start(job, run), kind, now)
    return launched, (Launch(launched),)


def _with_next_start(job: Job, run: JobRun) -> Job:
    """Return a job with its next start under way: how the one before ended is over."""
    return replace(job, run=run, incarnation=job.incarnation + 1, exit=None, restart_at=None)


def _admitted(job: Job, event: Admitted, now: float) -> Outcome:
    if not accepts(job.state, Kind.LAUNCH) or job.spec.by_hand == "once":
        return job, ()
    # Who wanted it to be started anew says more than that there was room for it.
    went_on = job.went_on or _go_ahead(THE_QUEUE, "started it", event.verdict)
    # Without new GPUs it gets those of the start before.
    job = replace(job, gpus=event.gpus or job.gpus, went_on=went_on)
    return _launch(job, Kind.LAUNCH, now, event.start_grace_s)


def _adopted(job: Job, event: Adopted, now: float) -> Outcome:
    if not accepts(job.state, Kind.ADOPT):
        return job, ()
    run = JobRun(started_at=now, process=event.process)
    went_on = GoAhead(None, "it was started by hand")
    adopted = _move(replace(_with_next_start(job, run), went_on=went_on), Kind.ADOPT, now)
    return adopted, (TakeUp(adopted),)


def _go_ahead(by: Asker, did: str, verdict: Verdict | None) -> GoAhead:
    return GoAhead(by, did, "" if verdict is None else verdict.reason)


def _process_started(job: Job, event: ProcessStarted, _now: float) -> Outcome:
    if job.run is None or event.incarnation != job.incarnation:
        return job, ()
    return replace(job, run=replace(job.run, process=event.process)), ()


def _process_ended(job: Job, event: ProcessEnded, now: float) -> Outcome:
    if job.run is None or event.incarnation != job.incarnation:
        return job, ()
    after, effects = _after_its_end(job, job.run, by_hand.as_told(job, event), now)
    if after.state is JobState.COMPLETED:
        after = replace(after, problem=detaching.problem(job, now))
    is_natural = after.state in (JobState.COMPLETED, JobState.FAILED) and after.restart_at is None
    return after, (effects if is_natural else (*_end_group(job), *effects))


def _end_group(job: Job) -> tuple[Effect, ...]:
    """End what it left: it would hold what was to be given back, or starve the next start."""
    return () if job.spec.keep_children else (EndGroup(job.name, job.incarnation, job.kill_grace_s),)


def _after_its_end(job: Job, run: JobRun, event: ProcessEnded, now: float) -> Outcome:
    goes_on = job.goes_on or not _never_ran(run, event.exit)
    ended = replace(job, run=None, exit=event.exit, goes_on=goes_on)
    if by_hand.is_over_with(ended, run, yielded=_has_word(run, event)):
        return _move(replace(ended, problem=str(event.exit)), Kind.ENDED_UNSEEN, now), ()
    match job.state:
        case JobState.PAUSED:
            return _paused_ended(ended, run, event, now)
        case JobState.PAUSING:
            return _pausing_ended(ended, run, event, now)
        case JobState.RUNNING:
            return _running_ended(ended, run, event, now)
        case JobState.RESUMING:
            return _resuming_ended(ended, run, event, now)
        case _:
            return _over(ended, run, event.exit, now)


def _paused_ended(ended: Job, run: JobRun, event: ProcessEnded, now: float) -> Outcome:
    """It stays paused, one depth further down; but a rule's may have gone on alone, to its end."""
    yielded = _has_yielded(run, event)
    if event.exit.code == 0 and not yielded and not _is_persons(ended):
        return _over(ended, run, event.exit, now)
    if run.context is not None and run.context.where == "lost":
        # What ended it says more than how it ended.
        problem = ended.problem
    elif yielded:
        problem = ""
    else:
        problem = f"the held process ended ({event.exit}); resume starts it again from its checkpoint"
    return _gone(replace(ended, problem=problem), now), ()


def _pausing_ended(ended: Job, run: JobRun, event: ProcessEnded, now: float) -> Outcome:
    """A pause outlives a process that was on its way out, that held already, or that failed meanwhile."""
    assert ended.pause is not None
    if ended.pause.held_depth is not None or _ended_idle(run, event.exit):
        return _paused_ended(ended, run, event, now)
    if _has_yielded(run, event):
        return _gone(ended, now), ()
    if event.exit.code != 0 and (run.insisted or _may_restart(ended, run, now)):
        return _paused_by_its_end(ended, run, event.exit, now), ()
    return _over(ended, run, event.exit, now)


def _running_ended(ended: Job, run: JobRun, event: ProcessEnded, now: float) -> Outcome:
    """It comes back where a pause had sent it away that was called off since."""
    was_sent_away = bool(run.insisted) and event.exit.code == EXIT_YIELDED
    if _has_word(run, event) or _ended_idle(run, event.exit) or was_sent_away:
        return _again(ended, run, event.exit, now)
    return _over(ended, run, event.exit, now)


def _resuming_ended(ended: Job, run: JobRun, event: ProcessEnded, now: float) -> Outcome:
    """The resume came when its process was on its way out: by its own word, or because it was ended."""
    is_exit_of_shim = event.exit.code == EXIT_YIELDED
    # Where no shim was, the exit code is the script's own.
    left = is_exit_of_shim and bool(run.depths)
    # A pause that was late had ended it when it was called off.
    was_sent_away = bool(run.insisted) and (is_exit_of_shim or event.exit.signal in _ENDING)
    if _has_word(run, event) or _ended_idle(run, event.exit) or left or was_sent_away:
        return _again(ended, run, event.exit, now)
    return _over(ended, run, event.exit, now)


def _again(ended: Job, run: JobRun, exit_: Exit, now: float) -> Outcome:
    """Launch it once more, unless it could not be launched at all."""
    if _never_ran(run, exit_):
        return _over(ended, run, exit_, now)
    return _launch(ended, Kind.ENDED_YIELDED, now, run.start_grace_s)


def _has_word(run: JobRun, event: ProcessEnded) -> bool:
    """Say whether its shim left word that its checkpoint is durable."""
    return run.yielded or event.yielded


def _has_yielded(run: JobRun, event: ProcessEnded) -> bool:
    return _has_word(run, event) or event.exit.code == EXIT_YIELDED


def _never_ran(run: JobRun, exit_: Exit) -> bool:
    return run.process is None and not run.depths and bool(exit_.error)


def _ended_idle(run: JobRun, exit_: Exit) -> bool:
    """Without its context it has done nothing since its checkpoint, whatever ended it."""
    return cuda_context.is_away(run) and exit_.code != 0


def _over(ended: Job, run: JobRun, exit_: Exit, now: float) -> Outcome:
    """The process ended for good: completed, failed or stopped, with what was planned after it."""
    ok = exit_.code == 0
    stop = ended.stop
    over = _move(ended, Kind.ENDED_OK if ok else Kind.ENDED_BAD, now)
    if stop is not None:
        return (_move(_anew(over, stop.by), Kind.RESTART, now) if stop.is_restart else over), ()
    if ok:
        return replace(over, problem="", num_failures=0), ()
    return _plan_restart(replace(over, problem=str(exit_)), run, now), ()


def _paused_by_its_end(ended: Job, run: JobRun, exit_: Exit, now: float) -> Job:
    """A pause that is under way outlives the process: it was ended for it, or would be started again."""
    since = f"checkpoint at step {ended.checkpoint.step}" if ended.checkpoint else "beginning"
    goes_on = f"resume starts it again from its {since}"
    if run.insisted:
        problem = f"it reached no batch boundary in time and was ended ({exit_}); {goes_on}"
        num_failures = ended.num_failures
    else:
        problem = f"it failed while it was to pause ({exit_}); {goes_on}"
        num_failures = _failures(ended, run, now) + 1
    return _gone(replace(ended, num_failures=num_failures, problem=problem), now)


def _failures(job: Job, run: JobRun, now: float) -> int:
    """Return the failures in a row; a long run wipes the slate clean."""
    return 0 if now - run.started_at >= _HEALTHY_RUN_S else job.num_failures


def _may_restart(job: Job, run: JobRun, now: float) -> bool:
    return job.spec.restart == "on-failure" and _failures(job, run, now) < job.spec.max_restarts


def _plan_restart(job: Job, run: JobRun, now: float) -> Job:
    """Start a failed job again after a while, twice as long each time."""
    spec, num_failures = job.spec, _failures(job, run, now)
    if not _may_restart(job, run, now):
        if spec.restart == "never" or not num_failures:
            return job
        often = "1 restart" if num_failures == 1 else f"{num_failures} restarts"
        return replace(job, problem=f"{job.problem}; gave up after {often}")
    wait_s = min(spec.restart_delay_s * 2**num_failures, max(_LONGEST_DELAY_S, spec.restart_delay_s))
    return replace(job, restart_at=now + wait_s, num_failures=num_failures + 1)


def _attached(job: Job, event: Attached, now: float) -> Outcome:
    """Bring a shim that (re)connects in line with what the journal wants of it."""
    if job.run is None or event.incarnation != job.incarnation:
        return job, ()
    was_connected = bool(job.run.depths)
    run = replace(job.run, depths=by_hand.able(job, event.depths), start_grace_at=None)
    pause = job.pause
    if pause is not None and not event.holding:
        pause = replace(pause, held_depth=None)
    job = replace(job, run=run, pause=pause)
    match job.state:
        case JobState.STARTING | JobState.RESUMING if not event.holding:
            # The pause that was called off may still wait in a gate for its boundary.
            call_off = job.state is JobState.RESUMING and was_connected
            effects = (AskResume(job.name, job.request),) if call_off else ()
            return _move(replace(job, problem=""), Kind.READY, now), effects
        case JobState.RESUMING | JobState.RUNNING if event.holding:
            return job, (AskResume(job.name, job.request),)
        case JobState.PAUSED if not event.holding:
            return _paused_but_running(job, run, now)
        case JobState.PAUSING | JobState.PAUSED:
            # Somebody else may have taken the pause over while it was away.
            return job, (ask_pause(job),)
        case JobState.STOPPING if run.insisted != "KILL":
            return job, (AskStop(job.name, job.request),)
        case _:
            return job, ()


def _able_to(job: Job, event: AbleTo, _now: float) -> Outcome:
    if job.run is None or not job.run.depths or event.incarnation != job.incarnation:
        return job, ()
    return replace(job, run=replace(job.run, depths=by_hand.able(job, event.depths))), ()


def _paused_but_running(job: Job, run: JobRun, now: float) -> Outcome:
    """A held shim went on while the daemon was away. A rule's pause is over; a person's is asked again."""
    assert job.pause is not None
    if job.pause.by is not None and job.pause.by.kind == "rule":
        alone = GoAhead(None, "its training shim let it go on while no daemon was there")
        return _move(replace(job, run=replace(run, yielded=False), went_on=alone), Kind.RESUMED, now), ()
    pause = replace(job.pause, deadline_at=now + job.pause.deadline_s)
    again = _move(replace(job, pause=pause), Kind.PAUSE, now)
    return again, (ask_pause(again),)


def pause_asked(job: Job, event: PauseAsked, now: float) -> Outcome:
    is_deeper = _ORDER.index(event.depth) > _ORDER.index(job.depth or Depth.HOLD)
    if _is_persons(job) and event.by.kind == "rule" and not is_deeper:
        return job, ()
    asked = _asked(job, event, now)
    # What stood in the way of the pause before is not said of this one.
    taken_over = replace(job, pause=asked, problem="", is_pause_refused=False)
    if job.state is JobState.PAUSED and (not job.alive or not is_deeper):
        # Alone, a shim ends the pause of a rule, so it hears whose this one is now.
        is_other_kind = job.alive and job.asked_by is not None and job.asked_by.kind != event.by.kind
        return taken_over, ((ask_pause(taken_over),) if is_other_kind else ())
    if job.state is JobState.QUEUED:
        held_back = replace(taken_over, pause=replace(asked, depth=Depth.EXIT))
        return _move(held_back, Kind.PAUSE, now), ()
    is_ended = job.state is JobState.PAUSING and job.is_ending
    if is_ended or (job.frozen_at is not None and not is_deeper):
        # The late pause has done what can be done; this one only takes it over.
        return taken_over, ()
    next_state(job.name, job.state, Kind.PAUSE)
    assert job.run is not None
    _check_pausable(job, job.run, event.depth)
    pausing = replace(
        taken_over,
        request=event.request,
        kill_grace_s=event.kill_grace_s,
        run=replace(job.run, yielded=False, insisted=""),
        pause=replace(
            asked,
            depth=event.depth,
            held_depth=job.depth if job.state is JobState.PAUSED else asked.held_depth,
            deadline_at=now + event.deadline_s,
            deadline_s=event.deadline_s,
            late=False,
            frozen_at=None,
        ),
    )
    pausing = _move(pausing, Kind.PAUSE, now)
    return pausing, (ask_pause(pausing),)


def _asked(job: Job, event: PauseAsked, now: float) -> JobPause:
    """Return the pause that is under way as the one who asks now wants it, or a new one."""
    if _is_persons(job) and event.by.kind == "rule" and job.pause is not None:
        # A rule may make a person's pause deeper, but never takes it over.
        return job.pause
    return replace(
        job.pause or JobPause(depth=event.depth),
        by=event.by,
        reason=event.reason,
        wake_at=None if event.for_s is None else now + event.for_s,
        verdict=event.verdict,
        at_deadline=event.at_deadline,
    )


def _is_persons(job: Job) -> bool:
    return job.pause is not None and job.pause.by is not None and job.pause.by.kind == "person"


def _refuse_rule(job: Job, verb: str, by: Asker) -> None:
    """What a person paused goes on when a person says so."""
    if _is_persons(job) and by.kind == "rule":
        raise Refused(
            f"cannot {verb} job `{job.name}` by {by}: {job.asked_by} paused it",
            hint=f"a person may: `supervisorctl {verb} {job.name}`",
        )


def _check_pausable(job: Job, run: JobRun, depth: Depth) -> None:
    """Refuse what the shim cannot do. While a job starts its shim may still be on its way."""
    # A frozen one that had not connected yet gets its time to do so when it is let go.
    starting = run.start_grace_at is not None or job.frozen_at is not None
    if not run.depths and not starting:
        raise Refused(
            f"cannot pause job `{job.name}`: no training shim has connected, so it is not pausable",
            hint="add `trainer_shim.attach(...)` and `shim.batches(...)` to the script (see README); "
            f"`supervisorctl stop {job.name}` ends it without a checkpoint",
        )
    if run.depths and depth not in run.depths:
        why, hint = by_hand.how_to_exit(job, depth)
        raise Refused(
            f"cannot pause job `{job.name}` at depth {depth}: "
            + (why or f"its shim can do {', '.join(run.depths)}"),
            hint=hint or f"`supervisorctl pause {job.name} --depth {run.depths[-1]}`",
        )


def resume_asked(job: Job, event: ResumeAsked, now: float) -> Outcome:
    _refuse_rule(job, "resume", event.by)
    if event.in_line and not job.alive and job.state is JobState.PAUSED:
        return _in_line(job, f"{event.by} let it go on"), ()
    if not job.alive:
        by_hand.check_startable(job, "resume")
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


def _in_line(job: Job, why: str) -> Job:
    """Return a paused job without a process as one that waits for room and its turn, as the queue's."""
    assert job.pause is not None
    pause = replace(job.pause, wake_at=None)
    if pause.by is None or pause.by.kind == "person":
        pause = replace(pause, by=THE_QUEUE, reason=f"{why}; it waits for its turn")
    return replace(job, pause=pause)


def _resume(job: Job, request: str, start_grace_s: float, now: float) -> Outcome:
    next_state(job.name, job.state, Kind.RESUME)
    job = replace(job, request=request, problem="")
    if job.run is None:
        return _launch(job, Kind.RESUME, now, start_grace_s)
    # It may be on its way out for a late pause: nothing more is done for that.
    run = replace(job.run, insist_at=None, start_grace_s=start_grace_s)
    return _move(replace(job, run=run), Kind.RESUME, now), (AskResume(job.name, request),)


def stop_asked(job: Job, event: StopAsked, now: float) -> Outcome:
    kill = event.how == "kill"
    left = (EndGroup(job.name, job.incarnation, 0.0),) if kill and event.has_left and not job.alive else ()
    if left and job.is_over:
        return job, left
    stopping, effects = _stop(job, JobStop(by=event.by), event, now)
    return stopping, (*left, *effects)


def _stop(job: Job, stop: JobStop, event: StopAsked | RestartAsked, now: float) -> Outcome:
    if not job.alive and not job.is_over:
        return _move(replace(job, restart_at=None), Kind.STOP_IDLE, now), ()
    kill = isinstance(event, StopAsked) and event.how == "kill"
    next_state(job.name, job.state, Kind.STOP, verb="kill" if kill else "")
    assert job.run is not None
    ask_shim = bool(job.run.depths) and not kill
    signal: Literal["TERM", "KILL"] = "KILL" if kill else "TERM"
    run = replace(
        job.run,
        insist_at=now + (event.stop_grace_s if ask_shim else event.kill_grace_s),
        insisted="" if ask_shim else signal,
    )
    asked = replace(job, run=run, stop=stop, request=event.request, kill_grace_s=event.kill_grace_s)
    stopping = _move(asked, Kind.STOP, now)
    if ask_shim:
        return stopping, (AskStop(job.name, event.request),)
    return stopping, (Signal(job.name, job.incarnation, signal),)


def restart_asked(job: Job, event: RestartAsked, now: float) -> Outcome:
    _refuse_rule(job, "restart", event.by)
    by_hand.check_startable(job, "restart")
    if job.alive:
        return _stop(job, JobStop(by=event.by, is_restart=True), event, now)
    if job.state not in FINAL:
        job = _move(job, Kind.STOP_IDLE, now)
    again = _anew(replace(job, restart_at=None, exit=None), event.by)
    return _move(again, Kind.RESTART, now), _end_group(job)


def _anew(job: Job, by: Asker | None) -> Job:
    """Return the job without what a person's restart forgets."""
    went_on = GoAhead(by, "restarted it")
    return replace(job, num_failures=0, problem="", goes_on=False, went_on=went_on)


def checkpoint_asked(job: Job, event: CheckpointAsked, _now: float) -> Outcome:
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
    if job.run is None:
        return job, ()
    if event.depth is Depth.EXIT:
        # Paused only when the process is gone: memory that is still taken is not given back.
        return replace(job, run=replace(job.run, yielded=True)), ()
    if job.state in (JobState.RUNNING, JobState.RESUMING):
        # It holds for a pause that was called off; a line that broke has lost the word of it.
        return job, (AskResume(job.name, job.request),)
    if job.pause is None or job.state is not JobState.PAUSING or event.request != job.request:
        return job, ()
    pause = _reached(job.pause, event.depth, event.bytes_freed)
    return _move(replace(job, pause=pause, run=_spared(job.run)), Kind.YIELDED, now), ()


def _spared(run: JobRun) -> JobRun:
    """Return a process that nothing is going to end any more."""
    return replace(run, insist_at=None, insisted="")


def _pause_failed(job: Job, event: PauseFailed, now: float) -> Outcome:
    if event.request != job.request or not accepts(job.state, Kind.NOT_PAUSED):
        # A checkpoint that was asked for by itself; the job runs as before.
        running = job.state is JobState.RUNNING
        return (replace(job, problem=f"cannot checkpoint: {event.why}") if running else job), ()
    assert job.run is not None
    if job.run.insisted == "KILL":
        return job, ()
    run, pause = _spared(job.run), job.pause
    if event.holding_depth is not None and pause is not None:
        problem = f"cannot pause at depth {pause.depth}: {event.why}"
        held = _reached(pause, event.holding_depth, pause.bytes_freed)
        job = replace(job, run=run, pause=held, is_pause_refused=True, problem=problem)
        return _move(job, Kind.STILL_HELD, now), ()
    verb = "stop" if job.state is JobState.STOPPING else "pause"
    back = replace(
        job,
        run=replace(run, yielded=False),
        is_pause_refused=verb == "pause",
        went_on=None,
        problem=f"cannot {verb}: {event.why}",
    )
    return _move(back, Kind.NOT_PAUSED, now), ()


def _resumed(job: Job, event: TrainingResumed, now: float) -> Outcome:
    if job.run is None:
        return job, ()
    if job.state is JobState.RESUMING and event.request == job.request:
        return _move(replace(job, run=replace(job.run, yielded=False)), Kind.RESUMED, now), ()
    if job.state is JobState.PAUSED:
        return _paused_but_running(job, job.run, now)
    if job.pause is not None:
        # It went on alone, for a rule and without a daemon, before it heard that it is to go deeper.
        return replace(job, pause=replace(job.pause, held_depth=None)), ()
    return job, ()


def _spec_changed(job: Job, event: SpecChanged, _now: float) -> Outcome:
    return replace(job, spec=event.spec), ()


def _timer_fired(job: Job, event: TimerFired, now: float) -> Outcome:
    match event.timer:
        case "start-grace":
            return _without_shim(job, now)
        case "deadline":
            return _deadline(job, event, now)
        case "wake":
            return _wake(job, event, now)
        case "insist":
            return _insist(job, now)
        case "context":
            return cuda_context.again(job, now)
        case "restart":  # pragma: no branch  # there is no other timer
            job = replace(job, restart_at=None)
            if not accepts(job.state, Kind.RESTART):
                return job, ()
            again = (
                f"it had failed and was started again, {job.num_failures} of {job.spec.max_restarts} times"
            )
            return _move(replace(job, went_on=GoAhead(None, again)), Kind.RESTART, now), ()


def _without_shim(job: Job, now: float) -> Outcome:
    """The time for a shim to connect is over: the job runs, and cannot be paused for now."""
    if job.run is None:
        return job, ()
    run = replace(job.run, start_grace_at=None)
    on_its_own = replace(job, run=replace(run, yielded=False))
    if job.state is JobState.PAUSING:
        why = "cannot pause: no training shim has connected"
        refused = replace(on_its_own, is_pause_refused=True, went_on=None, problem=why)
        return _move(refused, Kind.NOT_PAUSED, now), ()
    if accepts(job.state, Kind.READY):
        return _move(on_its_own, Kind.READY, now), ()
    return replace(job, run=run), ()


def _wake(job: Job, event: TimerFired, now: float) -> Outcome:
    """End a pause that was asked for a certain time; its asker asked for the end as well."""
    if job.pause is None:
        return job, ()
    if not job.alive and names.user_of(job.name):
        # Else a pause of a second would be a way past the line.
        return _in_line(job, "its time was over"), ()
    gpus = event.gpus if event.gpus and not job.alive else job.gpus
    went_on = GoAhead(None, "the time that it was paused for is over")
    job = replace(job, gpus=gpus, went_on=went_on)
    return _resume(job, f"{job.request}-wake", event.start_grace_s, now)


def _deadline(job: Job, event: TimerFired, now: float) -> Outcome:
    """The pause is late; do with it what was asked for."""
    pause, run = job.pause, job.run
    if pause is None or pause.deadline_at is None or run is None:
        return job, ()
    if event.is_saving and pause.at_deadline != "wait":
        # It is at its boundary: what it needs is time, and it gets as much again.
        more_s = max(pause.deadline_s, _SAVING_S)
        return replace(job, pause=replace(pause, deadline_at=now + more_s)), ()
    late = replace(pause, late=True)
    if pause.at_deadline == "terminate":
        run = replace(run, insisted="TERM", insist_at=now + job.kill_grace_s)
        effects = () if run.yielded else (Signal(job.name, job.incarnation, "TERM"),)
        return replace(job, pause=late, run=run), effects
    if pause.at_deadline == "freeze" and not run.yielded:
        run = replace(run, was_frozen=True, start_grace_at=None)
        frozen = replace(late, frozen_at=now)
        return replace(job, pause=frozen, run=run), (Signal(job.name, job.incarnation, "STOP"),)
    return replace(job, pause=late), ()


def _thaw(before: Job, job: Job, now: float) -> Outcome:
    """Let a job go that was frozen; a shim that had not connected yet gets its time to do so."""
    run = job.run
    if run is None or job.incarnation != before.incarnation:
        return job, ()
    if not run.depths:
        run = replace(run, start_grace_at=now + run.start_grace_s)
    return replace(job, run=run), (Signal(job.name, job.incarnation, "CONT"),)


def _insist(job: Job, now: float) -> Outcome:
    """First ask (done), then SIGTERM, then SIGKILL until it is gone."""
    run = job.run
    if run is None:
        return job, ()
    is_ending = job.state is JobState.STOPPING or (job.state is JobState.PAUSING and run.insisted)
    if not is_ending:
        return replace(job, run=replace(run, insist_at=None)), ()
    # `yielded`: it hangs on its way out, where SIGTERM asks for nothing that is not under way.
    signal: Literal["TERM", "KILL"] = "KILL" if run.insisted or run.yielded else "TERM"
    pushed = replace(run, insist_at=now + job.kill_grace_s, insisted=signal)
    return replace(job, run=pushed), (Signal(job.name, job.incarnation, signal),)


_HANDLERS: dict[type, Callable[[Job, Any, float], Outcome]] = {
    Admitted: _admitted,
    Adopted: _adopted,
    ProcessStarted: _process_started,
    ProcessEnded: _process_ended,
    Attached: _attached,
    AbleTo: _able_to,
    PauseAsked: pause_asked,
    ResumeAsked: resume_asked,
    StopAsked: stop_asked,
    RestartAsked: restart_asked,
    CheckpointAsked: checkpoint_asked,
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
