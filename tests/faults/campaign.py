"""`make faults`: faults at random under a daemon that real trainings depend on, and nothing is lost.

    python -m tests.faults.campaign [--seed N] [--hours H]

Without --hours each fault once, in an order that the seed decides; with it, by chance until the time is
over and a million fuzzed frames were sent. The exit code is 1 when anything was lost; then the seed and a
folder with logs are printed.

Covers: the order, the table. Does not cover: the faults (on_*.py), what must hold (ground.py).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, randrange

from tests.faults import on_files, on_processes, on_sockets
from tests.faults.ground import IS_ROOT, Ground, Lost

__all__ = ["ALL", "Campaign", "main"]

Fault = Callable[[Ground, Random], None]

ALL: dict[str, Fault] = {
    **on_processes.FAULTS,
    **on_files.FAULTS,
    **on_sockets.FAULTS,
    **(on_files.FAULTS_OF_ROOT | on_sockets.FAULTS_OF_ROOT if IS_ROOT else {}),
}
_ALL_FRAMES = 1_000_000


@dataclass
class Campaign:
    """Counts what became of each fault."""

    rng: Random
    injected: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    slowest_s: dict[str, float] = field(default_factory=dict)
    num_exact: int = 0
    logs: list[Path] = field(default_factory=list)

    def run(self, faults: Iterator[tuple[str, Fault]], *, num_trainers: int = 3, steps: int = 1500) -> None:
        """Inject all of them, on a new ground after each loss."""
        is_over = False
        while not is_over:
            with Ground(num_trainers=num_trainers, steps=steps) as ground:
                is_over = self._until_a_loss(ground, faults)
                self.num_exact += ground.num_exact

    def _until_a_loss(self, ground: Ground, faults: Iterator[tuple[str, Fault]]) -> bool:
        for name, fault in faults:
            self.injected[name] += 1
            ground.slowest_s = 0.0
            try:
                fault(ground, self.rng)
                ground.check()
            except Exception:  # noqa: BLE001  # A campaign counts what is lost, and goes on.
                self.lost[name] += 1
                self._tell(ground, name)
                return False
            finally:
                self.slowest_s[name] = max(self.slowest_s.get(name, 0.0), ground.slowest_s)
        try:
            self._end(ground)
        except Exception:  # noqa: BLE001
            self.lost["the end"] += 1
            self._tell(ground, "the end")
        return True

    def _end(self, ground: Ground) -> None:
        """Let the trainings that are left go to their end."""
        for trainer in list(ground.trainers.values()):
            ground.daemon.until(trainer.name, "completed")
            if not trainer.run.is_exact():
                raise Lost(f"{trainer.name} ended otherwise than an undisturbed run")
            ground.num_exact += 1

    def _tell(self, ground: Ground, name: str) -> None:
        folder = Path(tempfile.mkdtemp(prefix="faults-"))
        (folder / "loss.txt").write_text(f"{name}\n\n{traceback.format_exc()}")
        for number, log in enumerate(ground.daemon.home.rglob("*.log")):
            shutil.copy(log, folder / f"{number}-{log.name}")
        for log in ground.daemon.paths.jobs_state_dir.glob("*/log"):
            shutil.copy(log, folder / f"job-{log.parent.name}.log")
        self.logs.append(folder)

    def table(self) -> str:
        """Return what became of each fault, for a terminal."""
        lines = [f"{'fault':34} {'injected':>8} {'survived':>8} {'lost':>5} {'status within':>14}"]
        for name, num in sorted(self.injected.items()):
            lost = self.lost[name]
            lines.append(f"{name:34} {num:8} {num - lost:8} {lost:5} {self.slowest_s[name]:12.2f} s")
        num, lost = self.injected.total(), self.lost.total()
        lines.append(f"{'all':34} {num:8} {num - lost:8} {lost:5}")
        lines.append(f"{self.num_exact} trainings ended bit for bit as an undisturbed run does")
        return "\n".join(lines)


def each_once(rng: Random, faults: Mapping[str, Fault]) -> Iterator[tuple[str, Fault]]:
    """Yield each fault, in an order by chance."""
    names = list(faults)
    rng.shuffle(names)
    return ((name, faults[name]) for name in names)


def for_hours(rng: Random, hours: float, injected: Counter[str]) -> Iterator[tuple[str, Fault]]:
    """Yield faults by chance until the time is over; frames more often, until a million were sent."""
    until_at = time.monotonic() + hours * 3600
    fuzzed = next(name for name, fault in ALL.items() if fault is on_sockets.fuzzed_frames)
    while time.monotonic() < until_at or injected[fuzzed] * on_sockets.FRAMES < _ALL_FRAMES:
        is_late = time.monotonic() >= until_at
        name = fuzzed if is_late or rng.random() < 0.05 else rng.choice(list(ALL))
        yield name, ALL[name]


def main(argv: list[str] | None = None) -> int:
    """Run the campaign; see the module's words."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.campaign")
    parser.add_argument("--seed", type=int, default=randrange(1 << 32))
    parser.add_argument("--hours", type=float, default=0.0)
    parser.add_argument("--only", nargs="*", default=[], help="parts of names of faults")
    arguments = parser.parse_args(argv)
    print(f"seed {arguments.seed}", flush=True)
    if not IS_ROOT:
        print("not root: without faults of disks and of other users")
    rng = Random(arguments.seed)
    chosen = {name: fault for name, fault in ALL.items() if _is_chosen(name, arguments.only)}
    campaign = Campaign(rng)
    if arguments.hours:
        campaign.run(for_hours(rng, arguments.hours, campaign.injected))
    else:
        campaign.run(each_once(rng, chosen))
    print(campaign.table())
    for folder in campaign.logs:
        print(f"lost with seed {arguments.seed}: {folder}")
    return 1 if campaign.logs else 0


def _is_chosen(name: str, parts: list[str]) -> bool:
    return not parts or any(part in name for part in parts)


if __name__ == "__main__":
    sys.exit(main())
