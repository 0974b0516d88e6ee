"""Faults of processes and clocks: killed, stopped, and a wall clock that jumps."""

from __future__ import annotations

import os
import signal
import time
from random import Random

from tests.faults.ground import Ground, Lost, parent_of
from tests.harness import is_running, until

__all__ = ["FAULTS"]


def kill_the_daemon(ground: Ground, _rng: Random) -> None:
    """It starts again and takes up all jobs."""
    ground.daemon.restart()


def stop_the_daemon(ground: Ground, rng: Random) -> None:
    """Nothing is told for a while, and what waited is then."""
    _stopped_for(ground.daemon.pid, rng.uniform(0.3, 2.0))


def kill_a_keeper(ground: Ground, _rng: Random) -> None:
    """Its command goes on; the training is ended by a request then, because its end is nobody's to see."""
    trainer, row = ground.one_running()
    os.kill(parent_of(row.pid or 0), signal.SIGKILL)
    ground.goes_on(trainer.run)
    if not is_running(row.pid or 0) or ground.daemon.row(trainer.name).incarnation != row.incarnation:
        raise Lost(f"{trainer.name} did not outlive its keeper")
    ground.retire(trainer.name)


def stop_a_keeper(ground: Ground, rng: Random) -> None:
    """Its job goes on meanwhile."""
    _, row = ground.one_running()
    _stopped_for(parent_of(row.pid or 0), rng.uniform(0.3, 2.0))


def kill_a_trainer(ground: Ground, _rng: Random) -> None:
    """It is started once more, and goes on from its checkpoint."""
    trainer, row = ground.one_to_kill()
    ground.killed(trainer.name)
    os.kill(row.pid or 0, signal.SIGKILL)
    ground.daemon.until(
        trainer.name,
        lambda now: now.incarnation > row.incarnation and (now.pausable or now.state == "completed"),
    )


def stop_a_trainer(ground: Ground, rng: Random) -> None:
    """It is slow, and nothing else."""
    _, row = ground.one_running()
    _stopped_for(row.pid or 0, rng.uniform(0.3, 2.0))


def kill_daemon_and_trainer(ground: Ground, _rng: Random) -> None:
    """A training that died while nobody looked is started once."""
    trainer, row = ground.one_to_kill()
    ground.killed(trainer.name)
    ground.daemon.kill()
    os.kill(row.pid or 0, signal.SIGKILL)
    until(lambda: not is_running(row.pid or 0))
    ground.daemon.start()


def move_the_clock(ground: Ground, rng: Random) -> None:
    """An hour, a day, ten years, either way; a daemon that starts then sees it as well."""
    try:
        for _ in range(2):
            ground.offset.write_text(str(rng.choice((-1, 1)) * rng.choice((3600, 86_400, 315_360_000))))
            time.sleep(1.0)
            ground.status()
        if rng.random() < 0.5:
            ground.daemon.restart()
            ground.check()
    finally:
        ground.offset.write_text("0")


def _stopped_for(pid: int, for_s: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(for_s)
    finally:
        os.kill(pid, signal.SIGCONT)


FAULTS = {
    "kill -9 of the daemon": kill_the_daemon,
    "daemon stopped for a while": stop_the_daemon,
    "kill -9 of a keeper": kill_a_keeper,
    "keeper stopped for a while": stop_a_keeper,
    "kill -9 of a trainer": kill_a_trainer,
    "trainer stopped for a while": stop_a_trainer,
    "kill -9 of daemon and trainer": kill_daemon_and_trainer,
    "wall clock jumps": move_the_clock,
}
