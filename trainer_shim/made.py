"""What the script made of its parts, as it made them, and what of it goes with a checkpoint.

Covers: flags and attributes of modules, groups of optimizers by name, options, memory layouts; restoring
with them; parts that came in mid-run.
Does not cover: how each is told and put back (module_state.py, param_groups.py, hyperparameters.py,
optimizer_state.py), the states themselves (parts.py).

A checkpoint has it under `made`, beside `parts`. One without it, of an older version, is restored as ever.
"""

from __future__ import annotations

import copy
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from trainer_shim import hyperparameters, optimizer_state
from trainer_shim.checkpoint import Live, resolve
from trainer_shim.errors import CannotRestore
from trainer_shim.module_state import Fingerprint, Layouts
from trainer_shim.optimizer_state import is_optimizer
from trainer_shim.param_groups import Names, group_names, names_of
from trainer_shim.parts import Stateful, check_fits, restore

__all__ = ["Made"]

_MAX_SAID = 5


class Made:
    """Belongs to one session. `parts` is a view of what is attached, `live` of what that held at first."""

    def __init__(
        self, parts: Mapping[str, Stateful], say: Callable[[str], None], live: Callable[[], Live]
    ) -> None:
        self._parts, self._say, self._live = parts, say, live
        self._fingerprints: dict[str, Fingerprint] = {}
        self._options: dict[str, dict[str, str]] = {}
        #: Of all parameters, by identity; None where modules may have got others since.
        self._names: dict[int, str] | None = None
        #: Parts that came, or were replaced, in mid-run: where, and instead of what.
        self._late: dict[str, dict[str, Any]] = {}
        #: Their saved states, until the loop is at a boundary: add_parts() may be called for them.
        self._waiting: dict[str, Any] = {}
        self._unclaimed: set[str] = set()
        self._said: set[str] = set()
        self._refused: dict[str, CannotRestore] = {}
        self._calls: Counter[str] = Counter()
        #: Whether nothing was restored that a loop has not begun to use.
        self._is_laid_out = True
        self._saved: Mapping[str, Any] = {}
        self._path = Path()
        for name, part in parts.items():
            self._look_at(name, part)

    def state_dict(self) -> dict[str, Any]:
        """Return what goes with a checkpoint of now; tensors in it are the live ones."""
        are_known = [one.refresh() for one in self._fingerprints.values()]
        if not all(are_known):
            self._names = None
        names = self._names = self._names_now() if self._names is None else self._names
        self._say_what_came()
        groups = {n: group_names(part, names) for n, part in self._parts.items() if is_optimizer(part)}
        flags = {name: changed for name, one in self._fingerprints.items() if (changed := one.changes())}
        lying = {name: one.layouts() for name, one in self._fingerprints.items()}
        return {
            "groups": groups,
            "options": self._options,
            "flags": flags,
            "layouts": {name: found for name, found in lying.items() if found},
            "late": self._late,
        }

    def restore(self, saved: Mapping[str, Any], made: Mapping[str, Any], path: Path) -> None:
        """Give all parts their states back; raises CannotRestore. Late ones wait for add_parts()."""
        self._saved, self._path = made, path
        self._late = dict(made.get("late", {}))
        self._waiting = {name: saved[name] for name in self._late if name in saved}
        absent = self._waiting.keys() - self._parts.keys()
        replaced = {
            name for name in self._waiting if name in self._parts and self._late[name].get("replaced")
        }
        now = {name: part for name, part in self._parts.items() if name not in replaced}
        check_fits(now, {name: saved[name] for name in saved if name not in absent | replaced}, path)
        self._give(now, saved)
        self._unclaimed = set(absent)
        for name in replaced:
            # The script may have made the newer one at once. Else the older one gets what does not matter:
            # its successor is on its way.
            if not self._is_like(name) or not self._try(name, saved):
                self._unclaimed.add(name)

    def give_again(self, names: Collection[str], saved: Mapping[str, Any]) -> None:
        """Give these parts the states that `restore` gave them; raises CannotRestore."""
        self._give({name: self._parts[name] for name in names if name in saved}, saved)
        self.lay_out()

    def add(self, parts: Mapping[str, Stateful], known: Collection[str], where: Mapping[str, int]) -> None:
        """Take parts in that are attached by now; `known` are the names that were before.

        The first boundary after a restore ends the time in which a state that waits is given out. A phase
        of the run may replace what an earlier one brought: as many calls get it as there were.
        """
        for name, part in parts.items():
            self._look_at(name, part)
            self._calls[name] += 1
            late = self._late.get(name, {})
            if name in self._waiting and self._calls[name] <= late.get("count", 1):
                # A copy: what was replaced may have been given the same tensors.
                if late.get("kind") == _kind(part) and self._try(name, self._waiting):
                    self._unclaimed.discard(name)
                continue
            is_replaced = late.get("replaced", name in known)
            count = late.get("count", 0) + 1
            self._late[name] = {**where, "replaced": is_replaced, "count": count, "kind": _kind(part)}
            self._unclaimed.discard(name)

    def lay_out(self) -> None:
        """Once more, as the loop begins: a model may be brought to its memory format after attach()."""
        if self._is_laid_out:
            return
        self._is_laid_out = True
        for part in self._parts.values():
            if is_optimizer(part):
                optimizer_state.lay_out(part)

    @property
    def is_waiting(self) -> bool:
        """Whether saved states wait for parts that may come."""
        return bool(self._waiting)

    def close(self) -> None:
        """Give out no state any more; raises CannotRestore where a part did not come that has one."""
        self._waiting = {}
        for name in sorted(self._unclaimed):
            if name in self._refused:
                raise self._refused[name]
            late = self._late[name]
            raise CannotRestore(
                f"cannot go on from `{self._path}`: `{name}`, a {late.get('kind')}, was handed over at step "
                f"{late.get('step')}, epoch {late.get('epoch')}, and the script did not do so again before "
                "its first boundary",
                hint="do it wherever the run is past that point, not only when it gets there: "
                f"if shim.epoch >= {late.get('epoch')}: shim.add_parts({name}=...)",
            )

    def _say_what_came(self) -> None:
        """Say once which parameters a fresh start of the script would not have at attach()."""
        for name, one in self._fingerprints.items():
            if came := [path for path in one.came() if f"{name}.{path}" not in self._said]:
                self._said.update(f"{name}.{path}" for path in came)
                more = f" and {len(came) - _MAX_SAID} more" if len(came) > _MAX_SAID else ""
                named = ", ".join(came[:_MAX_SAID]) + more
                self._say(
                    f"`{name}` has parameters that it had not at attach() ({named}): "
                    "it can go on from a checkpoint only where they are made before attach(), by one batch "
                    "that runs through it, or by the script where trainer_shim.saved_position() is past that "
                    "[late]"
                )

    def _names_now(self) -> dict[int, str]:
        names: dict[int, str] = {}
        for name in sorted(self._fingerprints):
            for path, parameter in self._fingerprints[name].parameters():
                names.setdefault(id(parameter), f"{name}.{path}")
        return names

    def _look_at(self, name: str, part: Any) -> None:
        self._names = None
        self._fingerprints.pop(name, None)
        self._options.pop(name, None)
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(part, torch.nn.Module):
            self._fingerprints[name] = Fingerprint(part)
        if chosen := hyperparameters.options(part):
            self._options[name] = chosen

    def _give(self, parts: Mapping[str, Stateful], saved: Mapping[str, Any]) -> None:
        """Restore these parts, and all that their own state_dict() leaves out."""
        self._is_laid_out, self._names = False, None
        groups: Mapping[str, Names] = self._saved.get("groups", {})
        for name in parts.keys() & self._fingerprints.keys():
            self._fingerprints[name].make_room(self._saved.get("flags", {}).get(name, {}), saved[name])
        saved = {name: resolve(saved[name], f"parts.{name}", self._live()) for name in parts}
        restore(parts, saved, self._path, groups, self._parts)
        for name, part in parts.items():
            if is_optimizer(part):
                optimizer_state.mend(part, saved[name])
            if name in self._fingerprints:
                self._fingerprints[name].refresh()
                for text in self._fingerprints[name].put_back(self._saved.get("flags", {}).get(name, {})):
                    self._say(f"`{name}`: {text} [flags]")
                if "layouts" in self._saved:
                    self._compare(name, self._saved["layouts"].get(name, {}))
            before = self._saved.get("options", {}).get(name)
            if before and (
                text := hyperparameters.changed_words(name, part, before, self._options.get(name, {}))
            ):
                self._say(text)

    def _compare(self, name: str, before: Layouts) -> None:
        """Say where the memory of a module lies in another order than that of the saved one."""
        now = self._fingerprints[name].layouts()
        differ = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        if differ:
            words = [
                f"{key}: {before.get(key, 'in plain order')}, now {now.get(key, 'in plain order')}"
                for key in differ[:_MAX_SAID]
            ]
            more = f", and {len(differ) - _MAX_SAID} more" if len(differ) > _MAX_SAID else ""
            self._say(
                f"`{name}` was saved with another memory layout (strides of {'; '.join(words)}{more}): all "
                "values are the same, sums may be added up in another order; for the same bits make "
                f"it as it was before attach(), for example {name}.to(memory_format=torch.channels_last) "
                "[layout]"
            )

    def _is_like(self, name: str) -> bool:
        """Whether what is attached is made as the one that was saved, which came later under this name."""
        kind = self._late[name].get("kind")
        part = self._parts[name]
        if kind != _kind(part):
            return False
        if not is_optimizer(part):
            return True
        return bool(self._saved.get("groups", {}).get(name) == group_names(part, names_of(self._parts)))

    def _try(self, name: str, saved: Mapping[str, Any]) -> bool:
        try:
            self._give({name: self._parts[name]}, {name: copy.deepcopy(saved[name])})
        except CannotRestore as error:
            self._refused[name] = error
            return False
        return True


def _kind(part: Any) -> str:
    # Without its module: a script may be run or imported.
    return type(part).__qualname__
