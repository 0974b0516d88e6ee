"""The client on real sockets: slow, rude, absent and returning daemons."""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from pathlib import Path
from time import monotonic

import pytest
import zmq

from supervisor import api
from supervisor.client import Client, new_id
from supervisor.errors import NoDaemon, Refused, SupervisorError, UnknownJob, UsageError
from supervisor.paths import Paths
from tests.fakes.daemon import FakeDaemon
from trainer_shim import protocol as wire


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


@pytest.fixture
def client(daemon):
    with Client(daemon.paths) as client:
        yield client


def event(seq, job="job-1"):
    return api.Event(seq=seq, wall=1.7e9 + seq, job=job, kind="resumed", state="running")


def pause(*jobs):
    return api.PauseRequest(id=new_id(), jobs=jobs)


def test_rows_of_several_messages_are_one_answer(daemon, client):
    """
    However many jobs there are, `status` shows them all, and the alerts.
    """
    for i in range(5):
        daemon.add(f"job-{i}", "running")
    daemon.alerts = ("a bad file",)

    status = client.status()

    assert [f"job-{i}" for i in range(5)] == [row.name for row in status.rows]
    assert ["a bad file"] == status.alerts


def test_each_job_gets_its_own_answer(daemon, client):
    """
    One job that is refused does not hide what became of the others.
    """
    daemon.add("job-1", "running")
    daemon.add("job-3", "running")

    answers = client.ask_jobs(pause("job-1", "job-2", "job-3"))

    assert ["job-1", "job-2", "job-3"] == [answer.job for answer in answers]
    assert [api.Accepted, wire.Refusal, api.Accepted] == [type(answer) for answer in answers]


@pytest.mark.parametrize(
    ("code", "kind"), [(1, SupervisorError), (2, UsageError), (3, Refused), (77, SupervisorError)]
)
def test_a_refusal_comes_out_as_the_same_error(daemon, client, code, kind):
    """
    What the daemon says and hints reaches the person, with its exit code.
    """
    daemon.answers[api.ShowRequest] = lambda r: [
        wire.Refusal(id=r.id, error="cannot x", hint="do y", exit_code=code)
    ]
    with pytest.raises(SupervisorError, match="cannot x") as caught:
        client.show("job-1")

    assert kind is type(caught.value)
    assert "do y" == caught.value.hint


def test_nobody_is_noticed_at_once(home):
    """
    Without a daemon a command fails in a moment, and says where it looked and what to start.
    """
    started = monotonic()
    with pytest.raises(NoDaemon, match=r"there is no socket `.*/run/control.sock`") as caught:
        Client(Paths.find(str(home)))

    assert "training-supervisord" in caught.value.hint
    assert 1.0 > monotonic() - started


def test_a_socket_that_a_dead_daemon_left_is_noticed_at_once(home):
    """
    A crash leaves the file of the socket behind; nobody listens on it.
    """
    paths = Paths.find(str(home))
    paths.run_dir.mkdir(parents=True)
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(paths.run_dir / "control.sock"))
    left.close()

    with pytest.raises(NoDaemon, match="nobody listens"):
        Client(paths)


def test_a_daemon_that_never_takes_the_connection_is_given_up(home):
    """
    A stopped daemon has an open socket that nobody serves.
    """
    paths = Paths.find(str(home))
    paths.run_dir.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(paths.run_dir / "control.sock"))
        deaf.listen()
        with (
            Client(paths, answer_s=0.2) as client,
            pytest.raises(NoDaemon, match="does not take the connection"),
        ):
            client.status()


def test_a_slow_daemon_is_waited_for(daemon, client):
    """
    A daemon that is busy answers late, and that is no error.
    """
    gate = threading.Event()

    def late(request):
        gate.wait(5)
        return [api.VersionReply(id=request.id, version="1", pid=1)]

    daemon.answers[api.VersionRequest] = late
    threading.Timer(0.7, gate.set).start()

    assert "1" == client.version().version


