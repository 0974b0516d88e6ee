"""Whatever arrives on the daemon's socket, it goes on answering.

Covers: random frames, hostile fields, messages in the wrong direction, bytes
that are no ZeroMQ, peers that vanish; that memory and descriptors do not grow.
Does not cover: the codec by itself (tests/property), who may act (access).
"""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor import api
from supervisor.server.router import Router
from tests.harness import RunningDaemon, until
from trainer_shim import protocol as wire

NAMES = st.one_of(st.just("victim"), st.text(max_size=70))
NUMBERS = st.one_of(st.integers(-(2**63), 2**64 - 1), st.floats(), st.none(), st.booleans())
VALUES = st.recursive(
    st.one_of(NUMBERS, st.text(max_size=30), st.binary(max_size=30), NAMES),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
TAGS = sorted({str(kind.__struct_config__.tag) for kind in api.AnyMessage.__args__})
#: What a fuzzer must not ask for: a job of its own making starts a process, and the victim stays.
HARMFUL = {"run-request", "kill-request", "stop-request", "restart-request", "remove-request"}
FIELDS = sorted({name for kind in api.AnyMessage.__args__ for name in kind.__struct_fields__})


@st.composite
def near_messages(draw):
    """A map with a known tag, known fields, and anything for values."""
    tag = draw(st.sampled_from([tag for tag in TAGS if tag not in HARMFUL]))
    body = draw(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6))
    body.update(draw(st.fixed_dictionaries({}, optional={"job": NAMES, "jobs": st.lists(NAMES, max_size=3)})))
    return msgspec.msgpack.encode({"type": tag, **body})


BODIES = st.one_of(st.binary(max_size=200), near_messages(), VALUES.map(msgspec.msgpack.encode))
VERSIONS = st.one_of(st.just(b"\x01"), st.binary(max_size=1))
FRAMES = st.builds(bytes.__add__, VERSIONS, BODIES)
#: Mostly one frame, as our own code sends; at times more, or an empty one.
DELIVERIES = st.one_of(
    FRAMES.map(lambda frame: [frame]), st.lists(FRAMES | st.just(b""), min_size=1, max_size=4)
)
FUZZ = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def daemon():
    """One for all attacks, with a job that trains meanwhile."""
    with RunningDaemon() as running:
        running.train("victim", STEP_S=0.02)
        yield running


@pytest.fixture(scope="module")
def context():
    with zmq.Context() as own:
        yield own


@pytest.fixture
def peer(daemon, context):
    """A DEALER that speaks ZeroMQ, and nothing else that is right."""
    with context.socket(zmq.DEALER) as own:
        own.linger = 0
        own.rcvtimeo = own.sndtimeo = 30_000
        own.connect(daemon.paths.control_endpoint)
        yield own


def is_fine(daemon):
    """It answers, and the job's shim is still connected to the same process."""
    row = daemon.row("victim")
    return daemon.client.version().pid == daemon.pid and row.state in ("running", "pausing", "paused")


def answers_of(peer):
    """Everything that was sent to this peer; a question that is answered last ends the list."""
    # A refusal waits for the journal like every answer that may report a change; a plain look would not.
    peer.send(wire.encode(api.ShowRequest(id="that-was-all", job="no-such-job")))
    answers = []
    while True:
        answer = api.decode(peer.recv())
        if getattr(answer, "id", "") == "that-was-all":
            return answers
        answers.append(answer)


def use_of(daemon):
    """Descriptors and resident kilobytes of the daemon."""
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    rss_kb = int(status.split("VmRSS:")[1].split()[0])
    return len(list(Path(f"/proc/{daemon.pid}/fd").iterdir())), rss_kb


def test_a_version_from_the_future_is_answered(daemon, peer):
    """
    A newer command line learns which side is older.
    """
    peer.send(b"\x02" + msgspec.msgpack.encode({"type": "brand-new"}))
    answer = api.decode(peer.recv())

    assert "protocol version 2, this side speaks 1" in answer.error
    assert "upgrade" in answer.hint


def test_an_unknown_message_is_answered_with_its_request(daemon, peer):
    """
    Who asks for something newer is told so, and can tell which question it was.
    """
    peer.send(b"\x01" + msgspec.msgpack.encode({"type": "make-coffee", "id": "q7"}))
    answer = api.decode(peer.recv())

    assert ("q7", True) == (answer.id, "make-coffee" in answer.error)


