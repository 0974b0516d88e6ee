"""Other supervisors, each in an environment of its own under .bench/, with N children that sleep.

They are made on first use and kept. A peer that cannot be installed is told,
and the benchmark goes on without its row.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.common import BENCH, peer_env, scratch, wait_for

__all__ = [
    "CIRCUSD",
    "SUPERVISORD",
    "Peer",
    "circusd",
    "environment",
    "reason",
    "start_peers",
    "supervisord",
]

SUPERVISORD = "supervisord 4.3.0"
CIRCUSD = "circusd 0.19.0"

SUPERVISOR = ("supervisor==4.3.0",)
_RPC = "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface"

CIRCUS = ("circus==0.19.0", "tornado==6.6.1", "pyzmq==27.3.0", "psutil==7.2.2")


class Peer(NamedTuple):
    """A running supervisor, and the command that shows its children."""

    pid: int
    status: Sequence[str]


def start_peers(stack: ExitStack, num_children: int) -> dict[str, Peer]:
    """Start all that can be installed, until the stack closes; say which cannot."""
    peers = {}
    for name, start in ((SUPERVISORD, supervisord), (CIRCUSD, circusd)):
        try:
            peers[name] = stack.enter_context(start(num_children))
        except (subprocess.CalledProcessError, OSError, RuntimeError, TimeoutError) as error:
            print(f"\nwithout {name}: {reason(error)}", flush=True)
    return peers


@contextmanager
def supervisord(num_children: int) -> Iterator[Peer]:
    """Run `supervisord` with a UNIX socket and that many programs."""
    bin_dir = environment(SUPERVISOR)
    with scratch() as folder:
        socket, config = folder / "supervisor.sock", folder / "supervisord.conf"
        sections = [
            f"[supervisord]\nnodaemon=true\nlogfile={folder}/log\npidfile={folder}/pid\nchildlogdir={folder}",
            f"[unix_http_server]\nfile={socket}",
            f"[supervisorctl]\nserverurl=unix://{socket}",
            f"[rpcinterface:supervisor]\n{_RPC}",
        ]
        sections += [f"[program:p{number}]\ncommand=sleep 3600" for number in range(num_children)]
        config.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
        with _running([bin_dir / "supervisord", "-c", config], num_children, folder) as pid:
            status = [bin_dir / "supervisorctl", "-c", config, "status"]
            _wait_for_status(status, lambda text: text.count("RUNNING") == num_children)
            yield Peer(pid, [str(part) for part in status])


@contextmanager
def circusd(num_children: int) -> Iterator[Peer]:
    """Run `circusd` with UNIX sockets and that many watchers."""
    bin_dir = environment(CIRCUS)
    with scratch() as folder:
        endpoint, config = f"ipc://{folder}/control", folder / "circus.ini"
        sections = [
            f"[circus]\nendpoint = {endpoint}\npubsub_endpoint = ipc://{folder}/events\nstatsd = False"
        ]
        sections += [f"[watcher:w{number}]\ncmd = sleep 3600" for number in range(num_children)]
        config.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
        with _running([bin_dir / "circusd", config], num_children, folder) as pid:
            status = [bin_dir / "circusctl", "--endpoint", endpoint, "status"]
            _wait_for_status(status, lambda text: text.count("active") == num_children)
            yield Peer(pid, [str(part) for part in status])


def environment(pins: Sequence[str], *, lends: Path | None = None) -> Path:
    """Return the folder of the commands of these packages; installs them if that was not done yet.

    What is in the folder `lends` counts as installed: torch alone is larger than all the rest.
    """
    home = BENCH / "-".join([pins[0].replace("==", "-"), f"py{sys.version_info[0]}.{sys.version_info[1]}"])
    complete = home / "complete"
    if not complete.exists():
        print(f"installing {pins[0]} into .bench/", file=sys.stderr, flush=True)
        shutil.rmtree(home, ignore_errors=True)
        pip = [home / "bin" / "python", "-m", "pip", "install", "--quiet", *pins]
        for argv in ([sys.executable, "-m", "venv", home], pip):
            subprocess.run(
                argv, env=peer_env(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
            )
            if lends is not None and argv is not pip:
                packages = next((home / "lib").glob("python*")) / "site-packages"
                (packages / "lent.pth").write_text(f"{lends}\n", encoding="utf-8")
        complete.touch()
    return home / "bin"


@contextmanager
def _running(argv: Sequence[object], num_children: int, folder: Path) -> Iterator[int]:
    """Run a supervisor until all its children are there; end it afterwards, and what it leaves."""
    with (folder / "out").open("w") as out:
        process = subprocess.Popen(
            [str(part) for part in argv],
            cwd=folder,
            env=peer_env(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    children: list[psutil.Process] = []

    def are_there() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"it ended at once: {(folder / 'out').read_text()[-500:]}")
        children[:] = psutil.Process(process.pid).children()
        return len(children) >= num_children

    try:
        wait_for(are_there, f"{num_children} children of {argv[0]}")
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in children:
            # The pid and start time are checked: these are the children that were seen.
            if child.is_running():
                child.kill()


def _wait_for_status(argv: Sequence[object], is_right: Callable[[str], bool]) -> None:
    def shows_all() -> bool:
        done = subprocess.run(
            [str(part) for part in argv], env=peer_env(), capture_output=True, text=True, check=False
        )
        return is_right(done.stdout)

    wait_for(shows_all, f"{argv[0]} to show all children")


def reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = str(error.stderr or error.stdout or "").strip().splitlines()
        return f"it cannot be installed: {lines[-1] if lines else error}"
    return str(error)
