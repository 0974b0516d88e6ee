"""What a training loop calls: epochs(), batches(), boundary(), critical(), report() and the others.

Covers: these, and what one session is made of.
Does not cover: what is wanted at a boundary (gate.py), what is done there (boundaries.py) and in which order
(at_boundary.py), how it is saved (saving.py), how it begins (attaching.py, restoring.py), what is told
(telling.py), where the loop is (position.py), the state of the run (run_state.py).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from trainer_shim import protocol
from trainer_shim.at_boundary import AtBoundary
from trainer_shim.background_saves import BackgroundSaves
from trainer_shim.batches import INSIDE, Batches
from trainer_shim.boundaries import Boundaries
from trainer_shim.checkpoint import Store
from trainer_shim.checks import Checks
from trainer_shim.choices import Choices, Resume
from trainer_shim.drafts import Drafts
from trainer_shim.gate import Gate, HoldBySignal, LeaveBySignal, Pace
from trainer_shim.handing_over import named_parts
from trainer_shim.kept import Kept
from trainer_shim.late_imports import import_late
from trainer_shim.link_report import LinkReport
from trainer_shim.manifest_facts import ManifestFacts
from trainer_shim.nearby import loaders_of_caller
from trainer_shim.offload import Offloader
from trainer_shim.one_time_warnings import OneTimeWarnings
from trainer_shim.parts import Stateful
from trainer_shim.position import Cursor
from trainer_shim.process_end import ProcessEnd
from trainer_shim.restoring import keep_earlier_aside, newest, restore
from trainer_shim.run_state import RunState
from trainer_shim.saving import Saver
from trainer_shim.signals import SignalWatch, end_process
from trainer_shim.surroundings import Surroundings, other_command
from trainer_shim.telling import Telling, connected
from trainer_shim.trainings import Training
from trainer_shim.variables import State

if TYPE_CHECKING:
    from trainer_shim.followed import Followed

__all__ = ["Shim"]

_COMPLETE = (
    "the run was complete at its last start, after {}: nothing is left to train; a larger end goes on with "
    'it, attach(resume="never") begins anew'
)


class Shim(Pace):
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
        self._parts = MappingProxyType(self._attached)
        self._surroundings, self._training = surroundings, training
        self._report = report = LinkReport(self)
        proof = None
        if surroundings.prove_dir is not None:
            from trainer_shim.proof import Proof

            proof = Proof(surroundings.prove_dir, report)
        self._gate = gate = Gate(self) if proof is None else proof.gate
        warnings = OneTimeWarnings(choices.ignore, doubted=None if proof is None else proof.doubted)
        self._say = warnings.say
        if aside := keep_earlier_aside(choices.resume, surroundings):
            self._say(aside)
        self._store = store = Store(surroundings.checkpoints, job=surroundings.job, keep=choices.keep)
        new_cursor = partial(Cursor, report) if proof is None else proof.cursor
        self._run = run = RunState(self._parts, store, self._say, new_cursor)
        self._cursor = run.cursor
        by_name = run.values.by_name
        self._offloader = Offloader(self._parts, by_name, surroundings.offload_devices)
        self._facts = ManifestFacts(facts, choices.keep, report, warnings)
        self._open(choices.resume, facts["command"])
        report.depths = self._offloader.depths()
        self._kept = Kept(self._parts, by_name, self._cursor.holds, choices.ignore)
        self._checks = Checks(run, self._kept, self._facts, report, warnings)
        # A model is often moved to its device after attach(): the first boundary looks again.
        gate.ask()
        self._signals = SignalWatch(
            lambda number: gate.put(LeaveBySignal(number)),
            partial(gate.put, protocol.Checkpoint(request="")),
            partial(gate.put, HoldBySignal()),
            choices.signals,
        )
        if warning := self._signals.install():
            self._say(warning)
        if proof is not None:
            proof.begin(run.values.state_dict, self._checks.notes)
        line = connected(surroundings, report, gate, self._say) if proof is None else proof
        self._telling = Telling(report, warnings, line, surroundings.run_dir)
        drafts = Drafts(store, run, self._facts, self._checks, report)
        self._background = BackgroundSaves(store, drafts, self._telling, report)
        self._saver = Saver(store, drafts, self._background, self._offloader, self._telling, report)
        at_boundary = AtBoundary(gate, self._saver, self._offloader, self._telling, report, self._signals)
        self._boundaries = Boundaries(gate, self._checks, self._background, at_boundary)
        self._at_end = ProcessEnd(self.detach)

    def _open(self, resume: Resume, command: list[str]) -> None:
        """Take the folder and go on from what is there."""
        if threading.current_thread() is not threading.main_thread():
            import_late()  # Once the main thread is over, some of it can no longer be imported.
        self._store.open()
        try:
            loaded = newest(self._store, self._surroundings.checkpoints, self._say, must=resume == "must")
            if loaded is not None:
                self._say(restore(loaded, self._run, self._report))
            for text in self._training.begun((self._report.step, self.epoch), is_new=loaded is None):
                self._say(text)
            if loaded is not None and (other := other_command(loaded.manifest.command, command)):
                self._say(other)
            self._run.refuse_now(self._facts.now())
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
        # Who asks here reckons with it in a loop of his own.
        self._checks.loop_begins(is_by_hand=True)
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
                self._boundaries.epoch_is_over(epoch)
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
        from trainer_shim.enumerated import numbered_batches
        from trainer_shim.loop_state import needs_a_turn

        self._loop_begins()
        self._telling.say_all(numbered_batches(1, accumulate=accumulate, is_of_run=self._kept.is_of_run))
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
        from trainer_shim.enumerated import numbered_steps
        from trainer_shim.rounds import Rounds, check_steps

        check_steps(len(loaders), max_steps=max_steps, max_epochs=max_epochs, accumulate=accumulate)
        self._loop_begins()
        self._telling.say_all(numbered_steps(1, accumulate=accumulate, is_of_run=self._kept.is_of_run))
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
        from trainer_shim.followed import Followed

        return Followed(self._cursor, loader, self._loop_begins)

    def _loop_begins(self) -> None:
        import_late()
        self._run.made.lay_out()
        self._checks.loop_begins(is_by_hand=False)

    def _on_turn(self, turn: int) -> None:
        self._report.epoch = turn
        if turn:
            self._boundaries.epoch_is_over(turn)

    def _run_is_over(self, num_epochs: int | None) -> None:
        """No boundary may follow: do what is wanted. An epoch ended here, unless there is no number."""
        if num_epochs is not None:
            self._boundaries.epoch_is_over(num_epochs)
        # Of a run that was complete, the parts do not come that its loop would bring.
        is_complete = num_epochs is None and self._run.made.is_waiting
        if self._gate.asked and not is_complete:
            self._background.wait_if_late()
            self._yield()

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

    def critical(self) -> AbstractContextManager[None]:
        """Make boundaries inside no boundaries: whatever is asked waits until the next one after."""
        return self._boundaries.critical()

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
        saved = self._saver.save_for_script()
        self._telling.saved(saved, "")
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
        self._run.refuse_now(self._facts.now())

    def detach(self) -> None:
        """End the session: the daemon is told no more, signals act as before. May be repeated."""
        self._at_end.cancel()
        self._signals.remove()
        self._training.end((self._report.step, self.epoch))
        self._boundaries.close()
        self._telling.close()
        self._cursor.leave()
        self._store.close()

    def make_way(self) -> None:
        """Be followed by another session, without a word of the script that this one is over."""
        self._training.end((self._report.step, self.epoch), is_replaced=True)
        self.detach()

    def pass_is_over(self, num_rest: int) -> None:
        """A pass of `batches()` came to its end, with so many batches behind the last boundary."""
        if num_rest:
            self._report.step += 1
            self._checks.has_rest()
        self._checks.say_notes()

    def pass_is_inside(self) -> None:
        """A pass of `batches()` is made inside another one."""
        self._say(INSIDE)

    def attached(
        self,
        loaders: Mapping[str, Any],
        every_s: float | None,
        every_steps: int | None,
        every_epochs: int | None,
    ) -> None:
        """Get to know the loaders that there are, and save in the background; `attach()` calls it."""
        self._cursor.meet(loaders)
        if every_epochs is None or every_s is not None or every_steps is not None:
            every_s, told = self._surroundings.period(every_s, every_steps)
            self._telling.say_all(told)
        if every_s is not None or every_steps is not None or every_epochs is not None:
            from trainer_shim.periodic import Periodic

            periodic = Periodic(self._store, every_s=every_s, every_steps=every_steps, wake=self._gate.ask)
            self._background.start(periodic, every_epochs)
            self._checks.end_after_first()  # From then on each save is one.
        self._boundaries.set_due()

    # --- at a boundary ------------------------------------------------------------------------

    def _yield(self) -> None:
        """Do all that is wanted, until nothing is."""
        exit_code = self._boundaries.look(self._report.step)
        if exit_code is not None:
            raise self._ended(exit_code)

    def _ended(self, code: int) -> SystemExit:
        """End the session, to be taken up later; return what ends the process."""
        try:
            self._store.close(for_now=True)
            self._training.leave()
            self.detach()
        finally:
            # A script that catches what ends it may go on, without us.
            self._report.holding = None
        return end_process(code, self._say)
