"""Every command of supervisorctl, as a process, against a real daemon with real training runs.

Covers: exit codes, what goes to stdout and what to stderr, several jobs at
once, `--all`, `--json`, waiting.
Does not cover: the exact look of the output (test_cli_output.py).
"""

from __future__ import annotations

import json
import signal

import pytest

from tests.harness import CHAIN, RunningDaemon, until


@pytest.fixture(scope="module")
def daemon():
    """One for all commands; each test has jobs of its own."""
    with RunningDaemon() as running:
        yield running


@pytest.fixture
def train(daemon):
    """Starts runs that do not outlive the test."""
    names = []

    def start(name, **fields):
        names.append(name)
        return daemon.train(name, **fields)

    yield start
    for name in names:
        if daemon.row(name).state not in ("completed", "failed", "stopped"):
            daemon.ctl("kill", name)


def lines(said):
    return said.out.splitlines()


#: Where a short run waits until a command was given, so that it is not over before.
HELD = "step-60"


def asked_while_held(daemon, run, *words):
    """Give a command that waits, let the run go on, return the exit code and the lines."""
    with daemon.following(*words) as process:
        process.stderr.readline()
        run.let_go(HELD)
        out, _ = process.communicate(timeout=60)
    return process.returncode, out.splitlines()


class TestRun:
    """`run` makes a job of a command."""

    def test_it_starts_the_command_with_the_environment_of_the_shell(self, daemon):
        """
        The job has the name that was asked for, runs in this folder, and ends.
        """
        run = daemon.plan("run-1", steps=5)
        said = daemon.ctl("run", "--name", "run-1", "--", *CHAIN, **daemon.chain_env(run))
        done = daemon.ctl("wait", "run-1")

        assert (0, ["run-1 queued"]) == (said.code, lines(said))
        assert "hint: `supervisorctl logs -f run-1` follows it" in said.err
        assert (0, ["run-1 completed"]) == (done.code, lines(done))
        assert run.is_exact()

    def test_a_job_without_a_name_gets_the_next_number(self, daemon):
        """
        Two such jobs have two names, and --json tells them to programs.
        """
        names = [json.loads(daemon.ctl("run", "--json", "--", "true").out)[0]["job"] for _ in range(2)]
        numbers = [int(name.removeprefix("job-")) for name in names]

        assert numbers[0] + 1 == numbers[1]

    def test_a_job_that_has_to_wait_says_for_what_and_starts_when_a_person_says_so(self, daemon):
        """
        In one line, at once, and `status` says the same; only who names it starts it before its time.
        """
        every = daemon.ctl("run", "--cpus", "4000", "--", "true").err.split(", there are ")[1].split()[0]
        daemon.ctl("run", "--name", "first", "--cpus", every, "--", "sleep", "60")
        daemon.ctl("resume", "first")  # The queue would wait for what others of the machine are at.
        daemon.until("first", lambda row: row.pid)
        said = daemon.ctl("run", "--name", "big", "--cpus", every, "--", "sleep", "60")
        status = daemon.ctl("status", "big", COLUMNS="200")

        needs = f"needs {every} CPUs, 0 are not given away"
        assert f"big queued; {needs}\n" == said.out
        assert (
            "hint: it starts by itself when that is over; `supervisorctl resume big` starts it now"
            in said.err
        )
        assert lines(status)[1].endswith(f"waiting: {needs}")

        assert (
            "hint: you may start it all the same: `supervisorctl resume big`" in daemon.ctl("why", "big").err
        )
        daemon.ctl("resume", "--all")
        assert "queued" == daemon.row("big").state
        assert "big starting\n" == daemon.ctl("resume", "big").out
        me = daemon.ctl("why", "big").out.splitlines()[1]
        assert me.endswith(" started it.")
        assert not me.startswith("The queue")
        assert 0 == daemon.ctl("kill", "big", "first", "--wait").code

    def test_a_name_that_is_taken_is_refused(self, daemon):
        """
        Exit code 3, with a way out.
        """
        first = daemon.ctl("run", "--name", "taken", "--", "true")
        second = daemon.ctl("run", "--name", "taken", "--", "true")

        assert (0, 3, "") == (first.code, second.code, second.out)
        assert second.err.startswith("error: cannot ")
        assert "`taken`" in second.err
        assert "hint: " in second.err

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (("--", "no-such-program-here"), "no such command"),
            (("--cwd", "/no/such/folder", "--", "true"), "there is no such folder"),
            (("--name", "../x", "--", "true"), "cannot name a job"),
            (("--cpus", "4000", "--", "true"), "needs 4000 CPUs, there are "),
            (("--memory", "900T", "--", "true"), "needs 900.0 TiB of memory, the machine has "),
            ((), "missing argument"),
        ],
    )
    def test_what_cannot_be_run_is_said_before_a_job_is_made(self, daemon, words, told):
        """
        Exit code 2, and no job.
        """
        before = daemon.names()
        said = daemon.ctl("run", *words)

        assert 2 == said.code
        assert told in said.err
        assert before == daemon.names()