def test_a_daemon_that_does_not_answer_is_given_up(daemon):
    """
    The wait has an end, and the error says what may be the matter.
    """
    daemon.answers[api.StatusRequest] = lambda _: None
    with (
        Client(daemon.paths, answer_s=0.2) as client,
        pytest.raises(NoDaemon, match=r"did not answer within 0\.2 s"),
    ):
        client.status()


def test_a_daemon_that_dies_before_it_answers_leaves_it_open(daemon, client):
    """
    Whether the request was taken is not known, and the error says exactly that, at once.
    """
    daemon.answers[api.PauseRequest] = lambda _: None
    stopper = threading.Thread(target=lambda: (daemon.received(api.PauseRequest), daemon.stop()))
    stopper.start()
    started = monotonic()
    with pytest.raises(NoDaemon, match="cannot tell what became of the request"):
        client.ask_jobs(pause("job-1"))
    stopper.join()

    assert 4.0 > monotonic() - started


@pytest.mark.parametrize("garbage", [b"", b"\x01", b"\x01\xff\xff", b"\x01\x80", b"\x01" * 70_000])
def test_garbage_is_an_error_in_words(daemon, client, garbage):
    """
    Another program on that socket is told apart from a daemon that is away.
    """
    daemon.answers[api.VersionRequest] = lambda _: [garbage]
    with pytest.raises(SupervisorError, match="cannot understand the daemon's answer") as caught:
        client.version()

    assert 1 == caught.value.exit_code


def test_an_answer_of_the_wrong_kind_is_an_error_in_words(daemon, client):
    """
    A Heartbeat, or rows where a version belongs, is not taken for an answer.
    """
    daemon.answers[api.VersionRequest] = lambda r: [api.JobRows(id=r.id)]
    with pytest.raises(SupervisorError, match="a JobRows where none belongs"):
        client.version()
    daemon.answers[api.VersionRequest] = lambda _: [
        wire.Heartbeat(position=wire.PositionReport(), boundary_age_s=0.0)
    ]
    with pytest.raises(SupervisorError, match="a Heartbeat where none belongs"):
        client.version()


def test_another_protocol_version_is_told_with_both_numbers(daemon, client):
    """
    After an upgrade of one side the person learns which is older.
    """
    daemon.answers[api.VersionRequest] = lambda _: [b"\x09" + b"x"]
    with pytest.raises(SupervisorError, match="speaks protocol version 9, this command speaks 1"):
        client.version()


def test_answers_to_earlier_requests_are_dropped(daemon, client):
    """
    What was given up on is not taken for the answer to something else.
    """
    daemon.answers[api.VersionRequest] = lambda r: [
        api.VersionReply(id="old", version="old", pid=1),
        api.VersionReply(id=r.id, version="new", pid=1),
    ]

    assert "new" == client.version().version


@pytest.mark.parametrize("name", ["", "-x", "a b", "x" * 65, "n\u00e4me"])
def test_a_name_that_no_job_can_have_is_not_even_asked_for(daemon, client, name):
    """
    The daemon would drop such a frame; the person hears of an unknown job.
    """
    with pytest.raises(UnknownJob):
        client.ask_jobs(pause(name))

    assert [] == daemon.requests


def test_a_request_over_the_limits_is_not_sent(client):
    """
    What the wire does not take is a usage error with the field that is wrong.
    """
    with pytest.raises(UsageError, match=r"length <= 500 - at `\$\.reason`"):
        client.ask_jobs(api.PauseRequest(id=new_id(), jobs=("a",), reason="x" * 501))


def until_rows(watch, accept, within_s=10.0):
    deadline = monotonic() + within_s
    while monotonic() < deadline:
        for row in watch.poll(0.5):
            if accept(row):
                return row
    raise AssertionError("no such row")


