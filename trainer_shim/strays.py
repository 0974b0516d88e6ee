"""What the script carries from boundary to boundary and no checkpoint has, said while it can still be mended.

Covers: when it is looked; what the functions around a boundary hold: variables that their loops carry, random
generators, optimizers, schedulers and modules that are not among the parts; weights that change and numbers
that are drawn between attach() and the loop.
Does not cover: the source of a loop (loop_names.py), data loaders (births.py), whether what is saved can be
(storable.py).

The first two boundaries of a start are compared, so what lies there and is not used is silent; there are no
later looks. Kept between them are names, ids and digests, no frame and no object of the script's.
"""

from __future__ import annotations

import math
import random
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from trainer_shim import rng
from trainer_shim.errors import CannotStore
from trainer_shim.loop_names import carried_at, repeated_at
from trainer_shim.module_tree import ODD
from trainer_shim.module_tree import walk as modules_of
from trainer_shim.nearby import variables_of
from trainer_shim.optimizer_state import is_optimizer
from trainer_shim.reach import attributes, frame_variables, is_generator
from trainer_shim.reach import walk as reached
from trainer_shim.script_code import is_a, is_script
from trainer_shim.variables import State

__all__ = ["Strays"]

_HERE = str(Path(__file__).parent)
#: Functions of the script around a boundary that are looked into.
_MAX_FRAMES = 3
#: Objects that are looked through for generators, the nearest first: the loop waits for it.
_MAX_VISITS = 1000
#: What a name may stand for that a loop counts or collects with.
_PLAIN = (int, float, complex, str, bytes, bool, type(None), list, dict, set, tuple)

_CARRIED = (
    "`{0}` (line {1}) goes on from turn to turn and no checkpoint has it: after a restart it begins anew. "
    "Write `state = shim.state({2}=...)` behind attach() and use `state.{2}` in its place, or reckon it from "
    "`shim.step`"
)
_REPEATED = (
    "line {}, in a loop over epochs that the shim does not know of, is done again for past epochs after a "
    "restart: write `for epoch in shim.epochs(num_epochs)`"
)
_GENERATOR = (
    "`{0}` draws random numbers and no checkpoint has it: after a restart it begins anew. Write "
    "`shim.state({1}={0})` behind attach()"
)
_OPTIMIZER = (
    "`{}` is an optimizer of the run, but attach() got none such: hand it over, or call `shim.add_parts()`"
)
_SCHEDULER = "`{}` is a scheduler of the run, but attach() got none such: hand it over, or it begins anew"
_MODULE = "`{}` is a module that changes with the training, but attach() got none such: hand it over"
_WEIGHTS = (
    "the weights of `{}` were changed between attach() and the loop: after a restart that would undo the "
    "training; do it before attach()"
)
_DRAWN = (
    "random numbers were drawn between attach() and the loop: after a restart the loop begins with others; "
    "call attach() right before the loop"
)


