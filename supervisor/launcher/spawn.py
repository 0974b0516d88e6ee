"""The launcher: one keeper per incarnation, found again after a restart.

Covers: starting keepers, taking up what an earlier daemon started, telling
starts and ends. Linux only: pidfds, OFD locks, /proc.
Does not cover: what a keeper does (keeper.py), who belongs to a job (group.py).

Every wake-up, whatever it came from, leads to one question: what do the claim,
the files and the processes say now? `_look` answers it, so a news that comes
twice, late or in another order makes no difference.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Container, Sequence
from contextlib import suppress
from pathlib import Path

from supervisor.core.jobs.job import Exit, Pid
from supervisor.errors import Refused
from supervisor.launcher import group, heirs, leftovers, linux, records, stop
from supervisor.launcher.damage import Damage
from supervisor.launcher.freezing import Freezing
from supervisor.launcher.identity import has_ended, identify, is_alive, open_process
from supervisor.launcher.keepers import Answer, ChildKeepers, FreezeAnswer, Keepers
from supervisor.launcher.left_behind import LeftBehind
from supervisor.launcher.own_groups import OwnGroups
from supervisor.launcher.reap import NOT_OURS, reap, reap_orphans
from supervisor.launcher.runs import Run
from supervisor.ports import Ended, LaunchSpec, Orphan, Started
from supervisor.set_aside import SetAside
from supervisor.system.marks import jobs_folder

__all__ = ["KeeperLauncher"]

#: A keeper that is killed before it could start the command is replaced this often.
_MAX_KEEPERS = 3
#: How often it is looked for a command that is not on record or not written down yet, and for what jobs left.
_LOOK_EVERY_MS, _PUSH_EVERY_MS = 20, 200


class KeeperLauncher:
    """Starts each command below a keeper, which outlives the daemon.

    Used by one thread. Makes the calling process a child subreaper, so that a command whose keeper is
    killed comes here and its status is not lost; and allows it more open files than commands get.
    """

    def __init__(
        self, python: str = sys.executable, *, handover_s: float = 0.0, keepers: Keepers | None = None
    ) -> None:
        """Hold back ends of commands that left processes; keepers are our children, or others start them."""
        linux.adopt_orphans()
        self._max_files = linux.allow_many_files()
        self._groups = OwnGroups()
        self._keepers = ChildKeepers(python, self._groups) if keepers is None else keepers
        self._freezing = Freezing(self._keepers)
        self.cannot_limit = self._keepers.cannot_limit
        self.handover_s = handover_s
        self._runs: dict[tuple[str, int], Run] = {}
        self._news: list[Started | Ended] = []
        self._looks = group.ProcessLooks()
        self._left = LeftBehind(self._looks)
        self._damage = Damage()
        self._epoll = select.epoll()
        self._watched: dict[int, Run | None] = {}
        #: Keepers whose word is read already and who stay for what their command left; with their folders.
        self._leaving: dict[int, Path] = {}
        self._timer = linux.open_timer()
        self._timer_ms = 0
        self._has_news = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._has_answers = self._keepers.fileno()
        for fd in (self._timer, self._has_news, self._has_answers):
            if fd is not None:
                self._watch(fd, None)

    def launch(self, spec: LaunchSpec) -> None:
        """Start an incarnation once, however often this is called; news arrive by `drain()`."""
        key = spec.job, spec.incarnation
        if key not in self._runs and (problem := leftovers.foreign(spec)):
            self._news.append(Ended(*key, Exit(error=f"cannot start: {problem}")))
            self._settle()
            return
        run = self._runs.setdefault(key, Run(*key, spec.run_dir))
        if run.process is None:
            run.spec = spec
        self._look(run)
        self._settle()

    def adopt(
        self, job: str, incarnation: int, run_dir: Path, *, journal: str = "", process: Pid | None = None
    ) -> bool:
        """Take up an incarnation after a restart; False when nothing of it was ever started.

        A process that is known and lives is, whatever became of the folder. A keeper that has not yet got to
        its claim cannot be seen; it and the next one agree between them.
        """
        key = job, incarnation
        if key not in self._runs:
            # In this order: the claim is let go only after the record is there.
            is_on_disk = records.is_claimed(run_dir) or records.has_record(run_dir)
            is_ours = not journal or records.read_owner(run_dir) in ("", journal)
            lives = process is not None and is_alive(process)
            if not (is_on_disk and is_ours) and not lives:
                return False
            if lives:
                # Removed under it, perhaps: its keeper is to write there how it ends.
                with suppress(OSError):
                    records.write_owner(run_dir, journal)
            self._runs[key] = Run(job, incarnation, run_dir, known=process if lives else None)
            self._look(self._runs[key])
            self._settle()
        return True

    def fileno(self) -> int:
        """Return a descriptor that is readable when `drain()` has something."""
        return self._epoll.fileno()

    def drain(self) -> list[Started | Ended]:
        """Return what happened since the last call; never blocks."""
        ready = [fd for fd, _ in self._epoll.poll(0)]
        awake = dict.fromkeys(self._watched[fd] for fd in ready)
        for fd in self._leaving.keys() & ready:
            reap(fd)
            self._sweep(jobs_folder(self._leaving.pop(fd)))
            self._drop(fd)
        for fd in (self._timer, self._has_news):
            with suppress(BlockingIOError):
                os.read(fd, 8)
        self._freezing.send()
        if self._timer in ready or self._left.is_new:
            self._left.push()
        if None in awake:
            awake |= dict.fromkeys(run for run in self._runs.values() if run.is_unsettled or run.is_awaited)
        for run in awake:
            if run is not None:
                self._look(run)
        # After those looks, which do not expect that a run has ended meanwhile.
        if self._has_answers in ready:
            for answer in self._keepers.answers():
                self._take(answer)
        # Commands and keepers are left to `_look`. A command that is not known yet could be any of them.
        if all(run.process is not None for run in self._runs.values()):
            known = [one for run in self._runs.values() for one in (run.process, run.keeper)]
            reap_orphans(spare={one.pid for one in known if one is not None})
        self._news += self._left.look()
        news, self._news = self._news, []
        self._settle()
        return news

    last_incarnation = staticmethod(leftovers.last_incarnation)
    left = staticmethod(leftovers.left)
    is_alive = staticmethod(is_alive)

    def orphans(self, jobs_dir: Path, known: Container[tuple[str, int]]) -> list[Orphan]:
        """Return what still runs there although nobody knows of it."""
        self._sweep(jobs_dir)
        return leftovers.orphans(jobs_dir, known)

    def aside(self) -> tuple[SetAside, ...]:
        """Return the records that make no sense and are still there."""
        return self._damage.aside()

    def signal(self, job: str, incarnation: int, number: int, *, whole_tree: bool) -> None:
        """Signal the command, or, with the next `drain`, all processes it started; no error when it is gone.

        A signal for a command that is about to start is delivered at its start.
        After the end of a command `whole_tree` still reaches what it left behind.
        """
        run = self._runs.get((job, incarnation))
        if run is None:
            if whole_tree:
                self._left.signal((job, incarnation), number)
        elif run.process is None and not (whole_tree and records.has_record(run.run_dir)):
            run.early_signals.append((number, whole_tree))
        elif whole_tree:
            self._freezing.signal(run, number)
            self._settle()
        elif run.process is not None:
            stop.send(run.process, number)

    def follow(self, job: str, incarnation: int, process: Pid) -> None:
        """Note who a training shim is in: if the command ends well before it, the start goes on with it."""
        run = self._runs.get((job, incarnation))
        if run is None:
            return
        run.shim = process
        if not run.is_handed_over:
            heirs.name(run.run_dir, process)
        self._look(run)
        self._settle()

    def end_group(self, job: str, run_dirs: Sequence[Path], *, grace_s: float) -> None:
        """End what starts of a job left: SIGTERM, after the grace time SIGKILL; returns at once."""
        self._left.end(job, run_dirs, grace_s)
        self._settle()

    def close(self) -> None:
        """Let go; the jobs go on."""
        self._freezing.send()
        self._left.push()
        processes = {run.process_fd for run in self._runs.values() if run.process_fd is not None}
        for fd in processes.union(self._watched) - {self._has_answers}:
            self._drop(fd)
        self._runs.clear()
        self._epoll.close()
        self._keepers.close()

    def _look(self, run: Run) -> None:
        """Find out where an incarnation stands, and do what follows."""
        self._check_keeper(run)
        # Asked before the files are read: what they say after the claim is free is final.
        is_kept = run.is_asked or run.keeper_fd is not None or records.is_claimed(run.run_dir)
        self._learn_process(run)
        if run.known is not None and run.keeper_fd is None:
            self._find_keeper(run)
            is_kept = is_kept or run.keeper_fd is not None
        end = self._damage.exit(run.run_dir)
        if run.process_fd is not None and end is not None and not has_ended(run.process_fd):
            # Whatever lies there, it does not end a process that lives.
            run.is_unsettled = False
            self._watch(run.process_fd, run)
        elif end is not None:
            last = heirs.after(run, end, self.handover_s, self._looks)
            if isinstance(last, Pid):
                self._hand_over(run, last)
            elif last is not None:
                self._end(run, last)
        elif is_kept:
            if run.keeper_fd is None:
                self._find_keeper(run)
            is_unheard = run.keeper_fd is None or (run.process is None and run.notice_fd is None)
            run.is_unsettled = (is_unheard and not run.is_asked) or self._is_ending(run)
        elif run.process is not None or records.has_record(run.run_dir):
            self._follow_orphan(run)
        elif run.spec is not None and run.num_keepers < _MAX_KEEPERS:
            self._spawn(run, run.spec)
        else:
            why = f"its keeper ended before it could start the command; see `{run.run_dir}`"
            self._end(run, Exit(error=f"cannot start: {why}"))

    def _hand_over(self, run: Run, heir: Pid) -> None:
        run.process, run.is_handed_over = heir, True
        heirs.name(run.run_dir, heir)
        if run.process_fd is not None:
            self._drop(run.process_fd)
        run.process_fd = open_process(run.process)
        # It may have ended this moment.
        run.is_unsettled = run.process_fd is None
        if run.process_fd is not None:
            self._watch(run.process_fd, run)
        self._news.append(Started(run.job, run.incarnation, run.process))

    def _is_ending(self, run: Run) -> bool:
        """Say whether the command has ended; its keeper writes that down, and may stay for orphans."""
        if run.process_fd is None:
            return run.process is not None
        if not has_ended(run.process_fd):
            self._watch(run.process_fd, run)
            return False
        self._unwatch(run.process_fd)
        return True

    def _check_keeper(self, run: Run) -> None:
        if run.is_unsettled and run.keeper is not None:
            stop.wake(run.keeper)
        if run.is_thaw_due or (run.is_frozen and run.process_fd is not None and has_ended(run.process_fd)):
            # A keeper that stands still with its unit cannot write down how the command ended.
            self._freezing.thaw(run)
        if run.notice_fd is not None:
            with suppress(BlockingIOError):
                os.read(run.notice_fd, 1)
                self._drop(run.notice_fd)
                run.notice_fd = None
        if run.keeper_fd is not None and has_ended(run.keeper_fd):
            reap(run.keeper_fd)
            self._drop(run.keeper_fd)
            run.keeper_fd = run.keeper = None

    def _learn_process(self, run: Run) -> None:
        if run.process is not None:
            return
        command = self._damage.process(run.run_dir)
        run.is_handed_over = run.known not in (None, command) and run.known == records.read_heir(run.run_dir)
        run.process = run.known if run.is_handed_over else command or run.known
        if run.process is None:
            return
        run.spec = None
        run.process_fd = open_process(run.process)
        self._news.append(Started(run.job, run.incarnation, run.process))
        for number, whole_tree in run.early_signals:
            self.signal(run.job, run.incarnation, number, whole_tree=whole_tree)

    def _find_keeper(self, run: Run) -> None:
        if (keeper := leftovers.keeper_of(run)) is not None:
            self._keep(run, keeper)

    def _keep(self, run: Run, keeper: Pid) -> None:
        # One that has ended keeps its number for as long as whoever inherited it does not reap it.
        if is_alive(keeper) and (fd := open_process(keeper)) is not None:
            run.keeper, run.keeper_fd = keeper, fd
            self._watch(fd, run)

    def _follow_orphan(self, run: Run) -> None:
        """Stand in for a keeper that was killed: wait for the command, and reap it if it came to us."""
        run.is_unsettled = False
        if run.process_fd is None:
            self._end(run, run.unseen_end())
        elif not has_ended(run.process_fd):
            self._watch(run.process_fd, run)
        else:
            end = reap(run.process_fd)
            # A process that is traced shows its end to the tracer first.
            run.is_unsettled = end is None
            if end is not None:
                self._end(run, run.unseen_end() if end is NOT_OURS else end)

    def _spawn(self, run: Run, spec: LaunchSpec) -> None:
        run.num_keepers += 1
        run.is_unsettled = False
        try:
            run.notice_fd, pid = self._keepers.start(spec, self._max_files)
            self._watch(run.notice_fd, run)
            run.is_asked = pid is None
            if pid is not None:
                # A child of ours: it keeps its number until we reap it.
                run.keeper, run.keeper_fd = identify(pid), os.pidfd_open(pid)
                self._watch(run.keeper_fd, run)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._end(run, Exit(error=f"cannot start: no keeper for `{spec.run_dir}`: {reason}"))
        except Refused as error:
            self._end(run, Exit(error=str(error)))

    def _take(self, answer: Answer | FreezeAnswer) -> None:
        """Go on with a keeper that somebody else has started, or end where there is none."""
        run = self._runs.get((answer.job, answer.incarnation))
        if run is None:
            return
        if isinstance(answer, FreezeAnswer):
            self._freezing.take(run, answer)
            return
        run.is_asked = False
        if answer.problem and run.process is None and not records.is_claimed(run.run_dir):
            self._end(run, Exit(error=f"cannot start: {answer.problem}"))
            return
        keeper = None if answer.pid is None else identify(answer.pid)
        # By its unit: it may be over, and the number another's.
        if run.keeper_fd is None and keeper is not None and records.is_in_unit(run.run_dir, keeper):
            self._keep(run, keeper)
        self._look(run)

    def _end(self, run: Run, end: Exit) -> None:
        ended = Ended(run.job, run.incarnation, end)
        del self._runs[run.job, run.incarnation]
        # Only while we are sure that the number of the session was not given out again.
        if run.process is not None and (run.process_fd is not None or run.num_keepers):
            self._left.note(run.run_dir, run.process, ended, run.held_at or time.monotonic())
        else:
            self._news.append(ended)
        for fd in (run.notice_fd, run.process_fd):
            if fd is not None:
                self._drop(fd)
        self._sweep(jobs_folder(run.run_dir))
        if run.keeper_fd is not None:
            self._watched[run.keeper_fd] = None
            self._leaving[run.keeper_fd] = run.run_dir

    def _sweep(self, jobs_dir: Path) -> None:
        self._groups.sweep(jobs_dir, (run.run_dir for run in self._runs.values()))

    def _settle(self) -> None:
        """Make `fileno()` readable when there are news, now or after the next look around."""
        self._news += self._left.look()
        is_due = self._left.is_new or any(run.is_to_be_looked_for for run in self._runs.values())
        if self._news or self._freezing.has_due or (is_due and self._looks.is_ready(time.monotonic())):
            os.eventfd_write(self._has_news, 1)
        is_slow = self._left.is_ending or any(run.is_awaited for run in self._runs.values())
        is_fast = any(run.is_unsettled for run in self._runs.values())
        every_ms = _LOOK_EVERY_MS if is_fast else _PUSH_EVERY_MS if is_slow else 0
        # Not set anew each time: frequent calls would put the moment off for ever.
        if every_ms != self._timer_ms:
            self._timer_ms = every_ms
            linux.set_timer(self._timer, every_ms)

    def _watch(self, fd: int, run: Run | None) -> None:
        if fd not in self._watched:
            self._epoll.register(fd, select.EPOLLIN)
        self._watched[fd] = run

    def _unwatch(self, fd: int) -> None:
        if self._watched.pop(fd, self) is not self:
            self._epoll.unregister(fd)

    def _drop(self, fd: int) -> None:
        self._unwatch(fd)
        os.close(fd)
