"""Which parameter stands where in an optimizer: by name, so that thawed layers find their group again.

Covers: the names of each group's parameters; making the groups what they were when they were saved.
Does not cover: the state itself (optimizer_state.py).

An optimizer knows its parameters by number only. A name is that of the parameter in an attached module,
`net.0.weight`; a parameter that is in none has no name, and is known by its number as before.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from trainer_shim.errors import CannotRestore

__all__ = ["Names", "group_names", "names_of", "regroup"]

#: For each group the names of its parameters, None for one that is in no attached module.
Names = list[list[str | None]]

_MAX_NAMED = 5


def names_of(parts: Mapping[str, Any]) -> dict[int, str]:
    """Return the name of every parameter of the attached modules, by identity."""
    torch = sys.modules.get("torch")
    found: dict[int, str] = {}
    if torch is None:
        return found
    # In an order that does not depend on that of the script: one parameter may be in two parts.
    for name in sorted(parts):
        if isinstance(parts[name], torch.nn.Module):
            for path, one in parts[name].named_parameters():
                found.setdefault(id(one), f"{name}.{path}")
    return found


def group_names(optimizer: Any, names: Mapping[int, str]) -> Names:
    """Return the names of each group's parameters."""
    return [[*map(names.get, map(id, group["params"]))] for group in optimizer.param_groups]


def regroup(name: str, optimizer: Any, saved: Any, before: Names, parts: Mapping[str, Any]) -> None:
    """Give the optimizer the groups that it had when it was saved, members and order; raises CannotRestore.

    `before` is what `group_names` said then.
    """
    if not isinstance(saved, Mapping) or "param_groups" not in saved:
        return  # A wrapper with a form of its own.
    sizes = [len(names) for names in before]
    if sizes != [len(group["params"]) for group in saved["param_groups"]]:
        return
    names = names_of(parts)
    now = group_names(optimizer, names)
    if now == before or not _can_be_told_apart(before, now):
        return
    live = {
        names[id(one)]: one
        for part in parts.values()
        if hasattr(part, "parameters") and hasattr(part, "named_modules")
        for one in part.parameters()
        if id(one) in names
    }
    _check(name, before, now, live)
    groups = [[live[str(one)] for one in members] for members in before]
    kept = len(optimizer.param_groups)
    for group, members in zip(optimizer.param_groups, groups, strict=False):
        group["params"] = members
    del optimizer.param_groups[len(groups) :]
    for group, members in zip(saved["param_groups"][kept:], groups[kept:], strict=True):
        options = {key: value for key, value in group.items() if key not in ("params", "param_names")}
        named = group.get("param_names")
        pairs = members if named is None else list(zip(named, members, strict=True))
        try:
            optimizer.add_param_group({**options, "params": pairs})
        except (ValueError, TypeError, RuntimeError) as error:
            raise CannotRestore(
                f"cannot give `{name}` the group of {_list(before[kept])} that it was saved with: {error}",
                hint=f"make `{name}` with that group where trainer_shim.saved_position() is past the point "
                "at which it was added",
            ) from error


def _can_be_told_apart(before: Names, now: Names) -> bool:
    """Whether all have names; where one has none, numbers decide as they ever did."""
    return all(one is not None for names in (*before, *now) for one in names)


def _check(name: str, before: Names, now: Names, live: Mapping[str, Any]) -> None:
    saved = [str(one) for members in before for one in members]
    missing = [one for one in saved if one not in live]
    if missing:
        raise CannotRestore(
            f"cannot restore `{name}`: {_list(missing)} stood in it, and no attached module has them now",
            hint="make the modules before attach() as they were where trainer_shim.saved_position() is, or "
            "take a module that came later in with shim.add_parts(...)",
        )
    present = [str(one) for members in now for one in members]
    new = [one for one in present if one not in set(saved)]
    if new:
        raise CannotRestore(
            f"cannot restore `{name}`: it has {_list(new)} now, which it was saved without",
            hint=f"make `{name}` without them, and add them after attach(): "
            f"if len({name}.param_groups) == {len(before)}: {name}.add_param_group(...)",
        )


def _list(names: Any) -> str:
    shown = [f"`{one}`" for one in names[:_MAX_NAMED]]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")