class Strays:
    """The looks of one session, which begin with the end of attach()."""

    def __init__(
        self,
        parts: Mapping[str, Any],
        extra: Callable[[], Mapping[str, Any]],
        is_held: Callable[[Any], bool],
        say: Callable[[str], None],
        step: int,
        ignore: Collection[str] = (),
    ) -> None:
        self._parts, self._extra, self._is_held, self._say = parts, extra, is_held, say
        #: Names, whole or their last part, of which nothing is said.
        self._ignore = ignore
        self._weights = dict(_weights(parts))
        self._drawn: Any = rng.capture_cpu()
        #: Whether the loop has begun, as far as it is known.
        self.is_begun = False
        self._is_drawn = False
        self._first, self._second = step + 1, step + 2
        self._seen: dict[str, Any] = {}

    @property
    def due_step(self) -> float:
        """The boundary of the last look, infinity after it."""
        return self._second or math.inf

    def begin(self, *, is_by_hand: bool) -> None:
        """The loop begins; one by hand has its random numbers as attach() left them."""
        if self.is_begun:
            return
        self.is_begun = True
        changed = [
            name for name, version in _weights(self._parts) if self._weights.get(name, version) != version
        ]
        for name in dict.fromkeys(name.partition(".")[0] for name in changed):
            if self._is_ignored(name):
                continue
            self._say(_WEIGHTS.format(name))
        self._is_drawn = is_by_hand and rng.capture_cpu() != self._drawn
        self._weights, self._drawn = {}, None

    def at(self, step: int, *, is_by_hand: bool) -> None:
        """Look, at the first two boundaries."""
        if not self._second or step < self._first:
            return
        if self._is_drawn and is_by_hand:
            self._is_drawn = False
            self._say(_DRAWN)
        is_first = step < self._second
        if not is_first:
            self._first = self._second = 0
        frames = list(_frames())
        try:
            # A script may hold anything: a look that an odd object prevents is none, and costs no training.
            with suppress(*ODD, OSError):
                if is_first:
                    for text in self._by_source(frames):
                        self._say(text)
                    self._seen = dict(self._by_value(frames))
                else:
                    for text in self._changed(frames):
                        self._say(text)
        finally:
            frames.clear()
        if not is_first:
            self._seen = {}

    def _by_source(self, frames: Iterable[FrameType]) -> Iterator[str]:
        for frame in frames:
            code = frame.f_code
            where = (code.co_filename, code.co_firstlineno, frame.f_lineno)
            values = dict(frame_variables(frame))
            found = carried_at(*where, keepers=_holders(values))
            if found:
                known = self._extra()
                for name, line in found:
                    value = _value(values, name)
                    is_kept = self._is_ignored(name) or name.rpartition(".")[2] in known["extra"]
                    is_kept = is_kept or self._is_held(value) or _is_in(value, known)
                    is_kept = is_kept or self._is_of_part(values.get(name.partition(".")[0]))
                    if not is_kept and (is_a(value, _PLAIN) or _is_numbers(value)):
                        yield _CARRIED.format(name, line, name.rpartition(".")[2])
            if line := repeated_at(*where):
                yield _REPEATED.format(line)

    def _by_value(self, frames: Iterable[FrameType]) -> Iterator[tuple[str, Any]]:
        """What has a state, by where it lies: its id, what to say, and a small digest of the state."""
        for frame in frames:
            roots = {}
            for place, value in variables_of(frame):
                if self._is_ignored(_name(place)):
                    continue
                if _is_module(value) or is_optimizer(value) or _is_scheduler(value):
                    yield place, self._part(place, value)
                elif not _is_loader(value):
                    roots[place] = value
            generators = reached(roots, max_visits=_MAX_VISITS).generators
            known = [one for one in self._extra().values() if is_generator(one)]
            for place, one in generators.items():
                if not (
                    self._is_ignored(_name(place))
                    or any(one is other for other in known)
                    or self._is_held(one)
                    or _is_global(one)
                ):
                    name = _name(place)
                    words = _GENERATOR.format(name, name.rpartition(".")[2].strip("<>"))
                    yield place, (id(one), words, _digest(one))

    def _is_ignored(self, name: str) -> bool:
        return bool(self._ignore) and (name in self._ignore or name.rpartition(".")[2] in self._ignore)

    def _is_of_part(self, thing: Any) -> bool:
        """Whether a checkpoint has what its state_dict() gives."""
        return any(thing is part for part in self._parts.values())

    def _part(self, place: str, value: Any) -> Any:
        if any(value is part for part in self._parts.values()):
            return None
        ours = {id(one) for part in self._parts.values() if _is_module(part) for _, one in _parameters(part)}
        if is_optimizer(value):
            if any(id(one) in ours for group in value.param_groups for one in group["params"]):
                return id(value), _OPTIMIZER.format(_name(place)), _steps(value)
            return None
        if _is_scheduler(value) and not _is_module(value):
            is_ours = any(getattr(value, "optimizer", None) is part for part in self._parts.values())
            return (
                (id(value), _SCHEDULER.format(_name(place)), getattr(value, "last_epoch", 0))
                if is_ours
                else None
            )
        if _is_module(value):
            own = [one for _, one in _parameters(value)]
            if own and not any(id(one) in ours for one in own):
                return id(value), _MODULE.format(_name(place)), sum(one._version for one in own)  # noqa: SLF001
        return None

    def _changed(self, frames: Iterable[FrameType]) -> list[str]:
        now = dict(self._by_value(frames))
        found = []
        for place, entry in now.items():
            before = self._seen.get(place)
            if entry is not None and before is not None and entry[0] == before[0] and entry[2] != before[2]:
                found.append(entry[1])
        return list(dict.fromkeys(found))


