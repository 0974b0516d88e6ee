"""The composition root: builds the adapters, runs the loop, owns signals and the lock.

Covers: start, the one poll loop, reload, readings of the jobs, a clean end.
Does not cover: anything that decides. This module knows every other.

The loop waits in one place (`poll`). Everything else returns at once: the
journal writes in a thread of its own, processes report through descriptors.
"""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import os
import select
import sys
import time
from collections.abc import Callable

import structlog

from supervisor import __version__
from supervisor.arguments import arguments_of
from supervisor.clock import SteadyClock
from supervisor.core.jobs.events import PauseReached
from supervisor.engine import Engine
from supervisor.errors import SupervisorError
from supervisor.freezer import CudaFreezer
from supervisor.last_look import LastLook
from supervisor.launcher import HANDOVER_S, KeeperLauncher
from supervisor.monitors.checkpoints import Checkpoints
from supervisor.monitors.snapshot import MachineSampler
from supervisor.paths import Paths
from supervisor.places import check_room, check_user, full_disk, make_configuration, make_own, take_places
from supervisor.policy_loop import PolicyLoop
from supervisor.ports import JournalRow, World
from supervisor.rotation import Logs, kept_logs
from supervisor.server import requests
from supervisor.server.access import Access
from supervisor.server.event_rows import stored
from supervisor.server.request_context import RequestContext
from supervisor.server.router import Router
from supervisor.server.rows import readings
from supervisor.server.shims import ShimTable, read_receipt
from supervisor.server.user_bounds import UserBounds
from supervisor.service import ServiceManager, job_counts
from supervisor.set_aside import SetAside
from supervisor.settings.config import Config
from supervisor.settings.config_text import annotated_toml
from supervisor.settings.reload import SettingsFiles
from supervisor.signals import Signals, survive_a_closed_terminal
from supervisor.starting import keepers_of
from supervisor.store.journal import SqliteJournal
from supervisor.system import log, streams
from supervisor.system.marks import Marks
from supervisor.system.procfs import boot_id
from supervisor.watch import LOOK_S, FolderWatch

__all__ = ["Daemon", "main"]

#: Editors write a file in several steps; read it after that much quiet.
_QUIET_S = 0.2
_LONGEST_QUIET_S = 2.0

#: It is looked that often whether sockets and watched folders are still where they were.
_LISTEN_S = 5.0

#: Whoever looks into the log late is to see what is still wrong.
_AGAIN_S = 3600.0

#: Files that are read in that time are known when the daemon says that it is ready.
_FIRST_READ_S = 1.0

#: The loop looks at its clock at least that often, for clocks that jump under suspend.
_LONGEST_POLL_S = 30.0


