"""Faults of disks and files: full, read-only, damaged, swapped by another user."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from random import Random

from supervisor import api
from supervisor.client import Client
from supervisor.errors import Refused
from supervisor.paths import Paths
from tests.faults.ground import BOUND_S, Ground, Lost
from tests.harness import PYTHON, is_running, until
from tests.integration.test_trust import FALSE
from tests.other_user import OTHER

__all__ = ["FAULTS", "FAULTS_OF_ROOT"]

_MOST_FLIPPED = 200


def fill_the_state_disk(ground: Ground, _rng: Random) -> None:
    """What is asked meanwhile is done when there is room again."""
    daemon = ground.daemon
    # What is just being started cannot be, and counts as a start all the same.
    until(lambda: not any(row.state == "starting" for row in ground.status() if row.name in ground.trainers))
    trainer, _ = ground.one_running()
    ballast = daemon.paths.state_dir / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)
        said = daemon.ctl("pause", trainer.name)
        ground.status()
    finally:
        ballast.unlink()
    until(lambda: "full" not in "".join(daemon.client.status().alerts), "no alert of a full disk any more")
    if said.code in (0, 5):
        daemon.until(trainer.name, lambda row: row.state in ("paused", "completed"))
    daemon.try_to(api.ResumeRequest, trainer.name)


def start_on_a_read_only_disk(ground: Ground, _rng: Random) -> None:
    """A daemon that can store nothing says so and ends; jobs go on."""
    state = ground.daemon.paths.state_dir
    pids = _pids(ground)
    ground.daemon.kill()
    script = f'mount --bind "{state}" "{state}" && mount -o remount,bind,ro "{state}" && exec "$@"'
    _refuses(ground, ("unshare", "--mount", "sh", "-c", script, "sh"))
    _still_alive(ground, pids)
    ground.daemon.start()


def damage_the_journal(ground: Ground, rng: Random) -> None:
    """A daemon on a damaged journal does no harm; on the copy from before it knows all again."""
    daemon = ground.daemon
    pids = _pids(ground)
    daemon.kill()
    files = [path for path in daemon.paths.state_dir.glob("journal.sqlite*") if path.is_file()]
    copies = [(path, shutil.copy2(path, ground.folder / path.name)) for path in files]
    data = bytearray(daemon.paths.journal.read_bytes())
    for _ in range(rng.randint(1, _MOST_FLIPPED)):
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    daemon.paths.journal.write_bytes(data[: rng.choice((len(data), rng.randrange(len(data))))])
    _refuses(ground, (), may_serve=True)
    _still_alive(ground, pids)
    for path in daemon.paths.state_dir.glob("journal.sqlite*"):
        if path.is_file():
            path.unlink()
    for path, copy in copies:
        shutil.move(copy, path)
    daemon.start()


def swap_the_configuration(ground: Ground, rng: Random) -> None:
    """A file, or a folder, of another user has no effect and is told."""
    daemon = ground.daemon
    theirs = daemon.work / "theirs"
    theirs.mkdir()
    (theirs / "config.toml").write_text("[jobs]\npause_deadline_s = 0.1\n")
    (theirs / "evil.toml").write_text(f'command = ["touch", "{daemon.work}/was-run"]\n')
    for path in (theirs, *theirs.iterdir()):
        os.chown(path, OTHER, OTHER)
    is_file = rng.random() < 0.5
    place = daemon.paths.config_file if is_file else daemon.paths.jobs_dir
    kept = place.with_name("kept-aside")
    place.rename(kept)
    place.symlink_to(theirs / "config.toml" if is_file else theirs)
    try:
        daemon.ctl("reload")
        until(lambda: "cannot trust" in "".join(daemon.client.status().alerts), "an alert")
        if (daemon.work / "was-run").exists():
            raise Lost("a job file of another user was run by root")
    finally:
        place.unlink()
        kept.rename(place)
        shutil.rmtree(theirs)
    daemon.ctl("reload")
    until(lambda: "cannot trust" not in "".join(daemon.client.status().alerts), "no alert any more")


def false_daemon(ground: Ground, rng: Random) -> None:
    """Another user listens where a command looks: it gets not one byte."""
    home = ground.folder / "false"
    home.mkdir()
    try:
        with rng.choice(FALSE)(home) as listener:
            with contextlib.suppress(Refused):
                Client(Paths.find(str(home)))
                raise Lost("a command took a false daemon for ours")
            if listener.num_bytes():
                raise Lost("a command spoke to a false daemon")
    finally:
        shutil.rmtree(home)


def odd_run_folder(ground: Ground, rng: Random) -> None:
    """A pipe, a link or a second name in a run folder stops no daemon, and nothing behind it is changed."""
    daemon = ground.daemon
    precious = ground.folder / "precious"
    precious.write_text("a week of work")
    with ground.sleeper("odd") as row:
        daemon.kill()
        for name in ("claim", "process.json", "exit.json", "receipt", "heir.json"):
            file = daemon.paths.incarnation_dir(row.name, 1) / name
            kind = rng.choice(("pipe", "link", "second name", "none"))
            if kind != "none":
                file.unlink(missing_ok=True)
            if kind == "pipe":
                os.mkfifo(file)
            elif kind == "link":
                file.symlink_to(precious)
            elif kind == "second name" and precious.stat().st_dev == file.parent.stat().st_dev:
                os.link(precious, file)
        daemon.start()
        ground.status()
    if precious.read_text() != "a week of work":
        raise Lost("what a link in a run folder led to was written")
    with contextlib.suppress(ProcessLookupError):
        os.kill(row.pid or 0, 9)


def _pids(ground: Ground) -> dict[str, int]:
    return {row.name: row.pid for _, row in ground.running() if row.pid}


def _still_alive(ground: Ground, pids: dict[str, int]) -> None:
    runs = {name: ground.trainers[name].run for name in pids}
    if dead := [name for name, pid in pids.items() if not is_running(pid) and not runs[name].result]:
        raise Lost(f"processes of jobs ended: {dead}")


def _refuses(ground: Ground, inside: tuple[str, ...], *, may_serve: bool = False) -> None:
    """Start a daemon that cannot work: it says why and what to do, or it serves."""
    daemon = ground.daemon
    argv = [*inside, PYTHON, "-m", "supervisor", "--home", str(daemon.home), *daemon._words]
    said = ground.folder / "said"
    started = {"env": daemon.env, "cwd": daemon.home}
    with said.open("wb") as output, subprocess.Popen(argv, stderr=output, **started) as it:
        try:
            until(lambda: it.poll() is not None or _serves(daemon.paths, it.pid), "an end or an answer")
        finally:
            it.kill()
            it.wait(BOUND_S)
    words = said.read_text()
    is_told = "error: cannot" in words and "hint: " in words
    if it.returncode != -9 and not is_told:
        raise Lost(f"it ended with {it.returncode} and said: {words[-1000:]}")
    if it.returncode == -9 and not may_serve:
        raise Lost("it served where nothing can be stored")


def _serves(paths: Paths, pid: int) -> bool:
    try:
        with Client(paths, connect_s=0.2, answer_s=BOUND_S) as client:
            client.status()
            return client.version().pid == pid
    except Exception:  # noqa: BLE001  # Whatever it is, it did not answer.
        return False


FAULTS = {
    "journal damaged, and put back": damage_the_journal,
    "pipes and links in a run folder": odd_run_folder,
}

FAULTS_OF_ROOT = {
    "state disk full": fill_the_state_disk,
    "state disk read-only at a start": start_on_a_read_only_disk,
    "configuration swapped by a user": swap_the_configuration,
    "false daemon of another user": false_daemon,
}
