"""`python -m benchmarks.gpu`: every row in a process of its own, then one table and one JSON file.

Covers: limits, the end of a row that hangs with all that it started, machine and versions, exit status.
Does not cover: a server on which nothing is installed (`start.py`), the rows (`rows.py`).

Standard library only: a broken torch is a row's failure, not the command's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.gpu.report import FAILED, MISSING, Result, read, table
from benchmarks.gpu.rows import ROWS, Row

ROOT = Path(__file__).resolve().parents[2]
#: In the environment of all that a row starts, however far away it goes.
MARK = "BENCHMARKS_GPU_FOLDER"

_MACHINE = """
import json, os, platform, sys, torch
found = {"torch": torch.__version__, "python": platform.python_version(), "cores": os.cpu_count(),
         "kernel": platform.release(), "machine": platform.machine(), "cuda": torch.version.cuda}
if sys.argv[1] == "cuda":
    found["device"] = torch.cuda.get_device_name(0)
    found["devices"] = torch.cuda.device_count()
    found["device GiB"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
    import pynvml
    pynvml.nvmlInit()
    found["driver"] = str(pynvml.nvmlSystemGetDriverVersion())
print(json.dumps(found))
"""


class Runner:
    """Runs rows, one after the other."""

    def __init__(self, device: str, folder: Path, total_s: float, log: Path) -> None:
        self._device, self._folder, self._log = device, folder, log
        self._end_at = time.monotonic() + total_s
        self._library: Path | None = None
        self._short = Path(tempfile.mkdtemp(prefix="ts-"))
        if device == "cpu":
            from tests.nvml import build_library

            self._library = build_library(folder)

    def close(self) -> None:
        """Remove what rows left behind that were killed."""
        shutil.rmtree(self._short, ignore_errors=True)

    def run(self, number: int, row: Row) -> Result:
        """Return what came of a row; whatever it started is gone then."""
        left_s = self._end_at - time.monotonic()
        if left_s < 5:
            return Result(row.name, MISSING, why="no time was left")
        folder = self._folder / f"{number:02}"
        folder.mkdir()
        notes = folder / "notes.jsonl"
        limit_s, began = min(row.limit_s, left_s), time.monotonic()
        code = self._ended(row, folder, notes, limit_s)
        result = Result(row.name, took_s=round(time.monotonic() - began, 1))
        if not read(notes, result):
            result.verdict = FAILED
            result.why = f"not done after {limit_s:.0f} s: ended" if code is None else _death(code)
        shutil.rmtree(folder, ignore_errors=True)
        return result

    def _ended(self, row: Row, folder: Path, notes: Path, limit_s: float) -> int | None:
        """Run it; return its exit status, None if it took too long."""
        spec = {
            "module": row.module,
            "arguments": dict(row.arguments),
            "device": self._device,
            "notes": str(notes),
            "folder": str(folder),
        }
        words = [sys.executable, "-m", "benchmarks.gpu.row", json.dumps(spec)]
        with self._log.open("ab") as log:
            log.write(f"\n=== {row.name}\n".encode())
            log.flush()
            process = subprocess.Popen(
                words,
                cwd=ROOT,
                env=self._env(row, folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                return process.wait(limit_s)
            except subprocess.TimeoutExpired:
                return None
            finally:
                end_all(folder)
                process.wait()

    def _env(self, row: Row, folder: Path) -> dict[str, str]:
        before = os.environ.get("PYTHONPATH", "")
        env = {
            name: value for name, value in os.environ.items() if not name.startswith("TRAINING_SUPERVISOR_")
        }
        env |= {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{before}".rstrip(os.pathsep),
            "PYTHONUNBUFFERED": "1",
            # Both processes of a row compile the same, and choose the same.
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
            "TRITON_CACHE_DIR": str(folder / "triton"),
            # The path of a socket holds 107 bytes, so what has one lies here.
            "TMPDIR": str(self._short),
            MARK: str(folder),
            **row.env,
        }
        if self._device == "cpu":
            # Never a device that happens to be there: the test is of the stand-in.
            from benchmarks.gpu.standin import stand_in_env

            env |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
            env |= {**stand_in_env(self._library, folder, env["PYTHONPATH"])}
        return env


def _death(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        hint = "; the host may have been out of memory" if -code == signal.SIGKILL else ""
        return f"its process was killed by {name}{hint}"
    return f"its process ended with {code}; its words are in the log"


def end_all(folder: Path) -> None:
    """End whatever has that folder in its environment, except this process."""
    mark = os.fsencode(f"{MARK}={folder}") + b"\0"
    for _ in range(100):
        found = [pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if _has(pid, mark)]  # noqa: PTH208
        if not found:
            return
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _has(pid: int, mark: bytes) -> bool:
    if pid == os.getpid():
        return False
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes() + b"\0"
    except OSError:
        return False


def machine(device: str) -> dict:
    """Return what a reader needs to compare figures; asked in another process, for it starts CUDA."""
    done = subprocess.run(
        [sys.executable, "-c", _MACHINE, device], capture_output=True, text=True, timeout=90, check=False
    )
    lines = done.stdout.splitlines()
    found = json.loads(lines[-1]) if done.returncode == 0 and lines else {"problem": done.stderr[-400:]}
    commit = ""
    with suppress(OSError):
        git = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
        commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M}", "commit": commit, "on": device, **found}


def run_all(rows: tuple[Row, ...], device: str, total_s: float, log: Path) -> list[Result]:
    """Run them; each is told as it goes."""
    place = tempfile.mkdtemp(prefix="gpu-", dir=_room())
    results = []
    runner = Runner(device, Path(place), total_s, log)
    try:
        for number, row in enumerate(rows, 1):
            print(f"[{number}/{len(rows)}] {row.name} ...", flush=True)
            result = runner.run(number, row)
            results.append(result)
            print(f"    {result.verdict}, {result.took_s:.1f} s  {result.why[:200]}", flush=True)
    except KeyboardInterrupt:
        print("\ninterrupted; what there is:", flush=True)
    finally:
        runner.close()
        shutil.rmtree(place, ignore_errors=True)
    return results


def _room() -> Path:
    """Return where folders may lie: on the disk of the checkout, because /tmp may be memory."""
    place = ROOT / ".bench"
    place.mkdir(exist_ok=True)
    return place


def _chosen(words: list[str]) -> tuple[Row, ...]:
    return tuple(row for row in ROWS if not words or any(word in row.name for word in words))


def main(argv: list[str] | None = None, rows: tuple[Row, ...] | None = None) -> int:
    """Run the command; tests hand over other rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="only rows whose name has one of these")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: with stand-ins")
    parser.add_argument("--report", type=Path, default=ROOT / "gpu-report.json", metavar="FILE")
    parser.add_argument("--total-s", type=float, default=440.0, help="what does not fit is left out")
    arguments = parser.parse_args(argv)
    rows = _chosen(arguments.words) if rows is None else rows
    if not rows:
        parser.error("no row has such a name; they are: " + ", ".join(row.name for row in ROWS))
    began = time.monotonic()
    log = arguments.report.with_suffix(".log")
    log.write_bytes(b"")
    about = machine(arguments.device)
    results = run_all(rows, arguments.device, arguments.total_s - (time.monotonic() - began), log)
    took_s = round(time.monotonic() - began, 1)
    record = {"machine": about, "took_s": took_s, "rows": [result.as_json() for result in results]}
    arguments.report.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print("\n" + ", ".join(f"{name} {value}" for name, value in about.items() if value))
    if arguments.device == "cpu":
        print("The CPU stood in for a device: verdicts say that the command works; figures mean nothing.")
    print("\n" + table(results, shutil.get_terminal_size((100, 24)).columns))
    num_failed = sum(result.verdict == FAILED for result in results)
    print(f"\n{len(results)} rows, {num_failed} failed, {took_s:.0f} s; {arguments.report}; log: {log}")
    return int(num_failed > 0 or len(results) < len(rows))


if __name__ == "__main__":
    sys.exit(main())
