"""Control groups below our own: a machine within the machine, where nobody else's load shows.

Covers: groups of version 1, their limits, and that none is left behind, by those who were killed either; who
stands still.
Used by benchmarks, too.
Does not cover: version 2, which gives no limits to a group beside processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from supervisor.system.procfs import read_stat
from tests.harness import until

__all__ = ["group", "group_problem", "limited", "stands_still"]

_ROOT = Path("/sys/fs/cgroup")


@contextmanager
def group(name: str, limits: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[str, ...]]:
    """Yield words which, put before a command, run it within limits, told by controller and file.

    At the end all such commands must have ended. Raises OSError where no such group can be made.
    """
    with ExitStack() as stack:
        folders = [stack.enter_context(limited(name, *item)) for item in limits.items()]
        enter = " ".join(f"echo $$ > {folder}/cgroup.procs &&" for folder in folders)
        yield ("sh", "-c", f'{enter} exec "$@"', "sh")


def stands_still(pid: int) -> bool:
    """Say whether a process is stopped: by a signal, or with its control group of version 2."""
    stat = read_stat(pid)
    group = Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").rpartition("0::/")[2].strip()
    events = [place / group / "cgroup.events" for place in (_ROOT, _ROOT / "unified")]
    is_frozen = any("frozen 1" in file.read_text(encoding="ascii") for file in events if file.exists())
    return is_frozen or (stat is not None and stat.state == "T")


def group_problem(limits: Mapping[str, Mapping[str, int]]) -> str:
    """Return why no such group can be made, or ""."""
    try:
        with group("try", limits):
            return ""
    except OSError as error:
        return str(error)


@contextmanager
def limited(
    name: str, controller: str, limits: Mapping[str, int | str], *, below: str = ""
) -> Iterator[Path]:
    """Yield the folder of a group within limits, told by file, of one controller; as for `group`.

    With `below`, of one of that name in it, which has the limits.
    """
    parent = _ROOT / controller / _own(controller)
    _sweep(parent, name)
    outer = parent / f"ts-{name}-{os.getpid()}"
    folder = outer / below
    folder.mkdir(parents=True)
    try:
        for file, limit in limits.items():
            (folder / file).write_text(str(limit), encoding="ascii")
        yield folder
    finally:
        for place in dict.fromkeys((folder, outer)):
            until(lambda place=place: _is_removed(place), f"{place} to be empty")


def _own(controller: str) -> str:
    """Return the path of the group that we are in."""
    for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return path.lstrip("/")
    raise FileNotFoundError(2, f"the controller {controller} is not of version 1")


def _sweep(parent: Path, name: str) -> None:
    """Remove what was left by those that were killed."""
    for folder in parent.glob(f"ts-{name}-*"):
        if not Path("/proc", folder.name.rpartition("-")[2]).exists():
            for inner in folder.glob("*/"):
                _is_removed(inner)
            _is_removed(folder)


def _is_removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True
