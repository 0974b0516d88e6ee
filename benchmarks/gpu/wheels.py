"""What a bare GPU server lacks, as wheels in a folder: gathered where there is a network, unpacked there.

Covers: `python -m benchmarks.gpu.wheels` (`make gpu-wheels`), choosing and unpacking the wheels for a Python.
Does not cover: torch and numpy, which the server has; starting anything (`start.py`).

Standard library only, and no pip to unpack: the server may have none.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

__all__ = ["CUDA_PACKAGES", "PACKAGES", "fitting", "unpack"]

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "gpu-wheels"
PYTHONS = ("3.11", "3.12", "3.13")
LIMIT_BYTES = 60 << 20

#: What the package needs, and its tests; with what those need in turn.
PACKAGES = (
    "click", "msgspec", "nvidia-ml-py", "psutil", "pyzmq", "structlog", "typing_extensions", "watchdog",
    "xxhash", "hypothesis", "iniconfig", "packaging", "pluggy", "Pygments", "pytest", "pytest-timeout",
    "sortedcontainers",
)  # fmt: skip
#: The driver's process checkpoint; apart, because a torch may bring bindings of its own.
CUDA_PACKAGES = ("cuda-core", "cuda-bindings", "cuda-pathfinder")

#: Oldest systems first: a server may have an old C library.
_LIBCS = ("manylinux2014", "manylinux_2_24", "manylinux_2_26", "manylinux_2_28")


def pins() -> dict[str, str]:
    """Return the version of each package, by its name in small letters."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = (line.partition("==") for line in lines if "==" in line and not line.startswith("#"))
    return {_plain(name): version for name, _, version in found}


def gather(folder: Path, machine: str) -> None:
    """Download the wheels for every Python; raises SystemExit when they are too large together."""
    folder.mkdir(exist_ok=True)
    versions = pins()
    wanted = [f"{name}=={versions[_plain(name)]}" for name in (*PACKAGES, *CUDA_PACKAGES)]
    platforms = [word for libc in _LIBCS for word in ("--platform", f"{libc}_{machine}")]
    for python in PYTHONS:
        print(f"gpu-wheels: for Python {python}, {machine}", flush=True)
        words = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-qq", "--no-deps"]
        words += ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, *platforms]
        subprocess.run([*words, "-d", str(folder), *wanted], check=True)
    current = {name.replace("-", "_").lower(): version for name, version in versions.items()}
    for wheel in folder.glob("*.whl"):
        name, version, *_ = wheel.name.split("-")
        if current.get(name.lower()) != version:
            wheel.unlink()  # Of an earlier constraints.txt.
    size = sum(wheel.stat().st_size for wheel in folder.glob("*.whl"))
    print(f"gpu-wheels: {len(list(folder.glob('*.whl')))} wheels, {size / 2**20:.1f} MiB in {folder.name}/")
    if size > LIMIT_BYTES:
        raise SystemExit(f"error: more than {LIMIT_BYTES >> 20} MiB")


def fitting(folder: Path, packages: tuple[str, ...], python: tuple[int, int], machine: str) -> list[Path]:
    """Return one wheel for each package; raises LookupError that names those that are missing."""
    found: dict[str, Path] = {}
    for wheel in sorted(folder.glob("*.whl")):
        name, _, *_, tag, abi, system = wheel.stem.split("-")
        if _fits(tag, abi, python) and (system == "any" or system.endswith(machine)):
            found[_plain(name)] = wheel
    missing = [name for name in packages if _plain(name) not in found]
    if missing:
        raise LookupError(f"no wheel for Python {python[0]}.{python[1]}, {machine} of: {', '.join(missing)}")
    return [found[_plain(name)] for name in packages]


def unpack(wheels: list[Path], folder: Path) -> None:
    """Make them importable from a folder; one that is there already is of the same wheels."""
    names = "\n".join(wheel.name for wheel in wheels)
    mark = folder / "wheels.txt"
    if mark.exists() and mark.read_text(encoding="utf-8") == names:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    # Some wheels keep modules where an installer would move them from.
    for data in folder.glob("*.data/*lib"):
        shutil.copytree(data, folder, dirs_exist_ok=True)
    mark.write_text(names, encoding="utf-8")


def _fits(tag: str, abi: str, python: tuple[int, int]) -> bool:
    if "py3" in tag.split("."):
        return True
    if abi == "abi3":
        numbers = [int(number) for number in re.findall(r"cp3(\d+)", tag)]
        return any(number <= python[1] for number in numbers)
    own = f"cp{python[0]}{python[1]}"
    return own in tag.split(".") and abi == own


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.wheels", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--machine", default=os.environ.get("GPU_MACHINE") or platform.machine())
    arguments = parser.parse_args()
    gather(arguments.folder, arguments.machine)


if __name__ == "__main__":
    main()
