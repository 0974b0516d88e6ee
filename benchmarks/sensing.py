"""What looking at the machine costs, and how soon a shortage of memory is seen.

Cost: 10 jobs of 4 processes each and 300 foreign ones; everybody looks once a
second at the same time, each in a process of its own. CPU time is what the
scheduler counts. `psutil` is used the way its documentation shows it.

Reaction: a program fills a control group of 768 MiB as fast as it can, at
different moments of the tick; a sampler in the same group is to say that it is
urgent. The moment at which less than 8 % was left is seen from outside.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.common import BENCH, ROOT, goal, main, own_env, print_table, range_of, scratch, wait_for
from benchmarks.idle import cpu_s

NUM_JOBS = 10
NUM_FOREIGN = 300
INTERVAL_S = 1.0
GOAL_PCT = 1.0
GOAL_MS = 300.0

_PACKAGES = ("earlyoom", "nohang")
_GROUP_BYTES = 768 << 20
_LOW = 0.08


def run(*, quick: bool) -> None:
    _cost(window_s=5.0 if quick else 60.0)
    _reaction(num_runs=2 if quick else 10)


def _cost(window_s: float) -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        roots = [
            stack.enter_context(_process("sh", "-c", "sleep 1d & sleep 1d & sleep 1d & wait"))
            for _ in range(NUM_JOBS)
        ]
        for _ in range(NUM_FOREIGN):
            stack.enter_context(_process("sleep", "1d"))
        pids = json.dumps([root.pid for root in roots])
        watchers = {
            "ours: everything, `MachineSampler`": _watcher("ours", pids),
            "psutil: all processes, children of the jobs, CPU, memory": _watcher("naive", pids),
            "psutil: CPU and memory of the machine only": _watcher("machine", pids),
        } | _oom_killers(folder)
        running = {name: stack.enter_context(_process(*argv)) for name, argv in watchers.items()}
        time.sleep(3.0)
        before = {name: cpu_s(process.pid) for name, process in running.items()}
        began = time.monotonic()
        time.sleep(window_s)
        took_s = time.monotonic() - began
        used_s = {name: cpu_s(process.pid) - before[name] for name, process in running.items()}
    rows = []
    for name, seconds in used_s.items():
        pct = 100 * seconds / took_s
        outcome = goal(f"at most {GOAL_PCT:g} %", met=pct <= GOAL_PCT) if name.startswith("ours") else ""
        # The others choose their own pace.
        is_paced = name.startswith(("ours", "psutil"))
        rows.append([name, f"{pct:.3f}", f"{10 * pct * INTERVAL_S:.2f}" if is_paced else "-", outcome])
    title = (
        f"Looking once a second, {NUM_JOBS} jobs of 4 processes, {NUM_FOREIGN} foreign ones, {window_s:g} s"
    )
    print_table(title, ["who", "CPU % of one core", "ms a look", "goal"], rows)


def _watcher(how: str, pids: str) -> Sequence[str]:
    return (sys.executable, "-m", "benchmarks.sensing", "--as", how, pids)


def _oom_killers(folder: Path) -> dict[str, Sequence[str]]:
    """Return how to run those that Debian has; they are only unpacked, and kill nothing here."""
    tools = BENCH / "oom-killers"
    try:
        if not tools.exists():
            subprocess.run(
                ["apt-get", "-q", "download", *_PACKAGES], cwd=folder, check=True, capture_output=True
            )
            for package in folder.glob("*.deb"):
                subprocess.run(["dpkg-deb", "-x", package, tools], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        shutil.rmtree(tools, ignore_errors=True)
        print("\nwithout earlyoom and nohang: they cannot be downloaded", flush=True)
        return {}
    config = tools / "etc/nohang/nohang.conf"
    found = {
        "earlyoom: memory and swap": (str(tools / "usr/bin/earlyoom"), "--dryrun", "-r", "0"),
        "nohang: memory, swap, pressure": (
            str(tools / "usr/sbin/nohang"),
            "--monitor",
            "--config",
            str(config),
        ),
    }
    return {name: argv for name, argv in found.items() if Path(argv[0]).exists()}


@contextmanager
def _process(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a session of its own, which ends with the block."""
    process = subprocess.Popen(
        argv,
        cwd=ROOT,
        env=own_env(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def _look_ours(pids: Sequence[int]) -> Iterator[None]:
    from supervisor.core.jobs.job import Pid
    from supervisor.monitors.snapshot import MachineSampler
    from supervisor.ports import WatchedJob
    from supervisor.system.procfs import boot_id, read_stat

    sampler = MachineSampler()
    sampler.watch({"steam"})
    jobs = []
    for pid in pids:
        stat = read_stat(pid)
        assert stat is not None
        process = Pid(pid, stat.start_ticks, boot_id())
        jobs.append(WatchedJob(name=f"job-{pid}", process=process, checkpoints=BENCH / f"checkpoints-{pid}"))
    while True:
        sampler.sample(jobs, at=time.monotonic(), wall=time.time())
        yield


def _look_naive(pids: Sequence[int]) -> Iterator[None]:
    import psutil

    jobs = [psutil.Process(pid) for pid in pids]
    while True:
        psutil.cpu_percent()
        psutil.virtual_memory()
        for process in psutil.process_iter(["name", "cpu_percent", "memory_info"]):
            process.info["name"]
        for job in jobs:
            for child in job.children(recursive=True):
                child.cpu_percent()
        yield


def _look_machine(_pids: Sequence[int]) -> Iterator[None]:
    import psutil

    while True:
        psutil.cpu_percent()
        psutil.virtual_memory()
        yield


def _reaction(num_runs: int) -> None:
    group = _make_group()
    if group is None:
        print("\nwithout the reaction: a control group that limits memory cannot be made here", flush=True)
        return
    try:
        phases = [INTERVAL_S * number / num_runs for number in range(num_runs)]
        delays_ms = [_one_reaction(group, phase_s=phase_s) for phase_s in phases]
    finally:
        wait_for(lambda: not (group / "cgroup.procs").read_text(encoding="ascii").strip(), "an empty group")
        group.rmdir()
    worst = max(delays_ms)
    row = [
        f"{num_runs} hogs, {_GROUP_BYTES >> 20} MiB",
        f"{statistics.median(delays_ms):.0f}",
        range_of(delays_ms, 0),
        f"{worst:.0f}",
        goal(f"at most {GOAL_MS:g}", met=worst <= GOAL_MS),
    ]
    print_table(
        "Memory nearly gone until an urgent sample, ms",
        ["what", "median", "10 - 90 %", "worst", "goal"],
        [row],
    )


def _make_group() -> Path | None:
    """Return a new group with a limit below ours, of the version that has one here."""
    from supervisor.system.cgroups import memory_folder

    place = memory_folder()
    if place is None:
        return None
    group = place / f"sensing-{os.getpid()}"
    try:
        group.mkdir()
        for name in ("memory.max", "memory.limit_in_bytes"):
            if (group / name).exists():
                (group / name).write_text(str(_GROUP_BYTES), encoding="ascii")
                return group
        group.rmdir()
    except OSError:
        if group.exists():
            group.rmdir()
    return None


def _one_reaction(group: Path, phase_s: float) -> float:
    """Return how long after memory was short the sampler said so, ms."""
    argv = [sys.executable, "-m", "benchmarks.sensing", "--as"]
    watcher = subprocess.Popen([*argv, "alarm", json.dumps(str(group))], cwd=ROOT, env=own_env(), stdout=-1)
    assert watcher.stdout is not None
    watcher.stdout.readline()
    time.sleep(2 * INTERVAL_S + phase_s)
    hog = subprocess.Popen([*argv, "hog", json.dumps(str(group))], cwd=ROOT, env=own_env())
    usage = next(
        path for path in (group / "memory.current", group / "memory.usage_in_bytes") if path.exists()
    )
    limit = _GROUP_BYTES * (1 - _LOW)
    while int(usage.read_text(encoding="ascii")) < limit and hog.poll() is None:
        time.sleep(0.002)
    short_at = time.monotonic()
    urgent_at = float(watcher.stdout.readline() or "inf")
    for process in (hog, watcher):
        process.kill()
        process.wait()
    watcher.stdout.close()
    return 1000 * (urgent_at - short_at)


def _alarm(group: str) -> None:
    """Sample as the daemon does; print the moment of the first urgent sample."""
    import zmq

    from supervisor.monitors.snapshot import MachineSampler

    (Path(group) / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    sampler = MachineSampler()
    sampler.watch((), memory_low_pct=100 * _LOW)
    poller = zmq.Poller()
    poller.register(sampler.fileno(), zmq.POLLIN)
    print("ready", flush=True)
    while True:
        sample = sampler.sample([], at=time.monotonic(), wall=time.time())
        if sample.is_urgent:
            print(time.monotonic(), flush=True)
        if poller.poll(1000 * sampler.wait_s(INTERVAL_S)):
            sampler.acknowledge()


def _hog(group: str) -> None:
    """Take nearly all, in pieces that are touched, and keep it."""
    (Path(group) / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    kept = []
    for _ in range(int(_GROUP_BYTES * 0.92) >> 22):
        piece = mmap.mmap(-1, 1 << 22)
        piece.write(b"x" * (1 << 22))
        kept.append(piece)
    time.sleep(60)


def _act(how: str, what: str) -> None:
    """Be one of the processes that are measured."""
    looks = {"ours": _look_ours, "naive": _look_naive, "machine": _look_machine}
    if how in looks:
        for _ in looks[how](json.loads(what)):
            time.sleep(INTERVAL_S)
    else:
        {"alarm": _alarm, "hog": _hog}[how](json.loads(what))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--as"]:
        _act(*sys.argv[2:4])
    else:
        main(run)