class TestLooking:
    """Commands that change nothing."""

    def test_status_shows_all_jobs_or_those_named(self, daemon, train):
        """
        One line a job on stdout; nothing on stderr when all is well.
        """
        train("look-1")
        train("look-2")
        every = daemon.ctl("status")
        one = daemon.ctl("status", "look-2")

        assert {"look-1", "look-2"} <= {line.split()[0] for line in lines(every)}
        assert ["NAME", "look-2"] == [line.split()[0] for line in lines(one)]
        assert (0, "") == (one.code, one.err)

    def test_status_as_json_has_the_same_rows_with_numbers(self, daemon, train):
        """
        A program reads steps, state and process.
        """
        run = train("json-1")
        daemon.until("json-1", lambda row: row.step)
        (row,) = json.loads(daemon.ctl("status", "--json", "json-1").out)

        assert ("json-1", "running", True) == (row["name"], row["state"], row["pausable"])
        assert row["step"] > 0
        assert (100_000, run.starts[0]) == (row["num_steps"], row["pid"])
        assert row["metrics"]["count"] > 0

    def test_an_unknown_job_is_a_usage_error_with_the_nearest_name(self, daemon, train):
        """
        Exit code 2 of every command that takes a name.
        """
        train("nearest")
        for words in (
            ("status", "nearestt"),
            ("show", "nearestt"),
            ("pause", "nearestt"),
            ("logs", "nearestt"),
            ("why", "nearestt"),
            ("events", "nearestt"),
        ):
            said = daemon.ctl(*words)

            assert (2, "") == (said.code, said.out), words
            assert "`nearest`" in said.err, words

    def test_show_tells_everything_but_the_values_of_the_environment(self, daemon, train):
        """
        Names of variables are shown, tokens in them are not.
        """
        train("secret", TOKEN="hush-hush")
        text, told = daemon.ctl("show", "secret"), daemon.ctl("show", "--json", "secret")
        (reply,) = json.loads(told.out)

        assert "TOKEN" in text.out
        assert "hush-hush" not in text.out + told.out
        assert list(CHAIN) == reply["argv"]
        assert ["hold", "exit"] == reply["depths"]

    def test_show_of_a_failed_job_has_the_end_of_its_log(self, daemon):
        """
        Why it failed is one command away.
        """
        daemon.ctl("run", "--name", "broken", "--", "sh", "-c", "echo out of luck >&2; exit 7")
        waited = daemon.ctl("wait", "broken")
        shown = daemon.ctl("show", "broken")

        assert 1 == waited.code
        assert "exit code 7" in waited.out
        assert "out of luck" in shown.out

    def test_logs_shows_what_was_printed_and_follows_to_the_end(self, daemon, train):
        """
        `logs -f` ends by itself when the job is over, and has its last line.
        """
        run = train("talks", steps=30, hold=("step-20",))
        first = daemon.ctl("logs", "talks")
        with daemon.following("logs", "-f", "talks") as following:
            assert "attached at step 0\n" == following.stdout.readline()
            run.let_go("step-20")
            rest, said = following.communicate(timeout=60)

        assert (0, "attached at step 0\n") == (first.code, first.out)
        assert (0, "done\n") == (following.returncode, rest)
        assert "talks is completed" in said

    def test_events_shows_what_happened_and_follows(self, daemon, train):
        """
        A line an event; with -f each new one as it comes, as JSON for programs.
        """
        train("lives")
        stored = daemon.ctl("events", "lives")
        with daemon.following("events", "-f", "--json", "lives") as following:
            seen = [json.loads(following.stdout.readline())["kind"] for _ in range(4)]
            daemon.pause("lives")
            while seen[-1] != "yielded":
                seen.append(json.loads(following.stdout.readline())["kind"])

        assert ["submitted", "admitted", "process-started", "attached", "pause-asked"] == seen[:5]
        assert [0, 5] == [stored.code, len(lines(stored))]


