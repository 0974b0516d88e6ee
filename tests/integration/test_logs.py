"""Logs that are kept short while their jobs write, and what is read of them.

Covers: rotation by copy and cut under real writers, full disks, crashes, logs that lost their name.
Does not cover: options and settings as such (tests/unit).
"""

from __future__ import annotations

import os
import pwd
import random
import re
import subprocess
import sys
import threading
import time

import pytest

from supervisor import api
from supervisor.cli.output.tail import MAX_TAIL_BYTES, Tail
from supervisor.rotation import KeptLog, Logs
from supervisor.system.logfiles import older_numbers
from tests.harness import RunningDaemon, until

#: Prints numbered lines as fast as it can until it is told to end, as a job does: at the end of the file.
WRITER = """
import os, sys, time
number = 0
while not os.path.exists(sys.argv[1]):
    for _ in range(50):
        os.write(1, b"line %d\\n" % number)
        number += 1
    time.sleep(0.001)
"""


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def logs():
    return Logs(free_bytes=lambda _: 1 << 40)


def append(path, text):
    with path.open("ab") as file:
        file.write(text)


def kept(path, max_bytes=100, num_older=2, pid=None):
    return KeptLog("job", path, max_bytes, num_older, pid)


def look(logs, one):
    logs._kept = [one]
    logs.look()


def stored(path):
    """All that is left of a log, the oldest first."""
    files = [path.with_name(f"log.{number}") for number in older_numbers(path)] + [path]
    return b"".join(file.read_bytes() for file in files)


def rest(tail):
    return b"".join(iter(tail.more, b""))


class TestRotation:
    def test_a_long_log_becomes_the_first_of_the_older_ones(self, logs, log):
        """
        Size and number of files hold; a log within its limit, or without one, stays as it is.
        """
        for number in range(4):
            append(log, b"%d" % number * 101)
            look(logs, kept(log, max_bytes=0))
            look(logs, kept(log, max_bytes=101))
            assert 101 == log.stat().st_size
            look(logs, kept(log))

        assert [b"", b"3" * 101, b"2" * 101] == [
            path.read_bytes() for path in (log, log.with_name("log.1"), log.with_name("log.2"))
        ]
        assert [2, 1] == older_numbers(log)
        assert 0o600 == log.with_name("log.1").stat().st_mode & 0o777

    def test_a_log_that_nobody_asks_about_any_more_is_looked_at_once_more(self, logs, log):
        """
        A job writes its last lines after the last look that it was running at; later ones cost nothing.
        """
        look(logs, kept(log))
        logs._kept = []
        append(log, b"a" * 101)
        logs.look()
        append(log, b"b" * 101)
        logs.look()

        assert [1] == older_numbers(log)
        assert b"b" * 101 == log.read_bytes()

    def test_without_older_files_a_log_is_cut(self, logs, log):
        """
        Fewer files than before: those beyond go.
        """
        append(log, b"a" * 101)
        look(logs, kept(log))
        append(log, b"b" * 101)
        look(logs, kept(log, num_older=0))

        assert ([], b"") == (older_numbers(log), log.read_bytes())

    def test_without_room_the_last_part_stays_and_says_so(self, log):
        """
        A full disk is not made fuller, and what is lost is told in the file itself.
        """
        append(log, b"x" * (3 << 20) + b"the end\n")
        look(Logs(free_bytes=lambda _: 3 << 20), kept(log))
        text = log.with_name("log.1").read_bytes()

        assert text.startswith(
            b"training-supervisor: 2.0 MiB of output were dropped here: the disk is full\n"
        )
        assert text.endswith(b"the end\n")
        assert (1 << 20) < len(text) < (1 << 20) + 200
        assert b"" == log.read_bytes()

    @pytest.mark.parametrize(("has_cut", "left"), [(False, b"begin, end"), (True, b"begin, more")])
    def test_a_copy_that_a_crash_left_is_put_right(self, logs, log, has_cut, left):
        """
        Before the cut the log still has it all; after it, the copy is all there is.
        """
        log.with_name("log.0").write_bytes(b"begin, ")
        log.write_bytes(b"more" if has_cut else b"begin, end")
        look(logs, kept(log))

        assert left == stored(log)
        assert ([1] if has_cut else []) == older_numbers(log)

    def test_a_folder_with_the_name_of_an_older_file_does_not_end_it(self, logs, log):
        """
        It is kept under another name, with what is in it.
        """
        for number in (1, 2, 5):
            (log.with_name(f"log.{number}") / "something").mkdir(parents=True)
        append(log, b"x" * 101)
        look(logs, kept(log))

        assert () == logs.problems()
        assert 0 == log.stat().st_size
        assert 101 == log.with_name("log.1").stat().st_size
        assert all((log.with_name(f"log.{number}.aside-1") / "something").is_dir() for number in (1, 2, 5))

    @pytest.mark.parametrize("kind", ["second name", "link", "folder"])
    def test_what_is_not_ours_is_not_touched(self, logs, log, kind):
        """
        Neither behind a link nor under another name; it is said, and said no more once it is put right.
        """
        precious = log.with_name("precious")
        precious.write_bytes(b"a week of work")
        append(log, b"x" * 101)
        odd = log.with_name("log.0")
        if kind == "second name":
            odd = log.with_name("other")
            os.link(log, odd)
        elif kind == "link":
            odd.symlink_to(precious)
        else:
            odd.mkdir()
        look(logs, kept(log))
        (problem,) = logs.problems()

        assert problem.startswith("cannot keep the log of job `job` short: ")
        assert 101 == log.stat().st_size
        assert b"a week of work" == precious.read_bytes()
        odd.rmdir() if kind == "folder" else odd.unlink()
        look(logs, kept(log))
        assert ((), 0) == (logs.problems(), log.stat().st_size)


