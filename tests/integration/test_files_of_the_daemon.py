"""Configuration and drop-in files under a running daemon, and who may serve them.

Covers: changes are noticed by themselves; a bad file leaves the old settings
in force and shows in `status`; jobs of files; one daemon for one folder.
Does not cover: what each setting does, the files' formats (tests/unit).
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import threading
from pathlib import Path

import msgspec
import pytest

from supervisor import api
from tests.harness import CONFIG, GUARD_S, PYTHON, ROOT, Denied, RunningDaemon, until
from tests.other_user import needs_root


@pytest.fixture(scope="module")
def daemon():
    """One for all files; each test leaves good ones behind."""
    with RunningDaemon() as running:
        yield running


def alerts(daemon):
    return daemon.client.status().alerts


def until_alert(daemon, *words):
    """Return the alert that has these words; nobody asked for a reload."""

    def found():
        return [alert for alert in alerts(daemon) if all(word in alert for word in words)]

    return until(found, lambda: alerts(daemon))[0]


def until_quiet(daemon):
    until(lambda: not alerts(daemon), lambda: alerts(daemon))


def drop_in(daemon, name, *argv, **tables):
    """Write jobs.d/NAME.toml the way an editor does: another file, then a rename."""
    lines = [f"command = {msgspec.json.encode(argv).decode()}", f'cwd = "{daemon.work}"']
    lines += [
        f"[{key}]\n" + "\n".join(f'{k} = "{v}"' for k, v in value.items()) for key, value in tables.items()
    ]
    file = daemon.paths.jobs_dir / f"{name}.toml"
    draft = file.with_suffix(".partial")
    draft.write_text("\n".join(lines))
    draft.rename(file)
    return file


def until_job(daemon, name):
    until(lambda: name in daemon.names(), lambda: f"{daemon.names()} {alerts(daemon)}")


class TestConfiguration:
    """config.toml is read again when it changes."""

    def test_a_rule_that_can_never_act_is_told_and_keeps_the_others_in_force(self, daemon):
        """
        It does no harm, so an upgrade must not cost all rules; but nobody means it.
        """
        when = '{ metric = "cpu_foreign_pct", above = 150, clear_below = 20 }'
        never = f'name = "never"\nwhen = [{when}]\npause_after_s = 1\nresume_after_s = 1\n'
        daemon.configure(f"{CONFIG}\n[[rules]]\n{never}")
        alert = until_alert(daemon, "rule `never`")
        rules = [rule.rule for rule in daemon.client.policy().rules]
        daemon.configure(CONFIG)
        until_quiet(daemon)

        assert "cpu_foreign_pct is never more than 150" in alert
        assert "never" in rules

    def test_a_typo_leaves_the_old_settings_in_force_and_shows_in_status(self, daemon):
        """
        The alert names the key and the nearest known one; the corrected file
        clears it. All without a word to the daemon.
        """
        daemon.configure(CONFIG + "[jobs]\npause_deadline_s = 0.1\n")
        daemon.client.reload()
        daemon.configure(CONFIG + "[jobs]\npause_deadlin_s = 3000\n")
        alert = until_alert(daemon, "unknown key `jobs.pause_deadlin_s`", "jobs.pause_deadline_s")
        said = daemon.ctl("status")
        run = daemon.train("deadline", hold=("step",))
        run.until_at("step")
        daemon.pause("deadline")
        # 0.1 s is still in force.
        daemon.until("deadline", lambda row: row.late)
        run.let_go("step")
        daemon.configure(CONFIG)
        until_quiet(daemon)

        assert f"warning: {alert}" in said.err

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (b"[jobs\n", ("not valid TOML",)),
            (b"\xff\xfe", ("not valid TOML",)),
            (b"[jobs]\nstart_grace_s = -1\n", ("jobs.start_grace_s is -1", "a number from 0 to")),
            (b"[jobs]\nstart_grace_s = '60'\n", ('jobs.start_grace_s is "60"', "a number from 0 to")),
            (b"jobs = 3\n", ("jobs",)),
            (b"[shim]\nheartbeat_s = nan\n", ("shim.heartbeat_s",)),
        ],
    )
    def test_every_bad_file_is_told_and_survived(self, daemon, text, words):
        """
        Bad TOML, bad text, a value out of bounds or of another kind.
        """
        daemon.paths.config_file.write_bytes(text)
        until_alert(daemon, "config.toml", *words)
        daemon.configure(CONFIG)
        until_quiet(daemon)

    def test_a_file_that_cannot_be_read_is_told(self, daemon):
        """
        A folder stands in for one without permission: root may read everything.
        """
        daemon.paths.config_file.unlink()
        daemon.paths.config_file.mkdir()
        until_alert(daemon, "cannot read", "config.toml")
        daemon.paths.config_file.rmdir()
        daemon.configure(CONFIG)
        until_quiet(daemon)

    def test_a_daemon_starts_with_a_bad_file(self):
        """
        With its defaults, and says so; better than jobs that nobody looks after.
        """
        with RunningDaemon("[daemn]\n") as daemon:
            assert "did you mean `daemon`?" in alerts(daemon)[0]


class TestDropInFiles:
    """jobs.d/NAME.toml is the job NAME."""

    def test_an_added_file_becomes_a_job_that_starts(self, daemon):
        """
        With the environment that the file adds.
        """
        drop_in(daemon, "added", "sh", "-c", "echo hello $WHO", env={"WHO": "drop-in"})
        until_job(daemon, "added")
        daemon.until("added", "completed")

        assert "hello drop-in\n" == daemon.job_log("added")
        assert str(daemon.paths.jobs_dir / "added.toml") == daemon.client.show("added").source

    def test_a_changed_file_counts_from_the_next_start_on(self, daemon):
        """
        The running command is left alone.
        """
        drop_in(daemon, "changed", "sh", "-c", "echo one; exec sleep 600")
        until_job(daemon, "changed")
        first = daemon.until("changed", lambda row: row.state in ("starting", "running") and row.pid)
        drop_in(daemon, "changed", "sh", "-c", "echo two")
        until(lambda: "echo two" in daemon.client.show("changed").argv)
        same = daemon.row("changed")
        daemon.ask(api.RestartRequest, "changed")
        daemon.until("changed", "completed")

        assert (first.pid, 1) == (same.pid, same.incarnation)
        assert ["one", "two"] == daemon.job_log("changed").split()

    def test_a_job_whose_file_is_there_is_not_removed(self, daemon):
        """
        The file would start it again at the next change of any other; without the file it goes.
        """
        file = drop_in(daemon, "stubborn", "true")
        until_job(daemon, "stubborn")
        daemon.until("stubborn", "completed")
        with pytest.raises(Denied) as refused:
            daemon.ask(api.RemoveRequest, "stubborn")
        file.unlink()
        daemon.ask(api.RemoveRequest, "stubborn")

        assert "would start it again" in str(refused.value)
        assert "stubborn" not in [row.name for row in daemon.client.status().rows]

    def test_a_file_that_goes_away_leaves_its_job(self, daemon):
        """
        Deleting a file by mistake must not end a week of training.
        """
        file = drop_in(daemon, "orphan", "sleep", "600")
        until_job(daemon, "orphan")
        pid = daemon.until("orphan", lambda row: row.pid).pid
        file.unlink()
        daemon.client.reload()
        row = daemon.row("orphan")
        daemon.ask(api.KillRequest, "orphan")

        assert pid == row.pid

    def test_a_bad_file_concerns_its_own_job_only(self, daemon):
        """
        The alert names file and key; a good file beside it starts its job.
        """
        bad = daemon.paths.jobs_dir / "bad.toml"
        bad.write_text('comand = "true"\ncwd = "/"\n')
        drop_in(daemon, "good", "true")
        until_job(daemon, "good")
        alert = until_alert(daemon, "bad.toml", "comand")
        bad.unlink()
        until_quiet(daemon)

        assert "did you mean `command`?" in alert
        assert "bad" not in daemon.names()

    @pytest.mark.parametrize("name", ["-x", "a b", "x" * 65, "not-utf8-\udcff"])
    def test_a_file_whose_name_is_no_job_name_is_told(self, daemon, name):
        """
        A job could not be named so on the command line.
        """
        file = drop_in(daemon, name, "true")
        until_alert(daemon, "is not a job name")
        file.unlink()
        until_quiet(daemon)

    def test_what_is_no_file_or_hidden_is_no_job(self, daemon):
        """
        A pipe would be read for ever, and everything would wait; a hidden file is an editor's own.
        """
        pipe, hidden = daemon.paths.jobs_dir / "pipe.toml", daemon.paths.jobs_dir / ".#good.toml"
        os.mkfifo(pipe)
        hidden.symlink_to("somebody@somewhere.1234")
        alert = until_alert(daemon, "pipe.toml", "not a file")
        told = alerts(daemon)
        pipe.unlink()
        until_quiet(daemon)
        hidden.unlink()

        assert [alert] == list(told)

    def test_a_folder_that_comes_back_is_no_longer_complained_about(self, daemon):
        """
        2026-11-28: the warning named another folder, and stayed for ever; files dropped in later were not
        seen.
        """
        shutil.rmtree(daemon.paths.jobs_dir)
        alert = until_alert(daemon, "cannot watch")
        daemon.paths.jobs_dir.mkdir(mode=0o700)
        until_quiet(daemon)
        drop_in(daemon, "after", "true")
        until_job(daemon, "after")

        assert f"cannot watch `{daemon.paths.jobs_dir}` for changes" in alert

    def test_words_longer_than_a_message_keep_nobody_from_an_answer(self, daemon):
        """
        A generated command, or a path that a script got wrong, is shown cut; all others are shown whole.
        """
        file = drop_in(daemon, "long", "sh", "-c", "exit 3 #" + "x" * 100_000, env={"A": "1"})
        gone = daemon.paths.jobs_dir / "gone.toml"
        gone.write_text(f'command = "true"\ncwd = "/{"y" * 70_000}"\n')
        drop_in(daemon, "short", "true").unlink(missing_ok=True)
        daemon.client.reload()
        until_job(daemon, "gone")
        row = daemon.until("gone", "failed")
        until_job(daemon, "long")
        daemon.until("long", "failed")
        shown = daemon.client.show("long")
        names = {answer.job for answer in daemon.client.why()}
        # Rows run ahead of the journal, events are what it has.
        told = until(
            lambda: [event.detail for event in daemon.events("gone") if event.kind == "process-ended"]
        )
        for one in (file, gone):
            one.unlink()

        assert row.problem.startswith("cannot start: working directory `/yyy")
        assert row.problem.endswith("...")
        assert ("sh", "-c") == shown.argv[:2]
        assert shown.argv[2].endswith("...")
        assert {"long", "gone"} <= names
        assert told[0].startswith("cannot start: working directory")
        assert not alerts(daemon)

    def test_a_file_named_like_another_job_is_told(self, daemon):
        """
        The job that was there keeps its name and its command.
        """
        daemon.command("first", "sleep", "600")
        file = drop_in(daemon, "first", "true")
        until_alert(daemon, "first.toml", "is taken")
        argv = daemon.client.show("first").argv
        file.unlink()
        until_quiet(daemon)
        daemon.ask(api.KillRequest, "first")

        assert ("sleep", "600") == argv

    def test_a_job_of_a_file_is_not_started_again_by_a_new_daemon(self):
        """
        The file is still there after a crash; its job is not new.
        """
        with RunningDaemon() as daemon:
            drop_in(daemon, "once", "sh", "-c", "echo started")
            until_job(daemon, "once")
            daemon.until("once", "completed")
            daemon.restart()
            daemon.client.reload()

            assert ("completed", 1) == (daemon.row("once").state, daemon.row("once").incarnation)
            assert "started\n" == daemon.job_log("once")


class TestOneDaemon:
    """One folder has one daemon."""

    def second(self, daemon, home=None, inside=()):
        command = [*inside, PYTHON, "-m", "supervisor", "--home", str(home or daemon.home)]
        return subprocess.run(
            command, env=daemon.env, cwd="/", capture_output=True, text=True, timeout=GUARD_S, check=False
        )

    def test_a_second_daemon_is_refused_in_words(self, daemon):
        """
        It names the process that serves; that one goes on undisturbed.
        """
        said = self.second(daemon)

        assert 1 == said.returncode
        assert f"another daemon (process {daemon.pid}) serves `" in said.stderr
        assert "hint: " in said.stderr
        assert "Traceback" not in said.stderr
        assert daemon.pid == daemon.client.version().pid

    def test_a_folder_that_others_may_write_is_refused(self, daemon):
        """
        Somebody could answer in the daemon's place there.
        """
        home = daemon.home / "open"
        (home / "run").mkdir(parents=True)
        (home / "run").chmod(0o777)
        said = self.second(daemon, home)

        assert 1 == said.returncode
        assert f"others may write `{home}/run` (mode 0777)" in said.stderr
        assert "chmod go-w" in said.stderr

    def test_a_path_that_no_socket_can_have_is_refused(self, daemon):
        """
        A socket path holds 107 bytes.
        """
        said = self.second(daemon, daemon.home / ("x" * 100))

        assert 2 == said.returncode
        assert "choose a shorter --home" in said.stderr
        assert "Traceback" not in said.stderr

    def test_a_lock_that_cannot_be_had_is_refused_in_words(self, daemon):
        """
        A limit of the size of files stands in for a disk that is full, or read-only after an error.
        """
        said = self.second(daemon, daemon.home / "odd", inside=("sh", "-c", 'ulimit -f 0; exec "$@"', "sh"))

        assert 1 == said.returncode
        assert "daemon.lock`: File too large" in said.stderr
        assert "hint: " in said.stderr
        assert "Traceback" not in said.stderr

    @needs_root
    @pytest.mark.parametrize("words", [(), ("--system",)])
    def test_a_disk_that_is_read_only_is_refused_in_words(self, daemon, words):
        """
        2026-11-29: root's daemon for all users ended with a traceback of `chmod`.
        """
        home = daemon.home / f"still-{len(words)}"
        home.mkdir()
        script = (
            f'mount --bind {home} {home} && mount -o remount,bind,ro {home} && exec "$@" {" ".join(words)}'
        )
        for folder in ("state", "run", "config"):
            (home / folder).mkdir(mode=0o700)
        said = self.second(daemon, home, inside=("unshare", "--mount", "sh", "-c", script, "sh"))

        assert 1 == said.returncode
        assert "error: cannot use " in said.stderr
        assert "Read-only file system" in said.stderr
        assert "hint: " in said.stderr
        assert "Traceback" not in said.stderr

    def test_a_run_folder_that_was_taken_away_is_made_again(self, daemon):
        """
        /run/user/UID goes when its user logs out, and /tmp is tidied up. Jobs and shims go on meanwhile.
        """
        daemon.train("stays", STEP_S=0.02)
        daemon.until("stays", lambda row: row.step)
        pid = daemon.row("stays").pid
        shutil.rmtree(daemon.paths.run_dir)
        until(lambda: daemon.ctl("status").code == 0, daemon.log)
        daemon.pause("stays")
        row = daemon.until("stays", "paused")
        modes = [stat.S_IMODE(file.stat().st_mode) for file in sorted(daemon.paths.run_dir.glob("*.sock"))]
        daemon.ask(api.KillRequest, "stays")
        daemon.until("stays", "stopped")

        assert pid == row.pid
        assert [0o600, 0o600] == modes
        assert f"another daemon (process {daemon.pid}) serves `" in self.second(daemon).stderr

    def test_closed_streams_are_no_reason_not_to_start(self, daemon):
        """
        Some service managers start it so. Nothing that a library prints may end up in the journal.
        """
        with RunningDaemon(inside=("sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh")) as other:
            targets = [str(Path(f"/proc/{other.pid}/fd/{number}").readlink()) for number in range(3)]
            other.command("one", "sh", "-c", "echo out; echo err >&2")
            other.until("one", "completed")
            silent = ["sh", "-c", 'exec "$@" 1>&- 2>&-', "sh"]
            codes = [
                subprocess.run(
                    [*silent, *other.ctl_argv("status", job)], env=other.env, check=False
                ).returncode
                for job in ("one", "nobody")
            ]

            assert [os.devnull] * 3 == targets
            assert "out\nerr\n" == other.job_log("one")
            assert [0, 2] == codes


def test_changes_without_a_pause_keep_no_file_from_being_read(home):
    """
    An editor's swap file that is written ten times a second, say.
    """
    with RunningDaemon() as daemon:
        over = threading.Event()

        def write():
            while not over.wait(0.05):
                (daemon.paths.jobs_dir / ".swap").touch()

        writer = threading.Thread(target=write)
        writer.start()
        try:
            (daemon.paths.jobs_dir / "late.toml").write_text('command = "true"\ncwd = "/tmp"\n')
            until(lambda: "late" in daemon.names(), daemon.log)
        finally:
            over.set()
            writer.join()


def few_files(limit):
    return "sh", "-c", f'ulimit -n {limit} && exec "$@"', "sh"


@pytest.mark.parametrize("limit", [8, 43])
def test_a_daemon_without_room_for_its_files_says_so(home, limit):
    """
    Before anything is made.
    """
    argv = [*few_files(limit), PYTHON, "-m", "supervisor", "--home", str(home / "d")]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=GUARD_S)

    assert 0 != done.returncode
    assert f"at most {limit} files may be open" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (home / "d").exists()


def test_a_daemon_with_just_enough_room_works():
    """
    Nothing fails that it does by itself.
    """
    with RunningDaemon(inside=few_files(44)) as daemon:
        daemon.command("small", "true")
        daemon.until("small", "completed")

        assert "failed" not in daemon.log()