class TestPauseAndResume:
    """The reason for it all."""

    def test_a_pause_waits_for_the_boundary_and_says_where_it_is(self, daemon, train):
        """
        Stages on stderr, the end on stdout, exit code 0; then resume likewise.
        """
        run = train("p-1", hold=("step",))
        run.until_at("step")
        with daemon.following("pause", "--wait", "--reason", "a game", "p-1") as pausing:
            assert "waiting for a batch boundary" in pausing.stderr.readline()
            run.let_go("step")
            out, _ = pausing.communicate(timeout=60)
        row = daemon.row("p-1")
        shown = daemon.ctl("status", "p-1")
        back = daemon.ctl("resume", "--wait", "p-1")

        assert (0, f"p-1 paused (hold) at step {row.checkpoint_step}\n") == (pausing.returncode, out)
        assert "a game" in shown.out
        assert (0, ["p-1 running"]) == (back.code, lines(back))

    def test_a_pause_to_exit_ends_the_process_and_resume_starts_it(self, daemon, train):
        """
        Nothing of it is left but the checkpoint, and it goes on exactly.
        """
        run = train("p-2", steps=80, hold=(HELD,))
        code, said = asked_while_held(daemon, run, "pause", "--depth", "exit", "--wait", "p-2")
        left = daemon.row("p-2")
        daemon.ctl("resume", "p-2")
        done = daemon.ctl("wait", "p-2")

        assert (0, None) == (code, left.pid)
        assert "paused (exit)" in said[0]
        assert 0 == done.code
        assert 2 == len(run.starts)
        assert run.is_exact()

    def test_a_pause_for_a_time_ends_by_itself(self, daemon, train):
        """
        `pause --for 1s`: the wake-up is shown, and comes.
        """
        train("p-3")
        daemon.ctl("pause", "--for", "1.5s", "--wait", "p-3")
        row = daemon.row("p-3")
        daemon.until("p-3", "running")

        assert "paused" == row.state
        assert 0 < row.wake_in_s <= 1.5

    def test_a_depth_that_the_shim_cannot_do_is_refused(self, daemon, train):
        """
        Exit code 3, and the hint says what it can do.
        """
        train("p-4")
        said = daemon.ctl("pause", "--depth", "offload", "p-4")

        assert 3 == said.code
        assert "its shim can do hold, exit" in said.err
        assert "running" == daemon.row("p-4").state

    def test_what_the_state_does_not_allow_is_refused(self, daemon, train):
        """
        Exit code 3 with what is allowed.
        """
        train("p-5")
        said = daemon.ctl("resume", "p-5")

        assert 3 == said.code
        assert "it is running" in said.err
        assert "pause" in said.err

    def test_several_jobs_at_once_get_an_answer_each(self, daemon, train):
        """
        One that is refused does not keep the others from it, and the exit code tells.
        """
        train("m-1")
        train("m-2")
        daemon.ctl("run", "--name", "m-over", "--", "true")
        daemon.until("m-over", "completed")
        said = daemon.ctl("pause", "--wait", "m-1", "m-over", "m-2")

        assert 3 == said.code
        assert ["m-1", "m-2"] == sorted(line.split()[0] for line in lines(said))
        assert "`m-over`" in said.err
        assert ["paused", "paused"] == [daemon.row(name).state for name in ("m-1", "m-2")]

    def test_a_restarted_job_that_has_to_wait_says_so_as_a_new_one_does(self, daemon, train):
        """
        Also with --wait; and it is at no step before it begins.
        """
        daemon.ctl("kill", "--all", "--wait")
        train("again", steps=3, treated={"num_cpus": 1.0})
        daemon.ctl("resume", "again")  # The queue would wait for what others of the machine are at.
        daemon.until("again", "completed")
        every = daemon.ctl("run", "--cpus", "4000", "--", "true").err.split(", there are ")[1].split()[0]
        daemon.ctl("run", "--name", "all-of-it", "--cpus", every, "--", "sleep", "60")
        daemon.ctl("resume", "all-of-it")
        daemon.until("all-of-it", lambda row: row.pid)
        said = daemon.ctl("restart", "again")
        row = daemon.row("again")
        waited = daemon.ctl("restart", "again", "--wait", "--timeout", "1")
        daemon.ctl("kill", "again", "all-of-it", "--wait")

        assert said.out.startswith("again queued; needs 1 CPU"), said
        assert (
            "hint: it starts by itself when that is over; `supervisorctl resume again` starts it now"
            in said.err
        )
        assert None is row.step
        assert "again queued; needs 1 CPU" in waited.err
        assert "`supervisorctl resume again` starts it now" in waited.err

    def test_all_means_every_job_that_it_can_apply_to(self, daemon, train):
        """
        Jobs that are over are left alone, and nothing is refused.
        """
        train("all-1")
        train("all-2")
        paused = daemon.ctl("pause", "--all", "--wait", "--json")
        resumed = daemon.ctl("resume", "--all", "--wait")

        assert {"all-1", "all-2"} == {each["job"] for each in json.loads(paused.out)}
        assert {"paused"} == {each["state"] for each in json.loads(paused.out)}
        assert (0, 0) == (paused.code, resumed.code)

    def test_jobs_and_all_together_is_a_usage_error(self, daemon):
        """
        Exit code 2; neither of them as well.
        """
        assert [2, 2] == [daemon.ctl("pause", "--all", "x").code, daemon.ctl("pause").code]

    def test_an_interrupted_wait_leaves_the_request_standing(self, daemon, train):
        """
        Ctrl-C ends the waiting, not the pause.
        """
        run = train("p-6", hold=("step",))
        run.until_at("step")
        with daemon.following("pause", "--wait", "p-6") as pausing:
            pausing.stderr.readline()
            pausing.send_signal(signal.SIGINT)
            _, said = pausing.communicate(timeout=60)
        run.let_go("step")
        daemon.until("p-6", "paused")

        assert 130 == pausing.returncode
        assert "the pause request stands for `p-6`" in said

    def test_a_wait_that_takes_too_long_is_given_up(self, daemon, train):
        """
        Exit code 1, and the request stands.
        """
        run = train("p-7", hold=("step",))
        run.until_at("step")
        said = daemon.ctl("pause", "--wait", "--timeout", "0.3s", "p-7")

        assert 1 == said.code
        assert "cannot wait any longer" in said.err
        assert "pausing" == daemon.row("p-7").state