def test_a_question_with_a_bad_field_is_answered(daemon, peer):
    """
    Who asks learns which field is wrong, and need not wait for ever.
    """
    peer.send(b"\x01" + msgspec.msgpack.encode({"type": "show-request", "id": "q8", "job": 5}))
    answer = api.decode(peer.recv())

    assert ("q8", True) == (answer.id, "$.job" in answer.error)


def test_a_socket_that_asks_and_waits_is_answered(daemon, context):
    """
    REQ puts an empty part before each question, and takes no answer without one.
    """
    with context.socket(zmq.REQ) as asks:
        asks.linger = 0
        asks.rcvtimeo = 10_000
        asks.connect(daemon.paths.control_endpoint)
        for number in range(2):
            asks.send(wire.encode(api.VersionRequest(id=f"r{number}")))
            assert daemon.pid == api.decode(asks.recv()).pid


def test_what_is_dropped_is_counted(daemon, peer):
    """
    `num_dropped` goes up by exactly the frames that meant nothing.
    """
    before = daemon.client.version().num_dropped
    for frames in ([b""], [b"\x01"], [b"\x01\xc1"], [b"a", b"b"], [b"\x01" + b"x" * 65_000]):
        peer.send_multipart(frames)
    answers_of(peer)

    assert 5 == daemon.client.version().num_dropped - before


@FUZZ
@given(deliveries=st.lists(DELIVERIES, min_size=1, max_size=15))
def test_random_messages_do_not_stop_it(daemon, peer, deliveries):
    """
    Garbage, half messages, hostile values, several frames at once.
    """
    for frames in deliveries:
        peer.send_multipart(frames)
    answers_of(peer)

    assert is_fine(daemon)


