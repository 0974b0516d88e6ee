"""Whose request is next when one user has asked for many."""

import threading

from supervisor.launcher.user_turns import UserTurns


def test_users_are_served_in_turn_and_each_ones_stay_in_order():
    """
    Who asks last waits for one of another's; what was put in before the end is still handed out.
    """
    turns = UserTurns()
    for user, one in (("bob", 1), ("bob", 2), ("bob", 3), ("ada", 4), ("ada", 5)):
        turns.put(user, one)
    first = turns.get()
    turns.put("bob", 6)
    turns.close()

    assert [1, 4, 2, 5, 3, 6, None] == [first, *(turns.get() for _ in range(6))]


def test_who_waits_is_woken():
    """
    By what comes, and by the end.
    """
    turns, found = UserTurns(), []
    thread = threading.Thread(target=lambda: found.extend((turns.get(), turns.get())))
    thread.start()
    turns.put("ada", 1)
    turns.close()
    thread.join(10)

    assert [1, None] == found