def _frames() -> Iterator[FrameType]:
    """The functions of the script around this call, the innermost first."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # There is no other way to one's caller.
    num_found = 0
    while frame is not None and num_found < _MAX_FRAMES:
        file = frame.f_code.co_filename
        if not file.startswith((_HERE, "<")) and is_script(file):
            num_found += 1
            yield frame
        frame = frame.f_back


def _name(place: str) -> str:
    """What the script calls it, without the function that it is in."""
    return place.partition(".")[2]


def _holders(values: Mapping[str, Any]) -> frozenset[str]:
    """What the script calls its `shim.state()`: a statement that names it keeps something."""
    found = (*values.items(), *attributes(values.get("self")))
    return frozenset(name for name, value in found if type(value) is State)


def _is_in(value: Any, extra: Mapping[str, Any]) -> bool:
    """Whether it is `shim.extra` under another name, or an object in it."""
    return is_a(value, list | dict | set | deque) and any(value is one for one in extra.values())


def _value(values: Mapping[str, Any], place: str) -> Any:
    name, _, attribute = place.partition(".")
    value = values.get(name)
    if attribute:
        with suppress(TypeError):
            return vars(value).get(attribute, ...)
        return ...
    return value


def _is_module(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and is_a(value, torch.nn.Module)


def _is_scheduler(value: Any) -> bool:
    # By its class: to ask an unknown object for an attribute may do anything.
    return hasattr(type(value), "get_last_lr")


def _is_loader(value: Any) -> bool:
    data = sys.modules.get("torch.utils.data")
    return data is not None and is_a(value, data.DataLoader)


def _is_numbers(value: Any) -> bool:
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    return (torch is not None and is_a(value, torch.Tensor)) or (
        numpy is not None and is_a(value, numpy.ndarray | numpy.generic)
    )


def _is_global(generator: Any) -> bool:
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy.random")
    known = [random._inst]  # noqa: SLF001  # Every checkpoint has it.
    if torch is not None:
        known.append(torch.default_generator)
    if numpy is not None:
        known += [numpy.mtrand._rand, numpy.mtrand._rand._bit_generator]  # noqa: SLF001
    return any(generator is one for one in known)


def _digest(generator: Any) -> Any:
    """A number for where it stands; None for kinds that do not tell."""
    try:
        return hash(rng.dump(generator))
    except (TypeError, ValueError, AttributeError, CannotStore):
        return None


def _parameters(module: Any, *, has_buffers: bool = True) -> Iterator[tuple[str, Any]]:
    for path, one in modules_of(module):
        for name, value in {**one._parameters, **(one._buffers if has_buffers else {})}.items():  # noqa: SLF001
            if value is not None:
                yield f"{path}.{name}", value


def _weights(parts: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, int]]]:
    """The count of changes in place of each parameter; a model that is moved to a device keeps it.

    Not of buffers: those change in a forward pass before the first batch is asked for, as of a loop that
    fetches ahead.
    """
    for name, part in parts.items():
        if _is_module(part):
            for path, value in _parameters(part, has_buffers=False):
                with suppress(RuntimeError):  # One that was made in inference mode has none.
                    yield f"{name}.{path}", value._version  # noqa: SLF001


def _steps(optimizer: Any) -> Any:
    return [
        len(optimizer.state),
        *(float(one["step"]) for one in [*optimizer.state.values()][:1] if "step" in one),
    ]
