"""What one user can take of a daemon that serves several: bounds of his own, and others come first.

Covers: at real sockets and as real users, connections, bytes, requests and jobs of one user; the order of
serving.
Does not cover: counting (tests/unit/server/test_user_bounds.py), bounds of any peer (test_bounds.py).
"""

from __future__ import annotations

import itertools
import os
import select
import socket
from contextlib import ExitStack
from time import monotonic

import pytest
from msgspec.structs import replace

from supervisor import api
from supervisor.client import Client, new_id
from supervisor.core.rights import UsersConfig
from supervisor.errors import Refused
from supervisor.server.router import Router
from supervisor.server.user_bounds import UserBounds
from supervisor.server.zmtp import Wire, framed
from tests.harness import CONFIG, GUARD_S, RunningDaemon, until
from tests.other_user import OTHER, THIRD, acting_as, needs_root, run_as
from trainer_shim import protocol as wire

pytestmark = needs_root

QUESTION = framed(wire.encode(api.VersionRequest(id="x")))
WELCOME = wire.Welcome(heartbeat_s=1.0, orphan_resume_s=1.0, return_retry_s=1.0)
BEAT = framed(wire.encode(wire.Heartbeat(position=wire.PositionReport(step=1), boundary_age_s=0.0)))


@pytest.fixture
def router(home):
    """One that bounds everybody but root, with bounds that are soon reached."""
    home.chmod(0o755)
    bounds = UserBounds(lambda peer: peer.uid != 0)
    bounds.config = UsersConfig(
        max_connections=8, max_held_bytes=1 << 20, requests_per_s=1, requests_at_once=10
    )
    ticks = itertools.count()
    # A busy machine makes no message dearer.
    made = Router(
        f"ipc://{home}/control",
        f"ipc://{home}/events",
        mode=0o666,
        bounds=bounds,
        clock=lambda: next(ticks) * 1e-6,
    )
    made.home, made.bounds = home, bounds
    yield made
    made.close()


def connected(router, uid):
    """A peer that has greeted; the kernel takes note of who connects."""
    peer = socket.socket(socket.AF_UNIX)
    with acting_as(uid):
        peer.connect(str(router.home / getattr(router, "name", "control")))
    peer.settimeout(GUARD_S)
    peer.sendall(Wire(b"DEALER").opening)
    return peer


def received(router):
    return list(router.receive())


def is_hung_up(peer):
    """Whether it was told that its connection is over; reads what came before that."""
    peer.settimeout(0.2)
    try:
        while peer.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True
    return True


@pytest.fixture
def even(router):
    """A router by whose clock each message takes the same time, and that bounds nobody."""
    ticks = itertools.count()
    made = Router(
        f"ipc://{router.home}/c2", f"ipc://{router.home}/e2", mode=0o666, clock=lambda: next(ticks) * 1e-4
    )
    made.home, made.name = router.home, "c2"
    yield made
    made.close()


def order_of(router, num):
    """Whose messages were taken, in that order."""
    uids = []
    until(lambda: uids.extend(one.peer.uid for one in router.receive()) or len(uids) >= num)
    return uids


def test_a_user_who_comes_is_served_before_one_who_asks_all_the_time(even):
    """
    However many connections and questions the other one has.
    """
    with ExitStack() as stack:
        flood = [stack.enter_context(connected(even, OTHER)) for _ in range(30)]
        victim = stack.enter_context(connected(even, THIRD))
        for peer in flood:
            peer.sendall(QUESTION * 20)
        used = order_of(even, 600)
        for peer in flood:
            peer.sendall(QUESTION * 20)
        victim.sendall(QUESTION * 3)
        order = order_of(even, 603)

    assert [OTHER] * 600 == used
    assert [THIRD] * 3 == order[:3]


def test_two_users_share_the_time_whatever_their_connections(even):
    """
    Thirty connections get no more of it than one.
    """
    with ExitStack() as stack:
        for uid, num in ((OTHER, 30), (THIRD, 1)):
            for _ in range(num):
                stack.enter_context(connected(even, uid)).sendall(QUESTION * 150)
        order = order_of(even, 30 * 150 + 150)
    last = len(order) - order[::-1].index(THIRD)
    share = order[:last].count(OTHER) / 150

    # The handshakes of thirty are more than that of one, and are paid for.
    assert 0.5 < share < 1.5


def test_processes_of_a_user_share_his_time(even):
    """
    A person is answered also while a program of his asks in a loop.
    """
    with ExitStack() as stack:
        flood = [stack.enter_context(connected(even, OTHER)) for _ in range(30)]
        for peer in flood:
            peer.sendall(QUESTION * 20)
        order_of(even, 600)

        ours, theirs = map(stack.enter_context, socket.socketpair())

        def asks():
            with socket.socket(socket.AF_UNIX) as mine:
                mine.connect(str(even.home / even.name))
                mine.sendall(Wire(b"DEALER").opening + QUESTION)
                # It stays open when its process is over.
                socket.send_fds(theirs, [b"!"], [mine.fileno()])
                return os.getpid()

        pid = run_as(OTHER, asks)
        (kept,) = socket.recv_fds(ours, 1, 1)[1]
        stack.callback(os.close, kept)
        # Accepted; what it said is read with the next look.
        assert [] == received(even)
        for peer in flood:
            peer.sendall(QUESTION * 20)
        pids = [one.peer.pid for one in itertools.islice(even.receive(), 3)]

    assert pid == pids[0]


