"""Names that no new job may take: records that cannot be read, and commands that live unknown.

Covers: why a name is taken, what to do about it, when it is free again.
Does not cover: finding them (store/, launcher/).

A second run beside one that lives would train into the same checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from supervisor.core.jobs.job import Pid
from supervisor.errors import Refused, UsageError
from supervisor.ports import Orphan
from supervisor.set_aside import SetAside

__all__ = ["Taken"]


class Taken:
    """Used from the loop's thread."""

    def __init__(self, unreadable: Mapping[str, str], orphans: Iterable[Orphan], journal: str) -> None:
        """Take jobs that cannot be read with the reason, commands that live unknown, the journal's path."""
        self._unreadable = dict(unreadable)
        self._orphans = list(orphans)
        self._journal = journal

    def check(self, name: str) -> None:
        """Raise Refused where a job of that name may not be started."""
        for one in self.aside():
            if one.name == name:
                raise Refused(f"cannot start job `{name}`: {one.why}", hint=one.hint)

    def check_readable(self, name: str) -> None:
        """Raise UsageError where there is a record under that name that makes no sense."""
        if name in self._unreadable:
            row = self._row(name, self._unreadable[name])
            raise UsageError(row.why, hint=row.hint)

    def is_unreadable(self, name: str) -> bool:
        """Say whether there is a record under that name that makes no sense."""
        return name in self._unreadable

    def free(self, name: str) -> None:
        """Take note that the record is removed."""
        del self._unreadable[name]

    def look(self, is_alive: Callable[[Pid], bool]) -> bool:
        """Let go of the commands that have ended meanwhile; say whether there were any."""
        before, self._orphans = self._orphans, [one for one in self._orphans if is_alive(one.process)]
        return len(before) != len(self._orphans)

    def aside(self) -> tuple[SetAside, ...]:
        """Return each of them, with what to do."""
        rows = [self._row(name, why) for name, why in self._unreadable.items()]
        return (*rows, *map(_process, self._orphans))

    def _row(self, name: str, why: str) -> SetAside:
        return SetAside(
            kind="row",
            name=name,
            where=self._journal,
            why=f"cannot read the record of job `{name}` in the journal `{self._journal}`: {why}",
            hint=f"`supervisorctl remove {name}` forgets it and frees the name; its checkpoints stay",
        )


def _process(orphan: Orphan) -> SetAside:
    pid = orphan.process.pid
    return SetAside(
        kind="process",
        name=orphan.job,
        where=str(orphan.run_dir),
        why=f"process {pid} still runs start {orphan.incarnation} of a job `{orphan.job}`, of which the "
        "journal does not know",
        hint=f"let it end, or end it: `kill {pid}`; until then no job of that name is started",
    )
