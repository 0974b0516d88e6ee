"""What one user may take of the sockets: counting, on a clock that a test turns."""

import pytest

from supervisor.core.rights import UsersConfig
from supervisor.server.peers import Peer
from supervisor.server.user_bounds import UserBounds
from tests.fakes.clock import FakeClock

ROOT, ADA, BOB = Peer(0, 1), Peer(1000, 2), Peer(1001, 3)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def bounds(clock):
    made = UserBounds(lambda peer: peer.uid != 0, clock=clock.now)
    made.config = UsersConfig(
        max_connections=4, max_held_bytes=1 << 20, requests_per_s=10, requests_at_once=20
    )
    return made


def test_connections_are_those_of_a_user_whatever_his_processes(bounds):
    """
    More processes are no more connections; those of another user are his.
    """
    for pid in range(4):
        bounds.joined(Peer(ADA.uid, pid))

    assert (True, False) == (bounds.is_crowded(ADA), bounds.is_crowded(BOB))
    bounds.gone(ADA)
    assert not bounds.is_crowded(ADA)


def test_bytes_are_those_of_a_user(bounds):
    """
    All his connections together.
    """
    for _ in range(3):
        bounds.joined(ADA)
        bounds.hold(ADA, 400_000)

    assert (True, False) == (bounds.is_heavy(ADA), bounds.is_heavy(BOB))
    bounds.hold(ADA, -400_000)
    assert not bounds.is_heavy(ADA)


@pytest.mark.parametrize(("heartbeat_s", "num_shims"), [(2.0, 1), (0.1, 1), (2.0, 400)])
def test_healthy_shims_never_wait(bounds, clock, heartbeat_s, num_shims):
    """
    All of them say how far they are, and all are paused and resumed again and again.
    """
    bounds.heartbeat_s = heartbeat_s
    bounds.shims(ADA, num_shims)
    # They come one after the other, within what a user may ask.
    clock.advance(20)
    for number in range(600):
        is_asked = number % 100 == 0
        bounds.spend(ADA, num_shims * (11 if is_asked else 1), is_shim=True)
        assert bounds.wait_s(ADA, is_shim=True) == 0
        clock.advance(heartbeat_s)
        if number % 50 == 0:
            bounds.forget()


def test_a_shim_that_comes_and_goes_brings_no_words_with_it(bounds):
    """
    Nor does one that was forgotten while it owed some.
    """
    for _ in range(10):
        bounds.shims(ADA, 1)
        bounds.spend(ADA, 50, is_shim=True)
        bounds.gone(ADA, is_shim=True)
        bounds.forget()

    assert bounds.wait_s(ADA, is_shim=True) > 60
    assert 0 == bounds.wait_s(ADA) == bounds.wait_s(BOB, is_shim=True) == bounds.wait_s(ROOT, is_shim=True)


def test_what_is_gone_is_forgotten(bounds):
    """
    Users who come and go leave nothing behind.
    """
    bounds.joined(ADA)
    bounds.hold(ADA, 5 << 20)
    bounds.gone(ADA)

    assert not bounds.is_heavy(ADA)


def test_requests_come_back_with_time(bounds, clock):
    """
    So many at once, then so many a second; and whoever went beyond waits for that as well.
    """
    for _ in range(20):
        assert pytest.approx(0, abs=1e-6) == bounds.wait_s(ADA)
        bounds.spend(ADA)
    assert pytest.approx(0.1) == bounds.wait_s(ADA)
    clock.advance(0.1)
    assert pytest.approx(0, abs=1e-6) == bounds.wait_s(ADA)
    for _ in range(6):
        bounds.spend(ADA)
    assert pytest.approx(0.6) == bounds.wait_s(ADA)
    assert 0 == bounds.wait_s(BOB)


def test_no_time_gives_more_than_so_many_at_once(bounds, clock):
    """
    A day without a question is no licence for a flood.
    """
    bounds.spend(ADA)
    clock.advance(86400)
    bounds.forget()
    for _ in range(20):
        bounds.spend(ADA)

    assert bounds.wait_s(ADA) > 0


def test_forgetting_spares_nobody(bounds):
    """
    Whoever is over his bound is so after it as well.
    """
    for _ in range(30):
        bounds.spend(ADA)
    bounds.forget()

    assert pytest.approx(1.1) == bounds.wait_s(ADA)


def test_who_is_not_bounded_never_waits(bounds):
    """
    Root, and the daemon's own user: it is they who look what is wrong.
    """
    for _ in range(1000):
        bounds.joined(ROOT)
        bounds.hold(ROOT, 1 << 20)
        bounds.spend(ROOT)

    assert (False, False, 0) == (bounds.is_crowded(ROOT), bounds.is_heavy(ROOT), bounds.wait_s(ROOT))


def test_without_bounds_nobody_is_bounded(clock):
    """
    A daemon that serves one user is as it was.
    """
    free = UserBounds(clock=clock.now)
    for _ in range(1000):
        free.joined(ADA)
        free.spend(ADA)

    assert (False, 0) == (free.is_crowded(ADA), free.wait_s(ADA))