def test_requests_beyond_the_bound_wait_and_are_not_lost(router):
    """
    Ten at once, then one a second: the others stay with him, and the loop sleeps meanwhile.
    """
    with connected(router, OTHER) as peer, connected(router, THIRD) as other:
        peer.sendall(QUESTION * 13)
        other.sendall(QUESTION)
        first = []
        until(lambda: first.extend(received(router)) or len(first) == 11)
        began, wait_s, has_more = monotonic(), router.wait_s(), router.has_more()
        # More of it stays in the kernel, and wakes nobody.
        peer.sendall(QUESTION)
        is_quiet = not select.select([router.fileno()], [], [], 0.05)[0]
        rest = []
        until(lambda: rest.extend(received(router)) or len(rest) == 4)

    assert [10, 1] == [sum(one.peer.uid == uid for one in first) for uid in (OTHER, THIRD)]
    assert (False, True) == (has_more, is_quiet)
    assert 0 < wait_s <= 1
    assert monotonic() - began > 3


def test_a_new_connection_is_no_new_budget(router):
    """
    Whoever connects anew for each question waits as well.
    """
    router.bounds.config = replace(router.bounds.config, max_connections=64)
    with ExitStack() as stack:
        got = []
        for _ in range(10):
            stack.enter_context(connected(router, OTHER)).sendall(QUESTION)
        until(lambda: got.extend(received(router)) or len(got) == 10)
        stack.enter_context(connected(router, OTHER)).sendall(QUESTION)
        for _ in range(20):
            got.extend(received(router))

    assert 10 == len(got)
    assert router.wait_s() > 0


def test_garbage_counts(router):
    """
    What means nothing costs as much as what does.
    """
    with connected(router, OTHER) as peer:
        peer.sendall(framed(b"\x01\xc1") * 30)
        until(lambda: received(router) or router.num_dropped >= 10)
        for _ in range(20):
            received(router)

    assert 10 == router.num_dropped


def welcomed(router, stack, uid=OTHER):
    """A shim that was welcomed."""
    peer, got = stack.enter_context(connected(router, uid)), []
    peer.sendall(BEAT)
    until(lambda: got.extend(received(router)) or got)
    router.send(got[0].identity, WELCOME)
    return peer


def test_words_of_shims_are_not_requests(router):
    """
    What a job says on its way into a pause must not wait for what its user asks.
    """
    with ExitStack() as stack:
        peer, got = welcomed(router, stack), []
        peer.sendall(BEAT * 50)
        until(lambda: got.extend(received(router)) or len(got) == 50)

    assert router.bounds.wait_s(got[0].peer) == 0


def test_words_of_shims_without_end_wait(router):
    """
    2026-11-29: whoever was welcomed, as a script by hand of anybody is, could say words without end. A shim
    that comes anew brings no room with it, and another user is heard.
    """
    with ExitStack() as stack:
        flood, got = welcomed(router, stack), []
        other = welcomed(router, stack, THIRD)
        flood.sendall(BEAT * 300)
        for _ in range(60):
            got += received(router)
        flood.close()
        received(router)
        again = welcomed(router, stack)
        again.sendall(BEAT * 300)
        other.sendall(BEAT)
        until(lambda: got.extend(received(router)) or got[-1].peer.uid == THIRD)
        for _ in range(60):
            got += received(router)
        wait_s = router.wait_s()

    # A hundred at once, and what was due in the moments that this took.
    assert 100 <= sum(one.peer.uid == OTHER for one in got) <= 130
    assert 0 < wait_s <= 1 / 5


def test_a_hello_of_a_shim_counts_as_many_words(router):
    """
    Each is looked up in /proc, and is welcomed again.
    """
    hello = framed(wire.encode(wire.Hello(job="a", incarnation=1)))
    with ExitStack() as stack:
        peer, got = welcomed(router, stack), []
        peer.sendall(hello * 60)
        for _ in range(60):
            for one in received(router):
                got.append(one)
                router.send(one.identity, WELCOME)

    assert 5 <= len(got) <= 6


@pytest.mark.parametrize("answer", [wire.Unknown(), wire.Refusal(error="x", hint="")])
def test_whoever_is_not_welcome_as_a_shim_is_held_to_requests(router, answer):
    """
    Anybody can say a shim's words, and without end: the daemon was kept busy by nine tenths of a CPU.
    """
    with connected(router, OTHER) as peer:
        peer.sendall(BEAT * 60)
        got = []
        until(lambda: got.extend(received(router)) or len(got) >= 9)
        for _ in range(20):
            got += received(router)
        num_before = len(got)
        router.send(got[0].identity, WELCOME)
        router.send(got[0].identity, answer)
        for _ in range(20):
            got += received(router)

    # Ten at once, less what the handshake cost.
    assert num_before <= 10
    assert len(got) <= 12