def test_a_watch_sees_each_change(daemon, client):
    """
    A change is pushed; nobody has to ask again.
    """
    daemon.add("job-1", "running")
    daemon.add("job-2", "running")
    watch = client.watch(("job-1",))
    assert ["running"] == [row.state for row in watch.poll(5.0)]
    daemon.change("job-2", state="pausing")
    daemon.change("job-1", state="pausing")

    assert ["job-1"] == [row.name for row in watch.poll(5.0)]


def test_a_watch_survives_a_restart_of_the_daemon(daemon, client):
    """
    The daemon forgets its watchers when it goes; the watch comes back by itself.
    """
    daemon.add("job-1", "pausing")
    watch = client.watch(("job-1",))
    until_rows(watch, lambda row: row.state == "pausing")
    daemon.stop()
    assert [] == watch.poll(0.3)
    daemon.add("job-1", "paused")
    daemon.start()

    assert "paused" == until_rows(watch, lambda row: row.state == "paused").state
    assert 5.0 > watch.silent_s


def test_a_watch_of_an_unknown_job_says_so(client):
    """
    Waiting for a job that does not exist would never end.
    """
    with pytest.raises(UsageError, match="cannot find job `nope`"):
        client.watch(("nope",)).poll(5.0)


def test_followed_events_come_once_and_in_order(daemon, client):
    """
    Stored ones first, then new ones; what comes both ways is shown once, what was missed is fetched.
    """
    for seq in (1, 2, 3):
        daemon.publish(event(seq), send=False)
    follow = client.follow(limit=2)
    assert [2, 3] == [next(follow).seq, next(follow).seq]
    daemon.publish(event(3), store=False)
    # Lost on its way, as while the connection is down.
    daemon.publish(event(4), send=False)
    daemon.publish(event(5))

    assert [4, 5] == [next(follow).seq, next(follow).seq]


def test_followed_events_survive_a_restart_of_the_daemon(daemon, client):
    """
    What happened while the daemon was away or the connection was down is asked for after a silence.
    """
    daemon.publish(event(1), send=False)
    follow = client.follow()
    assert 1 == next(follow).seq
    daemon.stop()
    daemon.events.append(event(2))
    daemon.start()

    assert 2 == next(follow).seq


def test_followed_events_of_one_job_leave_out_the_others(daemon, client):
    """
    `events -f job-1` shows job-1, and other jobs' events are no gaps.
    """
    daemon.publish(event(1), send=False)
    follow = client.follow(job="job-1")
    assert 1 == next(follow).seq
    assert daemon.subscribed.wait(10)
    for seq, job in ((2, "job-2"), (3, "job-1"), (4, "job-2"), (5, "job-1")):
        daemon.publish(event(seq, job))

    assert [3, 5] == [next(follow).seq, next(follow).seq]


def test_garbage_among_events_is_skipped(daemon, client):
    """
    One frame that means nothing does not end `events -f`.
    """
    publisher = daemon._publisher
    daemon.publish(event(1), send=False)
    follow = client.follow()
    assert 1 == next(follow).seq
    daemon._post(lambda: publisher.send(b"\x01garbage", zmq.NOBLOCK))
    daemon.publish(event(2))

    assert 2 == next(follow).seq


def test_a_thousand_missed_events_are_fetched_in_pages(daemon, client):
    """
    However long the connection was down, nothing is left out.
    """
    daemon.publish(event(1), send=False)
    follow = client.follow()
    assert 1 == next(follow).seq
    # One frame holds fewer than a page, so the fake answers a page in several.
    daemon.answers[api.EventsRequest] = lambda r: [
        api.EventsReply(id=r.id, events=tuple(part), more=number < 9)
        for number, part in enumerate(
            [[e for e in daemon.events if e.seq > r.after_seq][: r.limit][i::10] for i in range(10)]
        )
    ]
    daemon.events.extend(event(seq) for seq in range(2, 1500))
    daemon.publish(event(1500))
    got = [next(follow).seq for _ in range(1499)]

    assert list(range(2, 1501)) == sorted(got)
