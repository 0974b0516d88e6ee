"""Options of optimizers and schedulers, as the script made them: another value at a restart is said.

Covers: options of groups, plain attributes of schedulers, what differs between two makings.
Does not cover: restoring (a checkpoint's values win, that is what exact means), saying it (made.py).

Values are compared and kept as text: what is compared here is what stands in a script.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from trainer_shim.determinism import is_scheduler
from trainer_shim.optimizer_state import is_optimizer

__all__ = ["changed_words", "options"]

_PLAIN = (bool, int, float, complex, str, type(None))
#: What a scheduler derives from the rest, or where it is.
_DERIVED = frozenset({"initial_lr", "last_epoch", "param_names", "params", "last_lr", "verbose"})
_MAX_TEXT = 300
_MAX_SAID = 5
_MAX_DEPTH = 4


def options(part: Any) -> dict[str, str]:
    """Return what a script chose for an optimizer or a scheduler, as text by name; empty for all else.

    Empty for an optimizer that was at work already: the script loaded its state, which is no choice.
    """
    if is_optimizer(part):
        if part.state:
            return {}
        groups = list(part.param_groups)
        found = {}
        for number, group in enumerate(groups):
            prefix = "" if len(groups) == 1 else f"{number}."
            found.update(_texts(group, prefix))
        return found
    return dict(_of_scheduler(part, "", 0)) if is_scheduler(part) else {}


def changed_words(name: str, part: Any, before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Say what was made otherwise than before, and how to change it on purpose; "" where nothing was."""
    if before.keys() != now.keys():
        # Other groups or another scheduler: restoring them says what there is to say.
        shared = before.keys() & now.keys() if is_scheduler(part) else set()
    else:
        shared = set(before)
    differ = [key for key in now if key in shared and now[key] != before[key]]
    if not differ:
        return ""
    said = [f"{_label(key)} {now[key]} now and {before[key]} before" for key in differ[:_MAX_SAID]]
    if len(differ) > _MAX_SAID:
        said.append(f"{len(differ) - _MAX_SAID} more")
    return (
        f"`{name}` was made with {', '.join(said)}; the checkpoint's value goes on; to change it on purpose "
        f"set it after attach(): {_way(name, part, differ[0])} [options]"
    )


def _label(key: str) -> str:
    number, _, rest = key.partition(".")
    return f"{rest} of group {number}" if rest and number.isdecimal() else key


def _way(name: str, part: Any, key: str) -> str:
    if not is_optimizer(part):
        return f"{name}.{key} = ..."
    number, _, rest = key.partition(".")
    if rest and number.isdecimal():
        return f'{name}.param_groups[{number}]["{rest}"] = ...'
    way = f'for group in {name}.param_groups: group["{key}"] = ...'
    is_scheduled = key == "lr" and any("initial_lr" in group for group in part.param_groups)
    return f"{way} (a scheduler computes it from its own base_lrs)" if is_scheduled else way


def _of_scheduler(part: Any, prefix: str, depth: int) -> Iterator[tuple[str, str]]:
    with suppress(TypeError):
        yield from _texts(vars(part), prefix).items()
        # Those that hold others: SequentialLR, ChainedScheduler.
        inner = vars(part).get("_schedulers")
        if isinstance(inner, list | tuple) and depth < _MAX_DEPTH:
            for number, one in enumerate(inner):
                yield from _of_scheduler(one, f"{prefix}_schedulers[{number}].", depth + 1)


def _texts(values: Mapping[str, Any], prefix: str) -> dict[str, str]:
    found = {}
    for key, value in values.items():
        if isinstance(key, str) and key not in _DERIVED and key[:1] != "_":
            text = _text(value)
            if text is not None:
                found[prefix + key] = text
    return found


def _text(value: Any) -> str | None:
    """Return a value as a script would write it; None for what is no plain value."""
    if type(value) not in _PLAIN and hasattr(value, "numel") and hasattr(value, "item"):
        with suppress(RuntimeError, ValueError, TypeError):
            return repr(value.item())
        return None
    if not _is_plain(value, 0):
        return None
    text = repr(value)
    return text if len(text) <= _MAX_TEXT else None


def _is_plain(value: Any, depth: int) -> bool:
    if type(value) in _PLAIN:
        return True
    if depth >= _MAX_DEPTH:
        return False
    if isinstance(value, list | tuple):
        return all(_is_plain(item, depth + 1) for item in value)
    if isinstance(value, dict):
        return all(type(key) in _PLAIN and _is_plain(item, depth + 1) for key, item in value.items())
    return False
