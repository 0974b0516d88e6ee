"""What stands somewhere in the data goes on from there, or is told: counters, iterators, files.

Covers: such things in data sets, samplers and collate functions, in this process and in workers.
Does not cover: generators of random numbers and plain values (test_state_of_the_data.py).
"""

from __future__ import annotations

import itertools
import multiprocessing
import random
import threading
import time

import pytest
import torch
from cutting import Numbers, epochs_over, once, whole_and_cut
from loader_training import HARMLESS
from torch.utils.data import DataLoader

pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in HARMLESS]


class Times(Numbers):
    """Each item times what `next_one` gives."""

    def __init__(self, next_one):
        super().__init__()
        self.next_one = next_one

    def __getitem__(self, index):
        return super().__getitem__(index) * float(self.next_one())


def of(make):
    """A data set that asks an iterator, which lies in a container."""

    class Of(Numbers):
        def __init__(self):
            super().__init__()
            self.held = {"it": make()}

        def __getitem__(self, index):
            return super().__getitem__(index) * float(next(self.held["it"]))

    return Of


def local():
    own = threading.local()
    own.number, own.draws = 0, random.Random(3)

    def count():
        own.number += 1
        return own.number + own.draws.random()

    return Times(count)


def shared(make, act):
    def data_set():
        number = make()
        return Times(lambda: act(number))

    return data_set


def add(number):
    number.value += 1
    return number.value


def add_inside(numbers):
    numbers[1] += 0.5
    return numbers[1]


def sobol():
    engine = torch.quasirandom.SobolEngine(1, scramble=True, seed=3)
    return Times(lambda: engine.draw(1).item())


GOES_ON = {
    "count": of(itertools.count),
    "count by tenths": of(lambda: itertools.count(0.5, 0.1)),
    "count backwards": of(lambda: itertools.count(5, -2)),
    "list": of(lambda: iter(list(range(200)))),
    "range": of(lambda: iter(range(200))),
    "bytes": of(lambda: iter(bytes(range(200)))),
    "dict": of(lambda: iter(dict.fromkeys(range(200)))),
    "reversed": of(lambda: reversed(range(200))),
    "local": local,
    "sobol": sobol,
    "value": shared(lambda: multiprocessing.Value("i", 0), add),
    "raw value": shared(lambda: multiprocessing.Value("d", 0, lock=False), add),
    "array": shared(lambda: multiprocessing.Array("d", 3), add_inside),
}


@pytest.mark.parametrize(
    ("name", "workers"), [*((name, 0) for name in GOES_ON), ("count", 2), ("list", 2), ("local", 2)]
)
def test_it_goes_on_where_it_stood(tmp_path, name, workers):
    """
    In a fresh process it stands at its beginning.
    """

    def make(_run):
        data = DataLoader(GOES_ON[name](), 4, shuffle=True, num_workers=workers)
        return lambda: data

    whole, cut = whole_and_cut(tmp_path, epochs_over(make), (3, 8))

    assert whole == cut


@pytest.mark.parametrize("mode", ["r", "rb"])
def test_a_file_is_read_on(tmp_path, mode):
    """
    Binary, or as text; a file that somebody writes to is left alone.
    """
    numbers = tmp_path / "numbers.txt"
    numbers.write_text("\n".join(map(str, range(200))))
    with numbers.open("a") as written:

        class Lines(Numbers):
            def __init__(self):
                super().__init__()
                self.lines, self.log = numbers.open(mode), written

            def __getitem__(self, index):
                return super().__getitem__(index) * float(self.lines.readline())

            def __del__(self):
                self.lines.close()

        def make(_run):
            data = DataLoader(Lines(), 4)
            return lambda: data

        whole, cut = whole_and_cut(tmp_path, epochs_over(make), (3, 8))

        assert whole == cut
        assert numbers.stat().st_size == written.tell()


class OpenedLate(Numbers):
    """Opens its file for the first item, and goes to the place of each."""

    def __init__(self, path):
        super().__init__()
        self.path, self.file = path, None

    def __getitem__(self, index):
        global last_read  # noqa: PLW0603  # As scripts do.
        last_read = time.time()
        if self.file is None:
            self.file = self.path.open("rb")
        self.file.seek(3 * index)
        return super().__getitem__(index) * float(self.file.read(2))

    def __del__(self):
        if self.file is not None:
            self.file.close()


last_read = 0.0


def test_a_file_that_is_opened_late_and_a_time_of_day_are_not_mentioned(tmp_path, capsys):
    """
    They differ from start to start, and nothing depends on that.
    """
    numbers = tmp_path / "numbers.txt"
    numbers.write_text("\n".join(str(number) for number in range(10, 99)))

    def make(_run):
        global last_read  # noqa: PLW0603  # As scripts do.
        last_read = time.time()
        data = DataLoader(OpenedLate(numbers), 4, shuffle=True)
        return lambda: data

    whole, cut = whole_and_cut(tmp_path, epochs_over(make), (3, 8))

    assert whole == cut
    said = [
        line
        for line in capsys.readouterr().err.splitlines()
        if "going on" not in line and "durable" not in line
    ]
    assert said == []


def squares():
    number = 0
    while True:
        number += 1
        yield number * number


TOLD = {
    "generator": of(squares),
    "cycle": of(lambda: itertools.cycle([3, 1, 4, 1, 5])),
    "map": of(lambda: map(abs, itertools.count())),
    "chain": of(lambda: itertools.chain(range(7), range(200))),
}


@pytest.mark.parametrize(("name", "workers"), [*((name, 0) for name in TOLD), ("generator", 2)])
def test_an_iterator_that_does_not_tell_where_it_stands_is_told_before_a_pause(
    tmp_path, capsys, name, workers
):
    """
    What to write stands beside; in workers nobody sees whether it moves.
    """

    def make(_run):
        data = DataLoader(
            TOLD[name](), 4, num_workers=workers, multiprocessing_context="fork" if workers else None
        )
        return lambda: data

    assert once(tmp_path, epochs_over(make)) is not None

    said = capsys.readouterr().err
    assert 1 == said.count("is an iterator that goes on from batch to batch"), said
    assert "`dataset.held['it']`" in said


class Afresh(Numbers):
    """One that is made anew for each item, one that nobody uses, and one that is at its end."""

    def __init__(self):
        super().__init__()
        self.unused, self.over, self.now = squares(), squares(), None
        self.over.close()

    def __getitem__(self, index):
        self.now = itertools.cycle([2.0])
        return super().__getitem__(index) * next(self.now)


def test_an_iterator_that_stays_where_it_is_or_is_made_anew_is_not_mentioned(tmp_path, capsys):
    """
    Nothing is lost with it.
    """

    def make(_run):
        data = DataLoader(Afresh(), 4)
        return lambda: data

    whole, cut = whole_and_cut(tmp_path, epochs_over(make), (3, 8))

    assert whole == cut
    assert "is an iterator" not in capsys.readouterr().err
