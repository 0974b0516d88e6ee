"""All processes of the machine by number, and which of them belong to which job.

Covers: the trees below given roots, what each has used up and holds, the names
of the others. Linux only.
Does not cover: which programs rules ask for (programs.py), GPUs.

A reading lists /proc once and looks closer only at numbers that are new, and at
those of jobs. That is what makes it cheap: the other way, from each process
through the `children` of all its threads, costs more for one training process
with its 64 threads than the list of 400 processes does.

A process that was seen in a tree stays in it when its parent ends, and when the
job's command does. One that was never seen with its parent is found by its
session where the job's command leads one, and else by the mark in its
environment; one that left all three is missed: it shows as foreign.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from supervisor.core.jobs.job import Pid
from supervisor.core.readings.sample import Left
from supervisor.system.marks import Marks
from supervisor.system.procfs import boot_id

__all__ = ["Processes", "Usage"]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

_FILE_PAGES = b"\nRssFile:"

#: After that long without a look, a number may have been given out again: all are looked at anew.
_FORGET_S = 10.0

#: Of what a job left so many are named, the largest first.
_MAX_LEFT = 10


class Usage(msgspec.Struct, frozen=True):
    """What a tree of processes has used up and holds at one moment."""

    #: CPU time that only grows: of the living, of those they have waited for, of the vanished as last seen.
    cpu_s: float
    #: What their end gives back, and a start needs: resident memory without pages of files. Those count as
    #: available to everybody anyway, and of the libraries of CUDA or a mapped data set there may be many.
    rss_bytes: int
    num_processes: int
    #: CPU time by the control group of its present start (group_counters.py); None: none counts it.
    group_cpu_s: float | None = None

    def cpu_since(self, before: Usage | None) -> float:
        """Return the CPU time since a reading before; None: since the start.

        Both counters miss some: /proc what lived and died in between, a group who is outside of it.
        """
        used_s = self.cpu_s - (before.cpu_s if before else 0.0)
        if self.group_cpu_s is None or (before and before.group_cpu_s is None):
            return used_s
        return max(used_s, self.group_cpu_s - ((before and before.group_cpu_s) or 0.0))


class _Stat(msgspec.Struct):
    """The part of /proc/PID/stat that is needed here."""

    comm: str
    state: str
    parent: int
    session: int
    #: Clock ticks in user and kernel mode; and the same of all children that were waited for.
    own_ticks: int
    waited_ticks: int
    start_ticks: int
    rss_pages: int


@dataclass
class _Process:
    parent: int
    session: int
    start_ticks: int
    comm: str
    #: The job that its environment names, or "".
    mark: str = ""
    #: The job in whose tree it is, or "": foreign.
    owner: str = ""
    rss_pages: int = 0
    own_ticks: int = 0
    waited_ticks: int = 0


@dataclass
class _Tree:
    #: The process of the command; None: it has ended, and this is what it left.
    root: Pid | None = None
    pids: set[int] = field(default_factory=set)
    cpu_ticks: int = 0
    #: Clock ticks that processes which vanished since the last reading had used when last seen.
    vanished_ticks: int = 0
    is_new: bool = True


class Processes:
    """For one thread; costs some 0.5 us a process of the machine and 15 us one of a job."""

    def __init__(self, *, proc: Path = Path("/proc"), jobs: Path | None = None) -> None:
        """`jobs` is the folder that marks lie below; without one they are not looked for."""
        self._proc = str(proc)
        self._marks = None if jobs is None else Marks(jobs, proc=proc)
        self._boot_id = boot_id(proc)
        self._known: dict[int, _Process] = {}
        self._trees: dict[str, _Tree] = {}
        self._read_at = float("-inf")

    def read(self, roots: Mapping[str, Pid], *, at: float) -> dict[str, Usage]:
        """Return what each job's tree uses now, also what jobs left whose root has ended."""
        if at - self._read_at > _FORGET_S:
            self._known = {pid: process for pid, process in self._known.items() if process.owner}
        self._read_at = at
        try:
            names = os.listdir(self._proc)  # noqa: PTH208  # A Path each costs more.
        except OSError:  # No descriptor is left, which the sockets tell: nothing is known this time.
            return {}
        pids = {int(name) for name in names if name.isdecimal()}
        for pid in self._known.keys() - pids:
            self._lose(pid)
        new = [pid for pid in pids - self._known.keys() if self._meet(pid)]
        if self._set_roots(roots):
            new = list(self._known)
        roots_by_pid = {
            tree.root.pid: (tree.root, name) for name, tree in self._trees.items() if tree.root is not None
        }
        for pid in new:
            self._own(pid, roots_by_pid)
        usages = {name: self._usage(tree) for name, tree in self._trees.items()}
        return {name: usage for name, usage in usages.items() if usage is not None}

    def owner(self, pid: int) -> str:
        """Return the job that a process belonged to at the last reading, or ""."""
        process = self._known.get(pid)
        return process.owner if process is not None else ""

    def left(self) -> dict[str, tuple[Left, ...]]:
        """Return what the commands that have ended left running, by job; as of the last reading."""
        found = {}
        for name, tree in self._trees.items():
            if tree.pids and (tree.root is None or tree.root.pid not in tree.pids):
                shown = ((pid, self._known[pid]) for pid in tree.pids)
                rows = [Left(pid, one.comm, one.rss_pages * _PAGE_BYTES) for pid, one in shown]
                found[name] = tuple(sorted(rows, key=lambda row: (-row.rss_bytes, row.pid))[:_MAX_LEFT])
        return found

    def foreign(self) -> dict[int, str]:
        """Return the names of all processes that belong to no job, as first seen."""
        return {pid: process.comm for pid, process in self._known.items() if not process.owner}

    def _meet(self, pid: int) -> bool:
        stat = self._stat(pid)
        if stat is None:
            return False
        start = self._marks.of(pid) if self._marks is not None else None
        mark = start.job if start is not None else ""
        self._known[pid] = _Process(stat.parent, stat.session, stat.start_ticks, stat.comm, mark)
        return True

    def _lose(self, pid: int) -> None:
        process = self._known.pop(pid)
        tree = self._trees.get(process.owner)
        if tree is not None:
            tree.pids.discard(pid)
            tree.vanished_ticks += process.own_ticks + process.waited_ticks

    def _set_roots(self, roots: Mapping[str, Pid]) -> bool:
        """Take up new roots and drop old ones; say whether there are new ones.

        Whoever belonged to a job goes on to when its command is over.
        """
        for name, tree in list(self._trees.items()):
            if roots.get(name) != tree.root:
                tree.root = None
            if tree.root is None and not tree.pids:
                del self._trees[name]
        has_new = False
        for name, root in roots.items():
            process = self._known.get(root.pid)
            tree = self._trees.get(name, _Tree())
            if tree.root is not None or process is None:
                continue
            if root.boot_id == self._boot_id and process.start_ticks == root.start_ticks:
                tree.root = root
                self._trees[name] = tree
                has_new = True
        return has_new

    def _own(self, pid: int, roots: Mapping[int, tuple[Pid, str]]) -> None:
        """Find out whose a process is: by its parents, its session where a root leads it, its mark."""
        process = self._known[pid]
        lineage: list[int] = []
        owner = ""
        while not owner and pid not in lineage:
            lineage.append(pid)
            owner = process.owner or _led_by(roots, pid, process) or process.mark
            parent = self._known.get(process.parent)
            # A parent that is younger than its child is somebody else under that number.
            if owner or parent is None or parent.start_ticks > process.start_ticks:
                break
            pid, process = process.parent, parent
        if owner:
            for one in lineage:
                self._known[one].owner = owner
                self._trees.setdefault(owner, _Tree()).pids.add(one)

    def _usage(self, tree: _Tree) -> Usage | None:
        used = waited = rss_pages = num_processes = 0
        for pid in list(tree.pids):
            stat = self._stat(pid)
            process = self._known[pid]
            if stat is None or stat.start_ticks != process.start_ticks:
                self._lose(pid)
                continue
            used += max(0, stat.own_ticks - process.own_ticks)
            waited += max(0, stat.waited_ticks - process.waited_ticks)
            process.own_ticks, process.waited_ticks = stat.own_ticks, stat.waited_ticks
            process.comm, process.rss_pages = stat.comm, max(0, stat.rss_pages - self._file_pages(pid))
            rss_pages += process.rss_pages
            num_processes += stat.state not in "ZX"
        if not num_processes:
            return None
        if tree.is_new:
            tree.cpu_ticks = used + waited
        else:
            # Who waits for a child takes over all its time, also what was counted before. What a child
            # that nobody waits for had used is not taken back: time that was used does not become less.
            tree.cpu_ticks += used + max(0, waited - tree.vanished_ticks)
        tree.is_new = False
        tree.vanished_ticks = 0
        return Usage(tree.cpu_ticks / _TICKS_PER_S, rss_pages * _PAGE_BYTES, num_processes)

    def _stat(self, pid: int) -> _Stat | None:
        """Return who this is; None when it is gone, or when we may not know."""
        try:
            return _parse(self._read(pid, "stat"))
        # The last two: the kernel writes it in another form than the one that is known here.
        except (OSError, ValueError, IndexError):
            return None

    def _file_pages(self, pid: int) -> int:
        """Return how many resident pages are those of files; 0 where the kernel does not tell."""
        try:
            text = self._read(pid, "status")
            at = text.index(_FILE_PAGES) + len(_FILE_PAGES)
            return int(text[at : text.index(b"kB", at)]) * 1024 // _PAGE_BYTES
        except (OSError, ValueError):
            return 0

    def _read(self, pid: int, name: str) -> bytes:
        fd = os.open(f"{self._proc}/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, 8192)
        finally:
            os.close(fd)


def _led_by(roots: Mapping[int, tuple[Pid, str]], pid: int, process: _Process) -> str:
    """Return the job whose root this is, or leads its session. Numbers are given out again."""
    root, name = roots.get(pid, (None, ""))
    if root is not None and root.start_ticks == process.start_ticks:
        return name
    root, name = roots.get(process.session, (None, ""))
    # A number is not given out again while it names a session.
    is_led = root is not None and process.session != pid and root.start_ticks <= process.start_ticks
    return name if is_led else ""


def _parse(text: bytes) -> _Stat:
    """Return the fields; the name may itself hold spaces, newlines and parentheses."""
    end = text.rindex(b")")
    fields = text[end + 1 :].split()
    return _Stat(
        comm=text[text.index(b"(") + 1 : end].decode("utf-8", "replace"),
        state=fields[0].decode("ascii", "replace"),
        parent=int(fields[1]),
        session=int(fields[3]),
        own_ticks=int(fields[11]) + int(fields[12]),
        waited_ticks=int(fields[13]) + int(fields[14]),
        start_ticks=int(fields[19]),
        rss_pages=int(fields[21]),
    )
