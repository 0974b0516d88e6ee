"""Whose turn it is among thousands."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from supervisor.server.peers import Peer
from supervisor.server.turns import PeerTurns

ADA, BOB = 1, 2


def connection(uid, pid, served_at=0.0):
    return SimpleNamespace(peer=Peer(uid, pid), served_at=served_at)


def served(turns, num, took_s=1.0):
    """Whose turns were the next ones, each of which took so long."""
    order = []
    for _ in range(num):
        one = turns.take()
        turns.used(one, took_s)
        order.append(one)
    return order


@pytest.fixture
def turns():
    return PeerTurns(0.0)


def test_users_take_turns_whatever_their_connections(turns):
    """
    Nine of one and two of another: after the two, those that are left.
    """
    turns.begin([connection(ADA, pid) for pid in range(9)] + [connection(BOB, 99) for _ in range(2)], 0.0)

    assert [ADA, BOB, ADA, BOB] == [one.peer.uid for one in served(turns, 4)]
    assert [ADA] * 7 == [one.peer.uid for one in served(turns, 7)]
    assert (False, None) == (bool(turns), turns.take())


def test_a_process_that_used_little_comes_before_one_that_used_much(turns):
    """
    Also when it comes later, and however many connections the other one has.
    """
    turns.begin([connection(ADA, 1) for _ in range(5)], 0.0)
    served(turns, 2)
    turns.add(late := connection(ADA, 2))

    assert [late, 1, 1] == [one if one is late else one.peer.pid for one in served(turns, 3)]


def test_among_equals_whoever_was_served_last_stands_last(turns):
    """
    A process answers its connections in turns.
    """
    old, new = connection(ADA, 1, served_at=1.0), connection(ADA, 1, served_at=2.0)
    turns.begin([new, old], 0.0)

    assert [old, new] == served(turns, 2)


def test_what_was_used_is_forgotten_by_and_by(turns):
    """
    Half of it each second; until then it counts, also for those who begin anew.
    """
    turns.begin([connection(ADA, 1)], 0.0)
    served(turns, 1, took_s=3.0)
    turns.begin([connection(BOB, 2)], 0.5)
    served(turns, 1, took_s=2.0)
    turns.begin([connection(ADA, 1), connection(BOB, 2)], 0.9)
    assert [BOB, ADA] == [one.peer.uid for one in served(turns, 2, took_s=0.0)]

    for number in range(1, 20):
        turns.begin([], float(number))
    turns.begin([connection(BOB, 2, served_at=1.0), connection(ADA, 1, served_at=0.0)], 20.0)

    assert [ADA, BOB] == [one.peer.uid for one in served(turns, 2)]