class Daemon:
    """Everything that runs, for one set of folders. `run()` returns after a signal that asks to."""

    def __init__(self, paths: Paths, manager: ServiceManager) -> None:
        self._paths = paths
        self._manager = manager
        self._log = structlog.get_logger("daemon")
        self._lock = take_places(paths)
        self._folders = make_configuration(paths)
        self.signals = Signals()
        self._num_errors = 0
        self._journal = SqliteJournal(paths.journal)
        newest = self._journal.history(after_seq=-1, job=None, limit=1)
        last_at = newest[0].at if newest else 0.0
        self._clock = SteadyClock(self._journal.facts(), boot_id=boot_id(), not_before=last_at)
        self._access = Access(serves_all=paths.serves_all)
        self._bounds = UserBounds(self._access.is_bounded)
        mode = 0o666 if paths.serves_all else 0o600
        self._router = Router(paths.control_endpoint, paths.events_endpoint, mode=mode, bounds=self._bounds)
        self._shims = ShimTable(self._router.send, self._clock, Marks(paths.jobs_state_dir))
        keepers = keepers_of(paths, is_service=self._manager.is_there)
        self._launcher = KeeperLauncher(handover_s=HANDOVER_S, keepers=keepers)
        self._freezer = CudaFreezer()
        world = World(self._clock, self._journal, self._launcher, self._shims, self._freezer, self._receipt)
        look, sampler = LastLook(), MachineSampler(jobs=paths.jobs_state_dir)
        self._engine = Engine(world, paths, look, on_stored=self._on_stored)
        self._policy_loop = PolicyLoop(self._engine, sampler, self._clock, self._journal, look)
        self._settings = SettingsFiles(paths, self._engine, self._set_config)
        self._checkpoints = Checkpoints()
        self._logs = Logs()
        self._are_all_logs_due = True
        self._watch = FolderWatch([paths.config_dir, paths.jobs_dir])
        self._context = RequestContext(
            engine=self._engine,
            router=self._router,
            shims=self._shims,
            journal=self._journal,
            policy_loop=self._policy_loop,
            clock=self._clock,
            paths=paths,
            readings={},
            gone=frozenset(),
            alerts=self._alerts,
            aside=self._aside,
            reload=self._read_again,
            started_wall=time.time(),
            pid=os.getpid(),
            access=self._access,
            starts_others=keepers is not None and os.geteuid() == 0,
        )
        self._read_files_at: float | None = None
        self._read_files_by = 0.0
        self._listen_at = self._look_at = 0.0
        #: Steady clock when each alert was logged last, by its text.
        self._told: dict[str, float] = {}
        self._is_cut_off = False
        self._are_counts_due = True
        self._full_disk: SetAside | None = None
        self._poller = select.poll()
        sources = (self._router, self._journal, self._launcher, self._freezer, self._watch, self._policy_loop)
        for fd in (self.signals.fileno(), *(source.fileno() for source in sources)):
            self._poller.register(fd, select.POLLIN)

    def run(self) -> None:
        """Serve until asked to stop; jobs go on without us."""
        self._engine.remember(self._clock.facts)
        self._engine.recover()
        self._settings.begin()
        read_by = time.monotonic() + _FIRST_READ_S
        while self._settings.next_at is not None and time.monotonic() < read_by:
            self._settings.turn()
        self._log.info(
            "ready", version=__version__, home=str(self._paths.state_dir), jobs=len(self._engine.jobs)
        )
        self._engine.stage()
        self._manager.ready()
        self._show_counts()
        while not self.signals.is_end_asked:
            ready = dict(self._poller.poll(self._timeout_ms()))
            try:
                self._turn(ready)
            except Exception:  # noqa: BLE001  # one of the few places that may: the engine's tick
                self._num_errors += 1
                self._log.exception("turn-failed", total=self._num_errors)
                # The same input would be ready again at once: do not spin on it.
                time.sleep(0.05)
            # Also after a round that failed: that is told, and being killed for it would mend nothing.
            self._manager.feed()
            if self._are_counts_due:
                self._show_counts()
        self._manager.stopping()
        self._log.info("stopped", jobs_left_running=sum(job.alive for job in self._engine.jobs.values()))

    def close(self) -> None:
        """Store what is not stored yet and let go of everything, also where one thing cannot be let go of."""
        with contextlib.ExitStack() as last:
            # Called from the last one to the first.
            last.callback(os.close, self._lock)
            for part in (self.signals, self._freezer, self._launcher, self._router, self._journal):
                last.callback(part.close)
            last.callback(self._engine.stage)
            last.callback(self._shims.settle, self._engine)
            for source in (self._logs, self._checkpoints, self._policy_loop, self._watch):
                last.callback(source.close)

    def _turn(self, ready: dict[int, int]) -> None:
        if self.signals.fileno() in ready:
            self.signals.drain()
        if self.signals.is_reload_asked:
            self._reload()
        if self._watch.fileno() in ready:
            self._take_change(self._clock.now())
        # First who has ended, then what people and shims say, so that nobody speaks for a dead process.
        if self._launcher.fileno() in ready:
            self._engine.take_launcher_news()
        if self._freezer.fileno() in ready:
            self._engine.take_freezer_news()
        if self._router.fileno() in ready or self._router.has_more():
            for delivery in self._router.receive():
                requests.take(self._context, delivery)
        self._shims.turn(self._engine)
        now = self._clock.now()
        if self._read_files_at is not None and now >= self._read_files_at:
            self._read_files_at = None
            self._watch.refresh()
            self._settings.begin()
        self._settings.turn()
        self._look_at_folders(now)
        try:
            self._look_after(ready)
        finally:
            # Whatever is wrong with a reading or a rule, what was asked and told goes on.
            if self._journal.fileno() in ready:
                self._journal.acknowledge()
            # Settle before stage: what an effect brings to light goes into this turn's batch.
            self._engine.settle()
            self._engine.stage()
            self._context.tell_unstored()
            self._context.tell_watchers()

    def _take_change(self, now: float) -> None:
        """Have the files read after a moment of quiet; whoever goes on writing delays that little."""
        self._watch.drain()
        if self._read_files_at is None:
            self._read_files_by = now + _LONGEST_QUIET_S
        self._read_files_at = min(now + _QUIET_S, self._read_files_by)

    def _look_at_folders(self, now: float) -> None:
        """See what nobody tells: files that were taken away or changed, commands that are over."""
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self._watch.look()
            self._look_at_logs()
        if now >= self._listen_at:
            self._listen_at = now + _LISTEN_S
            self._router.look_after()
            self._keep_listening()
            self._journal.look()
            self._full_disk = full_disk(self._paths.state_dir)
            self._context.is_full = self._full_disk is not None
            self._context.gone = self._checkpoints.gone(self._engine.jobs.values(), at=now)
            if self._watch.refresh():
                self._read_files_at = now
            if self._engine.look_for_orphans():
                # A job of that name may be started now.
                self._read_files_at = now
            self._tell_alerts(now)

    def _look_at_logs(self) -> None:
        """Have the logs kept short that may have grown; all of them where limits may be others now."""
        jobs = self._engine.jobs
        growing = {*self._engine.present, *self._context.left, *self._logs.troubled()}
        chosen = [jobs[name] for name in (jobs if self._are_all_logs_due else growing) if name in jobs]
        if self._logs.keep(kept_logs(chosen, self._engine.config.jobs, self._paths)):
            self._are_all_logs_due = False

    def _reload(self) -> None:
        """Do as SIGHUP asks."""
        self.signals.is_reload_asked = False
        self._manager.reloading()
        self._read_again(self._reloaded)

    def _reloaded(self, problems: tuple[SetAside, ...]) -> None:
        self._log.info("reloaded", problems=len(problems))
        self._manager.ready()

    def _read_again(
        self, then: Callable[[tuple[SetAside, ...]], None], meanwhile: Callable[[int], None] = lambda _: None
    ) -> None:
        """Read all files again, and make logs anew that lost their name; then calls with what is wrong."""
        self._logs.reopen()
        self._settings.begin(then, meanwhile)

    def _keep_listening(self) -> None:
        """Come back where the run folder was taken away: /run/user/UID goes with its user's last login."""
        if not self._router.is_cut_off():
            return
        try:
            make_own(self._paths.run_dir, for_sockets=True, is_open=self._paths.serves_all)
            if os.fstat(self._lock).st_nlink == 0:  # It holds a file that nobody finds any more.
                before, self._lock = self._lock, take_places(self._paths)
                os.close(before)
            self._router.listen()
        except SupervisorError as error:
            if not self._is_cut_off:
                self._log.error("cut-off", problem=str(error))
            self._is_cut_off = True
        else:
            self._is_cut_off = False
            self._log.warning("listening-again", folder=str(self._paths.run_dir))

    def _tell_alerts(self, now: float) -> None:
        """Log what is new, and again every hour what stays so."""
        alerts = self._alerts()
        self._told = {alert: at for alert, at in self._told.items() if alert in alerts}
        for alert in alerts:
            if now - self._told.get(alert, -_AGAIN_S) >= _AGAIN_S:
                self._told[alert] = now
                self._log.warning("alert", problem=alert)

    def _look_after(self, ready: dict[int, int]) -> None:
        if self._policy_loop.fileno() in ready:
            self._policy_loop.wake()
        if self._policy_loop.turn():
            self._context.readings = readings(self._policy_loop.sample)
            self._context.left = self._policy_loop.sample.left if self._policy_loop.sample is not None else {}

    def _timeout_ms(self) -> int:
        if self._router.has_more():
            return 0
        now = self._clock.now()
        file_at = self._settings.next_at
        moments = [
            self._engine.next_due(),
            self._shims.next_due(),
            self._read_files_at,
            None if file_at is None else now + file_at - time.monotonic(),
            self._look_at,
            self._policy_loop.next_at(),
        ]
        wait_s = min(
            *(at - now for at in moments if at is not None),
            *(self._manager.feed_in_s(), self._router.wait_s(), _LONGEST_POLL_S),
        )
        # Rounded up: a poll that wakes just before the moment would spin.
        return int(max(0.0, wait_s) * 1000) + 1

    def _show_counts(self) -> None:
        self._are_counts_due = False
        self._manager.show(job_counts(job.state for job in self._engine.present.values()))

    def _on_stored(self, row: JournalRow) -> None:
        self._are_counts_due = True
        event = stored(row)
        self._router.publish(lambda peer: self._context.views.event(peer, event))
        self._context.mark_changed(row.job)
        # One that was started by hand is taken up in the same moment in which its job is made.
        present = self._engine.find(row.job)
        if present is None or not present.alive:
            self._shims.forget(row.job)
        if row.after is None:
            self._shims.drop(row.job)

    def _receipt(self, job: str, incarnation: int) -> PauseReached | None:
        return read_receipt(self._paths.incarnation_dir(job, incarnation))

    def _set_config(self, config: Config) -> None:
        self._engine.config = config
        self._are_all_logs_due = True
        self._shims.config = config.shim
        self._launcher.handover_s = min(HANDOVER_S, config.jobs.start_grace_s)
        self._policy_loop.configure(config)
        self._access.configure(config.rights)
        self._context.max_jobs = config.users.max_jobs
        self._bounds.config, self._bounds.heartbeat_s = config.users, config.shim.heartbeat_s
        log.set_level(config.daemon.log_level)

    def _aside(self) -> tuple[SetAside, ...]:
        # The journal's own word says as much.
        full = () if self._full_disk is None or self._journal.problem() else (self._full_disk,)
        parts = (full, self._settings.problems, self._journal.aside(), self._engine.aside())
        return (*self._folders, *itertools.chain(*parts), *self._launcher.aside(), *self._watch.aside)

    def _alerts(self) -> tuple[str, ...]:
        alerts = [*map(str, self._aside()), self._journal.problem(), self._journal.record_problem()]
        alerts += [*self._router.alerts(), *self._policy_loop.alerts(), *self._logs.problems()]
        alerts += self._access.alerts()
        if self._num_errors:
            alerts.append(f"{self._num_errors} internal errors since the start; the daemon's log has them")
        return tuple(alert for alert in alerts if alert)


def main(argv: list[str] | None = None) -> int:
    """Run the daemon in the foreground until SIGTERM or Ctrl-C; a terminal that is closed does not end it."""
    survive_a_closed_terminal()
    streams.fill_in()
    arguments = arguments_of(argv)
    if arguments.print_config:
        sys.stdout.write(annotated_toml())
        return 0
    # A watchdog's SIGABRT tells where it hung.
    faulthandler.enable()
    writer = log.set_up()
    # First: job files take our environment as a base.
    manager = ServiceManager(os.environ)
    try:
        check_room()
        paths = Paths.find(arguments.home, system=arguments.system)
        check_user(paths)
        daemon = Daemon(paths, manager)
    except SupervisorError as error:
        manager.cannot_start(f"{error}; {error.hint}")
        sys.stderr.write(f"error: {error}\n\nhint: {error.hint}\n")
        return error.exit_code

    try:
        daemon.signals.heed()
        daemon.run()
    finally:
        daemon.close()
        writer.close()
    return 0
