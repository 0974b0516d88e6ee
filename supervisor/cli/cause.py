"""Why a run with pauses differs from one without: the likely cause, and what to do. Pure.

Covers: reading the evidence in three traces: without pauses, with them, and
without them once more.
Does not cover: that they differ at all (traces.py).

The order of the questions is the point: a training that does not repeat itself says nothing
about pauses; a part that came back different explains all that follows; data that came in
another order explains other numbers; what is left is state that nobody handed over.
"""

from __future__ import annotations

from typing import NamedTuple

from supervisor.cli.traces import Run, Where, changed, compare, first_number, is_layout_only
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
    "as `shim.extra[...]` where it is a plain value; docs/EXACTNESS.md lists what is saved by itself"
)
_LAYOUT = (
    "kernels that walk raw memory give other results there (fused optimizers, norms): bring the model to its "
    "memory format before attach(), as in `model.to(memory_format=torch.channels_last)`"
)
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


def find_cause(without: Run, paused: Run, again: Run) -> Cause:
    """Return the likely cause of a difference between `without` and `paused`."""
    if not compare(without, again).is_identical:
        return _unrepeatable(without, again)
    lossy = _lossy_part(paused)
    after = _evidence(without, paused, again)
    pause = _pause_before(paused, after)
    if lossy is not None and (pause is None or lossy[0] <= (pause.step, pause.epoch)):
        return lossy[1]
    if pause is None:
        text = "the runs differ before the first pause, though two runs without pauses are the same"
        hint = "the training depends on something outside: files it finds, the load, the time; run it again"
        return Cause(text, hint, is_repeatable=False)
    return _after_pause(without, paused, pause, after)


def unseeded(one: Run, other: Run) -> list[str]:
    """Return the generators that stand elsewhere already in the first step of two runs."""
    first = min(one.steps, default=None)
    if first is None or first not in other.steps:
        return []
    return _differing(one.steps[first].rng, other.steps[first].rng)


def stray_generators(without: Run, paused: Run) -> list[str]:
    """Return the seeded generators that stand elsewhere at some later step."""
    stray = {
        name
        for where in without.steps.keys() & paused.steps.keys()
        for name in _differing(without.steps[where].rng, paused.steps[where].rng)
    }
    return sorted(stray - set(unseeded(without, paused)))


def _unrepeatable(without: Run, again: Run) -> Cause:
    """Two runs without pauses differ."""
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


def _lossy_part(paused: Run) -> tuple[Where, Cause] | None:
    """The first pause after which the parts held something else than before it."""
    back = {**paused.restored, **paused.returned}
    for where in sorted(back.keys() & paused.looks.keys()):
        leaves = changed(paused.looks[where].state, back[where])
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


def _evidence(without: Run, paused: Run, again: Run) -> _Place:
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
    common = sorted(paused.looks.keys() & again.looks.keys())
    found += [(*where, 0) for where in common if paused.looks[where].state != again.looks[where].state][:1]
    return min(found, default=(paused.num_steps + 1, 0, 0))


def _pause_before(paused: Run, place: _Place) -> trace.Paused | None:
    """The pause after which things are different."""
    before = [one for one in paused.paused if (one.step, one.epoch, 0) < place]
    last = max((one.step for one in before), default=None)
    return max(
        (one for one in before if one.step == last),
        key=lambda one: (_WEIGHT.get(one.depth, 0), one.epoch),
        default=None,
    )


def _after_pause(without: Run, paused: Run, pause: trace.Paused, place: _Place) -> Cause:
    """Look at each boundary up to what differs: the next one may be the end of an epoch, with no data."""
    at = f"the pause at step {pause.step} ({pause.depth})"
    where = (pause.step, pause.epoch)
    look = paused.looks.get(where)
    notes = f"; the shim said: {'; '.join(look.notes)}" if look is not None and look.notes else ""
    later = sorted(one for one in without.steps if one > where)
    # A number is reported before the boundary of its own step.
    seen = later[: sum((*one, 0) < place for one in later) + 1]
    for one in seen:
        when = "already in the first step" if one[0] <= pause.step + 1 else f"in step {one[0]}, which comes"
        if (cause := _in_step(without, paused, one, f"{when} after {at}{notes}")) is not None:
            return cause
    if not any(step > pause.step for step, _ in later):
        text = f"only what comes after {at} differs, and no step came after it{notes}"
        return Cause(text, f"look at what the script does behind its loop; {_HANDING_OVER}")
    has_data = any(without.steps[one].batch for one in seen)
    return _not_handed_over(pause, at, "data and generators" if has_data else "generators", notes)


def _in_step(without: Run, paused: Run, where: Where, when: str) -> Cause | None:
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


def _not_handed_over(pause: trace.Paused, at: str, same: str, notes: str) -> Cause:
    """Nothing that was written down explains it."""
    if pause.depth == "hold":
        text = f"nothing was loaded at {at}, and {same} are the same{notes}"
        return Cause(text, "look for a state_dict() that changes its object, or for a use of the time")
    if pause.depth == "offload":
        text = f"every tensor came back as it was at {at}, and {same} are the same{notes}"
        hint = (
            "look for what keeps the address of a tensor (data_ptr(), an extension of the script's own), "
            "for a state_dict() that changes its object, or for a use of the time"
        )
        return Cause(text, hint)
    text = f"all that was handed over is the same after {at}, and so are {same}{notes}"
    hint = (
        "something else belongs to the run: a scheduler, scaler or EMA copy, a generator of the script's "
        f"own, a counter, what an epoch draws before its loop; {_HANDING_OVER}"
    )
    return Cause(text, hint)


def _first_number(one: Run, other: Run) -> str:
    numbers = compare(one, other).numbers
    return f", first at step {numbers[0].step} in `{numbers[0].name}`" if numbers else ""


def _first_batch(one: Run, other: Run) -> Where | None:
    common = sorted(one.steps.keys() & other.steps.keys())
    return next((where for where in common if one.steps[where].batch != other.steps[where].batch), None)


def _differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return sorted(name for name in one.keys() & other.keys() if one[name] != other[name])


def _names(names: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:_MAX_NAMES])
    rest = len(names) - _MAX_NAMES
    return f"{shown} and {rest} more" if rest > 0 else shown
