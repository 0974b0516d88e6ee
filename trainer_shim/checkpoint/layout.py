"""What every folder and file of a checkpoint store is called.

Covers: names, their order, and which names are leftovers.
Does not cover: what is in the files (manifest, tree, tensorfile), whether
they are whole (reader).

Pure: no name is looked up on a disk here. Nobody else spells these names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from itertools import count
from typing import NamedTuple

__all__ = [
    "ENVIRONMENT",
    "LATEST",
    "LOCK",
    "MANIFEST",
    "PARTIAL",
    "PREPROCESSING",
    "Name",
    "aside_name",
    "doomed_name",
    "doomed_of",
    "free_name",
    "is_doomed",
    "is_leftover",
    "is_tensors",
    "parse_aside",
    "parse_name",
    "parse_pin",
    "pin_name",
    "rank_json",
    "rank_still",
    "rank_tensors",
]

MANIFEST = "manifest.json"
ENVIRONMENT = "environment.txt"
PREPROCESSING = "preprocessing.json"
LATEST = "latest"
LOCK = ".lock"
#: Ends the name of whatever may be removed at the next start.
PARTIAL = ".partial"
_DOOMED = f".removed{PARTIAL}"
_PIN = ".pin"

# ASCII digits only: `\d` would also take other scripts' digits.
_NAME = re.compile(r"step-([0-9]{9,18})(?:\.([1-9][0-9]{0,5}))?")
_ASIDE = re.compile(r"(.+)\.damaged(?:\.[1-9][0-9]*)?")
_LEFTOVER = re.compile(rf"(?:{_NAME.pattern}(?:\.removed)?(?:\.try-[0-9]+)?|{LATEST}){re.escape(PARTIAL)}")


class Name(NamedTuple):
    """A checkpoint folder's name, in the order of age: `max()` is the newest.

    `again` counts the saves of one step: 0 for the first, `step-000001200`,
    1 for the second, `step-000001200.1`.
    """

    step: int
    again: int = 0

    def __str__(self) -> str:
        return f"step-{self.step:09d}" + (f".{self.again}" if self.again else "")


def parse_name(text: str) -> Name | None:
    """The checkpoint that a folder name stands for, or None: not a visible checkpoint."""
    found = _NAME.fullmatch(text)
    if found is None:
        return None
    name = Name(int(found[1]), int(found[2] or 0))
    return name if str(name) == text else None


def free_name(step: int, taken: Collection[str]) -> Name:
    """The name under which a save of `step` becomes visible, newer than every earlier one of that step."""
    # One past the highest, not the first gap: a removed `step-N` must not
    # come back as older than a `step-N.1` that is still there.
    agains = [name.again for name in map(parse_name, taken) if name is not None and name.step == step]
    return Name(step, max(agains, default=-1) + 1)


def aside_name(name: str, is_taken: Callable[[str], bool]) -> str:
    """Where a damaged checkpoint is kept for a person to look at."""
    first = f"{name}.damaged"
    return next(aside for n in count(1) if not is_taken(aside := first if n == 1 else f"{first}.{n}"))


def parse_aside(text: str) -> Name | None:
    """The checkpoint that was set aside under this name, or None."""
    found = _ASIDE.fullmatch(text)
    return parse_name(found[1]) if found else None


def pin_name(name: Name) -> str:
    """The mark of a checkpoint that is to stay."""
    return f"{name}{_PIN}"


def parse_pin(text: str) -> Name | None:
    """The checkpoint that a mark of this name pins, or None: not a mark."""
    return parse_name(text.removesuffix(_PIN)) if text.endswith(_PIN) else None


def doomed_name(name: str) -> str:
    """What a checkpoint is called while it is being removed."""
    return f"{name}{_DOOMED}"


def is_doomed(text: str) -> bool:
    """Whether a checkpoint of that name is being removed."""
    return text.endswith(_DOOMED) and is_leftover(text)


def doomed_of(text: str) -> Name | None:
    """The checkpoint that is being removed under this name, or None."""
    return parse_name(text.removesuffix(_DOOMED)) if text.endswith(_DOOMED) else None


def is_leftover(text: str) -> bool:
    """Whether a crash, and nothing else, can have left this behind."""
    return _LEFTOVER.fullmatch(text) is not None


def rank_tensors(rank: int) -> str:
    """The file with a rank's tensors."""
    return f"rank-{rank:05d}.safetensors"


def rank_still(rank: int) -> str:
    """The file with those tensors of a rank that do not change, if they have one of their own."""
    return f"rank-{rank:05d}.still.safetensors"


def is_tensors(file_name: str) -> bool:
    """Whether a file holds tensors."""
    return file_name.endswith(".safetensors")


def rank_json(rank: int) -> str:
    """The file with the rest of a rank's state."""
    return f"rank-{rank:05d}.json"
