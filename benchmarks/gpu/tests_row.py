"""The tests that are marked `gpu`, as a row.

Covers: running them with what lies in the wheels' folder, none of the server's plug-ins, and no setting
that another version of torch could break.
Does not cover: what they test (tests/gpu).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

from benchmarks.gpu.device import Device
from benchmarks.gpu.report import Finding, NotAvailable, Notes

ROOT = Path(__file__).resolve().parents[2]


def run(notes: Notes, device: Device, folder: Path) -> None:
    """One row."""
    report = folder / "tests.xml"
    words = [sys.executable, "-m", "pytest", "tests/gpu", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    words += ["-p", "pytest_timeout", "-o", "filterwarnings=default", f"--junit-xml={report}"]
    words += [f"--basetemp={folder / 'pytest'}"]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    done = subprocess.run(words, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, check=False)
    if not report.exists():
        raise Finding(f"pytest ended with {done.returncode}; its words are in the log")
    cases = list(ET.parse(report).iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    notes.put("passed", len(cases) - len(failed) - len(skipped))
    notes.put("failed", len(failed))
    notes.put("skipped", len(skipped))
    for case in failed:
        found = case.find("failure") if case.find("failure") is not None else case.find("error")
        notes.put(case.get("name", "?"), (found.get("message") or "").splitlines()[0][:200])
    if failed or done.returncode:
        raise Finding(f"{len(failed)} tests failed, pytest ended with {done.returncode}")
    if len(skipped) == len(cases):
        raise NotAvailable("they need a CUDA device" if not device.is_real else "all were skipped")