def test_whoever_connects_without_end_is_hung_up_on_at_once(router):
    """
    Nothing is kept for him, and who stands behind him in the kernel's queue has his turn.
    """
    router.bounds.config = replace(router.bounds.config, max_connections=64)
    with ExitStack() as stack:
        crowd = [stack.enter_context(connected(router, OTHER)) for _ in range(200)]
        stack.enter_context(connected(router, THIRD)).sendall(QUESTION)
        got = []
        until(lambda: got.extend(received(router)) or got)
        num_closed = sum(map(is_hung_up, crowd))

    assert [THIRD] == [one.peer.uid for one in got]
    # Ten at once, less what their handshakes cost.
    assert 190 <= num_closed <= 192


def test_connections_beyond_the_bound_take_the_place_of_ones_own(router):
    """
    Others keep theirs, and the last one who came is listened to.
    """
    router.bounds.config = replace(router.bounds.config, requests_at_once=1000)
    with ExitStack() as stack:
        victim = stack.enter_context(connected(router, THIRD))
        received(router)
        crowd = []
        for _ in range(20):
            crowd.append(stack.enter_context(connected(router, OTHER)))
            received(router)
        num_closed = sum(map(is_hung_up, crowd))
        victim.sendall(QUESTION)
        crowd[-1].sendall(QUESTION)
        got = []
        until(lambda: got.extend(received(router)) or len(got) == 2)

    assert 12 == num_closed
    assert {OTHER, THIRD} == {one.peer.uid for one in got}


def test_bytes_beyond_the_bound_cost_ones_own_connections(router):
    """
    Half messages of many connections do not add up, and another user's stays.
    """
    with ExitStack() as stack:
        victim = stack.enter_context(connected(router, THIRD))
        victim.sendall(framed(bytes(60_000), 1))
        router.bounds.config = replace(router.bounds.config, max_connections=64, requests_at_once=1000)
        heavy = [stack.enter_context(connected(router, OTHER)) for _ in range(24)]
        for peer in heavy:
            peer.sendall(framed(bytes(60_000), 1))
            received(router)
        until(lambda: not received(router) and not router.has_more())
        is_there, num_closed = not is_hung_up(victim), sum(map(is_hung_up, heavy))

    assert is_there
    # So many fit into a mebibyte.
    assert 24 - 17 == num_closed


@pytest.fixture
def daemon():
    """One with few jobs for each user."""
    with RunningDaemon(
        CONFIG + "[users]\nmax_jobs = 3\nrequests_per_s = 200\n", words=("--system",)
    ) as running:
        running.home.chmod(0o755)
        yield running


def waiting_job(client, name):
    request = api.RunRequest(id=new_id(), argv=("true",), cwd="/", env={}, name=name, num_gpus=1)
    return client.run(request).job


def test_a_user_has_so_many_jobs(daemon):
    """
    Another one has his own measure, and root none. What is over counts until it is removed.
    """

    def fills():
        with Client(daemon.paths, connect_s=5.0, answer_s=GUARD_S) as client:
            for number in range(3):
                waiting_job(client, f"mine-{number}")
            with pytest.raises(Refused, match="you have 3 of them") as refused:
                waiting_job(client, "mine-3")
            client.ask_jobs(api.StopRequest(id=new_id(), jobs=("mine-0",)))
            with pytest.raises(Refused):
                waiting_job(client, "mine-3")
            client.ask_jobs(api.RemoveRequest(id=new_id(), jobs=("mine-0",)))
            return waiting_job(client, "mine-3"), refused.value.hint

    job, hint = run_as(OTHER, fills)
    for number in range(5):
        waiting_job(daemon.client, f"roots-{number}")

    assert "mine-3" == job
    assert "users.max_jobs" in hint
    assert "mine-0" == run_as(THIRD, lambda: fills()[0] and "mine-0")


def test_the_bounds_are_read_again(daemon):
    """
    They are settings like others, in force with the next reload.
    """
    for number in range(3):
        run_as(OTHER, lambda number=number: waiting_as(daemon, f"mine-{number}"))
    with pytest.raises(AssertionError, match="one user may have 3"):
        run_as(OTHER, lambda: waiting_as(daemon, "more"))
    daemon.configure(CONFIG + "[users]\nmax_jobs = 4\n")
    daemon.client.reload()

    assert "more" == run_as(OTHER, lambda: waiting_as(daemon, "more"))


def waiting_as(daemon, name):
    with Client(daemon.paths, connect_s=5.0, answer_s=GUARD_S) as client:
        return waiting_job(client, name)
