"""What a batch boundary costs when nothing is wanted, beside other ways to look for a request.

Covers: `shim.boundary()`, the boundary of `shim.batches()` alone, one turn of that, and what a loop could do
instead. All but the all-reduce take turns within one process; the all-reduce
runs in two processes that wait for their turn.
"""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import threading
import timeit
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import zmq

import trainer_shim
from benchmarks.common import ROOT, goal, main, own_env, print_table, range_of, scratch, take_turns

#: Times the median of the flag of `threading`, taken in the same turns.
GOAL_RATIO = 2.0

_BOUNDARY = "`shim.boundary()`"
_TURN = "the boundary of `shim.batches()`"
_FLAG = "`threading.Event.is_set()`"
_GLOO = "all-reduce of one element, gloo, 2 processes"


def run(*, quick: bool) -> None:
    # Slices so short that most of them are not interrupted on a busy machine.
    slice_s, rounds = (0.002, 11) if quick else (0.002, 301)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        shim = trainer_shim.attach(checkpoints=folder / "checkpoints")
        stack.callback(shim.detach)
        contenders = _looks(shim, stack.enter_context(_dealer(folder)), slice_s)
        try:
            contenders[_GLOO] = stack.enter_context(_gloo(folder, num_calls=10))
        except RuntimeError as error:
            print(f"\nwithout the all-reduce: {error}")
        figures = take_turns(contenders, rounds)
        for name, source in _loaders().items():
            # One after the other: a pass inside another one has no boundaries.
            turns = shim.batches(source)
            ways = {"bare": iter(source), "through `shim.batches()`": turns}
            timers = {
                f"one turn of {name}, {way}": _timer("next(it)", {"it": turn}, slice_s)
                for way, turn in ways.items()
            }
            figures |= take_turns(timers, rounds)
            turns.close()
    rows, flag_ns = [], statistics.median(figures[_FLAG])
    for name, values in figures.items():
        ns = statistics.median(values)
        met = ""
        if name in (_BOUNDARY, _TURN):
            met = goal(f"at most {GOAL_RATIO:g} x {_FLAG}", met=ns <= GOAL_RATIO * flag_ns)
        ratio = f"{ns / flag_ns:,.2f}"
        rows.append([name, f"{ns:,.0f}", f"{min(values):,.0f}", range_of(values, 0), ratio, met])
    title = "A boundary with nothing to do, ns per call (the empty loop is deducted)"
    print_table(title, ["what", "median", "least", "10 - 90 %", "x flag", "goal"], rows)


def _looks(
    shim: trainer_shim.Shim, dealer: zmq.Socket[bytes], slice_s: float
) -> dict[str, Callable[[], float]]:
    def empty() -> None:
        pass

    def receive() -> None:
        with suppress(zmq.Again):
            dealer.recv(zmq.NOBLOCK)

    return {
        "empty function call": _timer("empty()", {"empty": empty}, slice_s),
        _BOUNDARY: _timer("shim.boundary()", {"shim": shim}, slice_s),
        _TURN: _timer("shim.turn()", {"shim": shim}, slice_s),
        _FLAG: _timer("event.is_set()", {"event": threading.Event()}, slice_s),
        "non-blocking receive, ZeroMQ DEALER": _timer("receive()", {"receive": receive}, slice_s),
    }


def _loaders() -> dict[str, Iterable[Any]]:
    """Give things to iterate over that never end within a benchmark, and cost next to nothing themselves."""
    loaders: dict[str, Iterable[Any]] = {"a generator": (0 for _ in itertools.repeat(0))}
    with suppress(ImportError):
        from torch.utils.data import DataLoader

        loaders["a DataLoader"] = DataLoader(range(10**9), batch_size=1, collate_fn=len)  # type: ignore[arg-type]
    return loaders


@contextmanager
def _dealer(folder: Path) -> Iterator[zmq.Socket[bytes]]:
    context: zmq.Context[Any] = zmq.Context()
    server, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    endpoint = f"ipc://{folder}/zmq"
    server.bind(endpoint)
    dealer.connect(endpoint)
    try:
        yield dealer
    finally:
        context.destroy(linger=0)


def _timer(statement: str, names: dict[str, Any], slice_s: float) -> Callable[[], float]:
    """Return a timer of about that many seconds a call, in ns per statement."""
    timed = timeit.Timer(statement, globals=names)
    # The least of some: among the first boundaries are those that look at the script.
    num_calls = max(20, int(100 * slice_s / min(timed.repeat(5, 100))))
    empty_s = min(timeit.repeat("pass", number=num_calls, repeat=5))

    def ns_per_call() -> float:
        return (timed.timeit(num_calls) - empty_s) / num_calls * 1e9

    return ns_per_call


@contextmanager
def _gloo(folder: Path, num_calls: int) -> Iterator[Callable[[], float]]:
    """Give the timer of an all-reduce between two processes; raises RuntimeError when they do not start."""
    argv = [sys.executable, "-m", "benchmarks.gloo_rank", str(folder / "store")]
    env = own_env(GLOO_SOCKET_IFNAME=os.environ.get("GLOO_SOCKET_IFNAME", "lo"), OMP_NUM_THREADS="1")
    with (folder / "gloo.log").open("w+") as log, ExitStack() as stack:
        ranks = []
        for rank in ("0", "1"):
            process = subprocess.Popen(
                [*argv, rank],
                cwd=ROOT,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            ranks.append(stack.enter_context(process))
            stack.callback(process.kill)

        def ns_per_call() -> float:
            for process in ranks:
                assert process.stdin is not None
                process.stdin.write(f"{num_calls}\n")
                process.stdin.flush()
            assert ranks[0].stdout is not None
            return float(ranks[0].stdout.readline())

        try:
            ns_per_call()
        except (ValueError, BrokenPipeError):
            log.seek(0)
            last = log.read().strip().splitlines()[-1:] or ["no word why"]
            raise RuntimeError(f"the two processes did not start: {last[0]}") from None
        yield ns_per_call


if __name__ == "__main__":
    main(run)