class TestEnding:
    """stop, kill, restart, remove."""

    def test_stop_checkpoints_first_and_restart_goes_on_from_there(self, daemon, train):
        """
        No step is lost or repeated between the two.
        """
        run = train("s-1", steps=80, hold=(HELD,))
        stopped = asked_while_held(daemon, run, "stop", "--wait", "s-1")
        step = daemon.row("s-1").checkpoint_step
        again = daemon.ctl("restart", "--wait", "s-1")
        done = daemon.ctl("wait", "s-1")

        assert (0, [f"s-1 stopped at step {step}"]) == stopped
        assert (0, 0) == (again.code, done.code)
        assert run.is_exact()

    def test_restart_of_a_running_job_stops_it_first(self, daemon, train):
        """
        It checkpoints, ends, starts anew and goes on.
        """
        run = train("s-2", steps=80, hold=(HELD,))
        said = asked_while_held(daemon, run, "restart", "--wait", "s-2")
        daemon.ctl("wait", "s-2")

        assert (0, ["s-2 running"]) == said
        assert 2 == len(run.starts)
        assert run.is_exact()

    def test_stop_of_a_script_without_a_shim_terminates_it(self, daemon):
        """
        There is no checkpoint to wait for.
        """
        daemon.command("s-3", "sleep", "600")
        daemon.until("s-3", lambda row: row.pid)
        said = daemon.ctl("stop", "--wait", "s-3")
        row = daemon.row("s-3")

        assert (0, "stopped", signal.SIGTERM) == (said.code, row.state, row.exit_signal)

    def test_kill_ends_a_job_at_once(self, daemon, train):
        """
        Also one that would never reach a boundary.
        """
        run = train("s-4", hold=("step",))
        run.until_at("step")
        said = daemon.ctl("kill", "--wait", "s-4")
        row = daemon.row("s-4")

        assert (0, "stopped", signal.SIGKILL) == (said.code, row.state, row.exit_signal)

    def test_a_paused_job_can_be_stopped(self, daemon, train):
        """
        Held or gone, it becomes stopped.
        """
        train("s-5")
        train("s-6")
        daemon.ctl("pause", "--wait", "s-5")
        daemon.ctl("pause", "--wait", "--depth", "exit", "s-6")
        said = daemon.ctl("stop", "--wait", "s-5", "s-6")

        assert 0 == said.code
        assert ["stopped", "stopped"] == [daemon.row(name).state for name in ("s-5", "s-6")]

    def test_remove_forgets_a_job_that_is_over_and_no_other(self, daemon, train):
        """
        Its checkpoints stay on disk.
        """
        daemon.train("s-7")
        running = daemon.ctl("remove", "s-7")
        daemon.ctl("stop", "--wait", "s-7")
        over = daemon.ctl("remove", "s-7")

        assert (3, 0) == (running.code, over.code)
        assert "s-7" not in daemon.names()
        assert lines(daemon.ctl("events", "s-7", "-n", "1"))[1].split()[2:4] == ["s-7", "removed"]
        assert any((daemon.work / "checkpoints/s-7").glob("step-*/manifest.json"))
        assert "checkpoints stay in" in over.out

    def test_a_removed_name_can_be_used_again(self, daemon):
        """
        The new job is started, and finds the checkpoints of the old one.
        """
        daemon.train("s-8")
        daemon.ctl("stop", "--wait", "s-8")
        step = daemon.row("s-8").checkpoint_step
        daemon.ctl("remove", "s-8")
        daemon.train("s-8", wait=False)
        row = daemon.until("s-8", lambda row: row.pausable or row.state == "failed")
        daemon.ctl("kill", "s-8")

        assert "running" == row.state
        assert f"attached at step {step}" in daemon.job_log("s-8")

    def test_checkpoint_waits_until_it_is_durable_and_training_goes_on(self, daemon, train):
        """
        The step it names is on disk.
        """
        train("s-9")
        said = daemon.ctl("checkpoint", "--wait", "s-9")
        row = daemon.row("s-9")
        folder = daemon.work / f"checkpoints/s-9/step-{row.checkpoint_step:09}"

        assert (0, [f"s-9 running; checkpoint at step {row.checkpoint_step}"]) == (said.code, lines(said))
        assert (folder / "manifest.json").is_file()
        assert "running" == row.state

    def test_wait_gives_up_after_its_time(self, daemon, train):
        """
        Exit code 1; the job goes on.
        """
        train("s-10")
        said = daemon.ctl("wait", "--timeout", "0.3s", "s-10")

        assert 1 == said.code
        assert "running" == daemon.row("s-10").state


