"""Why a run with pauses differs from one without: the likely cause, and what to do. Pure.

Covers: reading the evidence in three traces: without pauses, with them, and
without them once more.
Does not cover: that they differ at all (traces.py).

The order of the questions is the point: a training that does not repeat itself says nothing
about pauses; a part that came back different explains all that follows; data that came in
another order explains other numbers; what is left is state that nobody handed over. That may
have been lost at any restart before: only a part that came back different names one of them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from supervisor.cli.prove.traces import TracedRun, Where, changed, compare, first_number, is_layout_only
from trainer_shim import trace

__all__ = ["Cause", "find_cause", "stray_generators", "unseeded"]

#: How each global generator is seeded.
_SEEDS = {
    "python": "random.seed()",
    "numpy": "numpy.random.seed()",
    "torch": "torch.manual_seed()",
    "cuda": "torch.manual_seed()",
}
_HANDING_OVER = (
    "hand it over: to attach() where it has state_dict() and load_state_dict(), "
    "by `shim.state(...)` where it is a variable; docs/EXACTNESS.md lists what is saved by itself"
)
_LAYOUT = (
    "kernels that walk raw memory give other results there (fused optimizers, norms): bring the model to its "
    "memory format before attach(), as in `model.to(memory_format=torch.channels_last)`"
)
_OWN_DATA = (
    "give the loop its batches by `shim.batches(...)`: an iterator that it makes itself begins anew after a "
    f"restart. If it makes none, something else belongs to the run; {_HANDING_OVER}"
)
_LOST = (
    "something else belongs to the run: a variable that the loop carries on, an iterator of its own, a "
    "scheduler, scaler or EMA copy, a generator of the script's own, a counter, what an epoch draws before "
    f"its loop; {_HANDING_OVER}"
)
#: What to look for where the last pause was of this depth.
_OF_LAST = {
    "exit": "",
    "hold": "look for a state_dict() that changes its object, or for a use of the time",
    "offload": "look for what keeps the address of a tensor (data_ptr(), an extension of the script's own), "
    "for a state_dict() that changes its object, or for a use of the time",
}
_MAX_NAMES = 3

#: Where something differs: step and epoch of a boundary; 0 for what is seen at it, 1 for what comes behind.
_Place = tuple[int, int, int]

#: Of pauses without a step between them the one that changed most is the likely one.
_WEIGHT = {"hold": 0, "offload": 1, "exit": 2}


class Cause(NamedTuple):
    """One sentence on why, one on what to do."""

    text: str
    hint: str
    is_repeatable: bool = True


class _Suspects(NamedTuple):
    """The pauses that may have changed what differs, in order: all restarts before it, and the last pause."""

    pauses: Sequence[trace.Paused]

    @property
    def last(self) -> trace.Paused:
        return self.pauses[-1]

    @property
    def has_exit(self) -> bool:
        return any(one.depth == "exit" for one in self.pauses)

    @property
    def words(self) -> str:
        *most, last = [f"{one.step} ({one.depth})" for one in self.pauses]
        return f"the pauses at steps {', '.join(most)} and {last}" if most else f"the pause at step {last}"


def find_cause(without: TracedRun, paused: TracedRun, again: TracedRun) -> Cause:
    """Return the likely cause of a difference between `without` and `paused`."""
    repeated = compare(without, again)
    clocks = [leaf.name for leaf in repeated.state]
    if repeated.numbers:
        return _unrepeatable(without, again)
    if clocks:
        found = compare(without, paused)
        if not found.numbers and {leaf.name for leaf in found.state} <= set(clocks):
            return _clock(clocks)
    lossy = _lossy_part(paused, clocks)
    after = _evidence(without, paused, again, clocks)
    suspects = _suspects(paused, after)
    if lossy is not None and (suspects is None or lossy[0] <= (suspects.last.step, suspects.last.epoch)):
        return lossy[1]
    if suspects is None:
        text = "the runs differ before the first pause, though two runs without pauses are the same"
        hint = "the training depends on something outside: files it finds, the load, the time; run it again"
        return Cause(text, hint, is_repeatable=False)
    cause = _after_pause(without, paused, suspects, after)
    said = _shim_warnings(without, paused, suspects)
    if said and suspects.has_exit:
        text = f"the shim said: {'; '.join(said)}. Seen was: {cause.text}"
        return Cause(text, f"do as it says. Where that does not help: {cause.hint}", cause.is_repeatable)
    return cause


def unseeded(one: TracedRun, other: TracedRun) -> list[str]:
    """Return the generators that stand elsewhere already in the first step of two runs."""
    first = min(one.steps, default=None)
    if first is None or first not in other.steps:
        return []
    return _differing(one.steps[first].rng, other.steps[first].rng)


def stray_generators(without: TracedRun, paused: TracedRun) -> list[str]:
    """Return the seeded generators that stand elsewhere at some later step."""
    stray = {
        name
        for where in without.steps.keys() & paused.steps.keys()
        for name in _differing(without.steps[where].rng, paused.steps[where].rng)
    }
    return sorted(stray - set(unseeded(without, paused)))


def _unrepeatable(without: TracedRun, again: TracedRun) -> Cause:
    """Two runs without pauses report other numbers."""
    seedless = unseeded(without, again)
    where = _first_number(without, again)
    text = f"the training does not repeat itself: two runs without a pause differ too{where}"
    if seedless:
        names = " and ".join(f"`{name}`" for name in seedless)
        how = " and ".join(dict.fromkeys(_SEEDS.get(name, "its seed") for name in seedless))
        return Cause(
            f"{text}; the generator {names} starts elsewhere in each",
            f"seed it: {how}",
            is_repeatable=False,
        )
    if _first_batch(without, again) is not None:
        hint = (
            "look for what gives the data another order or content: a generator of its own without a seed, "
            "the order of a set (PYTHONHASHSEED) or of a folder, the time"
        )
        return Cause(f"{text}, and the data does", hint, is_repeatable=False)
    hint = (
        "look for a nondeterministic kernel (`torch.use_deterministic_algorithms(True)` names it), "
        "a generator without a seed, the time, the process id"
    )
    return Cause(f"{text}, on the same data", hint, is_repeatable=False)


def _clock(leaves: list[str]) -> Cause:
    """Two runs without pauses report the same numbers, and only these leaves of the state differ."""
    text = (
        "a clock, or something else from outside, is in the state of a part: two runs without a pause report "
        f"the same numbers, and yet {_names(leaves)} is another in each"
    )
    hint = "leave it out of what state_dict() gives: the time, a duration, the process id, the name of a host"
    return Cause(text, hint, is_repeatable=False)


def _lossy_part(paused: TracedRun, clocks: Collection[str]) -> tuple[Where, Cause] | None:
    """The first pause after which the parts held something else than before it."""
    back = {**paused.restored, **paused.returned}
    for where in sorted(back.keys() & paused.looks.keys()):
        found = changed(paused.looks[where].state, back[where])
        # What a script asks for behind attach(), variables and late parts, had not come back yet.
        there = {_top(name) for name in back[where]}
        leaves = [leaf for leaf in found if leaf.name not in clocks and _top(leaf.name) in there]
        if not leaves:
            continue
        names = _names([leaf.name for leaf in leaves])
        if where in paused.returned:
            text = f"what was given back at step {where[0]} was not the same when it had returned: {names}"
            hint = "look for a thread or an extension that writes to tensors while the script is paused"
            return where, Cause(text, hint)
        if all(map(is_layout_only, leaves)):
            text = (
                f"after loading step {where[0]} there are the same numbers in another memory layout: {names}"
            )
            return where, Cause(text, _LAYOUT)
        text = f"what was saved at step {where[0]} was not what stood there after loading it: {names}"
        hint = "the part's load_state_dict() does not take over all that its state_dict() gives"
        return where, Cause(text, hint)
    return None


def _evidence(without: TracedRun, paused: TracedRun, again: TracedRun, clocks: Collection[str]) -> _Place:
    """Where the first thing differs that was written down, numbers or not."""
    found: list[_Place] = []
    ignored = set(unseeded(without, paused))
    for where in sorted(without.steps.keys() | paused.steps.keys()):
        one, other = without.steps.get(where), paused.steps.get(where)
        if one is None or other is None or one.batch != other.batch:
            found.append((*where, 0))
            break
        if set(_differing(one.rng, other.rng)) - ignored:
            found.append((*where, 0))
            break
    behind = first_number(without, paused)
    if behind is not None:
        found.append((*behind, 1))
    for where in sorted(paused.looks.keys() & again.looks.keys()):
        leaves = changed(paused.looks[where].state, again.looks[where].state)
        if any(leaf.name not in clocks for leaf in leaves):
            found.append((*where, 0))
            break
    return min(found, default=(paused.num_steps + 1, 0, 0))


def _suspects(paused: TracedRun, place: _Place) -> _Suspects | None:
    """The exits before a place, and the last pause; of several without a step between them the deepest."""
    before = sorted(
        (one for one in paused.paused if (one.step, one.epoch, 0) < place),
        key=lambda one: (one.step, _WEIGHT.get(one.depth, 0), one.epoch),
    )
    # What a restart loses may show late, however many pauses come in between.
    return _Suspects([one for one in before if one.depth == "exit" or one is before[-1]]) if before else None


def _after_pause(without: TracedRun, paused: TracedRun, suspects: _Suspects, place: _Place) -> Cause:
    """Look at each boundary up to what differs: the next one may be the end of an epoch, with no data."""
    pause, at = suspects.last, suspects.words
    where = (pause.step, pause.epoch)
    later = sorted(one for one in without.steps if one > where)
    # A number is reported before the boundary of its own step.
    seen = later[: sum((*one, 0) < place for one in later) + 1]
    for one in seen:
        when = "already in the first step" if one[0] <= pause.step + 1 else f"in step {one[0]}, which comes"
        if (cause := _in_step(without, paused, one, f"{when} after {at}")) is not None:
            return cause
    if not any(step > pause.step for step, _ in later):
        text = f"only what comes after {at} differs, and no step came after it"
        return Cause(text, f"look at what the script does behind its loop; {_HANDING_OVER}")
    has_data = any(without.steps[one].batch for one in seen)
    return _not_handed_over(suspects, has_data=has_data)


def _in_step(without: TracedRun, paused: TracedRun, where: Where, when: str) -> Cause | None:
    """What explains other numbers in a step, or from there on."""
    one, other = without.steps[where], paused.steps.get(where)
    if other is None:
        return Cause(f"the loop took another way {when}", _HANDING_OVER)
    if one.batch != other.batch:
        hint = (
            "give the data no state that the shim cannot see: generators belong to the dataset or the "
            "sampler, as attributes; see docs/EXACTNESS.md, `Data`"
        )
        return Cause(f"the data is another {when}", hint)
    strays = sorted(set(_differing(one.rng, other.rng)) - set(unseeded(without, paused)))
    if strays:
        text = f"the generator {_names(strays)} stands elsewhere {when}"
        return Cause(text, "look for what draws from it in that step in one run only")
    return None


def _not_handed_over(suspects: _Suspects, *, has_data: bool) -> Cause:
    """Nothing that was written down explains it."""
    at, same = suspects.words, "data and generators" if has_data else "generators"
    hint = _OF_LAST[suspects.last.depth]
    if not suspects.has_exit:
        what = "nothing was loaded" if suspects.last.depth == "hold" else "every tensor came back as it was"
        return Cause(f"{what} at {at}, and {same} are the same", hint)
    text = f"all that was handed over is the same after {at}, and so are {same}"
    if not has_data:
        text += "; no batch came by shim.batches()"
    lost = _LOST if has_data else _OWN_DATA
    return Cause(text, f"{lost}. Or {hint}" if hint else lost)


def _shim_warnings(without: TracedRun, paused: TracedRun, suspects: _Suspects) -> list[str]:
    """What the shim said of the run, and noted at the pause."""
    look = paused.looks.get((suspects.last.step, suspects.last.epoch))
    notes = [] if look is None else look.notes
    return list(dict.fromkeys([*without.said, *paused.said, *notes]))


def _first_number(one: TracedRun, other: TracedRun) -> str:
    numbers = compare(one, other).numbers
    return f", first at step {numbers[0].step} in `{numbers[0].name}`" if numbers else ""


def _first_batch(one: TracedRun, other: TracedRun) -> Where | None:
    common = sorted(one.steps.keys() & other.steps.keys())
    return next((where for where in common if one.steps[where].batch != other.steps[where].batch), None)


def _differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return sorted(name for name in one.keys() & other.keys() if one[name] != other[name])


def _top(leaf: str) -> str:
    """The part that a leaf is of."""
    return leaf.partition(".")[0]


def _names(names: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:_MAX_NAMES])
    rest = len(names) - _MAX_NAMES
    return f"{shown} and {rest} more" if rest > 0 else shown
