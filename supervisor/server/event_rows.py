"""A stored event as subscribers and `supervisorctl events` see it; never anything of the environment."""

from __future__ import annotations

from supervisor import api
from supervisor.core.jobs import events
from supervisor.core.jobs.events import JobEvent
from supervisor.ports import JournalRow, StoredEvent, Unreadable

__all__ = ["event_message", "stored"]


def stored(row: JournalRow) -> StoredEvent:
    """Return a row as the journal would read it back."""
    state = "removed" if row.after is None else str(row.after.state)
    return StoredEvent(seq=row.seq, at=row.at, wall=row.wall, job=row.job, event=row.event, state=state)


def event_message(event: StoredEvent) -> api.Event:
    """Return a journal row as subscribers and `events` see it."""
    is_readable = not isinstance(event.event, Unreadable)
    return api.Event(
        seq=event.seq,
        wall=event.wall,
        job=event.job,
        kind=str(type(event.event).__struct_config__.tag) if is_readable else "unreadable",
        state=event.state,
        detail=event.event.why if isinstance(event.event, Unreadable) else _detail(event.event),
    )


def _detail(event: JobEvent) -> str:
    """Say in a few words what is particular about an event; never anything of the environment."""
    match event:
        case events.Submitted(spec=spec):
            return " ".join(spec.argv)[:200]
        case events.PauseAsked(by=by, depth=depth, reason=reason, for_s=for_s, at_deadline=late):
            timed = f" for {for_s:g} s" if for_s is not None else ""
            then = f", {late} if late" if late != "wait" else ""
            return f"{depth} by {by}{timed}{then}" + (f": {reason}" if reason else "")
        case events.SpecChanged(spec=spec, by=by):
            protected = ", protected" if spec.protected else ""
            return f"by {by}: priority {spec.priority}{protected}" if by else "its file changed"
        case events.StopAsked(by=by, how=how):
            return f"by {by}" + (" at once" if how == "kill" else "")
        case events.ResumeAsked(by=by, verdict=verdict):
            return f"by {by}" + (f": {verdict.reason}" if verdict else "")
        case events.RestartAsked(by=by) | events.Removed(by=by):
            return f"by {by}"
        case events.Admitted(verdict=verdict, gpus=gpus):
            held = f"GPUs {', '.join(gpus)}" if gpus else ""
            return ": ".join(word for word in (verdict.reason if verdict else "", held) if word)
        case _:
            return _detail_of_fact(event)


def _detail_of_fact(event: JobEvent) -> str:
    match event:
        case events.ProcessStarted(incarnation=number, process=process):
            return f"start {number}, process {process.pid}"
        case events.Adopted(process=process):
            return f"process {process.pid}, started by hand"
        case events.ProcessEnded(exit=exit_):
            return str(exit_)
        case events.AbleTo(depths=depths):
            return ", ".join(depths)
        case events.CheckpointReported(checkpoint=checkpoint) | events.PauseReached(checkpoint=checkpoint):
            return f"step {checkpoint.step}"
        case events.PauseFailed(why=words) | events.TimerFired(timer=words):
            return words
        case events.ContextMoved(is_freed=is_freed, why=words):
            return words or ("freed" if is_freed else "taken back")
        case _:
            return ""
