"""The parts that make a run what it is: their states out, and in again.

Covers: what may be attached, asking all parts for their states, giving them
back, what does not fit.
Does not cover: the position of the loop and random numbers (position.py,
rng.py), storing (checkpoint/).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

from trainer_shim import optimizer_state
from trainer_shim.errors import CannotRestore, CannotSave
from trainer_shim.param_groups import Names, regroup
from trainer_shim.script_names import is_module

__all__ = ["ODD", "Stateful", "asked", "check_fits", "check_parts", "is_of_torch", "restore", "states"]

#: What objects of a script raise when they are asked for their state.
ODD = (RuntimeError, MemoryError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


@runtime_checkable
class Stateful(Protocol):
    """Anything with the two methods of torch's own parts."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return the state; the shim copies nothing before the call returns."""
        ...

    def load_state_dict(self, state: Any) -> Any:
        """Take over a state that `state_dict` returned."""
        ...


def is_of_torch(part: Any) -> bool:
    """Whether its state may be given twice; a `load_state_dict()` of the script's own may do anything.

    Of others small values are put back.
    """
    return is_module(part) or optimizer_state.is_optimizer(part) or type(part).__module__.startswith("torch.")


def check_parts(parts: Mapping[str, object]) -> None:
    """Raise TypeError for what cannot be attached."""
    for name, part in parts.items():
        if not isinstance(part, Stateful):
            kind = type(part).__name__
            error = TypeError(f"cannot attach `{name}`: a {kind} has no state_dict() and load_state_dict()")
            if type(part).__module__ == "builtins" or kind in ("Tensor", "ndarray"):
                variable = name.partition(".")[0]
                hint = (
                    f"write `state = shim.state({variable}=...)` behind attach(), and use `state.{variable}`"
                )
            else:
                hint = (
                    f"name the attributes that it keeps, `attach({name}=trainer_shim.Fields({name}, "
                    f"'storage', ...))`, or give the class {kind} the two methods"
                )
            error.add_note(f"hint: {hint}")
            raise error


def states(parts: Mapping[str, Stateful]) -> dict[str, Mapping[str, Any]]:
    """Return the state of each part, the tensors live; raises CannotSave."""
    return {name: asked(f"`{name}`", part.state_dict) for name, part in parts.items()}


def restore(
    parts: Mapping[str, Stateful],
    saved: Mapping[str, Any],
    path: Path,
    groups: Mapping[str, Names] = MappingProxyType({}),
    attached: Mapping[str, Stateful] = MappingProxyType({}),
) -> None:
    """Give each part its state back; raises CannotRestore where one does not fit.

    `groups` has the names of the parameters of optimizers as they were, in the modules of `attached`.
    """
    for name, part in parts.items():
        try:
            if optimizer_state.is_optimizer(part):
                if name in groups:
                    regroup(name, part, saved[name], groups[name], attached)
                optimizer_state.load(part, saved[name])
            else:
                _check_functions(name, part, saved[name], path)
                part.load_state_dict(saved[name])
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise CannotRestore(
                f"cannot restore `{name}` from `{path}`: {error}",
                hint="the script's parts differ from those that were saved; "
                "for a new run give attach(checkpoints=...) another folder",
            ) from error


def _check_functions(name: str, part: Any, saved: Any, path: Path) -> None:
    """Raise CannotRestore for a scheduler with a function for each group, where there are more groups."""
    before = saved.get("lr_lambdas") if isinstance(saved, Mapping) else None
    now = getattr(part, "lr_lambdas", None)
    if isinstance(before, list) and isinstance(now, list) and len(before) != len(now):
        raise CannotRestore(
            f"cannot restore `{name}` from `{path}`: it was saved with {len(before)} functions, one for each "
            f"group of its optimizer, and has {len(now)}",
            hint="make the groups and the functions before attach() where the run is past that point: "
            "trainer_shim.saved_position() tells its epoch",
        )


def asked(what: str, state_dict: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the state of something of the script's own; raises CannotSave, whatever that raises."""
    try:
        return state_dict()
    # A device that is full refuses the copy that some make: no reason for training to end.
    except ODD as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CannotSave(
            f"cannot save {what}: its state_dict() raised {type(error).__name__}: {reason}",
            hint="the older checkpoints are untouched",
        ) from error


def check_fits(parts: Mapping[str, Stateful], saved: Mapping[str, Any], path: Path) -> None:
    """Raise CannotRestore where the parts have other names than those that were saved."""
    if set(saved) != set(parts):
        differ = [f"`{name}` is missing" for name in sorted(set(saved) - set(parts))]
        differ += [f"`{name}` is new" for name in sorted(set(parts) - set(saved))]
        raise CannotRestore(
            f"cannot restore from `{path}`: {', '.join(differ)}",
            hint="give attach() the same parts as before, or another checkpoints folder for a new run",
        )
