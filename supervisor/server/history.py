"""A stored event as subscribers and `supervisorctl events` see it; never anything of the environment."""

from __future__ import annotations

from supervisor.core import events
from supervisor.core.events import JobEvent
from supervisor.ports import StoredEvent
from trainer_shim import protocol

__all__ = ["event_message"]


def event_message(stored: StoredEvent) -> protocol.Event:
    """Return a journal row as subscribers and `events` see it."""
    return protocol.Event(
        seq=stored.seq,
        wall=stored.wall,
        job=stored.job,
        kind=str(type(stored.event).__struct_config__.tag),
        state=stored.state,
        detail=_detail(stored.event),
    )


def _detail(event: JobEvent) -> str:
    """Say in a few words what is particular about an event; never anything of the environment."""
    match event:
        case events.Submitted(spec=spec):
            return " ".join(spec.argv)[:200]
        case events.ProcessStarted(incarnation=number, process=process):
            return f"start {number}, process {process.pid}"
        case events.ProcessEnded(exit=exit_):
            return str(exit_)
        case events.PauseAsked(by=by, depth=depth, reason=reason, for_s=for_s):
            timed = f" for {for_s:g} s" if for_s is not None else ""
            return f"{depth} by {by}{timed}" + (f": {reason}" if reason else "")
        case events.StopAsked(by=by, how=how):
            return f"by {by}" + (" at once" if how == "kill" else "")
        case events.ResumeAsked(by=by) | events.RestartAsked(by=by) | events.Removed(by=by):
            return f"by {by}"
        case events.Checkpointed(step=step) | events.Yielded(step=step):
            return f"step {step}"
        case events.PauseFailed(why=why):
            return why
        case events.TimerFired(timer=timer):
            return timer
        case _:
            return ""
