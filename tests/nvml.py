"""An NVIDIA driver for tests: a library that answers from a file which the test rewrites.

    def test_...(nvml):
        nvml.show(Card("GPU-a", total=24 * GIB), Card("GPU-b"))
        daemon = RunningDaemon()             # of tests/harness.py
        daemon.env.update(nvml.env)          # the real binding loads this library
        with daemon:
            nvml.show(Card("GPU-a", processes=[Holder(pid, used=8 * GIB)]), Card("GPU-b"))

The fixture `nvml` is there for every test. A change shows at the next call of the
driver. Without a C compiler such tests are skipped.

Covers: what supervisor/monitors/gpu.py and `supervisorctl doctor` call.
Does not cover: CUDA, anything that changes a GPU.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest

__all__ = ["GIB", "Card", "FakeDriver", "Holder", "build_library", "nvml", "nvml_library"]

GIB = 1 << 30

_SOURCE = Path(__file__).with_suffix(".c")


@dataclass(frozen=True)
class Holder:
    """A process on a GPU."""

    pid: int
    #: None: the driver does not tell.
    used: int | None = GIB
    #: `c` computes, `g` draws.
    kind: str = "c"


@dataclass(frozen=True)
class Card:
    """One GPU."""

    uuid: str
    name: str = "Test"
    bus: str = "00000000:01:00.0"
    total: int = 24 * GIB
    #: As the driver counts it; independent of the processes.
    used: int = 0
    #: What the driver keeps for itself.
    reserved: int = 0
    #: Utilization; below zero: not supported.
    busy: int = 0
    celsius: int = 40
    milliwatts: int = 30000
    #: Every call says that it is lost.
    lost: bool = False
    #: Divided into slices.
    mig: bool = False
    #: A driver without the newer calls.
    old: bool = False
    #: Lists of processes are not supported.
    secret: bool = False
    #: Below zero: only the list of those that draw is not supported.
    drawing: int = 0
    #: Calls hang so long, or until the file says otherwise.
    hang_s: int = 0
    processes: Sequence[Holder] = field(default=())


class FakeDriver:
    """The library with its file."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "nvml.txt"
        #: Give this to a process; it finds this driver.
        self.env = {"LD_LIBRARY_PATH": str(folder), "TESTS_NVML": str(self._file)}
        self.show()

    def show(self, *cards: Card, init_error: int = 0, hang_s: int = 0, version: str = "580.00") -> None:
        """Let the driver say this from now on; `init_error` 9 is `driver not loaded`."""
        lines = [f"driver version={version} init={init_error} hang_s={hang_s}"]
        for number, card in enumerate(cards):
            values = {one.name: getattr(card, one.name) for one in fields(card) if one.name != "processes"}
            pairs = (
                f"{key}={int(value) if isinstance(value, bool) else value}" for key, value in values.items()
            )
            lines.append(f"gpu {' '.join(pairs)}")
            for one in card.processes:
                used = "none" if one.used is None else one.used
                lines.append(f"process gpu={number} pid={one.pid} used={used} kind={one.kind}")
        # Never half a file: the library may read at any moment.
        draft = self._file.with_suffix(".new")
        draft.write_text("".join(f"{line}\n" for line in lines))
        draft.replace(self._file)


def build_library(folder: Path) -> Path | None:
    """Return the library, built in that folder; None without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    library = folder / "libnvidia-ml.so.1"
    words = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", f"-Wl,-soname,{library.name}"]
    subprocess.run([compiler, *words, "-o", library, _SOURCE], check=True, cwd=folder, env={**os.environ})
    return library


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = build_library(tmp_path_factory.mktemp("nvml"))
    if library is None:
        pytest.skip("there is no C compiler")
    return library


@pytest.fixture
def nvml(nvml_library: Path, tmp_path: Path) -> FakeDriver:
    """Give a driver without GPUs."""
    folder = tmp_path / "driver"
    folder.mkdir()
    (folder / nvml_library.name).symlink_to(nvml_library)
    return FakeDriver(folder)