class TestFollowing:
    @pytest.mark.parametrize("seed", range(20))
    def test_nothing_is_lost_or_repeated(self, logs, log, seed):
        """
        Between two reads a log may be cut several times, or grow beyond its old length.
        """
        chance = random.Random(seed)
        written = shown = b""
        with Tail(log) as tail:
            tail.skip_to_last(None)
            for number in range(300):
                line = b"%d %d\n" % (number, chance.getrandbits(64))
                append(log, line)
                written += line
                if chance.random() < 0.3:
                    look(logs, kept(log, num_older=500))
                if chance.random() < 0.2:
                    shown += tail.more()
            shown += rest(tail)

        assert written == shown
        with Tail(log) as tail:
            tail.skip_to_last(None)
            assert written == rest(tail)
            tail.skip_to_last(7)
            assert b"".join(written.splitlines(keepends=True)[-7:]) == rest(tail)

    # Cut without a pause in between, a reader loses its place now and then; the daemon looks every 2 s.
    @pytest.mark.soak
    def test_all_that_is_kept_of_a_fast_writer_is_shown_once(self, logs, log, tmp_path):
        """
        A real process writes meanwhile; what the files have was shown, in order.
        """
        end = tmp_path / "end"
        shown = b""
        with log.open("ab") as out, Tail(log) as tail:
            writer = subprocess.Popen([sys.executable, "-c", WRITER, str(end)], stdout=out)
            one = kept(log, max_bytes=20_000, num_older=1000)
            over = threading.Event()
            rotating = threading.Thread(target=lambda: [look(logs, one) for _ in iter(over.is_set, True)])
            rotating.start()
            try:
                while len(older_numbers(log)) < 20:
                    shown += tail.more()
            finally:
                end.touch()
                writer.wait()
                over.set()
                rotating.join()
            shown += rest(tail)

        # A cut may go through a line, and some may be shown that were written just before it.
        seen, there = (list(map(int, re.findall(rb"line (\d+)\n", text))) for text in (shown, stored(log)))
        assert sorted(set(seen)) == seen
        assert set(there) <= set(seen)
        assert len(shown) > 20 * 20_000

    def test_a_deleted_log_that_is_brought_back_is_not_shown_twice(self, log):
        """
        Nobody sees it under its name before all of it is there, and nothing of it elsewhere any more.
        """
        shown = []
        logs = Logs(free_bytes=lambda _: shown.append(tail.more()) or 1 << 40)
        with (
            log.open("ab") as out,
            subprocess.Popen(["sleep", "600"], stdout=out) as writer,
            Tail(log) as tail,
        ):
            append(log, b"first\n")
            shown.append(rest(tail))
            log.unlink()
            logs.reopen()
            look(logs, kept(log, max_bytes=1000, pid=writer.pid))
            shown.append(rest(tail))
            out.write(b"second\n")
            out.flush()
            look(logs, kept(log, max_bytes=1000, pid=writer.pid))
            shown.append(rest(tail))
            writer.kill()

        assert b"first\nsecond\n" == b"".join(shown)
        assert b"first\nsecond\n" == log.read_bytes()

    @pytest.mark.parametrize("is_moved", [True, False])
    @pytest.mark.parametrize("was_open", [True, False])
    def test_what_became_of_a_log_is_said_once_and_no_more_after_a_reload(self, log, is_moved, was_open):
        """
        2026-11-29: a moved log that `reload` had brought back was told as one that needs a reload, and one
        that was read from its process was told a second time as moved or deleted.
        """
        said, shown, logs = [], [], Logs()
        with log.open("ab") as out, subprocess.Popen(["sleep", "600"], stdout=out) as writer:
            append(log, b"first\n")
            with Tail(log, pid=writer.pid, say=said.append) as tail:
                shown += [rest(tail)] if was_open else []
                log.rename(log.with_name("saved")) if is_moved else log.unlink()
                for _ in range(3):
                    shown.append(rest(tail))
                before = said.copy()
                logs.reopen()
                look(logs, kept(log, max_bytes=1000, pid=writer.pid))
                for word in (b"second\n", b"third\n"):
                    out.write(word)
                    out.flush()
                    look(logs, kept(log, max_bytes=1000, pid=writer.pid))
                    shown.append(rest(tail))
            with Tail(log, pid=writer.pid, say=said.append) as later:
                rest(later)
            writer.kill()

        assert 1 == len(before)
        assert "`supervisorctl reload` makes a new one" in before[0]
        assert before == said
        assert b"first\nsecond\nthird\n" == b"".join(shown)

    @pytest.mark.parametrize("age_s", [0, 60])
    def test_a_file_that_was_put_in_the_place_of_a_log_is_told(self, log, age_s):
        """
        The job writes on to the other; nobody brings that here unless it is asked for.
        """
        said = []
        with log.open("ab") as out, subprocess.Popen(["sleep", "600"], stdout=out) as writer:
            append(log, b"first\n")
            moved = log.rename(log.with_name("saved"))
            log.write_bytes(b"")
            now = time.time() - age_s
            os.utime(log, (now - 30, now - 30))
            append(moved, b"second\n")
            os.utime(moved, (now, now))
            with Tail(log, pid=writer.pid, say=said.append) as tail:
                rest(tail)
            writer.kill()

        assert 1 == len(said)
        assert "`supervisorctl reload` brings its output here" in said[0]

    def test_what_was_rotated_away_unseen_is_told(self, logs, log):
        """
        Whoever reads too slowly hears of it, and goes on with the oldest that is left.
        """
        said = []
        append(log, b"a" * 101)
        with Tail(log, say=said.append) as tail:
            tail.more()
            for letter in (b"b", b"c", b"d"):
                append(log, letter * 101)
                look(logs, kept(log))

            assert b"c" * 101 + b"d" * 101 == rest(tail)
        assert ["some output was rotated away before it could be shown"] == said

    def test_after_a_cut_for_want_of_room_it_goes_on_where_it_was(self, log):
        """
        The older file then has other places than the log had.
        """
        append(log, b"".join(b"%d\n" % number for number in range(300_000)))
        with Tail(log) as tail:
            tail.skip_to_last(1)
            assert b"299999\n" == rest(tail)
            append(log, b"next\n")
            look(Logs(free_bytes=lambda _: 0), kept(log))
            append(log, b"after\n")

            assert b"next\nafter\n" == rest(tail)

    def test_a_line_without_end_is_shown_up_to_a_limit(self, log):
        """
        A carriage return ends a line as well, and no line is longer than a person can read.
        """
        append(log, b"x" * (2 * MAX_TAIL_BYTES) + b"1\r2\r3\r\n4\r")
        with Tail(log) as tail:
            assert not tail.skip_to_last(2)
            assert b"3\r\n4\r" == rest(tail)
            assert tail.skip_to_last(5)
            assert MAX_TAIL_BYTES == len(rest(tail))


