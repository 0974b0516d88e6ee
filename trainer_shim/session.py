"""What a training loop calls: attach(), epochs(), batches(), boundary(), critical(), report().

Covers: what is done at a batch boundary, in which order; going deeper while it waits there, and
coming back; restoring.
Does not cover: what is wanted there (gate.py), how it is stored (checkpoint/),
how it is told (link.py), how memory is given back (offload.py), where the loop is (position.py), the
states of the parts (parts.py).

The order is the promise: a checkpoint is durable before anything is given back
and before anybody is told that it is.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict, replace

from trainer_shim import protocol
from trainer_shim.batches import Batches
from trainer_shim.checkpoint import Keep, Saved, Store
from trainer_shim.choices import Choices, Resume
from trainer_shim.determinism import doubts
from trainer_shim.errors import CannotRestore, CannotReturn, CannotSave, ShimError
from trainer_shim.followed import Followed
from trainer_shim.gate import Gate, HoldBySignal, LeaveBySignal, Pace, Want
from trainer_shim.handing_over import named_parts
from trainer_shim.kept import Kept
from trainer_shim.late_imports import import_late
from trainer_shim.link_report import LinkReport
from trainer_shim.nearby import loaders_of_caller
from trainer_shim.offload import Offloader
from trainer_shim.one_time_warnings import OneTimeWarnings, words
from trainer_shim.parts import Stateful
from trainer_shim.position import Cursor
from trainer_shim.process_end import ProcessEnd
from trainer_shim.receipt import leave_receipt
from trainer_shim.run_state import RunState
from trainer_shim.signals import SignalWatch, end_process, stop_here
from trainer_shim.storable import Looks
from trainer_shim.strays import Strays
from trainer_shim.surroundings import Surroundings, other_command
from trainer_shim.trainings import Training, begin
from trainer_shim.units import format_bytes
from trainer_shim.variables import State

if TYPE_CHECKING:
    from trainer_shim.link import Link
    from trainer_shim.periodic import Periodic
    from trainer_shim.proof import Proof

__all__ = ["Shim", "attach"]

#: A process that checkpointed and ends because the daemon asked (EX_TEMPFAIL of sysexits.h).
EXIT_YIELDED = 75

#: Time between two tries to get GPU memory back: the first, and the longest.
_RETURN_AGAIN_S, _RETURN_AGAIN_MAX_S = 0.5, 10.0

#: How long a process that is about to end waits for its last words to leave.
_LAST_WORDS_S = 2.0

_INSIDE = (
    "a pass of `batches()` inside another one, or beside one that was left without its end, has no "
    "boundaries and begins anew after a restart [inside]"
)

_NUMBERED = (
    "`{}` of enumerate() around batches() begins at 0 again where a pass is taken up: write "
    "`shim.batches(enumerate(loader))`, which goes on counting [numbered]"
)

_NUMBERED_STEPS = (
    "`{}` of enumerate() around steps() begins at 0 again after a restart: use `shim.step`, which goes on "
    "[numbered]"
)

_COMPLETE = (
    "the run was complete at its last start, after {}: nothing is left to train; a larger end goes on with "
    'it, attach(resume="never") begins anew'
)

_UNCLAIMED = (
    "the checkpoint has {} of shim.state(), which this script did not ask for by its first boundary: the "
    "next checkpoint is without [unclaimed]"
)

_current: Shim | None = None


def attach(  # noqa: PLR0913  # each is a choice of its own, by name
    *handed: Any,
    checkpoints: str | os.PathLike[str] | None = None,
    keep: int | Keep = 3,
    labels: Mapping[str, Any] | None = None,
    preprocessing: Any = None,
    every_s: float | None = None,
    every_steps: int | None = None,
    every_epochs: int | None = None,
    resume: Resume = "auto",
    signals: Iterable[str | int] = ("SIGTERM", "SIGINT"),
    ignore: Collection[str] = (),
    **parts: Any,
) -> Shim:
    """Make this training run pausable, and go on from its newest checkpoint if there is one.

    Args:
        checkpoints: Folder of this run's checkpoints. Default: what the daemon says, or `checkpoints/SCRIPT`
            in the working directory; a second training of one process has its own, with `+2` behind the name.
        keep: How many checkpoints stay, or a `Keep`: the best by a reported metric, one every few hours.
            Others go after a newer one is durable.
        labels: Plain values that the manifest keeps, for people.
        preprocessing: Plain values that are stored beside the weights.
        every_s: Save in the background so often; the loop stops only for a copy in memory. Takes memory for
            one whole state. Without any of the three: what `supervisorctl run --every` said.
        every_steps: The same, counted in steps. With both, whichever is due.
        every_epochs: The same at ends of epochs of `epochs()` or `steps()`.
        resume: "auto" goes on where there is a checkpoint. "never" begins anew, and keeps what was there
            aside as `NAME.before-1`; a start by which the daemon goes on with the run still does.
            "must" raises CannotRestore where there is none.
        signals: Which of SIGTERM and SIGINT (Ctrl-C) checkpoint and end the run; others are the script's.
        ignore: Names of what the script knows to be lost at a restart: nothing is said about them.
        *handed: Parts without a name of yours get that of their kind: model, optimizer, scheduler.
        **parts: Everything that makes the run what it is, under names of your choice: model, optimizer,
            scheduler, scaler, EMA copies, ... Each has `state_dict()` and `load_state_dict()`, or is a random
            generator, or a list or map of such.

    Raises:
        CannotRestore: A checkpoint is there but does not fit the parts.
        CannotStore: A part holds what no checkpoint can. The first boundary raises this too, for
            what comes into being only then, as the state of an optimizer.
        CannotSave: The folder cannot be used.
        FolderInUse: Another process writes checkpoints there.
        NotSupported: The run has several ranks.
        TypeError: A part has no state; ValueError: an argument is none of those above.

    """
    global _current  # noqa: PLW0603  # one session a process: it owns signals and the folder
    choices = Choices.checked(keep, resume, signals, ignore, every_epochs)
    parts = named_parts(handed, parts)
    surroundings = Surroundings.read(os.environ)
    if _current is not None:
        _current._make_way()  # noqa: SLF001  # no script should call it
    training = begin(surroundings.checkpoints, surroundings.told(checkpoints))
    surroundings = replace(surroundings, checkpoints=training.folder)
    facts = {"labels": dict(labels or {}), "preprocessing": preprocessing, **surroundings.facts()}
    _current = Shim(surroundings, training, parts, facts, choices)
    _current.meet_loaders(loaders_of_caller(1))
    _current.save_periodically(every_s, every_steps)
    return _current


def _proof(surroundings: Surroundings, report: LinkReport) -> Proof | None:
    if surroundings.prove_dir is None:
        return None
    from trainer_shim.proof import Proof

    return Proof(surroundings.prove_dir, report)


class _Looked(Pace):
    """In slots too: an object finds its methods slowly that has more than 30 attributes outside of them."""

    __slots__ = ("_cursor", "_gate", "_looks", "_periodic", "_report", "_strays")


class Shim(_Looked):
    """One training run's session, made by `attach()`. All methods belong to the thread that trains."""

    def __init__(
        self,
        surroundings: Surroundings,
        training: Training,
        parts: Mapping[str, Stateful],
        facts: Mapping[str, Any],
        choices: Choices,
    ) -> None:
        super().__init__()
        self._attached = dict(parts)
        #: Whoever has it sees what add_parts() brings.
        self._parts, self._facts = MappingProxyType(self._attached), facts
        self._surroundings, self._training = surroundings, training
        self._report = LinkReport(self)
        proof = _proof(surroundings, self._report)
        self._gate = Gate(self) if proof is None else proof.gate
        self._num_critical, self._is_first = 0, True
        #: The step that ended a pass with fewer batches than are accumulated.
        self._rest_at: int | None = None
        #: The checkpoint of the boundary that the loop is at, if it was written already.
        self._fresh: Saved | None = None
        self._warnings = OneTimeWarnings(choices.ignore, doubted=None if proof is None else proof.doubted)
        self._say = self._warnings.say
        #: What the present pause gave back of the memory of devices.
        self._freed_bytes = 0
        self._periodic: Periodic | None = None
        #: Whether the state of this very boundary is being written in the background.
        self._is_begun = False
        self._every_epochs = choices.every_epochs
        self._begin_anew_if(choices.resume)
        self._store = Store(surroundings.checkpoints, job=surroundings.job, keep=choices.keep)
        new_cursor = partial(Cursor, self._report) if proof is None else proof.cursor
        self._run = RunState(self._parts, self._store, self._say, new_cursor)
        self._cursor = self._run.cursor
        by_name = self._run.values.by_name
        self._offloader = Offloader(self._parts, by_name, surroundings.offload_devices)
        self._open(choices.resume)
        self._look_at_depths()
        self._looks = Looks(self._report.step, self._look_at_what_is_saved, self._say_refused)
        self._kept = Kept(self._parts, by_name, self._cursor.holds, choices.ignore)
        self._strays = Strays(self._kept, self._say, self._report.step)
        self._set_due()
        # A model is often moved to its device after attach(): the first boundary looks again.
        self._gate.ask()
        self._signals = SignalWatch(
            self._on_leave_signal, self._on_save_signal, self._on_hold_signal, choices.signals
        )
        if warning := self._signals.install():
            self._say(warning)
        self._at_end = ProcessEnd(self.detach)
        self._link: Link | Proof | None = None
        self._link = self._linked(proof)

    def _linked(self, proof: Proof | None) -> Link | Proof | None:
        """Begin with whoever is told: the trace of a proof, the daemon, or nobody."""
        server = self._surroundings.server
        if proof is not None:
            proof.begin(self._run.values.state_dict, self._notes)
            return proof
        if server is None:
            return None
        # Here, and not in the thread of the link: what is imported while others fork may stay half done
        # in a child.
        from trainer_shim.link import Link

        return Link(server, self._hello, self._report, self._gate, self._say)

    def _open(self, resume: Resume) -> None:
        """Take the folder and go on from what is there."""
        if threading.current_thread() is not threading.main_thread():
            import_late()  # Once the main thread is over, some of it can no longer be imported.
        self._store.open()
        try:
            self._restore(must=resume == "must")
            self._run.refuse_now(self._facts_now())
        except BaseException:
            self._store.close()
            raise

    # --- what a loop calls --------------------------------------------------------------------

    @property
    def extra(self) -> dict[str, Any]:
        """Plain values of the script's own that are saved and restored with the rest."""
        return self._run.values.extra

    @extra.setter
    def extra(self, values: dict[str, Any]) -> None:
        self._run.values.extra = values

    @property
    def step(self) -> int:
        """Batch boundaries passed since the beginning of the run, all starts counted."""
        if not self._strays.is_begun:
            # Who asks here reckons with it in a loop of his own.
            self._strays.begin(is_by_hand=True)
        return self._report.step

    @property
    def epoch(self) -> int:
        """The epoch that `epochs()` is in."""
        return self._report.epoch

    def epochs(self, num_epochs: int) -> Iterator[int]:
        """Yield the epochs that are left of `num_epochs`; the end of each is a boundary."""
        is_first = True
        self._loop_begins()
        self._cursor.meet(loaders_of_caller(1))
        if self._report.epoch >= num_epochs > 0:
            self._say(_COMPLETE.format(f"{num_epochs} epochs"))
        for epoch in self._cursor.epochs(num_epochs):
            # The position is the beginning of this epoch; the one before is over.
            if not is_first:
                self._epoch_is_over(epoch)
                if self._gate.asked:
                    self._yield()
            is_first = False
            yield epoch
        self._run_is_over(None if is_first else self._report.epoch)
        self._training.ran_out()

    def batches(self, loader: Any, *, accumulate: int = 1) -> Batches:
        """Return the batches of a loader; each `accumulate`-th turn of a loop over them is a boundary.

        After a restore they go on behind the last batch that was trained on. The pass begins with this call,
        as `iter(loader)` does. `len()` is that of the loader.
        A rest of fewer than `accumulate` batches counts as a step at the end,
        as such loops have it, but is no boundary. Neither is anything in a pass inside
        another pass, as of an evaluation: it belongs to the outer one's step.
        """
        from trainer_shim.enumerated import number_of_caller
        from trainer_shim.loop_state import needs_a_turn

        self._loop_begins()
        if number := number_of_caller(1, accumulate=accumulate, is_of_run=self._kept.is_of_run):
            self._say(_NUMBERED.format(number))
        return Batches(self._cursor, loader, accumulate, self, needs_a_turn=needs_a_turn(1))

    def steps(
        self,
        *loaders: Any,
        max_steps: int | None = None,
        max_epochs: int | None = None,
        accumulate: int = 1,
    ) -> Batches:
        """Return the batches of a whole run: its loader again and again, each turn an epoch.

        Of several loaders each turn of the loop gets a tuple of batches; each begins anew when it is through,
        and epochs are those of the first. Whoever orders data by `set_epoch` (loader, sampler, data set) is
        told the turn. Each `accumulate`-th turn of the loop is a boundary, also across the end of an epoch.
        It ends after `max_steps` boundaries of the whole run, or `max_epochs` epochs, whichever comes first;
        `len()` is the number of turns in all. With a larger end a run that was complete goes on.

        Raises ValueError for numbers below 1 and for no loader.
        """
        ends = [("max_steps", max_steps), ("max_epochs", max_epochs), ("accumulate", accumulate)]
        for name, number in ends:
            if number is not None and number < 1:
                raise ValueError(f"cannot make steps with {name}={number}: it is 1 or more")
        if not loaders:
            raise ValueError("cannot make steps without a loader: `shim.steps(loader, max_steps=...)`")
        from trainer_shim.enumerated import number_of_caller
        from trainer_shim.rounds import Rounds

        self._loop_begins()
        if counter := number_of_caller(1, accumulate=accumulate, is_of_run=self._kept.is_of_run):
            self._say(_NUMBERED_STEPS.format(counter))
        max_items = None if max_steps is None else max_steps * accumulate
        rounds = Rounds(loaders, max_items=max_items, max_turns=max_epochs, on_turn=self._on_turn)

        def over() -> None:
            is_at_end = max_epochs is not None and (max_steps is None or self._report.step < max_steps)
            self._run_is_over(max_epochs if is_at_end else None)

        steps = Batches(self._cursor, rounds, accumulate, self, over=over)
        if steps.is_over:
            self._say(_COMPLETE.format(f"{self._report.step} steps"))
        self._report.num_steps, self._report.num_epochs = max_steps, max_epochs
        return steps

    def follow(self, loader: Any) -> Followed:
        """Return a loader whose place is kept, for a loop that belongs to somebody else: a library's trainer.

        Each `iter()` of it is a pass, as one over `batches()`: after a restore past passes give nothing, and
        the one that was left goes on. None of its turns is a boundary: call `boundary()` where a step is
        done and the batch that was fetched last is trained on.
        """
        return Followed(self._cursor, loader, self._loop_begins)

    def _loop_begins(self) -> None:
        import_late()
        self._run.made.lay_out()
        self._strays.begin(is_by_hand=False)

    def _on_turn(self, turn: int) -> None:
        self._report.epoch = turn
        if turn:
            self._epoch_is_over(turn)

    def _epoch_is_over(self, num_done: int) -> None:
        """Save at the next boundary if that is due."""
        if self._periodic is not None and self._every_epochs and num_done % self._every_epochs == 0:
            self._periodic.make_due()
            self._gate.ask()

    def _run_is_over(self, num_epochs: int | None) -> None:
        """No boundary may follow: do what is wanted. An epoch ended here, unless there is no number."""
        if num_epochs is not None:
            self._epoch_is_over(num_epochs)
        # Of a run that was complete, the parts do not come that its loop would bring.
        is_complete = num_epochs is None and self._run.made.is_waiting
        if self._gate.asked and not is_complete:
            if self._periodic is not None:
                self._periodic.wait_if_late()
            self._yield()

    def _begin_anew_if(self, resume: Resume) -> None:
        """Keep the checkpoints of an earlier run aside, where this is to be a new one."""
        here = self._surroundings
        if resume != "never" or here.goes_on or here.prove_dir is not None:
            return
        from trainer_shim.checkpoint.earlier import keep_aside

        if (aside := keep_aside(here.checkpoints.absolute())) is not None:
            self._say(f"begins anew; the checkpoints of the run before are in `{aside}`")

    def boundary(self) -> None:
        """Say that a step is done and nothing is half done; yields here if that is wanted.

        Costs an addition and a test while nothing is wanted. Raises SystemExit
        when the process is to end.
        """
        self._step = step = self._step + 1.0
        if step >= self._due:
            self._cursor.is_by_hand = True
            try:
                self._yield()
            finally:
                self._cursor.is_by_hand = False

    def turn(self) -> None:
        """The boundary that a loop over `batches()` makes."""
        self._step = step = self._step + 1.0
        if step >= self._due:
            self._yield()

    def left(self) -> None:
        """The step of a loop over `batches()` behind which nothing is done: it was left by `break`, say."""
        self._report.step += 1

    @contextmanager
    def critical(self) -> Iterator[None]:
        """Make boundaries inside no boundaries: whatever is asked waits until the next one after."""
        self._num_critical += 1
        try:
            yield
        finally:
            self._num_critical -= 1

    def state(self, **initial: Any) -> State:
        """Make variables that go on with the run: `state = shim.state(best=1e9, history=[], hidden=None)`.

        Read and set as attributes. Each begins as it is given, or as the checkpoint has it. Numbers, texts,
        lists, maps, tensors, arrays, random generators and what else docs/API.md lists; a generator or
        container stays the object that was given.

        Raises:
            CannotStore: A value is none that a checkpoint can hold; setting one raises this, too.
            CannotRestore: The checkpoint has something else under that name.
            ValueError: A variable of that name is there already.

        """
        return self._run.values.variables.make(initial)

    def report(self, **metrics: Any) -> None:
        """Show numbers in `status`: plain numbers, or tensors of one element, which are not read now."""
        for name, value in metrics.items():
            # Detached, because a tensor with a graph would keep the whole step's memory alive.
            detach = getattr(value, "detach", None)
            self._report.metrics[name] = value if detach is None else detach()

    def checkpoint(self) -> Path:
        """Write a checkpoint now; only where a boundary would be. Raises CannotSave or CannotStore."""
        self._run.made.close()
        try:
            saved = self._save("")
        finally:
            # Whatever interrupts: the next boundary is another one.
            self._fresh = None
        self._tell(self._checkpointed(saved, ""))
        return saved.path

    def add_parts(self, **parts: Any) -> None:
        """Take more parts into the checkpoint in mid-run, or another object in the place of an attached one.

        A run that goes on from a checkpoint that has the state of such a part gets it here: so call it
        wherever the run is past the point at which the part comes, not only when it gets there.

        Raises:
            CannotRestore: At the first boundary, where the checkpoint has a part that was not handed over.
            CannotStore: The state of a part holds what no checkpoint can.

        """
        parts = named_parts((), parts)
        known = frozenset(self._attached)
        self._attached.update(parts)
        self._run.take_in_parts()
        self._run.made.add(parts, known, {"step": self._report.step, "epoch": self.epoch})
        self._run.refuse_now(self._facts_now())

    def detach(self) -> None:
        """End the session: the daemon is told no more, signals act as before. May be repeated."""
        global _current  # noqa: PLW0603
        self._at_end.cancel()
        self._signals.remove()
        self._training.end((self._report.step, self.epoch))
        if self._periodic is not None:
            self._periodic.close()
            self._tell_ended(self._periodic)
            self._periodic = None
            self._gate.due_at(math.inf)
        if self._link is not None:
            self._link.close(wait_s=_LAST_WORDS_S)
            self._link = None
        self._cursor.leave()
        self._store.close()
        if _current is self:
            _current = None

    def _make_way(self) -> None:
        """Be followed by another session, without a word of the script that this one is over."""
        self._training.end((self._report.step, self.epoch), is_replaced=True)
        self.detach()

    def pass_is_over(self, num_rest: int) -> None:
        """A pass of `batches()` came to its end, with so many batches behind the last boundary."""
        if num_rest:
            self._report.step += 1
            self._rest_at = self._report.step
        self._say_notes()

    def pass_is_inside(self) -> None:
        """A pass of `batches()` is made inside another one."""
        self._say(_INSIDE)

    # --- at a boundary ------------------------------------------------------------------------

    def _yield(self) -> None:
        """Do all that is wanted, until nothing is."""
        if self._num_critical:
            return
        self._run.made.close()
        self._looks.at(self._report.step)
        self._strays.at(self._report.step, is_by_hand=self._cursor.is_by_hand)
        want = self._gate.take(Want())
        self._look_at_depths()
        if self._is_first:
            # While it can still be mended, not first at a pause.
            self._is_first = False
            import_late()
            self._say_notes()
            if names := self._run.values.variables.unclaimed():
                self._say(_UNCLAIMED.format(", ".join(f"`{name}`" for name in names)))
        if self._periodic is not None:
            self._tell_ended(self._periodic)
            if not want and self._periodic.is_due(self._report.step):
                want = self._begin(self._periodic)
        try:
            while want or self._report.holding is not None:
                want = self._gate.take(self._do(want))
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
            self._fresh, self._is_begun = None, False
        self._set_due()
        if self._periodic is not None and self._periodic.has_news():
            # Its call may have come while this boundary was at work, and was taken for another's.
            self._gate.ask()

    def _do(self, want: Want) -> Want:
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

    def meet_loaders(self, loaders: Mapping[str, Any]) -> None:
        """Get to know the loaders that the script has made by now."""
        self._cursor.meet(loaders)

    def save_periodically(self, every_s: float | None, every_steps: int | None) -> None:
        """Save in the background from now on, where the script or the job says so; see `attach()`."""
        if self._every_epochs is None or every_s is not None or every_steps is not None:
            every_s, told = self._surroundings.period(every_s, every_steps)
            self._say_all([*told])
        if every_s is None and every_steps is None and self._every_epochs is None:
            return

        from trainer_shim.periodic import Periodic

        self._periodic = Periodic(self._store, every_s=every_s, every_steps=every_steps, wake=self._gate.ask)
        self._periodic.restart(self._report.step)
        self._looks.end_after_first()  # From then on each save is one.
        self._set_due()

    def _set_due(self) -> None:
        """Reckon at which boundary there is something to do without being asked."""
        periodic = math.inf if self._periodic is None else self._periodic.due_step
        self._gate.due_at(float(min(periodic, self._looks.due_step, self._strays.due_step)))

    def _look_at_depths(self) -> None:
        """Note what can be given back by now; the next heartbeat tells it."""
        can_offload = self._offloader.has_something()
        self._report.depths = ("hold", "offload", "exit") if can_offload else ("hold", "exit")

    def _begin(self, periodic: Periodic) -> Want:
        """Copy the state and let it be written while training goes on; what is wanted after that."""
        self._strays.again(is_asked=False)
        try:
            draft = self._store.prepare(
                self._state(), step=self._report.step, epoch=self.epoch, facts=self._facts_now()
            )
            self._is_begun = periodic.begin(draft)
        except ShimError as error:
            periodic.restart(self._report.step)
            self._failed(error)
        return self._gate.take(Want())

    def _tell_ended(self, periodic: Periodic) -> None:
        """Say what became of the checkpoints that were written in the background."""
        for ended in periodic.ended():
            if ended.saved is not None:
                self._report.checkpoint = self._checkpointed(ended.saved, "", ended.epoch)
                self._tell(self._report.checkpoint)
            elif ended.error is not None:
                periodic.restart(self._report.step)
                self._failed(ended.error)
        self._say_notices()

    def _failed(self, error: ShimError) -> None:
        """A checkpoint that nobody asked for could not be written."""
        self._tell(protocol.CannotYield(request="", why=words(error)))
        self._say(f"{words(error)}; training goes on")

    def _answer(self, want: Want) -> Want:
        """Write the checkpoints that were asked for, and confirm that the loop goes on."""
        for request in want.saves:
            try:
                self._tell(self._checkpointed(self._save(request), request))
            except ShimError as error:
                self._tell(protocol.CannotYield(request=request, why=words(error)))
        if want.resumed:
            self._tell(protocol.Resumed(request=want.resumed, step=self._report.step))
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
        self._tell(self._yielded(pause.request, depth, saved))
        while now.pause is pause and now.leave is None:
            for request in now.saves:
                self._tell(self._checkpointed(saved, request))
            now = self._gate.wait(replace(now, saves=()))
        return now

    def _saved_for(self, pause: protocol.Pause) -> Saved:
        """Return the checkpoint that a pause rests on; one that gives back no more than before has one."""
        held, fresh = self._report.holding, self._fresh
        if fresh is not None and self._offloader.is_away:
            # It can wait, whatever became of its checkpoint.
            return fresh
        try:
            return self._save(pause.request)
        except ShimError:
            if fresh is None or held is None or held.depth != pause.depth:
                raise
            # Its folder is gone and cannot be made again. Refused, it would hold as before, which is this.
            return fresh

    def _cannot(self, want: Want, pause: protocol.Pause, error: ShimError) -> Want:
        """Say that a pause did not work; a loop that holds for another one goes on holding."""
        held = self._report.holding
        self._tell(
            protocol.CannotYield(
                request=pause.request,
                why=words(error),
                holding_depth=None if held is None else held.depth,
            )
        )
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
        self._tell(protocol.Stage(request=pause.request, what="copying GPU memory to the host"))
        given = self._offloader.give_back()
        self._freed_bytes = given.bytes_freed
        for note in (f"gave back {format_bytes(given.bytes_freed)} of GPU memory", *given.notes):
            self._say(note)
        return "offload"

    def _go_on(self, want: Want) -> Want:
        """Take back what was given back: nothing trains before all of it is there.

        As long as others have it, it waits. Where it is free and still not to be had, the process ends after
        a while, to be started from its checkpoint.
        """
        until, again_s = time.monotonic() + self._report.return_retry_s, _RETURN_AGAIN_S
        while self._offloader.is_away:
            try:
                self._offloader.take_back()
            except CannotReturn as error:
                self._tell(protocol.Stage(request=want.resumed, what=str(error)))
                if error.is_short:
                    # Started anew it would need as much, not get it either, and have failed.
                    until = time.monotonic() + self._report.return_retry_s
                # Without a daemon nobody would start it again.
                saved = None if error.is_short else self._still_there()
                if time.monotonic() >= until and self._report.has_daemon and saved is not None:
                    self._say(f"{error}; ending to be started from the checkpoint")
                    raise self._at_process_end(want.resumed, saved) from error
                want = self._gate.wait(want, at_most_s=again_s)
                if want.pause is not None or want.leave is not None:
                    return want
                again_s = min(2 * again_s, _RETURN_AGAIN_MAX_S)
        self._report.holding = None
        if self._periodic is not None:
            # The time that it held is none in which anything could be lost.
            self._periodic.restart(self._report.step)
        return want

    def _stop(self, want: Want) -> Want:
        """Checkpoint, and give the terminal back until the process is continued; it keeps its memory."""
        try:
            saved = self._save("")
            self._say(f"checkpoint of step {saved.step} is durable; stopped, `fg` goes on")
            stop_here()
            self._say(f"going on from step {saved.step}")
        except ShimError as error:
            self._say(f"{words(error)}; training goes on")
        self._signals.held()
        if self._periodic is not None:
            self._periodic.restart(self._report.step)
        return replace(want, is_stopped=False)

    def _leave(self, want: Want) -> Want:
        """Checkpoint, say so, and end the process; without a checkpoint training goes on."""
        leave = want.leave if want.leave is not None else want.pause
        request = "" if leave is None or isinstance(leave, LeaveBySignal) else leave.request
        try:
            saved = self._save(request)
        except ShimError as error:
            if want.leave is None and want.pause is not None and self._report.holding is not None:
                return self._cannot(want, want.pause, error)
            self._tell(protocol.CannotYield(request=request, why=words(error)))
            self._say(f"{words(error)}; training goes on")
            return replace(want, leave=None, pause=None if leave is want.pause else want.pause)
        if leave is want.pause and (now := self._gate.take(want)).pause is not want.pause:
            # Called off while the checkpoint was written.
            return now
        durable = f"checkpoint of step {saved.step} is durable"
        if isinstance(leave, LeaveBySignal):
            self._say(f"{durable}; ending because of signal {leave.number}")
            raise self._ended(128 + leave.number)
        self._say(f"{durable}; ending because the daemon asked")
        raise self._at_process_end(request, saved)

    def _at_process_end(self, request: str, saved: Saved) -> SystemExit:
        """Say that the checkpoint is durable, in all ways there are; return what ends the process."""
        farewell = self._yielded(request, "exit", saved)
        if problem := leave_receipt(self._surroundings.run_dir, farewell):
            self._say(problem)
        self._tell(farewell)
        return self._ended(EXIT_YIELDED)

    def _ended(self, code: int) -> SystemExit:
        """End the session, to be taken up later; return what ends the process."""
        self._offloader.stay_on_host()
        self._store.close(for_now=True)
        self._training.leave()
        self.detach()
        return end_process(code, self._say)

    def _save(self, request: str) -> Saved:
        """Write a checkpoint of this boundary, once however many ask for it."""
        if (fresh := self._still_there()) is not None:
            return fresh
        if self._offloader.is_away:
            raise CannotSave(
                f"cannot save step {self._report.step}: its checkpoint is gone, its tensors have no memory",
                hint="bring the folder back, or resume, which needs no checkpoint",
            )
        self._tell(protocol.Saving(request=request, step=self._report.step))
        if self._periodic is not None and (saved := self._waited(self._periodic)) is not None:
            self._fresh = saved
            return saved
        self._strays.again(is_asked=True)
        facts = self._facts_now()
        self._fresh = self._store.save(self._state(), step=self._report.step, epoch=self.epoch, facts=facts)
        self._report.checkpoint = self._checkpointed(self._fresh, "")
        self._say_notices()
        if self._periodic is not None:
            self._periodic.restart(self._report.step)
        return self._fresh

    def _still_there(self) -> Saved | None:
        """Return the checkpoint of this boundary, unless somebody removed it while the loop held."""
        with suppress(OSError):  # Where nobody can tell, it is believed to be.
            if self._fresh is not None and not self._fresh.path.is_dir():
                return None
        return self._fresh

    def _waited(self, periodic: Periodic) -> Saved | None:
        """Return when the background is at rest, with what it wrote if that is this boundary's state."""
        periodic.wait()
        self._tell_ended(periodic)
        last = periodic.last_saved
        return last if self._is_begun and last is not None and last.step == self._report.step else None

    def _state(self) -> dict[str, Any]:
        """Return everything that a run needs to go on exactly; the tensors are the live ones."""
        state = self._run.whole()
        self._say_notes()
        return state

    def _look_at_what_is_saved(self) -> None:
        """Raise ShimError where a save would."""
        self._run.check(self._facts_now())

    def _say_refused(self, error: ShimError) -> None:
        self._say(f"{words(error)}; training goes on")

    def _facts_now(self) -> dict[str, Any]:
        """Return what the manifest says besides; JSON has no word for NaN and infinity, so they are texts."""
        # What decides about keeping is there, however much else is reported.
        numbers = {**self._report.numbers(), **self._report.number(self._store.keep.metric)}
        metrics = {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}
        told = {"warnings": [*self._warnings.doubts]} if self._warnings.doubts else {}
        return {**self._facts, "keep": asdict(self._store.keep), "metrics": metrics, **told}

    # --- restoring ----------------------------------------------------------------------------

    def _restore(self, *, must: bool) -> None:
        loaded = self._store.newest()
        self._say_notices()
        if loaded is None and must:
            raise CannotRestore(
                f"cannot go on: there is no checkpoint in `{self._surroundings.checkpoints.absolute()}`",
                hint='attach(resume="auto") begins a new run; or give it another folder, checkpoints="..."',
            )
        if loaded is None:
            self._say_all(self._training.begun((0, 0), is_new=True))
            return
        self._run.take(loaded)
        self._report.checkpoint = protocol.Checkpointed(
            step=loaded.step, epoch=loaded.epoch, path=str(loaded.path), digest=loaded.digest
        )
        warned = loaded.manifest.facts.get("warnings")
        more = f"; before it was saved the shim warned of {len(warned)}" if isinstance(warned, list) else ""
        where = f"step {loaded.step}, epoch {loaded.epoch} ({loaded.path})"
        self._say(f"going on from {where}{more}")
        self._say_all(self._training.begun((self._report.step, self.epoch), is_new=False))
        if other := other_command(loaded.manifest.command, self._facts["command"]):
            self._say(other)

    # --- words ----------------------------------------------------------------------------------

    def _hello(self) -> protocol.Hello:
        """Called by the link's thread at each connection."""
        holding = self._report.holding
        here = self._surroundings
        return protocol.Hello(
            job=here.job,
            incarnation=here.incarnation,
            depths=self._report.depths,
            position=self._report.position(),
            holding=holding.request if holding else "",
            holding_depth=holding.depth if holding else None,
            checkpoint=self._report.checkpoint,
        )

    def _yielded(self, request: str, depth: str, saved: Saved) -> protocol.Yielded:
        return protocol.Yielded(
            request=request,
            depth=depth,
            checkpoint=self._checkpointed(saved, request),
            bytes_freed=self._freed_bytes if depth == "offload" else 0,
        )

    def _checkpointed(self, saved: Saved, request: str, epoch: int | None = None) -> protocol.Checkpointed:
        return protocol.Checkpointed(
            step=saved.step,
            epoch=self.epoch if epoch is None else epoch,
            # A name that is not UTF-8 has no place on the wire.
            path=str(saved.path).encode("utf-8", "replace").decode(),
            digest=saved.digest,
            size_bytes=saved.size_bytes,
            took_s=saved.took_s,
            request=request,
        )

    def _tell(self, message: protocol.Message) -> None:
        if self._link is not None:
            self._link.send(message)

    def _say_notes(self) -> None:
        """Tell what is known to keep this run from going on exactly."""
        self._say_all(self._notes())

    def _say_all(self, texts: list[str]) -> None:
        for text in texts:
            self._say(text)

    def _notes(self) -> list[str]:
        has_rest = self._rest_at == self._report.step
        return [*self._cursor.notes(), *doubts(self._parts, has_rest=has_rest)]

    def _say_notices(self) -> None:
        # One by one: the thread that writes in the background may add another meanwhile.
        while self._store.notices:
            notice = self._store.notices.pop(0)
            self._say(f"{notice.text} ({notice.hint})")

    def _on_leave_signal(self, number: int) -> None:
        self._gate.put(LeaveBySignal(number))

    def _on_hold_signal(self) -> None:
        self._gate.put(HoldBySignal())

    def _on_save_signal(self) -> None:
        self._gate.put(protocol.Checkpoint(request=""))
