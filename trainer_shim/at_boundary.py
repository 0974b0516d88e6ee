"""The order of things at a boundary: hold, go deeper, come back, leave, stop.

Covers: what is done first of all that is wanted, and what is wanted after that.
Does not cover: what is wanted (gate.py), how a checkpoint is written (saving.py), how memory is given back
(offload.py), the end of the session and of the process (session.py).

The order is the promise: a checkpoint is durable before anything is given back and before anybody is told
that it is.
"""

from __future__ import annotations

import time
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from trainer_shim import protocol
from trainer_shim.checkpoint import Saved
from trainer_shim.errors import CannotReturn, ShimError
from trainer_shim.gate import Gate, LeaveBySignal, Want
from trainer_shim.link_report import LinkReport
from trainer_shim.offload import Offloader
from trainer_shim.saving import Saver
from trainer_shim.signals import SignalWatch, stop_here
from trainer_shim.telling import Telling
from trainer_shim.units import format_bytes

__all__ = ["EXIT_YIELDED", "AtBoundary"]

#: A process that checkpointed and ends because the daemon asked (EX_TEMPFAIL of sysexits.h).
EXIT_YIELDED = 75

#: Time between two tries to get GPU memory back: the first, and the longest.
_RETURN_AGAIN_S, _RETURN_AGAIN_MAX_S = 0.5, 10.0


class _Ends(msgspec.Struct, frozen=True):
    """The process is to end; all that has to be told of it is told."""

    code: int