@FUZZ
@given(pieces=st.lists(st.binary(min_size=1, max_size=80), max_size=4), greeting=st.booleans())
def test_bytes_that_are_no_zeromq_do_not_stop_it(daemon, pieces, greeting):
    """
    Another program connects and says what it likes, or half a greeting, and goes.
    """
    with socket.socket(socket.AF_UNIX) as rude:
        rude.settimeout(30)
        rude.connect(str(daemon.paths.run_dir / "control.sock"))
        try:
            if greeting:
                rude.sendall(b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x00NULL" + bytes(48))
            for piece in pieces:
                rude.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # It hung up on us, as it should.

    assert is_fine(daemon)


def test_an_oversized_frame_ends_the_connection_and_nothing_else(daemon, context):
    """
    More than 64 KiB is not even read.
    """
    with context.socket(zmq.DEALER) as greedy:
        greedy.linger = 0
        greedy.connect(daemon.paths.control_endpoint)
        monitor = greedy.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        greedy.send(b"\x01" + bytes(1 << 20))
        hung_up = monitor.poll(30_000)
        greedy.disable_monitor()
        monitor.close(0)

    assert hung_up
    assert is_fine(daemon)


def test_messages_in_the_wrong_direction_are_refused(daemon, peer):
    """
    A peer that answers, or gives orders to the daemon, is told that it may not.
    """
    answer = api.Accepted(id="x", job="victim", state="running")
    orders = [wire.Welcome(), wire.Pause(request="r", depth="hold"), wire.Resume(request="r"), wire.Unknown()]
    for message in (answer, *orders):
        peer.send(wire.encode(message))
    answers = answers_of(peer)

    assert [wire.Refusal] * 5 == [type(each) for each in answers]
    assert "x" == answers[0].id
    assert is_fine(daemon)


def test_whoever_did_not_say_hello_speaks_for_no_job(daemon, peer):
    """
    A stranger's `Yielded` or `Checkpointed` changes nothing; it is asked who it is.
    """
    before = daemon.row("victim")
    saved = wire.Checkpointed(step=10**6, epoch=3, path="/tmp/lies", digest="lies")
    words = [
        wire.Heartbeat(position=wire.PositionReport(step=10**6), boundary_age_s=0.0),
        saved,
        wire.Yielded(request=before.request, depth="hold", checkpoint=saved),
        wire.CannotYield(request=before.request, why="because"),
        wire.Resumed(request=before.request, step=1),
        wire.Saving(request=before.request, step=1),
    ]
    for message in words:
        peer.send(wire.encode(message))
    answers = answers_of(peer)
    after = daemon.row("victim")

    assert [wire.Unknown()] * 6 == answers
    assert before.checkpoint_step == after.checkpoint_step
    assert after.step < 10**6


def test_a_stranger_cannot_say_hello_for_a_job(daemon, peer):
    """
    This process is not in the job's tree, whatever it says; the true shim stays.
    """
    row = daemon.row("victim")
    for incarnation in (row.incarnation, row.incarnation + 1, 0):
        peer.send(wire.encode(wire.Hello(job="victim", incarnation=incarnation, depths=("hold",))))
    peer.send(wire.encode(wire.Hello(job="nobody", incarnation=1)))
    answers = answers_of(peer)
    # A random message may have paused it.
    daemon.try_to(api.ResumeRequest, "victim")
    before = daemon.row("victim").step
    daemon.until("victim", lambda row: row.step > before)

    assert [wire.Refusal] * 4 == [type(each) for each in answers]
    assert "does not belong to job `victim`" in answers[0].error


def test_peers_that_come_and_go_leave_nothing_behind(daemon, context):
    """
    Hundreds of connections with garbage, questions and open watches: the same
    descriptors afterwards, and no memory to speak of.
    """

    def crowd(number):
        for _ in range(number):
            with context.socket(zmq.DEALER) as guest:
                guest.linger = 0
                guest.connect(daemon.paths.control_endpoint)
                guest.send(b"\x01" + bytes(60_000))
                guest.send(wire.encode(api.WatchRequest(id="w", all=True)))
                guest.send(wire.encode(api.StatusRequest(id="s", all=True)))
                answers_of(guest)

    crowd(50)  # Buffers that are kept for ever are made now.
    fds, rss_kb = use_of(daemon)
    crowd(250)

    until(lambda: use_of(daemon)[0] <= fds + 3, lambda: f"{fds} {use_of(daemon)}")
    assert use_of(daemon)[1] < rss_kb + 8_000


def test_a_peer_that_never_reads_does_not_hold_up_the_others(daemon, context):
    """
    It asks for ever and takes no answer: others are answered as before.
    """
    with context.socket(zmq.DEALER) as deaf:
        deaf.linger = 0
        deaf.rcvhwm = 1
        deaf.connect(daemon.paths.control_endpoint)
        for number in range(3000):
            deaf.send(wire.encode(api.StatusRequest(id=str(number), all=True)))

        assert is_fine(daemon)
        assert daemon.ctl("status").code == 0


def test_an_answer_about_thousands_of_jobs_arrives_whole(context, tmp_path):
    """
    `why` and `remove --all` answer with a message for each; a terminal takes its time to read them.
    """
    router = Router(f"ipc://{tmp_path}/control", f"ipc://{tmp_path}/events")
    with context.socket(zmq.DEALER) as slow:
        slow.linger, slow.rcvhwm = 0, 1
        slow.connect(f"ipc://{tmp_path}/control")
        slow.send(wire.encode(api.VersionRequest(id="x")))
        (delivery,) = until(lambda: list(router.receive()))
        answer = api.Accepted(id="x", job="a" * 60, state="removed", detail="d" * 200, last=False)
        sent = sum(router.send(delivery.identity, answer) for _ in range(8000))
        router.close()

    assert 8000 == sent


def test_more_connections_than_files_are_usual_do_not_end_it():
    """
    A shell allows 1024 open files, and 300 jobs take as many. The daemon allows itself what it may have, and
    its jobs what they would have had without it. Here with less, for the sake of time.
    """
    with RunningDaemon(inside=("sh", "-c", 'ulimit -S -n 64 && exec "$@"', "sh")) as running:
        running.command("limit", "sh", "-c", "ulimit -S -n")
        running.until("limit", "completed")
        peers = []
        for _ in range(120):
            peers.append(socket.socket(socket.AF_UNIX))
            peers[-1].connect(running.paths.control_endpoint.removeprefix("ipc://"))
        is_there = until(lambda: len(list(Path(f"/proc/{running.pid}/fd").iterdir())) > 120)
        answers = running.client.version().pid == running.pid
        for peer in peers:
            peer.close()

        assert is_there
        assert answers
        assert "64\n" == running.job_log("limit")
