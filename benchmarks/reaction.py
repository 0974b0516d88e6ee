"""How soon a job makes room: a shortage until the verdict, a verdict until the loop holds.

Covers: the daemon as a whole, with real load. CPU: processes begin to compute. Memory:
a process has taken half a GiB, and the threshold lies in between. Emergency: two
processes in a control group of 48 MiB read at random in a file that is larger; the tasks
that wait for memory make the kernel call, and the rule would otherwise wait a minute.
The call is seen from outside, through a trigger of the benchmark's own.
Does not cover: how soon memory that is nearly gone is seen without such a call (sensing.py).

What the loop holds is noted by the loop itself, see toy_trainer.py.
"""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.common import goal, main, print_table, range_of, scratch, wait_for
from benchmarks.scene import Scene
from supervisor.monitors.pressure import MemoryTrigger

HOLDING_S = 2.0
GOAL_S = 1.2
GOAL_URGENT_MS = 300.0

_JOB = "loop"
_HOG_BYTES = 512 << 20
_GIB = 1 << 30
_GROUP_BYTES = 48 << 20
#: With more in use by others nobody could tell the load from what is there anyway.
_TOO_BUSY_PCT = 60.0

_HEAD = """
[daemon]
sample_s = 1.0
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

#: Two readings that are no further apart are of a machine where nobody takes memory or gives it back.
_AT_REST_GIB = 0.02

_COMPUTE = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
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


class Reaction(NamedTuple):
    """One of them, in seconds."""

    #: Of the shortage, or of the kernel's call, until the verdict.
    verdict: float
    #: From there until the loop holds, its checkpoint durable.
    held: float


def run(*, quick: bool) -> None:
    num_runs = 2 if quick else 5
    kinds: dict[str, Callable[[Scene, Path], Reaction | str]] = {
        f"memory, {HOLDING_S:g} s of holding time": _memory,
        f"CPU, {HOLDING_S:g} s of holding time": _cpu,
        "memory emergency (PSI), from the kernel's call": _emergency,
    }
    rows = []
    with scratch() as folder, Scene(folder / "h", _HEAD) as scene:
        scene.run_toys([_JOB], "idle")
        for name, react in kinds.items():
            first, *more = [react(scene, folder) for _ in range(num_runs)]
            reactions = [one for one in (first, *more) if isinstance(one, Reaction)]
            if reactions:
                rows.append(_row(name, reactions))
            else:
                print(f"\nwithout {name}: {first}")
    header = ["shortage", "runs", "until the verdict, s", "range", "verdict until held, ms", "goal"]
    print_table("A shortage until a job holds", header, rows)


def _row(name: str, reactions: list[Reaction]) -> list[str]:
    verdicts = [one.verdict for one in reactions]
    median = statistics.median(verdicts)
    if "holding" in name:
        met = goal(f"at most {HOLDING_S + GOAL_S:g} s", met=max(verdicts) <= HOLDING_S + GOAL_S)
    else:
        met = goal(f"at most {GOAL_URGENT_MS:g} ms", met=max(verdicts) <= GOAL_URGENT_MS / 1000)
    held_ms = statistics.median(one.held for one in reactions) * 1000
    return [name, str(len(reactions)), f"{median:.3f}", range_of(verdicts, 3), f"{held_ms:.0f}", met]


def _memory(scene: Scene, _: Path) -> Reaction | str:
    available, before = _available_gib(scene), -1.0
    # What the run before has used comes back in its own time.
    while abs(available - before) > _AT_REST_GIB:
        available, before = _available_gib(scene), available
    # Little is missing, so that what this small job would free counts as a help.
    below = available - _HOG_BYTES / _GIB * 0.85
    _set_rule(scene, "memory_available_gib", f"below = {below:.3f}, clear_above = {below + 0.05:.3f}")
    with _process(sys.executable, "-c", _TAKE, str(_HOG_BYTES)) as hog:
        assert hog.stdout is not None
        began = float(hog.stdout.readline())
        try:
            _await(scene, "paused")
        except TimeoutError:
            return "others gave back as much memory as it took"
    return _after(scene, began)


def _available_gib(scene: Scene) -> float:
    return _reading(scene, "memory_available_gib", "below = -2, clear_above = -1")


def _cpu(scene: Scene, _: Path) -> Reaction | str:
    before = max(_reading(scene, "cpu_foreign_pct", "above = 201, clear_below = 200") for _ in range(3))
    if before > _TOO_BUSY_PCT:
        return f"others use {before:.0f} % of the CPUs"
    above = (before + 100) / 2
    _set_rule(scene, "cpu_foreign_pct", f"above = {above:.0f}, clear_below = {above - 10:.0f}")
    with ExitStack() as stack:
        began = time.time()
        for _ in range(2 * len(os.sched_getaffinity(0))):
            stack.enter_context(_process(sys.executable, "-c", _COMPUTE))
        _await(scene, "paused")
    return _after(scene, began)


def _emergency(scene: Scene, folder: Path) -> Reaction | str:
    # By itself never: 60 s of it, above what there is in all.
    _set_rule(scene, "psi_memory_some_pct", "above = 99.9, clear_below = 99.8", holding_s=60)
    file = folder / "read"
    file.write_bytes(os.urandom(1 << 20) * 192)
    with file.open("rb") as written:
        os.fsync(written.fileno())
        os.posix_fadvise(written.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    trigger = MemoryTrigger()
    try:
        if trigger.problem:
            return trigger.problem
        with _small_group() as enter:
            for _ in range(2):
                enter.enter_context(_process(*enter.words, sys.executable, "-c", _READ, str(file)))
            if not select.select([trigger.fileno()], [], [], 20)[0]:
                return "the kernel never called"
            began = time.time()
        _await(scene, "running", after=began)
    except OSError as error:
        return f"no control group that limits memory can be made here: {error.strerror}"
    finally:
        trigger.close()
    return _after(scene, began)


class _Group(ExitStack):
    """Processes in a control group; `words` put before a command start it in there."""

    words: tuple[str, ...] = ()


@contextmanager
def _small_group() -> Iterator[_Group]:
    """Give a control group (version 1) below our own; what is entered is left before it goes."""
    lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    own = next((line.split(":", 2)[2] for line in lines if ":memory:" in line), None)
    if own is None:
        raise FileNotFoundError(2, "no memory controller of version 1")
    folder = Path("/sys/fs/cgroup/memory", own.lstrip("/"), f"ts-reaction-{os.getpid()}")
    folder.mkdir()
    try:
        (folder / "memory.limit_in_bytes").write_text(str(_GROUP_BYTES), encoding="ascii")
        with _Group() as group:
            group.words = ("sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh")
            yield group
    finally:
        wait_for(lambda: _is_removed(folder), "the group to be empty")


def _is_removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


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

    # Somewhere within the tick, and one that the load before is not part of.
    time.sleep(2.0 + (time.monotonic_ns() % 1000) / 1000)
    wait_for(is_read, metric)
    return readings[-1]


def _await(scene: Scene, state: str, *, after: float = 0.0) -> None:
    """Return when the loop is in that state, and was asked to yield since then."""
    wait_for(
        lambda: scene.rows()[0].state == state and (not after or _asked_at(scene) >= after - 2.0),
        f"`{_JOB}` to be {state}",
    )


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
