"""One daemon for several users: who may do what, what each sees, and by which names; with real users.

Covers: the system's daemon with jobs of two users, root, an admin by group; requests, rows, watchers, events,
counts and the daemon's log; names; that nothing of another user is run as root.
Does not cover: the table alone (tests/unit/core/test_rights.py), bounds (test_bounds_of_users.py).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import click
import pytest
import zmq

from supervisor import api
from supervisor.cli import options, parser
from supervisor.client import Client, new_id, refusal
from supervisor.core.rights import RIGHTS
from supervisor.errors import NoDaemon, Refused, SupervisorError, UsageError
from supervisor.finding import find_daemon
from supervisor.paths import Paths
from supervisor.places import check_user
from supervisor.server.zmtp import Wire, framed
from tests.harness import CONFIG, GUARD_S, RunningDaemon, until
from tests.other_user import OTHER, THIRD, needs_root, run_as
from tests.users_of_daemon import as_client, ctl_as, waiting_job
from trainer_shim import protocol as wire

pytestmark = needs_root

#: A group that nobody is in but whom a test puts there.
GROUP = 0
SEES = {"all", "rows", "none"}


def started(see="rows"):
    running = RunningDaemon(
        f'{CONFIG}[rights]\nsee = "{see}"\nadmins = ["group:root"]\n', words=("--system",)
    )
    running.home.chmod(0o755)
    running.work.chmod(0o777)
    return running


@pytest.fixture(scope="module", params=sorted(SEES))
def daemon(request):
    """With a job `night` of each: root, one user, another one."""
    with started(request.param) as running:
        running.see = request.param
        waiting_job(running.client, "night")
        for uid in (OTHER, THIRD):
            as_client(running, lambda client: waiting_job(client, "night"), uid)
        yield running


def names_of(rows):
    return [row.name for row in rows]


NOT_SEEN = f"uid-{THIRD}/night"


class TestNames:
    def test_each_says_night_and_means_his_own(self, daemon):
        """
        Three jobs of one name, each known to its user by it.
        """
        mine = as_client(daemon, lambda client: client.status(("night",)).rows)
        of_third = as_client(daemon, lambda client: client.show("night"), THIRD)
        of_root = daemon.client.status(("night",)).rows

        assert [("night", f"uid {OTHER}")] == [(row.name, row.user) for row in mine]
        assert ("night", f"uid {THIRD}") == (of_third.row.name, of_third.row.user)
        assert [("night", "root")] == [(row.name, row.user) for row in of_root]

    def test_an_admin_says_whose(self, daemon):
        """
        And is told so; who is an admin and has jobs of his own calls those by name, and root's `root/night`.
        """
        theirs = {f"uid-{OTHER}/night", f"uid-{THIRD}/night"}
        by_root = names_of(daemon.client.status().rows)
        by_group = as_client(daemon, lambda client: names_of(client.status().rows), groups=(GROUP,))
        shown = as_client(daemon, lambda client: client.show("root/night").row.name, groups=(GROUP,))

        assert {"night", *theirs} == set(by_root)
        assert {"night", f"uid-{THIRD}/night", "root/night"} == set(by_group)
        assert "root/night" == shown
        assert names_of(daemon.client.status((f"uid-{OTHER}/night",)).rows) == [f"uid-{OTHER}/night"]
        assert "night" == daemon.client.show("root/night").row.name

    def test_a_second_one_of_his_own_is_refused_by_the_name_he_knows(self, daemon):
        """
        The message has no prefix that he did not say.
        """

        def again(client):
            with pytest.raises(Refused) as refused:
                waiting_job(client, "night")
            return str(refused.value), refused.value.hint

        error, hint = as_client(daemon, again)

        assert "cannot start a second job `night`: the name is taken by a queued job" == error
        assert "`supervisorctl restart night`" in hint

    def test_nobody_names_a_job_in_the_place_of_another(self, daemon):
        """
        `run --name bob/night` is refused, for an admin too: a job runs as who starts it.
        """

        def other(client):
            with pytest.raises(UsageError, match="it would be another user's"):
                waiting_job(client, f"uid-{THIRD}/day")
            return True

        assert as_client(daemon, other)
        with pytest.raises(UsageError, match="it would be another user's"):
            waiting_job(daemon.client, f"uid-{THIRD}/day")

    def test_a_shell_completes_what_he_may_see(self, daemon):
        """
        One's own names first, and none that are hidden.
        """

        def completed():
            ctx = click.Context(parser.cli)
            ctx.params["home"] = str(daemon.home)
            return options._complete_jobs(ctx, None, "")

        first, *others = run_as(OTHER, completed)

        assert "night" == first
        assert sorted(others) == ([] if daemon.see == "none" else ["root/night", NOT_SEEN])

    def test_numbers_count_for_each(self, daemon):
        """
        `job-1` is everybody's first one without a name.
        """
        first = [as_client(daemon, lambda client: waiting_job(client, None), uid) for uid in (OTHER, THIRD)]
        daemon.until(f"uid-{OTHER}/job-1", "queued")
        for uid in (OTHER, THIRD):
            for kind in (api.StopRequest, api.RemoveRequest):
                daemon.ask(kind, f"uid-{uid}/job-1")

        assert ["job-1", "job-1"] == first

    def test_all_means_ones_own(self, daemon):
        """
        Root's too: `--all-users` is for all, and for admins.
        """
        asked = api.SetRequest(id=new_id(), all=True, labels={"a": "b"})
        mine = as_client(daemon, lambda client: [one.job for one in client.ask_jobs(asked)])
        of_root = [one.job for one in daemon.client.ask_jobs(asked)]
        everybody = api.SetRequest(id=new_id(), all_users=True, labels={"a": "b"})

        def of_all(client):
            with pytest.raises(Refused, match="only admins may") as refused:
                raise refusal(client.ask_jobs(everybody)[0])
            return refused.value.hint

        assert (["night"], ["night"]) == (mine, of_root)
        assert 3 == len(daemon.client.ask_jobs(everybody))
        assert "`--all` means your own jobs" == as_client(daemon, of_all)


def request_about(tag, name):
    kind = next(one for one in api.FromOperator.__args__ if one.__struct_config__.tag == tag)
    if issubclass(kind, api.JobsRequest):
        return kind(id=new_id(), jobs=(name,))
    if kind is api.RunRequest:
        return kind(id=new_id(), argv=("true",), cwd="/", env={}, name="day", num_gpus=1)
    return kind(id=new_id(), **({"job": name} if "job" in kind.__struct_fields__ else {}))


def first_answer(client, request):
    client._send(request)
    return client._receive(request.id)


class TestRights:
    @pytest.mark.parametrize("tag", sorted(tag for tag, right in RIGHTS.items() if right != "process"))
    def test_who_may_ask_what_of_whose_job(self, daemon, tag):
        """
        Owner, other user, admin: what is denied is denied in the words of a refusal, and the rest is not.
        """
        name = f"uid-{OTHER}/night"
        said = {
            "owner": as_client(daemon, lambda c: first_answer(c, request_about(tag, "night"))),
            "other": as_client(daemon, lambda c: first_answer(c, request_about(tag, name)), THIRD),
            "admin": first_answer(daemon.client, request_about(tag, name)),
        }
        denied = {who for who, answer in said.items() if is_denied(answer)}
        restored(daemon)
        looks = {f"{verb}-request" for verb in ("status", "watch", "show", "why", "events")}
        expected = {"own": {"other"}, "admin": {"owner", "other"}}.get(RIGHTS[tag], set())
        if tag == "resume-request":
            # It waits for its turn: who lets it go on before that takes it from others.
            expected = {"owner", "other"}
        if daemon.see == "none" and tag in looks:
            expected = {"other"}

        assert expected == denied, said


def is_denied(answer):
    if not isinstance(answer, wire.Refusal):
        return False
    return (
        "belongs to" in answer.error or "only admins may" in answer.error or "cannot find job" in answer.error
    )


def restored(daemon):
    """Have the three jobs wait again, and no others, whatever was done to them."""
    for name in set(daemon.names()) - {"night", f"uid-{OTHER}/night", f"uid-{THIRD}/night"}:
        daemon.ask(api.StopRequest, name)
        daemon.ask(api.RemoveRequest, name)
    for name in ("night", f"uid-{OTHER}/night", f"uid-{THIRD}/night"):
        try:
            row = daemon.row(name)
        except SupervisorError:
            uid = OTHER if str(OTHER) in name else THIRD
            as_client(daemon, lambda client: waiting_job(client, "night"), uid)
            continue
        if row.state != "queued":
            daemon.try_to(api.StopRequest, name)
            daemon.try_to(api.RestartRequest, name)


class TestSeeing:
    def test_rows_of_others(self, daemon):
        """
        All, their state without words and paths, or nothing, as it is configured; one's own is always whole.
        """
        daemon.client.ask_jobs(
            api.PauseRequest(id=new_id(), jobs=(NOT_SEEN,), reason="because of the secret", depth="exit")
        )
        rows = {row.name: row for row in as_client(daemon, lambda client: client.status().rows)}
        restored(daemon)
        others = {"all": True, "rows": True, "none": False}[daemon.see]

        assert rows["night"].log.endswith(f"/jobs/@uid-{OTHER}/night/log")
        assert ({"night", NOT_SEEN, "root/night"} if others else {"night"}) == set(rows)
        if others:
            row = rows[NOT_SEEN]
            assert "paused" == row.state
            assert (daemon.see == "all") == bool(row.log) == bool(row.reason) == bool(row.asked_by)

    def test_show_and_why_of_others(self, daemon):
        """
        Commands, folders and words go as far as rows do; the environment of others is not even told by name.
        """

        def asked(client):
            try:
                return client.show(NOT_SEEN), client.why(NOT_SEEN)[0]
            except UsageError as unknown:
                return str(unknown), unknown.hint

        shown, why_reply = as_client(daemon, asked)
        if daemon.see == "none":
            # As one that was never there, and without a word of it in the hint.
            assert f"cannot find job `{NOT_SEEN}`" == shown
            assert "did you mean" not in why_reply
            return
        assert () == shown.env_names
        assert (daemon.see == "all") == ("secret-word" in shown.argv) == bool(shown.cwd)
        assert (daemon.see == "all") == bool(why_reply.next or why_reply.waits_for)

    def test_an_answer_about_ones_own_job_does_not_name_hidden_ones(self, daemon):
        """
        Rules, candidates and sentences of `why` and `policy` are cut as well.
        """

        def asked(client):
            told = [*client.why("night"), *client.why(), *client.policy().rules]
            return " ".join(map(str, told))

        told = as_client(daemon, asked)

        assert "night" in told
        assert (daemon.see != "none") == (str(THIRD) in told)

    def test_stored_events(self, daemon):
        """
        `events` tells of one's own jobs in full, of others as far as rows go.
        """
        daemon.ask(api.SetRequest, "night", labels={"newer": os.urandom(4).hex()})
        events = as_client(daemon, lambda client: client.events(limit=1000))
        newest = as_client(daemon, lambda client: client.events(limit=1))
        of_third = [event for event in events if event.job == NOT_SEEN]
        mine = [event for event in events if event.job == "night"]

        assert any("secret-word" in event.detail for event in mine)
        # What is hidden takes no room either.
        assert [daemon.see != "none"] == ["root/night" == event.job for event in newest]
        assert (daemon.see != "none") == bool(of_third)
        assert (daemon.see == "all") == any(event.detail for event in of_third)
        assert not any(str(OTHER) in event.job for event in events)

    def test_events_as_they_happen(self, daemon):
        """
        A subscriber gets what he may see, and the daemon's own socket is no way around.
        """

        def told():
            with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
                subscriber.linger, subscriber.rcvtimeo = 0, int(GUARD_S * 1000)
                subscriber.subscribe(b"")
                subscriber.connect(daemon.paths.events_endpoint)
                with Client(daemon.paths, connect_s=5.0, answer_s=GUARD_S) as client:
                    got = []
                    # It has begun when something of one's own arrives, and is over with the last of it.
                    while not got:
                        for priority in (6, 7):
                            client.ask_jobs(api.SetRequest(id=new_id(), jobs=("night",), priority=priority))
                        if subscriber.poll(200):
                            got.append(api.decode(subscriber.recv()))
                    (daemon.work / "begun").touch()
                    until((daemon.work / "done").exists)
                    client.ask_jobs(api.SetRequest(id=new_id(), jobs=("night",), priority=99))
                    while not any("priority 99" in one.detail for one in got):
                        got.append(api.decode(subscriber.recv()))
                    return got

        for name in ("begun", "done"):
            (daemon.work / name).unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            try:
                until((daemon.work / "begun").exists)
                with Client(daemon.paths, connect_s=5.0, answer_s=GUARD_S) as client:
                    for name in (NOT_SEEN, "night"):
                        client.ask_jobs(api.SetRequest(id=new_id(), jobs=(name,), priority=31))
                        client.ask_jobs(api.SetRequest(id=new_id(), jobs=(name,), priority=32))
                (daemon.work / "done").touch()
            finally:
                os._exit(0)
        got = run_as(OTHER, told)
        os.waitpid(child, 0)
        others = [event for event in got if event.job in (NOT_SEEN, "root/night")]

        assert {"night"} <= {event.job for event in got}
        assert (4 if daemon.see != "none" else 0) == len(others)
        assert (daemon.see == "all") == any(event.detail for event in others)

    def test_a_watcher_is_told_of_what_he_may_see(self, daemon):
        """
        `wait` and `top` watch: rows of others come cut, or not at all.
        """

        def watched():
            with Client(daemon.paths, connect_s=5.0, answer_s=GUARD_S) as client:
                watch = client.watch()
                seen = set(names_of(watch.poll(GUARD_S)))
                client.ask_jobs(api.SetRequest(id=new_id(), jobs=("night",), priority=5))
                seen |= set(names_of(watch.poll(GUARD_S)))
                return seen

        seen = run_as(OTHER, watched)

        assert "night" in seen
        assert (daemon.see != "none") == (NOT_SEEN in seen)

    def test_a_wrong_file_of_the_daemon_is_not_told_to_everybody(self, daemon):
        """
        Alerts name files and jobs of all: admins have them.
        """
        file = daemon.paths.jobs_dir / "odd.toml"
        file.write_text("command = 1")
        daemon.client.ask_jobs(api.ReloadRequest(id=new_id()))
        of_root, theirs = daemon.client.status(), as_client(daemon, lambda client: client.status())
        told = as_client(daemon, lambda client: client.version().alerts)
        file.unlink()
        daemon.client.reload()

        assert (True, True) == (bool(of_root.alerts), bool(of_root.aside))
        assert ([], [], ()) == (theirs.alerts, theirs.aside, told)


def test_a_table_of_several_users_has_a_column_of_them():
    """
    And the command line takes and shows names as the daemon does.
    """
    with started() as running:
        waiting_job(running.client, "night")
        as_client(running, lambda client: waiting_job(client, "night"))
        by_root = running.ctl("status")
        alone = ctl_as(running, OTHER, "status", f"uid-{OTHER}/night")
        waits = ctl_as(running, OTHER, "wait", f"uid-{OTHER}/night", "--for", "paused", "--timeout", "0.1s")
        denied = ctl_as(running, OTHER, "pause", "root/night")
        mine = ctl_as(running, OTHER, "pause", "--all")
        everybody = running.ctl("resume", "--all-users")
        version = ctl_as(running, OTHER, "version")

    assert ["NAME", "USER", "STATE"] == by_root.out.split()[:3]
    assert f"uid-{OTHER}/night  uid {OTHER}  queued" in by_root.out
    assert "USER" not in alone[1]
    assert 1 == waits[0]
    assert "`night`" in waits[2] or " night" in waits[2]
    assert (3, True) == (denied[0], "cannot pause job `root/night`: it belongs to root" in denied[2]), denied
    assert (0, True) == (mine[0], mine[1].startswith("night paused")), mine
    assert f"uid-{OTHER}/night resuming" in everybody.out, everybody
    assert "serves all users" in version[1]


def test_a_denied_request_is_counted_and_logged():
    """
    With user and verb, and nothing of the request; the command ends as any that is refused.
    """
    with started() as running:
        code, out, err = ctl_as(running, THIRD, "reload")
        num_denied = running.client.version().num_denied
        (line,) = [json.loads(one) for one in running.log().splitlines() if '"denied"' in one]

    assert (3, "", 1) == (code, out, num_denied)
    assert "error: cannot reload: only admins may" in err
    assert (THIRD, "reload") == (line["uid"], line["verb"])


def test_the_words_of_a_shim_are_for_its_process_alone():
    """
    Root itself and another user: neither is a process of the job, and being admin makes nobody one.
    """
    with started() as running:
        running.train("victim", STEP_S=0.02)
        number = running.row("victim").incarnation

        def said(name):
            with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
                peer.linger, peer.rcvtimeo = 0, 30_000
                peer.connect(running.paths.control_endpoint)
                hello = wire.Hello(job=name, incarnation=number, depths=("hold",))
                answers = []
                for message in (hello, wire.CannotYield(request="r", why="because")):
                    peer.send(wire.encode(message))
                    answers.append(api.decode(peer.recv()))
                return answers

        told = [run_as(uid, lambda: said("victim")) for uid in (0, OTHER)]
        before = running.row("victim").step
        running.until("victim", lambda row: row.step > before)

    for refusal_, unknown in told:
        assert "does not belong to job `victim`" in refusal_.error
        assert wire.Unknown() == unknown


def test_nothing_of_another_user_is_run_as_root():
    """
    Not by a request, nor by a start that goes on after a restart of the daemon.
    """
    with started() as running:
        proof = running.work / "proof"
        request = api.RunRequest(
            id=new_id(), argv=("touch", str(proof)), cwd="/", env={"PATH": os.environ["PATH"]}, name="evil"
        )
        as_client(running, lambda client: client.run(request))
        row = running.until(f"uid-{OTHER}/evil", "failed")
        running.restart()
        running.try_to(api.RestartRequest, f"uid-{OTHER}/evil")
        again = running.until(f"uid-{OTHER}/evil", lambda row: row.state == "failed")

        assert "starts jobs of its own user only" in row.problem
        assert "starts jobs of its own user only" in again.problem
        assert not proof.exists()


def test_jobs_are_found_again_by_who_they_belong_to():
    """
    After a restart of the daemon the names and rights are those from before.
    """
    with started("none") as running:
        waiting_job(running.client, "night")
        as_client(running, lambda client: waiting_job(client, "night"))
        running.restart()
        mine = as_client(running, lambda client: names_of(client.status().rows))
        by_root = names_of(running.client.status().rows)
        other = as_client(running, lambda client: names_of(client.status().rows), THIRD)

    assert ["night"] == mine
    assert {"night", f"uid-{OTHER}/night"} == set(by_root)
    assert [] == other


def test_a_daemon_of_ones_own_serves_nobody_else(home):
    """
    Without --system it is as it always was, also root's below a folder that others may enter.
    """
    with RunningDaemon() as running:
        running.home.chmod(0o755)
        running.paths.run_dir.chmod(0o755)
        sockets = [running.paths.run_dir / name for name in ("control.sock", "events.sock")]
        modes = [path.stat().st_mode & 0o777 for path in sockets]

        def refused():
            with pytest.raises(Refused, match="no permission"):
                Client(running.paths)
            return True

        assert run_as(OTHER, refused)
    assert [0o600, 0o600] == modes


def test_only_root_serves_all(home):
    """
    Whoever is not root is told what to do instead.
    """

    def started_as_other():
        with pytest.raises(UsageError, match="only root's daemon can") as refused:
            check_user(Paths.find(str(home), system=True))
        return refused.value.hint

    assert "leave out --system" in run_as(OTHER, started_as_other)


class TestFinding:
    @pytest.fixture
    def places(self, home, monkeypatch):
        """A folder for a user's own daemon, and a system's daemon that runs."""
        home.chmod(0o755)
        own = home / "own"
        own.mkdir()
        os.chown(own, OTHER, OTHER)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(own))
        monkeypatch.setenv("HOME", str(own))
        with started() as running:
            yield Path(own), running

    def test_the_systems_daemon_is_found(self, places):
        """
        A user without a daemon of his own types `supervisorctl status`, and no more.
        """
        _, running = places
        found = run_as(OTHER, lambda: find_daemon(None, system=None, at_system=running.paths))
        by_word = run_as(OTHER, lambda: find_daemon(None, system=False, at_system=running.paths))

        assert running.paths == found
        assert not by_word.serves_all

    def test_a_daemon_that_is_not_there_is_said_to_be_whose(self, home):
        """
        Nobody starts a daemon of his own for want of the system's by mistake.
        """
        home.chmod(0o755)

        def asked():
            with pytest.raises(NoDaemon) as away:
                Client(Paths.find(str(home), system=True))
            return away.value.hint

        assert "it is the system's, which root starts; `--user`" in run_as(OTHER, asked)

    def test_ones_own_daemon_comes_first_while_it_runs(self, places):
        """
        One that ended is not talked to, and one that somebody else made is not either.
        """
        own, running = places

        def with_own_one():
            (own / "training-supervisor").mkdir(mode=0o700)
            path = own / "training-supervisor" / "control.sock"
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
                listener.listen(4)
                while_it_runs = find_daemon(None, system=None, at_system=running.paths)
            return while_it_runs, find_daemon(None, system=None, at_system=running.paths)

        while_it_runs, afterwards = run_as(OTHER, with_own_one)

        assert own / "training-supervisor" == while_it_runs.run_dir
        assert running.paths == afterwards


def test_a_process_that_cannot_be_dumped_speaks_for_nobody():
    """
    Root owns its files in /proc, whoever runs it; with the folder of root's job in its environment it was
    taken for that job's shim, and could say what it liked.
    """
    hides = "import ctypes, os; ctypes.CDLL(None).prctl(4, 0); os.write(1, b'!'); os.read(0, 1)"
    with started() as running:
        request = api.RunRequest(id=new_id(), argv=("sleep", "1000"), cwd="/", env={}, name="quiet")
        running.client.run(request)
        until(lambda: running.row("quiet").pid)
        mark = {"TRAINING_SUPERVISOR_RUN_DIR": str(running.paths.incarnation_dir("quiet", 1))}
        ours, theirs = socket.socketpair()
        with ours, theirs, socket.socket(socket.AF_UNIX) as peer:

            def become_the_hidden():
                os.setgroups(())
                os.setgid(OTHER)
                os.setuid(OTHER)
                # Who connects is this process; it keeps its number in the program that hides.
                peer.connect(running.paths.control_endpoint.removeprefix("ipc://"))

            hidden = subprocess.Popen(
                ["/usr/bin/env", "python3", "-c", hides],
                env={"PATH": "/usr/bin:/bin", **mark},
                cwd="/",
                stdin=theirs,
                stdout=theirs,
                preexec_fn=become_the_hidden,  # noqa: PLW1509  # One thread.
            )
            try:
                assert b"!" == ours.recv(1)
                assert 0 == Path(f"/proc/{hidden.pid}/environ").stat().st_uid
                peer.settimeout(GUARD_S)
                hello = wire.Hello(job="quiet", incarnation=1, depths=("hold",))
                peer.sendall(Wire(b"DEALER").opening + framed(wire.encode(hello)))
                said = b""
                while b"belong" not in said and b"welcome" not in said:
                    said += peer.recv(1 << 16)
            finally:
                hidden.kill()
                hidden.wait()
        state = running.row("quiet").state

    assert b"does not belong to job `quiet`" in said
    assert "starting" == state


def test_labels_do_not_grow_for_ever(daemon):
    """
    Each request brings a few; more than a job may have are refused, and some of them can be replaced.
    """

    def label(client, names, text="x"):
        request = api.SetRequest(id=new_id(), jobs=("night",), labels=dict.fromkeys(names, text))
        return client.ask_jobs(request)

    def labelled(client):
        label(client, client.show("night").labels, "")  # Those of other tests.
        whole = label(client, [f"a{number}" for number in range(32)])
        more, again = label(client, ["b"]), label(client, ["a1"])
        return len(client.show("night").labels), whole, more, again

    num, whole, more, again = as_client(daemon, labelled)

    assert 32 == num
    assert [api.Accepted, wire.Refusal, api.Accepted] == [type(answer[0]) for answer in (whole, more, again)]
    assert "33 labels: it may have 32" in more[0].error
