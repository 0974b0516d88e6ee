"""How soon a job makes room: a shortage until the verdict, a verdict until the loop holds.

Covers: the daemon as a whole, with real load, in control groups that limit it to a part
of this machine, so that what others take and give back does not show. Memory: a process
has taken half a GiB, and the threshold lies in between. CPU: a process computes, and
the threshold is half of what it uses. Emergency: two processes in a group of 48 MiB read
at random in a file that is larger; the tasks that wait for memory make the kernel call,
and the rule would otherwise wait a minute. The call is seen from outside, through a
trigger of the benchmark's own.
Does not cover: how soon memory that is nearly gone is seen without such a call (sensing.py).

Each shortage begins at another moment of the daemon's tick, and tells itself when it
began. When the loop holds is noted by the loop, see toy_trainer.py.
"""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.common import goal, main, print_table, range_of, scratch, wait_for
from benchmarks.scene import Scene
from supervisor.monitors.pressure import MemoryTrigger
from tests.groups import group, group_problem

HOLDING_S = 2.0
GOAL_S = 1.2
GOAL_URGENT_MS = 300.0

_JOB = "loop"
_HOG_BYTES = 512 << 20
_GIB = 1 << 30
#: With half the memory the daemon looks once a second: it looks more often where little is left. A process
#: that computes does not fill it, so that nobody in there waits for a CPU.
_LIMITS = {
    "cpu": {"cpu.cfs_period_us": 100_000, "cpu.cfs_quota_us": 150_000, "cpu.shares": 8192},
    "cpuacct": {},
    "memory": {"memory.limit_in_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2},
}
_TINY = {"memory": {"memory.limit_in_bytes": 48 << 20}}
_TICK_S = 1.0
#: The longest that the kernel waits between two looks at a trigger, and between two calls.
_WINDOW_S = 2.0

_HEAD = f"""
[daemon]
sample_s = {_TICK_S}
[policy]
default_rules = false
settle_s = 0
min_run_s = 0
easing_long_s = 0
margin_pct = 0
max_backoff = 1
"""
_RULE = """
[[rules]]
name = "rule"
when = [{{ metric = "{metric}", {levels} }}]
pause_after_s = {holding_s}
resume_after_s = 0
depth = "hold"
"""

_COMPUTE = """
import time
end = time.monotonic() + 60
print(time.time(), flush=True)
while time.monotonic() < end: pass
"""
_TAKE = """
import sys, time
held = bytearray(b"x") * int(sys.argv[1])
print(time.time(), flush=True)
time.sleep(60)
"""
_READ = """
import mmap, random, sys, time
with open(sys.argv[1], "rb") as file:
    pages = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
num_pages, end = len(pages) // 4096, time.monotonic() + 20
while time.monotonic() < end:
    pages[random.randrange(num_pages) * 4096]
"""


_HEADER = ["shortage", "runs", "median, s", "range", "worst", "verdict until held, ms", "goal"]


class _World(NamedTuple):
    """What all runs share."""

    scene: Scene
    folder: Path
    #: Put before a command, it runs beside the daemon.
    inside: tuple[str, ...]
    trigger: MemoryTrigger
    #: When the kernel called.
    calls: list[float]


class Reaction(NamedTuple):
    """One of them, in seconds."""

    #: Of the shortage, or of the kernel's call, until the verdict.
    verdict: float
    #: From there until the loop holds, its checkpoint durable.
    held: float


def run(*, quick: bool) -> None:
    num_runs = 2 if quick else 10
    kinds: dict[str, Callable[[_World, float], Reaction | str]] = {
        f"memory, {HOLDING_S:g} s of holding time": _memory,
        f"CPU, {HOLDING_S:g} s of holding time": _cpu,
        "memory emergency (PSI), from the kernel's call": _emergency,
    }
    rows = []
    problem = group_problem(_LIMITS)
    if problem:
        print(f"\nnot measured, no control groups can be made here: {problem}")
        return
    with (
        scratch() as folder,
        group("reaction", _LIMITS) as inside,
        Scene(folder / "h", _HEAD, inside=inside) as scene,
        closing(MemoryTrigger()) as trigger,
    ):
        scene.run_toys([_JOB], "idle")
        world = _World(scene, folder, inside, trigger, [])
        for name, react in kinds.items():
            rows += _rows(name, [react(world, number / num_runs) for number in range(num_runs)])
    print_table("A shortage until a job holds", _HEADER, rows)
    print(f"\nLoad average at the end: {os.getloadavg()[0]:.1f}")


def _rows(name: str, found: Sequence[Reaction | str]) -> list[list[str]]:
    reactions = [one for one in found if isinstance(one, Reaction)]
    for reason in sorted({one for one in found if isinstance(one, str)}):
        print(f"\n{name}: {found.count(reason)} of {len(found)} runs left out: {reason}")
    if not reactions:
        return []
    verdicts = [one.verdict for one in reactions]
    limit_s = HOLDING_S + GOAL_S if "holding" in name else GOAL_URGENT_MS / 1000
    held_ms = statistics.median(one.held for one in reactions) * 1000
    met = goal(f"each at most {limit_s:g} s", met=max(verdicts) <= limit_s)
    figures = [f"{statistics.median(verdicts):.3f}", range_of(verdicts, 3), f"{max(verdicts):.3f}"]
    return [[name, str(len(reactions)), *figures, f"{held_ms:.0f}", met]]


def _memory(world: _World, phase: float) -> Reaction | str:
    available = _reading(world.scene, "memory_available_gib", "below = -2, clear_above = -1")
    # What this small job would free has to count as a help, or it is not asked.
    below = available - _HOG_BYTES / _GIB / 2
    levels = f"below = {below:.3f}, clear_above = {below + 0.05:.3f}"
    return _react(world, phase, ("memory_available_gib", levels), (_TAKE, str(_HOG_BYTES)))


def _cpu(world: _World, phase: float) -> Reaction | str:
    one_cpu_pct = 100 / (_LIMITS["cpu"]["cpu.cfs_quota_us"] / _LIMITS["cpu"]["cpu.cfs_period_us"])
    levels = f"above = {one_cpu_pct / 2:.0f}, clear_below = {one_cpu_pct / 2 - 10:.0f}"
    return _react(world, phase, ("cpu_foreign_pct", levels), (_COMPUTE,))


def _react(world: _World, phase: float, rule: tuple[str, str], hog: Sequence[str]) -> Reaction | str:
    scene, (metric, levels) = world.scene, rule
    _set_rule(scene, metric, levels)
    # The run before ended with a look of the daemon; what it used is no part of any reading by now.
    time.sleep((2 + phase) * _TICK_S)
    with _process(*world.inside, sys.executable, "-c", *hog) as process:
        assert process.stdout is not None
        began = float(process.stdout.readline())
        _await(scene, "paused")
    reaction = _after(scene, began)
    # An alarm waits for no holding time; it is of the whole machine.
    return reaction if reaction.verdict > HOLDING_S / 2 else "the kernel's memory alarm came, of other work"


def _emergency(world: _World, _: float) -> Reaction | str:
    # By itself never: 60 s of it, above what there is in all.
    _set_rule(world.scene, "psi_memory_some_pct", "above = 99.9, clear_below = 99.8", holding_s=60)
    if world.trigger.problem:
        return world.trigger.problem
    if not world.calls:
        # A new trigger calls at the first wait of a task, however short: the daemon's, and ours.
        with _readers(world):
            time.sleep(2 * _WINDOW_S)
    time.sleep(1.5 * _WINDOW_S)
    world.trigger.acknowledge()
    with _readers(world):
        if not select.select([world.trigger.fileno()], [], [], 20)[0]:
            return "the kernel never called"
        began = time.time()
        world.calls.append(began)
    _await(world.scene, "running", after=began)
    return _after(world.scene, began)


@contextmanager
def _readers(world: _World) -> Iterator[None]:
    """Let two processes read what does not fit into their group."""
    file = world.folder / "read"
    if not file.exists():
        file.write_bytes(os.urandom(1 << 20) * 192)
    with file.open("rb") as written:
        os.fsync(written.fileno())
        os.posix_fadvise(written.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with group("tiny", _TINY) as inside, ExitStack() as readers:
        for _ in range(2):
            readers.enter_context(_process(*inside, sys.executable, "-c", _READ, str(file)))
        yield


@contextmanager
def _process(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def _set_rule(scene: Scene, metric: str, levels: str, *, holding_s: float = HOLDING_S) -> None:
    scene.configure(_HEAD + _RULE.format(metric=metric, levels=levels, holding_s=holding_s))
    scene.client.reload()


def _reading(scene: Scene, metric: str, never: str) -> float:
    """Return a reading with nobody held, by a rule that can never be on."""
    _set_rule(scene, metric, never)
    _await(scene, "running")
    readings: list[float] = []

    def is_read() -> bool:
        (rule,) = scene.client.policy().rules
        reading = rule.conditions[0].reading
        if rule.conditions[0].what == metric and isinstance(reading, float) and not rule.missing:
            readings.append(reading)
        return bool(readings)

    # One that the load before is not part of.
    time.sleep(2 * _TICK_S)
    wait_for(is_read, metric)
    return readings[-1]


def _await(scene: Scene, state: str, *, after: float = 0.0) -> None:
    """Return when the loop is in that state, and was asked to yield since then."""
    try:
        wait_for(
            lambda: scene.rows()[0].state == state and (not after or _asked_at(scene) >= after - 2.0),
            f"`{_JOB}` to be {state}",
        )
    except TimeoutError as error:
        (why,) = scene.client.why(_JOB)
        raise RuntimeError(f"{error}: {why}") from error


def _asked_at(scene: Scene) -> float:
    return max(
        (event.wall for event in scene.client.events(limit=1000) if event.kind == "pause-asked"), default=0.0
    )


def _after(scene: Scene, began: float) -> Reaction:
    """Return what followed; the loop tells of its hold when that ends."""
    asked = _asked_at(scene)
    _await(scene, "running")
    behind_s = time.time() - time.monotonic()

    def last_held() -> float:
        lines = (
            scene.stamps(_JOB).read_text(encoding="ascii").splitlines() if scene.stamps(_JOB).exists() else []
        )
        return json.loads(lines[-1])["held"] / 1e9 + behind_s if lines else 0.0

    wait_for(lambda: last_held() > asked, "the stamps of the loop")
    return Reaction(asked - began, last_held() - asked)


if __name__ == "__main__":
    main(run)
