"""A boundary at which the loop looks: what comes before what is wanted, and which boundary looks next.

Covers: boundaries.py with checks, saves and an order of things that write down when each is asked.
Does not cover: what is done of all that is wanted (test_at_boundary.py).
"""

from __future__ import annotations

import math

import pytest

from trainer_shim.boundaries import Boundaries
from trainer_shim.gate import Gate, Pace
from trainer_shim.protocol import Checkpoint


class Scene:
    """Stands where all that a boundary uses is."""

    def __init__(self):
        self.pace, self.log = Pace(), []
        self.gate = Gate(self.pace)
        self.due_step, self.is_there, self.news, self.exit_code = 10, False, False, None
        self.boundaries = Boundaries(self.gate, self, self, self)

    def at(self, step):
        self.log.append(f"checks {step}")

    def look_at_depths(self):
        self.log.append("depths")

    def at_first(self):
        self.log.append("first")

    def tell_ended(self):
        self.log.append("ended")

    def is_due(self):
        return self.is_there

    def begin(self):
        self.log.append("begins")
        self.gate.put(Checkpoint(request="meanwhile"))

    def do(self, want):
        self.log.append(f"does {want.saves}")
        return self.exit_code

    def has_news(self):
        return self.news

    def epoch_is_over(self, num_done):
        return num_done == 2

    def close(self):
        return self.is_there


@pytest.fixture
def scene():
    return Scene()


def test_what_is_told_comes_before_what_is_done(scene):
    """
    A refusal of the first boundary comes out before anything is written.
    """
    scene.gate.put(Checkpoint(request="a"))
    scene.boundaries.look(7)

    assert ["checks 7", "depths", "first", "ended", "does ('a',)"] == scene.log
    assert 10.0 == scene.pace._due


def test_nothing_is_begun_unasked_where_something_is_wanted(scene):
    """
    Whoever asks gets a checkpoint of this boundary; a second one of it is in vain. What comes while one is
    copied is done here.
    """
    scene.is_there = True
    scene.boundaries.look(7)
    assert ["begins", "does ('meanwhile',)"] == scene.log[-2:]

    scene.gate.put(Checkpoint(request="a"))
    scene.boundaries.look(8)

    assert ["ended", "does ('a',)"] == scene.log[-2:]


def test_a_boundary_inside_critical_is_none(scene):
    """
    Nothing is even looked at, and what is wanted waits.
    """
    scene.gate.put(Checkpoint(request="a"))
    with scene.boundaries.critical(), scene.boundaries.critical():
        scene.boundaries.look(7)

    assert [] == scene.log
    scene.boundaries.look(8)
    assert "does ('a',)" == scene.log[-1]


def test_the_next_boundary_looks_where_news_came_while_this_one_was_at_work(scene):
    """
    A save that ended meanwhile is told, and one that is due begins.
    """
    scene.news = True
    scene.boundaries.look(7)

    assert scene.gate.asked
    assert 0.0 == scene.pace._due


def test_a_process_that_is_to_end_says_so(scene):
    """
    Its next boundary is none of this session.
    """
    scene.exit_code = 75

    assert 75 == scene.boundaries.look(7)
    assert 0.0 == scene.pace._due


def test_the_end_of_an_epoch_that_is_to_be_saved_is_looked_at(scene):
    """
    Each second one, as the script chose.
    """
    scene.gate.due_at(math.inf)
    scene.boundaries.epoch_is_over(1)
    before = scene.pace._due
    scene.boundaries.epoch_is_over(2)

    assert (math.inf, 0.0) == (before, scene.pace._due)


def test_a_session_that_saves_no_more_looks_no_more(scene):
    """
    Its loop goes on at the cost of an addition.
    """
    scene.is_there = True
    scene.boundaries.close()

    assert math.inf == scene.pace._due
