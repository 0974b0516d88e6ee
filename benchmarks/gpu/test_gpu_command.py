"""`make gpu` on a machine without a device: every row with its stand-in, and the command around them.

Covers: the real shim, checkpoints, daemon and monitors over CPU tensors, the fake driver of tests/nvml.py and
tests/fakes/driver; rows that fail, hang or are killed; the table beside the JSON file; choosing wheels.
Does not cover: figures, which mean nothing here; a device (nobody had one).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import start, wheels, wrong_rows
from benchmarks.gpu.report import FAILED, MISSING, OK, Result, read, table
from benchmarks.gpu.rows import ROWS, Row
from benchmarks.gpu.standin import stand_in_env
from tests.harness import ROOT

#: Rows that one process runs, so that Python and torch start once; figures that each row must have.
GROUPS = {
    "exact": ("exact: AdamW",),
    "exact, captured": ("exact: CUDA graph",),
    "exact, by parts": ("exact: GradScaler",),
    "exact, by kernels": ("exact: fused", "exact: channels_last", "exact: deterministic"),
    "exact, compiled": ("exact: torch.compile",),
    "memory": ("NVML", "offload ", "CUDA context", "checkpoint beside"),
    "tests": ("tests marked",),
    "deep pauses": ("pause: offload and", "pause: exit"),
    "every pause": ("pause: ",),
    "capture": ("heartbeats",),
}
#: `make test` has one that trains, pauses and compares, and the one that runs tests; CI runs SHORT too.
SHORT = ("memory", "deep pauses", "capture")
#: They take the way of another group, with other parts or kernels or to a depth on the way to a deeper one.
LONGER = ("exact, captured", "exact, by parts", "exact, by kernels", "exact, compiled", "every pause")
FIGURES = {
    "exactness": {"two runs without a pause", "hold", "offload", "exit"},
    "moving": {
        *("moved GiB", "away GiB/s", "back GiB/s", "away s", "back s", "page-locking s of it"),
        *(f"NVML free {when} MiB" for when in ("before", "away", "after")),
        *(
            f"memcpy {kind} to {where} GiB/s"
            for kind in ("pinned", "pageable")
            for where in ("host", "device")
        ),
    },
    "context": {"held before MiB", "freed s", "freed MiB", "back s", "afterwards"},
    "calls": {
        "Name",
        "UUID",
        "MigMode",
        "Utilization",
        "MemoryInfo v2",
        "ComputeProcesses",
        "monitor, GPU 0",
    },
    "pauses": {"held MiB", "paused s", "NVML sees it free s", "freed MiB", "trains again s"},
    "capture": {"captures with", "step, ratio", "connected", "capture with ms"},
    "saving": {"durable s", "torch.save + fsync s", "ratio of them", "loop blocked, in the background s"},
    "tests_row": {"passed", "failed", "skipped"},
}


@pytest.fixture
def run_rows(nvml_library, tmp_path, home):
    """Run rows in one process, in the environment of the command; return what they noted."""

    def run(rows):
        env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TMPDIR": str(home)}
        env |= stand_in_env(nvml_library, tmp_path, os.environ.get("PYTHONPATH", ""))
        specs = []
        for number, row in enumerate(rows):
            folder = tmp_path / f"{number}"
            folder.mkdir()
            spec = {"module": row.module, "arguments": dict(row.arguments), "device": "cpu"}
            specs.append({**spec, "notes": str(folder / "notes"), "folder": str(folder)})
        words = [sys.executable, "-m", "benchmarks.gpu.row", *map(json.dumps, specs)]
        done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        results = {row.name: Result(row.name) for row in rows}
        for number, result in enumerate(results.values()):
            assert read(tmp_path / f"{number}/notes", result), done.stderr[-2000:]
        return results, done.stderr

    return run


def test_every_row_has_its_stand_in():
    """
    The groups below leave none out.
    """
    found = {row.name for row in ROWS for starts in GROUPS.values() if row.name.startswith(starts)}

    assert {row.name for row in ROWS} == found


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "group",
    [pytest.param(group, marks=[pytest.mark.soak] * (group in (*SHORT, *LONGER))) for group in GROUPS],
)
def test_every_row_works_with_its_stand_in(run_rows, group):
    """
    It comes to its end with all its figures, and finds what it looks for.
    """
    rows = [row for row in ROWS if row.name.startswith(GROUPS[group])]
    found, told = run_rows(rows)
    wanted = dict.fromkeys(found, OK) | ({"tests marked gpu": MISSING} if group == "tests" else {})

    assert wanted == {name: result.verdict for name, result in found.items()}, (found, told[-2000:])
    for row in rows:
        assert FIGURES[row.module] <= set(found[row.name].figures)
        # What is captured knows addresses: depth offload must not touch it.
        if row.arguments.get("kind") == "graph":
            assert "refused, same bits" == found[row.name].figures["offload"]


# --- the command ------------------------------------------------------------------------------


def row(name, limit_s=60.0, **more):
    return Row(name, "benchmarks.gpu.wrong_rows", limit_s, {"what": name, **more})


def test_a_row_that_fails_hangs_or_dies_does_not_stop_the_others(tmp_path, capsys, monkeypatch):
    """
    Each says what became of it and keeps the figures that it had; nothing that it started is left.
    """
    monkeypatch.setenv("COLUMNS", "100")
    report, child = tmp_path / "report.json", tmp_path / "child"
    names = ("raises", "hangs", "dies", "finds", "lacks", "works")
    rows = tuple(row(name, 6.0 if name == "hangs" else 60.0, child=str(child)) for name in names)
    code = command.main(["--device", "cpu", "--report", str(report)], rows)
    record = json.loads(report.read_text())
    found = {one["name"]: one for one in record["rows"]}
    out = capsys.readouterr().out

    assert 1 == code
    assert [FAILED, FAILED, FAILED, FAILED, MISSING, OK] == [one["verdict"] for one in record["rows"]]
    assert "ZeroDivisionError: " in found["raises"]["why"]
    assert "not done after 6 s" in found["hangs"]["why"]
    assert "killed by SIGKILL" in found["dies"]["why"]
    assert ("two and two are five", "no abacus") == (found["finds"]["why"], found["lacks"]["why"])
    assert all({"seen": 1.0} == one["figures"] for one in found.values())
    assert not wrong_rows.is_running(int(child.read_text()))
    assert {"commit", "torch", "python", "on", "date"} <= set(record["machine"])
    assert table([Result(**one) for one in record["rows"]], 100) in out
    assert all(f"] {name} ..." in out for name in found)


def test_all_well_is_exit_status_0(tmp_path):
    """
    What is not available is no failure.
    """
    words = ["--device", "cpu", "--report", str(tmp_path / "r.json")]

    assert 0 == command.main(words, (row("works"), row("lacks")))


def test_time_that_is_over_leaves_rows_out(tmp_path):
    """
    The whole has a limit; what did not run says so.
    """
    report = tmp_path / "r.json"
    command.main(["--device", "cpu", "--report", str(report), "--total-s", "1"], (row("works"),))
    (found,) = json.loads(report.read_text())["rows"]

    assert (MISSING, "no time was left") == (found["verdict"], found["why"])


@pytest.mark.parametrize("width", [60, 100, 200])
def test_the_table_fits(width):
    """
    On narrow terminals too; on wide ones it is no wider than can be read.
    """
    figures = {"a figure of some length GiB/s": 1234567.0, "an answer": "word " * 40, "none": None}
    text = table([Result("a row with a name that says much " * 3, OK, 12.3, figures, "why " * 50)], width)

    assert max(map(len, text.splitlines())) <= min(width, 100)
    assert "1234567" in text


# --- wheels -----------------------------------------------------------------------------------

WHEELS = (
    "one-1.0-py3-none-any.whl",
    "two-1.0-cp311-cp311-manylinux2014_x86_64.whl",
    "two-1.0-cp313-cp313-manylinux2014_x86_64.whl",
    "three-1.0-cp310-abi3-manylinux2014_x86_64.whl",
    "four-1.0-cp312-abi3-manylinux2014_x86_64.whl",
    "f_i.ve-1.0-py2.py3-none-any.whl",
)


def made(folder):
    for name in WHEELS:
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr(f"{name.split('-')[0]}.py", f"wheel = {name!r}")
    return folder


def test_the_wheels_of_a_python_are_chosen_and_unpacked(tmp_path):
    """
    By version, stable ABI and machine; unpacked once.
    """
    found = wheels.fitting(made(tmp_path), ("one", "two", "three", "four", "f-i-ve"), (3, 13), "x86_64")
    wheels.unpack(found, tmp_path / "out")
    wheels.unpack(found, tmp_path / "out")

    assert [WHEELS[0], WHEELS[2], WHEELS[3], WHEELS[4], WHEELS[5]] == [wheel.name for wheel in found]
    assert f"wheel = {WHEELS[2]!r}" == (tmp_path / "out/two.py").read_text()


@pytest.mark.parametrize(
    ("python", "machine", "missing"),
    [((3, 12), "x86_64", "two"), ((3, 11), "x86_64", "four"), ((3, 13), "aarch64", "two, three, four")],
)
def test_wheels_that_do_not_fit_are_missing(tmp_path, python, machine, missing):
    """
    With all their names at once.
    """
    with pytest.raises(LookupError, match=f"of: {missing}$"):
        wheels.fitting(made(tmp_path), ("one", "two", "three", "four"), python, machine)


def test_every_package_of_the_wheels_has_its_version():
    """
    What is not pinned would be gathered in whatever version there is that day.
    """
    named = {wheels._plain(name) for name in (*wheels.PACKAGES, *wheels.CUDA_PACKAGES)}

    assert set() == named - set(wheels.pins())


def test_a_python_without_cuda_is_said(tmp_path):
    """
    Each that was asked, with what it lacks, and how to name another.
    """
    with pytest.raises(SystemExit) as told:
        start.chosen((str(tmp_path / "none"), "/bin/false"), "cuda")

    assert "no python3 here has torch with CUDA" in str(told.value)
    assert "cannot be run: FileNotFoundError" in str(told.value)
    assert "ended with 1" in str(told.value)
    assert "make gpu PYTHON=" in str(told.value)
