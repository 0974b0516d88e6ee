"""The command as a process: exit codes, and what stands on stdout and on stderr."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from time import monotonic

import pytest

from supervisor import api
from supervisor.cli.commands.status import plain_status
from tests.fakes.daemon import FakeDaemon
from trainer_shim import protocol as wire

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home():
    # A socket path holds 107 bytes; pytest's own folders can be longer.
    folder = Path(tempfile.mkdtemp(prefix="ts-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def daemon(home):
    with FakeDaemon(home) as daemon:
        yield daemon


def environment(home, **more):
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {"PYTHONPATH": str(ROOT), "TRAINING_SUPERVISOR_HOME": str(home), "TZ": "UTC"} | more


def ctl(home, *args, cwd=ROOT, **env):
    command = [sys.executable, "-m", "supervisor.cli.main", *args]
    return subprocess.run(
        command,
        env=environment(home, **env),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


class Running:
    """A command that goes on while the test changes the world; its words are waited for."""

    def __init__(self, home, *args):
        command = [sys.executable, "-m", "supervisor.cli.main", *args]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, env=environment(home), cwd=ROOT, stdout=pipe, stderr=pipe, text=True, bufsize=1
        )
        self.out, self.err = [], []
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._read, args=pair)
            for pair in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, stream, lines):
        for line in stream:
            with self._changed:
                lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        stream.close()

    def sees(self, lines, text):
        with self._changed:
            assert self._changed.wait_for(lambda: any(text in line for line in lines), timeout=20), (
                f"no `{text}` in {lines}"
            )

    def end(self):
        code = self.process.wait(timeout=20)
        for thread in self._threads:
            thread.join()
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.end()


def refused(error, code, hint="try again"):
    return lambda r: [wire.Refusal(id=r.id, error=error, hint=hint, exit_code=code)]


def test_status_is_a_table_on_stdout_and_alerts_on_stderr(daemon, home):
    """
    A pipe gets the table, the person also gets the warnings.
    """
    daemon.add("job-1", "running", step=12, num_steps=100, since_s=192)
    daemon.alerts = ("config.toml: line 3: unknown key",)
    done = ctl(home, "status")

    assert 0 == done.returncode
    assert [
        "NAME   STATE     SINCE        STEP",
        "job-1  running  3m 12s  12/100 12%",
    ] == done.stdout.splitlines()
    assert "warning: config.toml: line 3: unknown key\n" == done.stderr


def test_no_jobs_is_no_output(daemon, home):
    """
    An empty table is no table; the person reads what to do.
    """
    done = ctl(home, "status")

    assert (0, "") == (done.returncode, done.stdout)
    assert "supervisorctl run" in done.stderr
    assert "[]\n" == ctl(home, "status", "--json").stdout


def test_json_has_the_same_rows_with_every_field(daemon, home):
    """
    Programs find every field, known or not.
    """
    daemon.add("job-1", "running", step=12)
    (row,) = json.loads(ctl(home, "status", "--json").stdout)

    assert ("job-1", 12, None) == (row["name"], row["step"], row["eta_s"])
    assert set(api.JobRow.__struct_fields__) == set(row)


def test_without_a_daemon_a_command_says_what_to_start(home):
    """
    Exit code 4, nothing on stdout, and the socket that was looked at.
    """
    done = ctl(home, "status")

    assert (4, "") == (done.returncode, done.stdout)
    assert done.stderr == (
        f"error: cannot reach the daemon: there is no socket `{home}/run/control.sock`\n"
        "\nhint: start it: `training-supervisord`\n"
    )


def test_the_hint_starts_a_daemon_where_the_command_looked(home, tmp_path):
    """
    With --home, the daemon of another place would not help.
    """
    done = ctl(home, "--home", str(tmp_path / "other"), "status")

    assert done.stderr.endswith(f"hint: start it: `training-supervisord --home {tmp_path}/other`\n")


@pytest.mark.parametrize("code", [1, 2, 3])
def test_a_refusal_is_an_error_with_its_hint_and_code(daemon, home, code):
    """
    The daemon's words reach the person unchanged.
    """
    daemon.answers[api.ReloadRequest] = refused("cannot read `x`", code)
    done = ctl(home, "reload")

    assert (code, "", "error: cannot read `x`\n\nhint: try again\n") == (
        done.returncode,
        done.stdout,
        done.stderr,
    )


def test_the_exit_code_of_several_jobs_is_the_worst(daemon, home):
    """
    Each job is told; the code is the highest.
    """
    daemon.add("job-1", "running")
    daemon.answers[api.PauseRequest] = lambda r: [
        api.Accepted(id=r.id, job="job-1", state="pausing", last=False),
        wire.Refusal(id=r.id, job="a", error="cannot pause `a`", exit_code=3, last=False),
        wire.Refusal(id=r.id, job="b", error="cannot find `b`", exit_code=2),
    ]
    done = ctl(home, "pause", "job-1", "a", "b")
    as_json = ctl(home, "pause", "job-1", "a", "b", "--json")

    assert (3, "job-1 pausing\n") == (done.returncode, done.stdout)
    assert "error: cannot pause `a`\nerror: cannot find `b`\n" == done.stderr
    assert 3 == as_json.returncode
    assert [("job-1", "", 0), ("a", "cannot pause `a`", 3), ("b", "cannot find `b`", 2)] == [
        (row["job"], row["error"], row["exit_code"]) for row in json.loads(as_json.stdout)
    ]


@pytest.mark.parametrize(
    ("args", "error", "hint"),
    [
        (["pase"], "cannot find a command `pase`", "did you mean `pause`?"),
        (["pause"], "cannot tell which job is meant", "supervisorctl pause --help"),
        (["pause", "--all", "job-1"], "cannot take both", "supervisorctl pause --help"),
        (
            ["pause", "job-1", "--timeout", "3"],
            "cannot use --timeout without --wait",
            "supervisorctl pause --help",
        ),
        (["pause", "job-1", "--for", "soon"], "`soon` is not a time", "supervisorctl pause --help"),
        (["run"], "missing argument", "supervisorctl run --help"),
        (["run", "nonesuch"], "cannot run `nonesuch`", "activate the environment"),
        (["run", "--cwd", "/nonesuch", "--", "sh"], "there is no such folder", "--cwd"),
        (["run", "--name", "a b", "--", "sh"], "cannot name a job `'a b'`", "64 letters"),
        (["show", "a/b/c"], "cannot find job `a/b/c`", "supervisorctl status"),
        (["logs", "job-1", "-n", "few"], "neither a number nor `all`", "supervisorctl logs --help"),
    ],
)
def test_what_cannot_be_right_is_a_usage_error(daemon, home, args, error, hint):
    """
    Exit code 2, the word that is wrong, and where to look; the daemon is not asked.
    """
    done = ctl(home, *args)

    assert (2, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("error: ")
    assert error in done.stderr
    assert hint in done.stderr.partition("\n\nhint: ")[2]
    assert [] == daemon.requests


def test_run_sends_the_command_and_the_environment_without_our_settings(daemon, home, tmp_path):
    """
    The job sees what the shell sees; what follows `--` is the command's own.
    """
    done = ctl(
        home, "run", "--restart", "on-failure", "--checkpoints", "ck", "--", "sh", "-c", "--", "--json",
        cwd=tmp_path, LR="0.1",
    )  # fmt: skip
    request = daemon.received(api.RunRequest)

    assert (0, "job-1 queued\n") == (done.returncode, done.stdout)
    assert "hint: `supervisorctl logs -f job-1`" in done.stderr
    assert (("sh", "-c", "--", "--json"), str(tmp_path)) == (request.argv, request.cwd)
    assert (str(tmp_path / "ck"), "on-failure") == (request.checkpoints, request.restart)
    assert "0.1" == request.env["LR"]
    assert [] == [name for name in request.env if name.startswith("TRAINING_SUPERVISOR_")]


def test_run_sends_how_the_job_is_to_be_treated(daemon, home):
    """
    Priority, protection, labels and needs; sizes are powers of 1024, as a GPU's memory is told.
    """
    done = ctl(
        home, "run", "--priority", "-5", "--protect", "--label", "team=vision", "--label", "why=a=b",
        "--gpus", "2", "--gpu-memory", "20G", "--memory", "512M", "--cpus", "1.5",
        "--log-max", "1M", "--log-files", "0", "--every", "1h30m", "--", "sh", "-c", "true",
    )  # fmt: skip
    request = daemon.received(api.RunRequest)

    assert (0, "job-1 queued\n") == (done.returncode, done.stdout)
    assert (-5, True, {"team": "vision", "why": "a=b"}) == (
        request.priority,
        request.protected,
        request.labels,
    )
    assert (2, 20 << 30, 512 << 20, 1.5) == (
        request.num_gpus,
        request.gpu_memory_bytes,
        request.memory_bytes,
        request.num_cpus,
    )
    assert (1 << 20, 0, 5400.0) == (request.log_max_bytes, request.log_files, request.every_s)


def test_set_sends_only_what_is_to_change(daemon, home):
    """
    What is not named stays as it is.
    """
    daemon.add("night", "running")
    done = ctl(home, "set", "night", "--no-protect", "--label", "team=")
    request = daemon.received(api.SetRequest)

    assert (0, "night running\n") == (done.returncode, done.stdout)
    assert (None, False, {"team": ""}) == (request.priority, request.protected, request.labels)
    assert (None, False) == (request.every_s, request.no_every)
    assert 2 == ctl(home, "set", "night").returncode


def test_set_changes_how_often_a_job_saves_or_takes_it_away(daemon, home):
    """
    One of the two, and a time that makes sense; `run` refuses the same.
    """
    daemon.add("night", "running")
    sent = []
    for words in (("--every", "2h"), ("--no-every",)):
        assert 0 == ctl(home, "set", "night", *words).returncode
        request = daemon.received(api.SetRequest, count=len(sent) + 1)
        sent.append((request.every_s, request.no_every))
    both = ctl(home, "set", "night", "--every", "2h", "--no-every")
    often = ctl(home, "run", "--every", "0.5s", "--", "sh", "-c", "true")

    assert [(7200.0, False), (None, True)] == sent
    assert (2, 2) == (both.returncode, often.returncode)
    assert "error: cannot take both --every and --no-every" in both.stderr
    assert "invalid value for '--every': `0.5s` is too often: 1s is the least" in often.stderr
    assert len(sent) == len(daemon.requests)


def test_pause_hands_over_what_was_asked(daemon, home):
    """
    Depth, time, reason and --all arrive as they were typed; --home chooses the daemon.
    """
    done = ctl(
        "/nonesuch",
        "--home",
        str(home),
        "pause",
        "--all",
        "--depth",
        "exit",
        "--for",
        "10m",
        "--reason",
        "lunch",
    )
    request = daemon.received(api.PauseRequest)

    assert (0, "no job it applies to\n") == (done.returncode, done.stdout)
    assert ((), True, "exit", 600.0, "lunch") == (
        request.jobs, request.all, request.depth, request.for_s, request.reason
    )  # fmt: skip


def test_a_waiting_pause_shows_its_stages_and_then_the_result(daemon, home):
    """
    The person sees what is waited for, that it is late and where to look, that it is saved, and the end.
    """
    stage = "waiting for a batch boundary"
    daemon.add("job-1", "pausing", depth="hold", stage=stage, boundary_age_s=1.2)
    with Running(home, "pause", "--wait", "job-1") as waiting:
        waiting.sees(waiting.err, "job-1: waiting for a batch boundary (last one 1.2 s ago)")
        daemon.change("job-1", late=True, boundary_age_s=94.0)
        waiting.sees(waiting.err, "job-1: no batch boundary for 94 s")
        waiting.sees(waiting.err, "hint: `supervisorctl logs job-1`")
        daemon.change("job-1", late=False, stage="saving")
        waiting.sees(waiting.err, "job-1: saving")
        assert [] == waiting.out
        daemon.change("job-1", state="paused", stage="", checkpoint_step=1200)

        assert 0 == waiting.end()
    assert ["job-1 paused (hold) at step 1200"] == waiting.out


def test_a_pause_that_fails_is_an_error_with_its_reason(daemon, home):
    """
    The job that finished first is fine; the one that trains on is not.
    """
    daemon.add("job-1", "completed")
    daemon.add("job-2", "running", problem="cannot pause: disk full")
    done = ctl(home, "pause", "--wait", "job-1", "job-2")

    assert (1, "job-1 completed before it came to the pause\n") == (done.returncode, done.stdout)
    assert "error: cannot pause job `job-2`: disk full\n\nhint: `supervisorctl show job-2`" in done.stderr


def test_a_wait_that_takes_too_long_ends_and_the_request_stands(daemon, home):
    """
    --timeout gives up waiting, not the pause, and says so.
    """
    daemon.add("job-1", "pausing", depth="hold")
    done = ctl(home, "pause", "--wait", "--timeout", "0.2", "job-1")

    assert 1 == done.returncode
    assert "cannot wait any longer: after 0.2 s `job-1` is pausing (hold)" in done.stderr
    assert "hint: the pause request stands" in done.stderr


@pytest.mark.parametrize("command", [("pause", "--wait"), ("wait",)])
def test_json_has_an_object_for_a_job_that_is_still_waited_for(daemon, home, command):
    """
    A program sees every job that it named, and the error is told once.
    """
    daemon.add("job-1", "pausing", depth="hold")
    done = ctl(home, *command, "--timeout", "0.2", "--json", "job-1")
    (row,) = json.loads(done.stdout)

    assert ("job-1", 1) == (row["job"], row["exit_code"])
    assert "cannot wait any longer" in row["error"]
    assert 1 == done.stderr.count("error: ") == done.returncode


def test_ctrl_c_leaves_the_request_standing(daemon, home):
    """
    Interrupting the wait does not interrupt the pause, and the person is told.
    """
    daemon.add("job-1", "pausing", stage="saving")
    with Running(home, "pause", "--wait", "job-1") as waiting:
        waiting.sees(waiting.err, "job-1: saving")
        waiting.process.send_signal(signal.SIGINT)

        assert 130 == waiting.end()
    assert "interrupted: the pause request stands for `job-1`" in waiting.err[-1]
    assert [] == [line for line in waiting.err if "Traceback" in line]


def test_a_wait_survives_a_restart_of_the_daemon(daemon, home):
    """
    The daemon comes back, the wait goes on.
    """
    daemon.add("job-1", "pausing", stage="saving")
    with Running(home, "pause", "--wait", "job-1") as waiting:
        waiting.sees(waiting.err, "saving")
        daemon.stop()
        daemon.add("job-1", "paused", depth="exit", checkpoint_step=7)
        daemon.start()

        assert 0 == waiting.end()
    assert ["job-1 paused (exit) at step 7"] == waiting.out


def test_wait_succeeds_only_if_all_completed(daemon, home):
    """
    A script can rely on the exit code; the lines say which job it was.
    """
    daemon.add("job-1", "completed")
    daemon.add("job-2", "running", step=3)
    with Running(home, "wait", "job-1", "job-2") as waiting:
        waiting.sees(waiting.err, "job-2: running")
        daemon.change("job-2", state="failed", problem="exit code 1")

        assert 1 == waiting.end()
    assert ["job-1 completed", "job-2 failed: exit code 1"] == waiting.out
    assert "hint: `supervisorctl show job-2` has the facts" in waiting.err[-1]
    assert 0 == ctl(home, "wait", "job-1", "job-2", "--for", "over").returncode
    assert 2 == ctl(home, "wait", "nope").returncode


def test_checkpoint_waits_for_a_newer_one(daemon, home):
    """
    The checkpoint of before the request does not count.
    """
    daemon.add("job-1", "running", step=100, checkpoint_step=90, checkpoint_age_s=60.0)
    with Running(home, "checkpoint", "--wait", "job-1") as waiting:
        daemon.received(api.WatchRequest)
        daemon.change("job-1", checkpoint_step=101, checkpoint_age_s=0.0)

        assert 0 == waiting.end()
    assert ["job-1 running; checkpoint at step 101"] == waiting.out


def test_logs_follow_until_the_job_is_over(daemon, home, tmp_path):
    """
    What is written last is still shown, then the command ends by itself.
    """
    log = tmp_path / "log"
    log.write_text("one\ntwo\nthree\n")
    daemon.add("job-1", "running", log=str(log))
    with Running(home, "logs", "-f", "-n", "2", "job-1") as following:
        following.sees(following.out, "three")
        with log.open("a") as more:
            more.write("four\n")
        following.sees(following.out, "four")
        with log.open("a") as more:
            more.write("five\n")
        daemon.change("job-1", state="completed")

        assert 0 == following.end()
    assert ["two", "three", "four", "five"] == following.out
    assert ["job-1 is completed"] == following.err


def test_logs_can_be_read_without_a_daemon(home):
    """
    When things are down the log is what one wants.
    """
    log = home / "state" / "jobs" / "job-1" / "log"
    log.parent.mkdir(parents=True)
    log.write_text("the end\n")
    done = ctl(home, "logs", "job-1")

    assert (0, "the end\n") == (done.returncode, done.stdout)
    assert 4 == ctl(home, "logs", "job-2").returncode


def test_show_of_a_failed_job_has_the_end_of_its_log(daemon, home, tmp_path):
    """
    The reason is on the screen without a second command.
    """
    log = tmp_path / "log"
    log.write_text("Traceback\nValueError: bad\n")
    row = daemon.add("job-1", "failed", problem="exit code 1", log=str(log))
    daemon.shows["job-1"] = api.ShowReply(row=row, argv=("python", "train.py"), cwd="/")
    done = ctl(home, "show", "job-1")

    assert "Last lines of the log\n  Traceback\n  ValueError: bad\n" in done.stdout
    assert ["python", "train.py"] == json.loads(ctl(home, "show", "--json", "job-1").stdout)[0]["argv"]


def test_followed_events_are_one_object_a_line(daemon, home):
    """
    A program reads each event as it happens; Ctrl-C ends it quietly.
    """
    event = api.Event(seq=1, wall=1.7e9, job="job-1", kind="submitted", state="queued")
    daemon.publish(event, send=False)
    with Running(home, "events", "-f", "--json") as following:
        following.sees(following.out, '"seq":1')
        daemon.publish(api.Event(seq=2, wall=1.7e9, job="job-1", kind="admitted", state="starting"))
        following.sees(following.out, '"seq":2')
        following.process.send_signal(signal.SIGINT)

        assert 130 == following.end()
    assert [1, 2] == [json.loads(line)["seq"] for line in following.out]
    assert "" == "".join(following.err)
    assert "2023-11-14 22:13:20  job-1            submitted" in ctl(home, "events").stdout


def test_version_tells_both(daemon, home):
    """
    The own version is told even where no daemon is.
    """
    assert ["supervisorctl 0.1.0", "training-supervisord 0.1.0 (pid 4711)"] == ctl(
        home, "version"
    ).stdout.splitlines()
    daemon.stop()
    alone = ctl(home, "version")

    assert (4, "supervisorctl 0.1.0\n") == (alone.returncode, alone.stdout)


def test_another_protocol_version_is_a_clear_error(daemon, home):
    """
    After an upgrade of one side the person learns what to do.
    """
    daemon.answers[api.StatusRequest] = lambda _: [b"\x09x"]
    done = ctl(home, "status")

    assert 1 == done.returncode
    assert "speaks protocol version 9, this command speaks 1\n\nhint: install the same version" in done.stderr


def test_doctor_looks_at_the_daemon_and_at_who_is_first_in_path(daemon, home, tmp_path):
    """
    The other program of that name is noticed by what its script imports.
    """
    other = tmp_path / "supervisorctl"
    other.write_text("#!/usr/bin/python3\nfrom supervisor.supervisorctl import main\n")
    other.chmod(0o755)
    done = ctl(home, "doctor", PATH=str(tmp_path))

    assert 0 == done.returncode, done.stdout
    assert "warn  `supervisorctl` is" in done.stdout
    assert "type `trainctl`" in done.stdout
    assert "ok    the daemon answers: version 0.1.0, pid 4711, 0 jobs" in done.stdout
    daemon.stop()
    (home / "run").chmod(0o777)
    found = json.loads(ctl(home, "doctor", "--json").stdout)
    fails = [finding["what"] for finding in found if finding["level"] == "fail"]
    assert 2 == len(fails)
    assert "cannot trust who listens" in fails[0]
    assert "the folder of the sockets is not safe: others may write" in fails[1]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_snippet(home, shell):
    """
    Each shell gets its own; no daemon is needed.
    """
    done = ctl(home, "completion", shell)

    assert 0 == done.returncode
    assert "_SUPERVISORCTL_COMPLETE" in done.stdout


def test_job_names_are_completed_and_failures_are_silent(daemon, home):
    """
    A shell that completes never hears an error.
    """
    daemon.add("job-1", "running")
    daemon.add("vision", "running")
    asked = {
        "_SUPERVISORCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": "supervisorctl pause jo",
        "COMP_CWORD": "2",
    }

    assert "plain,job-1\n" == ctl(home, **asked).stdout
    daemon.stop()
    gone = ctl(home, **asked)
    assert (0, "", "") == (gone.returncode, gone.stdout.strip(), gone.stderr)


def test_a_reader_that_has_seen_enough_is_no_error(daemon, home):
    """
    `| head` ends the command without a traceback.
    """
    for i in range(300):
        daemon.add(f"job-{i}", "running", reason="x" * 500)
    command = f"{sys.executable} -m supervisor.cli.main status | head -n 1"
    done = subprocess.run(
        ["sh", "-c", command],
        env=environment(home),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert "NAME" in done.stdout
    assert "" == done.stderr


@pytest.mark.parametrize(
    ("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colours_only_where_they_are_wanted(daemon, home, env, coloured):
    """
    A terminal gets colours unless NO_COLOR or the terminal itself says no.
    """
    daemon.add("job-1", "running")
    mine, theirs = os.openpty()
    command = [sys.executable, "-m", "supervisor.cli.main", "status"]
    env = environment(home, **({"TERM": "xterm", "COLUMNS": "80"} | env))
    subprocess.run(command, env=env, cwd=ROOT, stdout=theirs, timeout=30, check=True)
    os.close(theirs)
    shown = os.read(mine, 10_000).decode()
    os.close(mine)

    assert "job-1" in shown
    assert coloured is ("\x1b[32mrunning" in shown)


def test_a_full_disk_is_told(daemon, home):
    """
    Output that could not be written is a failure in words, not half a table and success.
    """
    daemon.add("job-1", "running")
    command = [sys.executable, "-m", "supervisor.cli.main", "status"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command,
            env=environment(home),
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert (1, "error: cannot write the output: No space left on device\n") == (done.returncode, done.stderr)


def modules_after_status(home):
    code = (
        "import sys; sys.argv = ['supervisorctl', 'status']\n"
        "from supervisor.cli.main import main\n"
        "assert main() == 0\n"
        "print('MODULES', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(home),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split()[1:])


HEAVY = (
    "structlog psutil pynvml watchdog torch numpy asyncio zmq.asyncio sqlite3 logging subprocess unittest"
    " importlib.metadata http email"
    " supervisor.cli.commands.jobs supervisor.cli.commands.host supervisor.cli.commands.doctor"
)


def test_status_loads_nothing_heavy(daemon, home):
    """
    The command that is typed most starts in a blink; as it is typed mostly, it needs no parser.
    """
    assert set() == {*HEAVY.split(), "click"} & modules_after_status(home)


PARSED = "import sys; from supervisor.cli.parser import run; sys.exit(run('supervisorctl'))"


@pytest.mark.parametrize(
    "words",
    [(), ("job-1",), ("job-2", "job-1"), ("--json",), ("job-1", "--json"), ("--json", "job-2"), ("",)],
)
def test_status_without_the_parser_is_status_with_it(daemon, home, words):
    """
    Whoever reads the words, they mean the same; jobs that are not there included.
    """
    for name in ("job-1", "job-2"):
        daemon.add(name, "running", reason="because")
    own = ctl(home, "status", *words)
    parsed = subprocess.run(
        [sys.executable, "-c", PARSED, "status", *words],
        env=environment(home),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert parsed.stdout == own.stdout
    assert (parsed.returncode == 0) == (own.returncode == 0) == ("" not in words)


@pytest.mark.parametrize(
    "words",
    [
        ("show",),
        ("--home",),
        ("--home", "--json", "status"),
        ("--home", "/h"),
        ("status", "--help"),
        ("status", "-h"),
        ("status", "--", "job"),
        ("status", "--jsn"),
        ("--version", "status"),
        (),
    ],
)
def test_what_is_no_plain_status_is_for_the_parser(words):
    """
    It knows the help, the other commands, and what is wrong with a word.
    """
    assert plain_status(words) is None


def test_a_plain_status_has_its_own_home(home, tmp_path):
    """
    The folder that is named counts, not the one of the environment.
    """
    done = ctl(home, "--home", str(tmp_path / "other"), "status")

    assert 4 == done.returncode
    assert str(tmp_path / "other") in done.stderr


def test_status_loads_only_the_wire_of_the_shim_and_whom_to_trust(daemon, home):
    """
    Checkpoints and links belong to training processes; a status has no use for them.
    """
    loaded = {name for name in modules_after_status(home) if name.startswith("trainer_shim")}

    needed = ("", ".protocol", ".safe_files", ".server_check")
    assert {f"trainer_shim{name}" for name in needed} == loaded


def test_help_names_every_command(home):
    """
    `--help` needs no daemon, and without a command it is shown as a usage error.
    """
    started = monotonic()
    done = ctl(home, "--help")
    bare = ctl(home)

    assert 0 == done.returncode
    assert (2, "", done.stdout) == (bare.returncode, bare.stdout, bare.stderr)
    assert "checkpoint" in done.stdout
    assert 20 > monotonic() - started