class TestHost:
    """Commands about the daemon."""

    def test_version_tells_both(self, daemon):
        """
        Command and daemon, with its process.
        """
        said = daemon.ctl("version")

        assert 0 == said.code
        assert f"(pid {daemon.pid})" in said.out
        assert 2 == len(lines(said))

    def test_reload_says_what_is_wrong_with_a_file(self, daemon):
        """
        Exit code 2 with the nearest key; a good file is taken.
        """
        good = daemon.paths.config_file.read_text()
        daemon.configure(good.replace("heartbeat_s", "hartbeat_s"))
        bad = daemon.ctl("reload")
        daemon.configure(good)
        again = daemon.ctl("reload")

        assert 2 == bad.code
        assert "unknown key `shim.hartbeat_s`" in bad.err
        assert "did you mean `shim.heartbeat_s`?" in bad.err
        assert (0, ["configuration read"]) == (again.code, lines(again))

    def test_doctor_looks_at_the_daemon(self, daemon):
        """
        It answers, and nothing here is failing but what the environment lacks.
        """
        findings = json.loads(daemon.ctl("doctor", "--json").out)
        answers = [each["level"] for each in findings if each["what"].startswith("the daemon answers")]

        assert ["ok"] == answers

    def test_without_a_daemon_every_command_says_so(self, daemon):
        """
        Exit code 4, what to start, and nothing on stdout; the doctor has more to say.
        """
        nobody = str(daemon.home / "nobody")
        for words in (("status",), ("pause", "x"), ("run", "--", "true"), ("wait", "x"), ("logs", "x")):
            said = daemon.ctl("--home", nobody, *words)

            assert (4, "") == (said.code, said.out), words
            assert "training-supervisord" in said.err, words
        doctor = daemon.ctl("--home", nobody, "doctor")

        assert 1 == doctor.code
        assert "cannot reach the daemon" in doctor.out

    def test_completion_knows_the_jobs(self, daemon, train):
        """
        Bash asks the command, and the command asks the daemon.
        """
        train("complete-me")
        script = daemon.ctl("completion", "bash")
        said = daemon.ctl(
            _SUPERVISORCTL_COMPLETE="bash_complete", COMP_WORDS="supervisorctl pause compl", COMP_CWORD="2"
        )

        assert "supervisorctl" in script.out
        until(lambda: "complete-me" in said.out, lambda: said)