@pytest.fixture(scope="module")
def daemon():
    config = (
        "[policy]\ndefault_rules = false\n[jobs]\nlog_max_bytes = 50000\nlog_files = 1\nstart_grace_s = 1.0\n"
    )
    with RunningDaemon(config) as running:
        yield running


class TestJobs:
    """With a real daemon; it looks every two seconds."""

    def test_logs_of_jobs_are_kept_short_while_they_run_and_after(self, daemon):
        """
        Also what a job left behind; not the log of one that wants it all.
        """
        end = daemon.work / "end"
        command = (sys.executable, "-c", WRITER, str(end))
        daemon.command("whole", "sh", "-c", "yes | head -c 100000", log_max_bytes=0)
        daemon.command("leaves", "sh", "-c", 'setsid "$@" & exit 0', "sh", *command, keep_children=True)
        daemon.until("leaves", "completed")
        log = daemon.paths.log("leaves")
        until(lambda: older_numbers(log) == [1])
        end.touch()
        until(lambda: log.stat().st_size <= 50_000)

        assert 100_000 == daemon.paths.log("whole").stat().st_size

    def test_a_new_job_under_the_name_of_a_removed_one_begins_with_a_line(self, daemon):
        """
        2026-11-29: its log went on where the other's ended. Starts of one job are not set apart.
        """
        for word in ("first", "second"):
            daemon.command("again", "echo", word)
            daemon.until("again", "completed")
            if word == "first":
                daemon.ask(api.RemoveRequest, "again")
        daemon.ctl("restart", "again", "--wait")
        daemon.until("again", "completed")
        heading = "here a new job `again` begins; what stands above is of an earlier one of that name"

        assert ["first", "", f"training-supervisor: {heading}", "second", "second"] == (
            daemon.ctl("logs", "again").out.splitlines()
        )

    def test_a_deleted_log_is_read_from_its_process_and_comes_back_on_request(self, daemon):
        """
        It is said once how; afterwards the name is there again, and the job writes on all the while.
        """
        script = 'echo first; while ! [ -e "$0" ]; do sleep 0.1; done; echo second; exec sleep 600'
        going = daemon.work / "going"
        daemon.command("loser", "sh", "-c", script, str(going))
        log = daemon.paths.log("loser")
        daemon.until("loser", lambda row: row.pid)
        until(lambda: log.exists() and log.read_text() == "first\n")
        with daemon.following("logs", "-f", "loser") as following:
            assert following.stdout.readline() == "first\n"
            log.unlink()
            said = daemon.ctl("logs", "loser")

            assert "first\n" == said.out
            assert 1 == said.err.count("was deleted while its job writes it")
            assert "`supervisorctl reload` makes a new one" in said.err
            daemon.ctl("reload")
            until(lambda: log.exists() and log.read_text() == "first\n")
            going.touch()
            until(lambda: log.read_text() == "first\nsecond\n")
            assert following.stdout.readline() == "second\n"
        daemon.ctl("kill", "loser")

    def test_a_moved_log_stays_as_it_was_moved(self, daemon):
        """
        Whoever keeps one under another name finds it unchanged; what comes after goes into the new one.
        """
        script = 'echo first; while ! [ -e "$0" ]; do sleep 0.1; done; echo second; exec sleep 600'
        going = daemon.work / "going-too"
        daemon.command("mover", "sh", "-c", script, str(going))
        log = daemon.paths.log("mover")
        daemon.until("mover", lambda row: row.pid)
        until(lambda: log.exists() and log.read_text() == "first\n")
        saved = log.rename(log.with_name("saved"))
        assert f"was moved to `{saved}`" in daemon.ctl("logs", "mover").err
        daemon.ctl("reload")
        until(log.exists)
        going.touch()
        until(lambda: log.read_text() == "second\n")

        # It is in both until it is cut here.
        until(lambda: saved.read_text() == "first\n")
        daemon.ctl("kill", "mover")

    def test_a_failed_progress_bar_is_shown_in_its_last_state(self, daemon):
        """
        `show` and `logs -n` of a run that printed megabytes on one line.
        """
        script = "print('begun'); print(*range(100_000), sep='\\r', flush=True); raise SystemExit('none')"
        daemon.command("bar", sys.executable, "-c", script, log_max_bytes=0)
        daemon.until("bar", "failed")
        shown = daemon.ctl("show", "bar").out.partition("Last lines of the log\n")[2]

        assert "  begun\n  99999\n  none\n" == shown
        # A pipe that is read as text has newlines only.
        assert "99998\n99999\nnone\n" == daemon.ctl("logs", "-n", "3", "bar").out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root keeps logs of other users")
def test_the_log_of_another_users_job_is_kept_short_and_stays_that_users(tmp_path, logs):
    """
    Also the older part, which the user reads as the newer one; a link in its place is not followed.
    """
    nobody = pwd.getpwnam("nobody")
    log, other = tmp_path / "log", tmp_path / "other"
    log.write_text("x" * 200)
    os.chown(log, nobody.pw_uid, nobody.pw_gid)
    other.write_text("y")
    look(logs, kept(log)._replace(job="nobody/night"))
    older = tmp_path / "log.1"
    found = [(one.stat().st_uid, one.stat().st_size, one.stat().st_mode & 0o077) for one in (log, older)]
    log.unlink()
    log.symlink_to(other)
    look(logs, kept(log, max_bytes=1)._replace(job="nobody/night"))

    assert [(nobody.pw_uid, 0), (nobody.pw_uid, 200)] == [one[:2] for one in found]
    assert 0 == found[1][2]
    assert ("y", 0) == (other.read_text(), other.stat().st_uid)
