"""What the engine relies on. Runs against every launcher, the fake included.

Covers: starting once, adopting, ends, signals, being told.
Does not cover: what is killed from outside (tests/crash/test_keeper.py), what
a command finds when it starts (tests/integration/test_launched_commands.py).
"""

import select
import signal

import msgspec
import pytest

from supervisor.core.jobs.job import Exit
from supervisor.core.jobs.treatment import JobLimits
from supervisor.ports import Ended, Orphan, Started
from tests.fakes.launcher_worlds import (
    DEAF,
    FakeWorld,
    RealWorld,
    UnitWorld,
    ended,
    ends_of,
    started,
    until,
    until_true,
)


@pytest.fixture(params=[RealWorld, UnitWorld, FakeWorld], ids=["real", "unit", "fake"])
def world(request, tmp_path):
    world = request.param(tmp_path)
    yield world
    world.clean_up()


@pytest.fixture
def launcher(world):
    launcher = world.launcher()
    yield launcher
    launcher.close()


def until_still(world, launcher, process):
    """Wait for that; what is asked of systemd is told to the launcher."""
    until_true(lambda: launcher.drain() == [] and world.stands_still(process))


class TestEveryLauncher:
    @pytest.mark.parametrize("code", [0, 3])
    def test_a_command_is_told_to_have_started_and_to_have_ended(self, world, launcher, code):
        """
        Started comes once, with a process that lives; Ended once, with the true
        exit code and no live process.
        """
        spec = world.spec()
        launcher.launch(spec)
        process = started(launcher).process
        was_alive = launcher.is_alive(process)
        world.finish(spec, code)

        assert until(launcher, ends_of) == [Ended("job-1", 1, Exit(code=code))]
        assert was_alive
        assert not launcher.is_alive(process)

    def test_nothing_is_told_while_nothing_happens(self, world, launcher):
        """
        A drain without news returns nothing, and the descriptor is quiet then.
        """
        launcher.launch(world.spec())
        started(launcher)
        until_true(lambda: not select.select([launcher], [], [], 0)[0] or launcher.drain())

        assert launcher.drain() == []
        assert select.select([launcher], [], [], 0)[0] == []

    def test_launching_twice_starts_once(self, world, launcher):
        """
        However often one incarnation is launched, also after its end, its
        command runs once.
        """
        spec = world.spec()
        launcher.launch(spec)
        launcher.launch(spec)
        started(launcher)
        launcher.launch(spec)
        world.finish(spec, 0)
        ended(launcher)
        launcher.launch(spec)

        assert ended(launcher) == Ended("job-1", 1, Exit(code=0))
        assert world.num_starts(spec) == 1

    def test_the_next_daemon_launching_again_starts_nothing(self, world, launcher):
        """
        A daemon that was killed after it launched may leave it to the next one
        to launch again: the running command is found instead.
        """
        spec = world.spec()
        launcher.launch(spec)
        first = started(launcher)
        second_daemon = world.launcher()
        second_daemon.launch(spec)

        assert started(second_daemon) == first
        world.finish(spec, 3)
        assert ended(second_daemon).exit == Exit(code=3)
        assert world.num_starts(spec) == 1
        second_daemon.close()

    def test_a_keeper_that_comes_late_starts_nothing(self, world):
        """
        The daemon was killed right after it launched, and the next one launched
        again: when the first keeper wakes up at last, it goes away.
        """
        spec = world.spec()
        killed_daemon = world.launcher(slow=True)
        killed_daemon.launch(spec)
        killed_daemon.close()
        daemon = world.launcher()
        was_adopted = daemon.adopt(spec.job, spec.incarnation, spec.run_dir)
        daemon.launch(spec)
        first = started(daemon)
        world.release()
        world.finish(spec, 3)

        assert not was_adopted
        assert ended(daemon) == Ended("job-1", 1, Exit(code=3))
        assert world.num_starts(spec) == 1
        assert not daemon.is_alive(first.process)
        daemon.close()

    def test_a_keeper_that_comes_after_the_end_starts_nothing(self, world):
        """
        A claim that is free again is no leave to run what is on record.
        """
        spec = world.spec()
        late_daemon = world.launcher(slow=True)
        late_daemon.launch(spec)
        daemon = world.launcher()
        daemon.launch(spec)
        started(daemon)
        world.finish(spec, 3)
        ended(daemon)
        world.release()

        assert ended(late_daemon) == Ended("job-1", 1, Exit(code=3))
        assert world.num_starts(spec) == 1
        daemon.close()
        late_daemon.close()

    def test_a_signal_finds_a_command_that_is_long_in_starting(self, world):
        """
        Nothing is told before the keeper has got to its work, and nothing that
        was asked meanwhile is forgotten.
        """
        spec = world.spec()
        daemon = world.launcher(slow=True)
        daemon.launch(spec)
        early = daemon.drain()
        daemon.signal(spec.job, spec.incarnation, signal.SIGTERM, whole_tree=False)
        world.release()

        assert early == []
        assert ended(daemon).exit == Exit(signal=signal.SIGTERM)
        daemon.close()

    def test_incarnations_and_jobs_are_apart(self, world, launcher):
        """
        Each incarnation of each job has its own command and its own end.
        """
        specs = [world.spec("a", 1), world.spec("a", 2), world.spec("b", 1)]
        for spec in specs:
            launcher.launch(spec)
        until(launcher, lambda news: len(news) == 3)
        launcher.signal("a", 1, signal.SIGKILL, whole_tree=False)
        assert ended(launcher) == Ended("a", 1, Exit(signal=9))
        world.finish(specs[1], 2)
        assert ended(launcher) == Ended("a", 2, Exit(code=2))
        world.finish(specs[2], 1)
        assert ended(launcher) == Ended("b", 1, Exit(code=1))

    def test_what_was_never_started_cannot_be_adopted(self, world, launcher):
        """
        The engine learns that it has to launch, and may do so.
        """
        spec = world.spec()

        assert not launcher.adopt(spec.job, spec.incarnation, spec.run_dir)
        launcher.launch(spec)
        started(launcher)
        until_true(lambda: world.num_starts(spec) == 1)

    @pytest.mark.parametrize(("job", "folder"), [("job-1", "job-1"), ("ada/night", "@ada/night")])
    def test_what_runs_is_found_by_its_folder(self, world, launcher, job, folder):
        """
        A daemon whose journal was lost learns what is there: the last number that was used, and what lives.
        """
        jobs_dir = world.tmp_path / "jobs"
        run_dir = jobs_dir / folder / "run-3"
        run_dir.parent.mkdir(parents=True)
        spec = msgspec.structs.replace(world.spec(incarnation=3, run_dir=run_dir), job=job)
        before = launcher.last_incarnation(run_dir.parent), launcher.left(jobs_dir)
        launcher.launch(spec)
        process = started(launcher).process

        assert (0, {}) == before
        assert 3 == launcher.last_incarnation(run_dir.parent)
        assert [Orphan(job, 3, process, run_dir)] == launcher.orphans(jobs_dir, ())
        assert [] == launcher.orphans(jobs_dir, {(job, 3)})
        assert {job: {3}} == launcher.left(jobs_dir)
        world.finish(spec, 0)
        ended(launcher)
        assert [] == launcher.orphans(jobs_dir, ())
        until_true(lambda: not launcher.left(jobs_dir))
        assert 3 == launcher.last_incarnation(run_dir.parent)

    def test_a_shim_in_the_command_itself_changes_nothing(self, world, launcher):
        """
        It ends once, with its own exit code; to follow what is not there is no error.
        """
        spec = world.spec()
        launcher.launch(spec)
        process = started(launcher).process
        launcher.follow(spec.job, spec.incarnation, process)
        launcher.follow("nobody", 1, process)
        world.finish(spec, 4)

        assert ended(launcher) == Ended("job-1", 1, Exit(code=4))

    def test_a_running_command_is_adopted(self, world, launcher):
        """
        After a restart of the daemon the start is told again, and the end comes
        with its true status.
        """
        spec = world.spec()
        launcher.launch(spec)
        first = started(launcher)
        next_daemon = world.launcher()

        assert next_daemon.adopt(spec.job, spec.incarnation, spec.run_dir)
        assert next_daemon.adopt(spec.job, spec.incarnation, spec.run_dir)
        assert started(next_daemon) == first
        until_true(lambda: not select.select([next_daemon], [], [], 0)[0])
        world.finish(spec, 7)
        assert until(next_daemon, ends_of) == [Ended("job-1", 1, Exit(code=7))]
        next_daemon.close()

    def test_an_end_that_the_daemon_missed_is_told(self, world):
        """
        A command that ended while no daemon ran is told with start and end.
        """
        spec = world.spec()
        first_daemon, watcher = world.launcher(), world.launcher()
        first_daemon.launch(spec)
        first = started(first_daemon)
        first_daemon.close()
        watcher.adopt(spec.job, spec.incarnation, spec.run_dir)
        world.finish(spec, 3)
        ended(watcher)
        watcher.close()
        next_daemon = world.launcher()

        assert next_daemon.adopt(spec.job, spec.incarnation, spec.run_dir)
        assert until(next_daemon, ends_of) == [first, Ended("job-1", 1, Exit(code=3))]
        next_daemon.close()

    def test_closing_leaves_the_command_alone(self, world):
        """
        A daemon that ends does not end a job.
        """
        spec = world.spec()
        daemon = world.launcher()
        daemon.launch(spec)
        process = started(daemon).process
        daemon.close()
        next_daemon = world.launcher()

        assert next_daemon.is_alive(process)
        next_daemon.close()

    def test_a_command_that_cannot_start_says_why(self, world, launcher):
        """
        There is an end with a reason, no start, and the same after a restart.
        """
        spec = world.spec(cwd=str(world.tmp_path / "gone"))
        reason = f"cannot start: there is no working directory `{spec.cwd}`; make it, or name another"
        launcher.launch(spec)

        assert until(launcher, bool) == [Ended("job-1", 1, Exit(error=reason))]
        next_daemon = world.launcher()
        assert next_daemon.adopt(spec.job, spec.incarnation, spec.run_dir)
        assert until(next_daemon, bool) == [Ended("job-1", 1, Exit(error=reason))]
        assert world.num_starts(spec) == 0
        next_daemon.close()

    @pytest.mark.parametrize("whole_tree", [False, True])
    def test_a_signal_ends_a_command(self, world, launcher, whole_tree):
        """
        The end tells which signal it was.
        """
        launcher.launch(world.spec())
        started(launcher)
        launcher.signal("job-1", 1, signal.SIGTERM, whole_tree=whole_tree)

        assert ended(launcher).exit == Exit(signal=signal.SIGTERM)

    def test_a_deaf_command_hears_only_the_last_word(self, world, launcher):
        """
        SIGTERM may be ignored; SIGKILL may not.
        """
        spec = world.spec(script=DEAF)
        launcher.launch(spec)
        process = started(launcher).process
        until_true(lambda: world.num_starts(spec))
        launcher.signal("job-1", 1, signal.SIGTERM, whole_tree=False)
        survived = launcher.is_alive(process)
        launcher.signal("job-1", 1, signal.SIGKILL, whole_tree=False)

        assert survived
        assert ended(launcher).exit == Exit(signal=signal.SIGKILL)

    @pytest.mark.parametrize("restarts", [False, True], ids=["same daemon", "next daemon"])
    def test_a_start_stands_still_until_it_is_let_go(self, world, launcher, restarts):
        """
        Also by the daemon after the one that stopped it.
        """
        spec = world.spec()
        launcher.launch(spec)
        process = started(launcher).process
        launcher.signal("job-1", 1, signal.SIGSTOP, whole_tree=True)
        until_still(world, launcher, process)
        daemon = launcher
        if restarts:
            daemon = world.launcher()
            daemon.adopt(spec.job, spec.incarnation, spec.run_dir)
            started(daemon)
        was_still = world.stands_still(process)
        daemon.signal("job-1", 1, signal.SIGCONT, whole_tree=True)
        until_true(lambda: daemon.drain() == [] and not world.stands_still(process))
        world.finish(spec, 3)

        assert was_still
        assert ended(daemon) == Ended("job-1", 1, Exit(code=3))
        if restarts:
            daemon.close()

    @pytest.mark.parametrize("by", ["us", "somebody else"])
    def test_a_start_that_stands_still_can_be_ended(self, world, launcher, by):
        """
        Its keeper may stand still with it, and yet writes down how it ended.
        """
        launcher.launch(world.spec())
        process = started(launcher).process
        launcher.signal("job-1", 1, signal.SIGSTOP, whole_tree=True)
        until_still(world, launcher, process)
        if by == "us":
            launcher.signal("job-1", 1, signal.SIGKILL, whole_tree=True)
        else:
            world.kill(process)

        assert ended(launcher) == Ended("job-1", 1, Exit(signal=signal.SIGKILL))

    def test_a_limit_is_kept_or_refused(self, world, launcher):
        """
        One that nobody would keep is no limit; whoever asked for it is told, and nothing runs without it.
        """
        spec = world.spec(limits=JobLimits(memory_max_bytes=1 << 30, cpu_weight=50))
        why_not = launcher.cannot_limit(spec.limits)
        launcher.launch(spec)
        (news,) = until(launcher, bool)

        assert not launcher.cannot_limit(JobLimits())
        if why_not:
            assert news == Ended("job-1", 1, Exit(error=f"cannot start: {why_not}"))
            assert 0 == world.num_starts(spec)
        else:
            assert isinstance(news, Started)

    def test_a_signal_before_the_start_is_not_lost(self, world, launcher):
        """
        A job that is killed while it starts does not stay.
        """
        launcher.launch(world.spec())
        launcher.signal("job-1", 1, signal.SIGKILL, whole_tree=True)

        assert ended(launcher).exit == Exit(signal=signal.SIGKILL)

    @pytest.mark.parametrize("whole_tree", [False, True])
    def test_signals_to_nobody_are_no_error(self, world, launcher, whole_tree):
        """
        A job may be gone, or unknown, when it is told to stop.
        """
        spec = world.spec()
        launcher.signal("job-9", 1, signal.SIGTERM, whole_tree=whole_tree)
        launcher.launch(spec)
        started(launcher)
        world.finish(spec, 0)
        ended(launcher)
        launcher.signal("job-1", 1, signal.SIGKILL, whole_tree=whole_tree)
        launcher.end_group("job-1", [spec.run_dir], grace_s=0.0)

        assert launcher.drain() == []

    def test_another_process_with_the_same_number_is_not_alive(self, world, launcher):
        """
        A pid counts only with its start time and its boot.
        """
        launcher.launch(world.spec())
        process = started(launcher).process
        later = msgspec.structs.replace(process, start_ticks=process.start_ticks + 1)
        before = msgspec.structs.replace(process, boot_id="another-boot")

        assert [launcher.is_alive(each) for each in (process, later, before)] == [True, False, False]
