"""What everybody reckons with, of every Clock.

Covers: the fake and the real one. Does not cover: a boot in between (tests/unit/test_clock.py).
"""

import pytest

from supervisor.clock import SteadyClock
from tests.fakes.clock import FakeClock
from tests.harness import until


class Fake:
    """Time goes on when it is told to."""

    def __init__(self):
        self.clock = FakeClock()

    def let_time_pass(self):
        self.clock.advance(0.01)

    def next_life(self):
        # All engines of a test share it, as the daemons of one boot share the machine's.
        return self.clock


class Real:
    """The clock of this machine."""

    def __init__(self):
        self.clock = SteadyClock({}, boot_id="b", not_before=0.0)

    def let_time_pass(self):
        began = self.clock.now()
        until(lambda: self.clock.now() > began)

    def next_life(self):
        return SteadyClock(self.clock.facts, boot_id="b", not_before=0.0)


@pytest.fixture(params=[Fake, Real], ids=["fake", "real"])
def world(request):
    return request.param()


class TestEveryClock:
    def test_it_goes_on_with_time_and_never_back(self, world):
        """
        Deadlines are compared with it.
        """
        clock = world.clock
        first, second = clock.now(), clock.now()
        world.let_time_pass()

        assert first <= second < clock.now()

    def test_both_clocks_go_on_together(self, world):
        """
        What is shown of a span is what was reckoned with; where they stand may differ.
        """
        clock = world.clock
        now, wall = clock.now(), clock.wall()
        world.let_time_pass()

        assert clock.wall() > wall
        assert abs((clock.now() - now) - (clock.wall() - wall)) < 5

    def test_the_next_life_of_the_daemon_goes_on_with_it(self, world):
        """
        A deadline that was written down is as far away as before.
        """
        before = world.clock.now()
        after = world.next_life().now()

        assert before <= after < before + 60