class AtBoundary:
    """Belongs to the thread that trains; one session's."""

    def __init__(
        self,
        gate: Gate,
        saver: Saver,
        offloader: Offloader,
        telling: Telling,
        report: LinkReport,
        signals: SignalWatch,
    ) -> None:
        self._gate, self._saver, self._offloader = gate, saver, offloader
        self._telling, self._report, self._signals = telling, report, signals
        #: What the present pause gave back of the memory of devices.
        self._freed_bytes = 0

    def look_at_depths(self) -> None:
        """Note what can be given back by now; the next heartbeat tells it."""
        self._report.depths = self._offloader.depths()

    def do(self, want: Want) -> int | None:
        """Do all that is wanted, until nothing is; a number is the code with which the process is to end."""
        try:
            while want or self._report.holding is not None:
                done = self._first(want)
                if isinstance(done, _Ends):
                    self._offloader.stay_on_host()
                    return done.code
                want = self._gate.take(done)
        except BaseException:
            # Ctrl-C, or what a handler of the script's own raises while it holds. A script may save its
            # model on its way out: no tensor is left without memory.
            with suppress(CannotReturn):
                self._offloader.take_back()
            self._offloader.stay_on_host()
            self._report.holding = None
            raise
        finally:
            # However the loop goes on from here, what was written is of this boundary only.
            self._saver.leave_boundary()
        return None

    def _first(self, want: Want) -> Want | _Ends:
        """Do what comes first of all that is wanted; return what is wanted after that."""
        if want.leave is not None or (want.pause is not None and want.pause.depth == "exit"):
            return self._leave(want)
        if want.pause is not None:
            return self._hold(want, want.pause)
        if self._report.holding is not None:
            return self._go_on(want)
        if want.is_stopped:
            return self._stop(want)
        return self._answer(want)

    def _answer(self, want: Want) -> Want:
        """Write the checkpoints that were asked for, and confirm that the loop goes on."""
        for request in want.saves:
            try:
                self._telling.saved(self._saver.save(request), request)
            except ShimError as error:
                self._telling.refused(request, error)
        if want.resumed:
            self._telling.resumed(want.resumed)
        return Want()

    def _hold(self, want: Want, pause: protocol.Pause) -> Want:
        """Checkpoint, give back what is asked for, say so, and wait here until something else is wanted.

        It returns with `holding` still set: on the way deeper, or out again, it never trains in between.
        """
        now = want
        try:
            saved = self._saved_for(pause)
            now = self._gate.take(want)
            if now.pause is not pause or now.leave is not None:
                return now
            depth = self._give_back(pause)
        except ShimError as error:
            return self._cannot(now, pause, error)
        self._report.holding = replace(pause, depth=depth)
        freed_bytes = self._freed_bytes if depth == "offload" else 0
        self._telling.yielded(pause.request, depth, saved, bytes_freed=freed_bytes)
        while now.pause is pause and now.leave is None:
            for request in now.saves:
                self._telling.saved(saved, request)
            now = self._gate.wait(replace(now, saves=()))
        return now

    def _saved_for(self, pause: protocol.Pause) -> Saved:
        """Return the checkpoint that a pause rests on; one that gives back no more than before has one."""
        held, fresh = self._report.holding, self._saver.fresh
        if fresh is not None and self._offloader.is_away:
            # It can wait, whatever became of its checkpoint.
            return fresh
        try:
            return self._saver.save(pause.request)
        except ShimError:
            if fresh is None or held is None or held.depth != pause.depth:
                raise
            # Its folder is gone and cannot be made again. Refused, it would hold as before, which is this.
            return fresh

    def _cannot(self, want: Want, pause: protocol.Pause, error: ShimError) -> Want:
        """Say that a pause did not work; a loop that holds for another one goes on holding."""
        held = self._report.holding
        held_depth = None if held is None else held.depth
        self._telling.refused(pause.request, error, holding_depth=held_depth)
        as_before = None if held is None else replace(pause, depth=held.depth)
        return replace(want, pause=as_before)

    def _give_back(self, pause: protocol.Pause) -> str:
        """Give back what the depth says; return the depth that is reached, or raise CannotOffload."""
        if self._offloader.is_away:
            return "offload"
        self._freed_bytes = 0
        if pause.depth != "offload":
            return pause.depth
        self._report.settle_metrics()
        self._telling.stage(pause.request, "copying GPU memory to the host")
        given = self._offloader.give_back()
        self._freed_bytes = given.bytes_freed
        self._telling.say_all((f"gave back {format_bytes(given.bytes_freed)} of GPU memory", *given.notes))
        return "offload"

    def _go_on(self, want: Want) -> Want | _Ends:
        """Take back what was given back: nothing trains before all of it is there.

        As long as others have it, it waits. Where it is free and still not to be had, the process ends after
        a while, to be started from its checkpoint.
        """
        until, again_s = time.monotonic() + self._report.return_retry_s, _RETURN_AGAIN_S
        while self._offloader.is_away:
            try:
                self._offloader.take_back()
            except CannotReturn as error:
                self._telling.stage(want.resumed, str(error))
                if error.is_short:
                    # Started anew it would need as much, not get it either, and have failed.
                    until = time.monotonic() + self._report.return_retry_s
                # Without a daemon nobody would start it again.
                saved = None if error.is_short else self._saver.still_there()
                if time.monotonic() >= until and self._report.has_daemon and saved is not None:
                    self._telling.say(f"{error}; ending to be started from the checkpoint")
                    self._telling.leaves(want.resumed, saved)
                    return _Ends(EXIT_YIELDED)
                want = self._gate.wait(want, at_most_s=again_s)
                if want.pause is not None or want.leave is not None:
                    return want
                again_s = min(2 * again_s, _RETURN_AGAIN_MAX_S)
        self._report.holding = None
        self._saver.count_anew()
        return want

    def _stop(self, want: Want) -> Want:
        """Checkpoint, and give the terminal back until the process is continued; it keeps its memory."""
        try:
            saved = self._saver.save("")
            self._telling.say(f"checkpoint of step {saved.step} is durable; stopped, `fg` goes on")
            stop_here()
            self._telling.say(f"going on from step {saved.step}")
        except ShimError as error:
            self._telling.goes_on(error)
        self._signals.held()
        self._saver.count_anew()
        return replace(want, is_stopped=False)

    def _leave(self, want: Want) -> Want | _Ends:
        """Checkpoint, say so, and let the process end; without a checkpoint training goes on."""
        leave = want.leave if want.leave is not None else want.pause
        request = "" if leave is None or isinstance(leave, LeaveBySignal) else leave.request
        try:
            saved = self._saver.save(request)
        except ShimError as error:
            if want.leave is None and want.pause is not None and self._report.holding is not None:
                return self._cannot(want, want.pause, error)
            self._telling.refused(request, error)
            self._telling.goes_on(error)
            return replace(want, leave=None, pause=None if leave is want.pause else want.pause)
        if leave is want.pause and (now := self._gate.take(want)).pause is not want.pause:
            # Called off while the checkpoint was written.
            return now
        durable = f"checkpoint of step {saved.step} is durable"
        if isinstance(leave, LeaveBySignal):
            self._telling.say(f"{durable}; ending because of signal {leave.number}")
            return _Ends(128 + leave.number)
        self._telling.say(f"{durable}; ending because the daemon asked")
        self._telling.leaves(request, saved)
        return _Ends(EXIT_YIELDED)
