"""Who is trusted: other users get nothing of ours, and nothing of theirs is run.

Covers: at real sockets and a real daemon, false servers before clients and shims, what is set aside and told,
odd files in the daemon's folders, jobs in user namespaces.
Does not cover: what makes a path safe (tests/unit/test_safe_files.py).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest

from supervisor import api
from supervisor.client import Client
from supervisor.errors import NoDaemon, Refused
from supervisor.paths import Paths
from supervisor.system.procfs import read_stat
from tests.harness import CHAIN, CONFIG, GUARD_S, PYTHON, ROOT, Run, RunningDaemon, until
from tests.other_user import OTHER, Listener, acting_as, needs_root
from trainer_shim.server_check import SOCKET_FOLDER, Server, folder_id

SECRET = "this-is-a-secret"


def their_folder(home):
    """Somebody else was first, as in /tmp/training-supervisor-UID."""
    home.chmod(0o1777)
    with acting_as():
        (home / "run").mkdir(mode=0o755)
    return Listener(home / "run" / "control.sock")


def their_link(home):
    """Somebody else leads to a folder of theirs."""
    home.chmod(0o1777)
    with acting_as():
        (home / "theirs").mkdir(mode=0o755)
        (home / "run").symlink_to("theirs")
    return Listener(home / "theirs" / "control.sock")


def open_folder(home):
    """Ours, and everybody may put a socket into it."""
    home.chmod(0o755)
    (home / "run").mkdir()
    (home / "run").chmod(0o777)
    return Listener(home / "run" / "control.sock")


def open_on_the_way(home):
    """It is ours that listens, but anybody may put another folder in the place of ours at any time."""
    (home / "run").mkdir()
    listener = Listener(home / "run" / "control.sock", uid=0)
    home.chmod(0o777)
    return listener


def left_behind(home):
    """The folder is safe by now; a socket of somebody else has been in it since it was not."""
    listener = open_folder(home)
    (home / "run").chmod(0o700)
    return listener


FALSE = (their_folder, their_link, open_folder, open_on_the_way, left_behind)


@needs_root
@pytest.mark.parametrize("false", FALSE, ids=lambda false: false.__name__)
class TestAFalseServer:
    """It gets not one byte, neither of a command with its environment nor of a shim."""

    def test_a_client_says_nothing(self, home, false):
        """
        And says who it is that listens, as a refusal.
        """
        with false(home) as listener:
            with pytest.raises(Refused, match="cannot trust who listens") as refused:
                Client(Paths.find(str(home)))

            assert 0 == listener.num_bytes()
            assert refused.value.hint

    def test_a_shim_says_nothing_and_training_goes_on(self, home, tmp_path, false):
        """
        It is said once, and no order is taken from there.
        """
        run = Run(tmp_path / "run", 30)
        with false(home) as listener:
            env = {
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "CHAIN": str(run.folder),
                "CHAIN_STEPS": str(run.num_steps),
                "TRAINING_SUPERVISOR_SOCKET": f"ipc://{home}/run/control.sock",
                "TRAINING_SUPERVISOR_JOB": "x",
                # What a daemon said of a folder counts only where users are hidden.
                SOCKET_FOLDER: folder_id(home / "run"),
            }
            done = subprocess.run(
                CHAIN, env=env, cwd=run.folder, capture_output=True, text=True, timeout=GUARD_S, check=False
            )

            assert 0 == listener.num_bytes()
        assert (0, 1) == (done.returncode, done.stderr.count("training goes on without a daemon"))
        assert run.is_exact()


@needs_root
def test_a_command_keeps_its_environment_to_itself(home):
    """
    `supervisorctl run` ends with the exit code of a refusal, and a hint.
    """
    with their_folder(home) as listener:
        done = subprocess.run(
            [PYTHON, "-m", "supervisor.cli.main", "--home", str(home), "run", "--", "true"],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TOKEN": SECRET},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=GUARD_S,
            check=False,
        )

        assert 0 == listener.num_bytes()
    assert 3 == done.returncode
    assert f"`{home}/run` belongs to user id {OTHER}" in done.stderr
    assert "hint: " in done.stderr


def test_a_server_that_takes_no_connection_is_not_waited_for(home):
    """
    Its queue is full; the question who it is has a limit.
    """
    (home / "run").mkdir(mode=0o700)
    path = home / "run" / "control.sock"
    with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as first:
        full.bind(str(path))
        full.listen(0)
        first.connect(str(path))
        started = monotonic()
        with pytest.raises(BlockingIOError):
            Server(f"ipc://{path}").check(limit_s=0.1)
        with pytest.raises(NoDaemon, match="does not take the connection"):
            Client(Paths.find(str(home)), connect_s=0.1)

    assert 5.0 > monotonic() - started


def test_a_daemon_that_is_too_busy_for_one_more_is_not_gone(daemon):
    """
    Whoever waits for its answer goes on waiting.
    """
    with contextlib.ExitStack() as crowd, Client(daemon.paths, connect_s=5.0, answer_s=1.0) as client:
        client.version()
        os.kill(daemon.pid, signal.SIGSTOP)
        crowd.callback(os.kill, daemon.pid, signal.SIGCONT)
        until(lambda: read_stat(daemon.pid).state == "T")
        with contextlib.suppress(BlockingIOError):
            while True:
                one = crowd.enter_context(socket.socket(socket.AF_UNIX))
                one.setblocking(False)
                one.connect(client.socket_path)
        with pytest.raises(NoDaemon, match="did not answer within 1 s"):
            client.version()


class TestUserNamespaces:
    """Where a namespace gives users other numbers, or none, our own daemon is known all the same."""

    def unshared(self, *words):
        command = ["unshare", "--user", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=GUARD_S, cwd=ROOT)
        if "unshare failed" in done.stderr or "write failed" in done.stderr:
            pytest.skip("user namespaces are refused here")
        return done

    @pytest.mark.parametrize("known", [True, False])
    def test_a_user_without_a_number_knows_the_folder_that_was_handed_over(self, home, known):
        """
        And trusts no other: there, everybody looks like everybody.
        """
        (home / "run").mkdir(mode=0o700)
        with socket.socket(socket.AF_UNIX) as ours:
            ours.bind(str(home / "run" / "control.sock"))
            ours.listen()
            handed = folder_id(home / "run") if known else "1:2"
            server = f"Server('ipc://{home}/run/control.sock', {handed!r})"
            code = f"from trainer_shim.server_check import Server; {server}.check(limit_s=5)"
            done = self.unshared(sys.executable, "-c", code)

        assert known == (done.returncode == 0), done.stderr
        assert known or "own files look like everybody's" in done.stderr

    @pytest.mark.parametrize("how", ["--map-current-user", "--map-root-user", "--map-user=4321"])
    def test_a_job_in_a_namespace_can_be_paused(self, daemon, how):
        """
        As with rootless containers.
        """
        self.unshared(how, "true")
        name = how.strip("-").replace("=", "-")
        run = daemon.train(name, steps=2000, argv=("unshare", "--user", how, *CHAIN), STEP_S=0.01)
        daemon.pause(name)
        daemon.until(name, "paused")
        daemon.resume(name)
        daemon.until(name, "running")

        assert 1 == len(run.starts)


@pytest.fixture(scope="module")
def daemon():
    with RunningDaemon() as running:
        yield running


def alerts_after_reload(daemon):
    """Return what `supervisorctl status` warns of, once all files were read."""
    daemon.ctl("reload")
    return daemon.ctl("status").err


def job_file(daemon, path, name):
    path.write_text(f'command = ["touch", "{daemon.work}/{name}"]\ncwd = "{daemon.work}"\n')
    return path


class TestFilesOfOthers:
    """What others could have written is set aside and told by name; everything else goes on."""

    @pytest.fixture(autouse=True)
    def good_again(self, daemon):
        yield
        daemon.paths.config_dir.chmod(0o700)
        daemon.paths.jobs_dir.chmod(0o700)
        for file in daemon.paths.jobs_dir.iterdir():
            file.unlink()
        daemon.paths.config_file.unlink(missing_ok=True)
        daemon.configure(CONFIG)
        alerts_after_reload(daemon)
        assert [] == daemon.client.status().alerts

    @needs_root
    @pytest.mark.parametrize("how", ["own", "link"])
    def test_a_job_file_of_another_user_is_not_run(self, daemon, how):
        """
        Its neighbour is.
        """
        name = f"evil-{how}"
        file = daemon.paths.jobs_dir / f"{name}.toml"
        target = file if how == "own" else daemon.work / "theirs.toml"
        os.chown(job_file(daemon, target, name), OTHER, OTHER)
        if how == "link":
            file.symlink_to(target)
        job_file(daemon, daemon.paths.jobs_dir / f"good-{how}.toml", f"good-{how}")
        said = alerts_after_reload(daemon)
        until((daemon.work / f"good-{how}").exists)

        assert f"cannot trust `{file}`: `{target}` belongs to user id {OTHER}" in said
        assert name not in daemon.names()
        assert not (daemon.work / name).exists()

    @needs_root
    def test_a_configuration_swapped_by_a_link_is_set_aside(self, daemon):
        """
        What was in force stays so.
        """
        theirs = daemon.work / "their-config.toml"
        theirs.write_text("[jobs]\npause_deadline_s = 0.1\n")
        os.chown(theirs, OTHER, OTHER)
        daemon.paths.config_file.unlink()
        daemon.paths.config_file.symlink_to(theirs)
        said = alerts_after_reload(daemon)
        as_json = daemon.ctl("status", "--json").err
        alert = f"warning: cannot trust `{daemon.paths.config_file}`: `{theirs}` belongs to user id {OTHER}"

        assert alert in said
        assert alert in as_json

    @pytest.mark.parametrize("folder", ["config_dir", "jobs_dir"])
    def test_a_folder_that_others_may_write_is_not_read(self, daemon, folder):
        """
        Nothing in it can be told from what somebody put there.
        """
        open_one = getattr(daemon.paths, folder)
        job_file(daemon, daemon.paths.jobs_dir / ".later", "swapped")
        open_one.chmod(0o777)
        (daemon.paths.jobs_dir / ".later").rename(daemon.paths.jobs_dir / "swapped.toml")
        said = alerts_after_reload(daemon)

        assert f"cannot trust `{open_one}`: others may write `{open_one}` (mode 0777)" in said
        assert f"chmod go-w {open_one}" in said
        assert 1 == said.count("warning: ")
        assert "swapped" not in daemon.names()

    def test_a_file_in_the_place_of_the_folder_of_jobs_is_told(self, daemon):
        """
        Otherwise it would look as if there were no jobs.
        """
        jobs = daemon.paths.jobs_dir
        jobs.rmdir()
        jobs.touch(mode=0o600)
        said = alerts_after_reload(daemon)
        jobs.unlink()
        jobs.mkdir(mode=0o700)

        assert f"`{jobs}` is not a folder" in said

    def test_a_folder_above_that_others_may_write_is_told(self, daemon):
        """
        As `~/.config` made under umask 000: they could put another folder in the place of ours.
        """
        config, above = daemon.paths.config_dir, daemon.home / "above"
        above.mkdir()
        above.chmod(0o777)
        config.rename(above / "config")
        config.symlink_to(above / "config")
        said = alerts_after_reload(daemon)
        config.unlink()
        (above / "config").rename(config)

        assert (
            f"cannot trust `{config}`: others may write `{above}` (mode 0777); nothing in it is read" in said
        )

    def test_a_state_folder_that_others_may_write_is_told_and_used(self, daemon):
        """
        Without its journal a daemon would lose its jobs.
        """
        state = daemon.paths.state_dir
        state.chmod(0o777)
        said = alerts_after_reload(daemon)
        state.chmod(0o700)

        assert (
            f"others may write `{state}` (mode 0777); the journal and the logs are used all the same" in said
        )


class TestOddFilesInOurFolders:
    """A daemon starts and ends with them; nothing is overwritten, nothing waited for."""

    def test_locks_with_a_second_name_overwrite_nothing(self):
        """
        And still keep a second daemon out.
        """
        with RunningDaemon() as daemon:
            daemon.terminate()
            locks = (daemon.paths.lock, Path(f"{daemon.paths.journal}.lock"))
            for lock in locks:
                lock.unlink()
                (daemon.work / lock.name).write_text("a week of work")
                os.link(daemon.work / lock.name, lock)
            daemon.start()
            second = subprocess.run(
                [PYTHON, "-m", "supervisor", "--home", str(daemon.home)],
                env=daemon.env, cwd="/", capture_output=True, text=True, timeout=GUARD_S, check=False,
            )  # fmt: skip

            assert ["a week of work"] * 2 == [(daemon.work / lock.name).read_text() for lock in locks]
            assert f"another daemon (process {daemon.pid})" in second.stderr

    def test_pipes_in_a_run_folder_stop_no_daemon(self):
        """
        A start and a SIGTERM come through, and other jobs are taken up.
        """
        with RunningDaemon() as daemon:
            names = ("claim", "process.json", "exit.json", "receipt")
            for job in (*names, "good"):
                daemon.command(job.replace(".", "-"), "sleep", "600")
            for job in (*names, "good"):
                daemon.until(job.replace(".", "-"), lambda row: row.pid)
            daemon.kill()
            for name in names:
                file = daemon.paths.incarnation_dir(name.replace(".", "-"), 1) / name
                file.unlink(missing_ok=True)
                os.mkfifo(file)
            daemon.start()
            good = daemon.row("good")
            odd = daemon.row("exit-json")

            assert {good.state, odd.state} <= {"starting", "running"}
            assert "exit.json" in [one.name for one in daemon.client.status().aside]
            assert 0 == daemon.terminate()

    @pytest.mark.parametrize("kind", ["pipe", "link"])
    def test_a_log_that_is_no_file_fails_its_job(self, daemon, kind):
        """
        A pipe would hold the start for ever; a link would append to any other file.
        """
        name = f"odd-log-{kind}"
        log = daemon.paths.log(name)
        log.parent.mkdir(parents=True, mode=0o700)
        (daemon.work / "precious").write_text("a week of work")
        os.mkfifo(log) if kind == "pipe" else log.symlink_to(daemon.work / "precious")
        daemon.command(name, "echo", "hello")
        until(lambda: daemon.row(name).state == "failed")  # The harness would wait for the pipe.
        row = daemon.row(name)

        assert f"`{log}` is not a file" in row.problem
        assert "a week of work" == (daemon.work / "precious").read_text()

    def test_a_claim_with_a_second_name_overwrites_nothing(self, daemon):
        """
        The job fails and says why.
        """
        daemon.command("linked-claim", "true")
        daemon.until("linked-claim", "completed")
        run_dir = daemon.paths.incarnation_dir("linked-claim", 2)
        run_dir.mkdir(parents=True, mode=0o700)
        (daemon.work / "precious").write_text("a week of work")
        os.link(daemon.work / "precious", run_dir / "claim")
        daemon.ask(api.RestartRequest, "linked-claim")
        row = daemon.until("linked-claim", "failed")

        assert "has a second name" in row.problem
        assert "a week of work" == (daemon.work / "precious").read_text()

    @needs_root
    def test_a_state_folder_of_another_user_is_refused(self, home):
        """
        Its journal would be theirs to replace, and a daemon without one loses jobs.
        """
        home.chmod(0o755)
        (home / "state").mkdir()
        os.chown(home / "state", OTHER, OTHER)
        done = subprocess.run(
            [PYTHON, "-m", "supervisor", "--home", str(home)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=GUARD_S,
            check=False,
        )

        assert 1 == done.returncode
        assert f"`{home}/state`: it belongs to user id {OTHER}" in done.stderr
