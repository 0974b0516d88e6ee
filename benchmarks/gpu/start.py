"""`make gpu`: find a Python that has torch with CUDA, make the rest importable, start the rows.

Covers: a server without a network, without `.venv`, perhaps without pip; its environment stays as it is.
Does not cover: the rows (`__main__.py`), gathering the wheels (`wheels.py`).

Run as a file, by any Python 3.11 or newer, with the standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu.wheels import CUDA_PACKAGES, FOLDER, PACKAGES, fitting, unpack  # noqa: E402

_PROBE = """
import json, platform, sys
found = {"version": sys.version_info[:2], "machine": platform.machine(), "executable": sys.executable}
try:
    import torch, numpy
    found["torch"] = torch.__version__
    found["cuda"] = torch.cuda.is_available()
    if not found["cuda"]:
        versions = torch.__version__, torch.version.cuda
        found["why"] = "torch %s finds no CUDA device (built for CUDA %s)" % versions
        try:
            torch.cuda.init()
        except Exception as error:
            found["why"] += ": %s" % (str(error).splitlines() or [""])[0]
except Exception as error:
    found["why"] = "%s: %s" % (type(error).__name__, error)
try:
    from cuda.core import checkpoint
    found["core"] = True
except Exception:
    found["core"] = False
print(json.dumps(found))
"""
_NAMES = ("python3", "python", "python3.13", "python3.12", "python3.11")
#: Importing torch from a cold disk takes its time.
_PROBE_S = 120.0


def asked(python: str) -> dict:
    """Return what a Python has; `why` says why it will not do."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(
            [python, "-c", _PROBE], env=env, capture_output=True, text=True, timeout=_PROBE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"why": f"cannot be run: {type(error).__name__}"}
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        return {"why": f"ended with {done.returncode}: {last}"}
    found = json.loads(lines[-1])
    if found["version"] < [3, 11]:
        found["why"] = "older than Python 3.11"
    elif "torch" in found and _number(found["torch"]) < (2, 4):
        found["why"] = f"torch {found['torch']} is older than 2.4"
    return found


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(word) for word in version.split("+", maxsplit=1)[0].split(".")[:2] if word.isdecimal())


def chosen(names: tuple[str, ...], device: str) -> dict:
    """Return the first that will do; raises SystemExit with what each of them lacks."""
    told = []
    for name in names:
        found = asked(name)
        is_right = found.get("cuda") or (device == "cpu" and "torch" in found and _is_new(found))
        if is_right and _is_new(found):
            return found
        told.append(f"  {name}: {found.get('why', 'no torch with CUDA')}")
    lacks = "torch" if device == "cpu" else "torch with CUDA"
    raise SystemExit(
        f"error: no python3 here has {lacks}\n\n"
        + "\n".join(told)
        + "\n\nhint: name one: make gpu PYTHON=/path/python3"
    )


def _is_new(found: dict) -> bool:
    return found["version"] >= [3, 11] and _number(found.get("torch", "0")) >= (2, 4)


def python_path(found: dict, wheels: Path) -> list[str]:
    """Return the folders that hold what that Python lacks, unpacked."""
    version = tuple(found["version"])
    place = wheels / f"unpacked-{version[0]}.{version[1]}"
    try:
        unpack(fitting(wheels, PACKAGES, version, found["machine"]), place / "packages")
        folders = [str(place / "packages")]
    except LookupError as error:
        raise SystemExit(
            f"error: {error}\n\nhint: `make gpu-wheels` where there is a network, then copy {wheels.name}/"
        ) from None
    if not found["core"]:
        try:
            unpack(fitting(wheels, CUDA_PACKAGES, version, found["machine"]), place / "cuda")
            folders.append(str(place / "cuda"))
        except LookupError as error:
            print(f"gpu: {error}; rows that need them say so")
    return folders


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default="", help="the one to use; default: the first with torch and CUDA")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--wheels", type=Path, default=FOLDER)
    parser.add_argument("words", nargs="*", help="only rows whose name has one of these words")
    arguments = parser.parse_args()
    found = chosen((arguments.python,) if arguments.python else _NAMES, arguments.device)
    print(f"gpu: {found['executable']}, torch {found['torch']}", flush=True)
    folders = python_path(found, arguments.wheels)
    # Compiled files of ours are not left beside the sources of another user.
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *folders]), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [found["executable"], "-m", "benchmarks.gpu", "--device", arguments.device, *arguments.words]
    return subprocess.run(words, cwd=ROOT, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
