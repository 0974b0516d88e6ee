"""How often it is looked at all processes: once for all who ask then, and a part of the time only."""

import time

from supervisor.launcher.group import ProcessLooks
from tests.harness import until


def test_one_look_serves_all_who_can_do_with_one_so_old():
    """
    Who wants a newer one waits, longer than it takes.
    """
    looks = ProcessLooks()
    first = looks.since(time.monotonic())
    later = time.monotonic()
    first.took_s = 0.01
    is_soon = looks.is_ready(later)
    until(lambda: looks.is_ready(later))
    rested_s = time.monotonic() - first.at

    assert looks.is_ready(first.at)
    assert first is looks.since(first.at)
    assert is_soon is (rested_s < 0.1) is False
    assert first is not looks.since(later)


def test_a_look_tells_what_it_took(tmp_path):
    """
    With the marks of all processes, which are the most of it.
    """
    look = ProcessLooks().since(time.monotonic())
    before_s = look.took_s
    found = look.marked([tmp_path / "a" / "run-1"])

    assert [] == found
    assert 0 < before_s < look.took_s
