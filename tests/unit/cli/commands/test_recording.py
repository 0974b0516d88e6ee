"""Recorded readings as CSV: what is written is read back, and people's own files are too."""

import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.cli.commands.recording import read_csv, write_csv
from supervisor.core.readings.sample import DiskReading, Gpu, GpuProcess, JobUse, Missing, Pressure, Sample
from supervisor.errors import UsageError

CONFIGURATION = Path(__file__).parents[4] / "docs/CONFIGURATION.md"
WALL = 1_700_000_000.0
READINGS = st.integers(0, 10**12).map(float) | st.integers(0, 10**5).map(lambda n: n / 1000)
READINGS |= st.just(Missing("no"))
BYTES = st.integers(0, 2**40)
NAMES = st.sampled_from(["night", "a.b", "job-1", "a.disk.b", "x.gpu_bytes.y"])
UUIDS = st.sampled_from(["GPU-1", "GPU-2"])
SAMPLES = st.builds(
    Sample,
    at=st.just(WALL),
    wall=st.just(WALL),
    num_cpus=st.sampled_from([1.0, 2.5, 64.0]),
    cpu_foreign_pct=READINGS,
    memory_available_bytes=READINGS,
    pressure=st.builds(Pressure, memory_full_pct=READINGS),
    programs=st.sampled_from([(), ("steam",), ("steam", "Web Content"), Missing("hidepid")]),
    is_urgent=st.booleans(),
    gpus=st.just(Missing("the driver is gone"))
    | st.lists(
        st.builds(
            Gpu,
            uuid=UUIDS,
            temperature_c=READINGS,
            processes=st.lists(
                st.builds(
                    GpuProcess, st.integers(1, 9999), st.none() | BYTES, st.just("") | NAMES, st.booleans()
                ),
                max_size=2,
            ).map(tuple),
        ),
        max_size=2,
        unique_by=lambda gpu: gpu.uuid,
    ).map(tuple),
    jobs=st.dictionaries(
        NAMES,
        st.builds(
            JobUse,
            cpu_pct=READINGS,
            rss_bytes=READINGS,
            num_processes=st.integers(0, 9),
            gpu_bytes=st.dictionaries(UUIDS, st.none() | BYTES, max_size=2),
            disk=st.builds(DiskReading, READINGS, READINGS, st.booleans()),
        ),
        max_size=2,
    ),
)


def known(value):
    """The same, without the reasons why something is missing."""
    if isinstance(value, Missing):
        return None
    if isinstance(value, float):
        return float(f"{value:.12g}")
    if isinstance(value, dict):
        return {key: known(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return tuple(map(known, value))
    if hasattr(value, "__struct_fields__"):
        moments = ("at", "weekday", "second_of_day")
        return {name: known(getattr(value, name)) for name in value.__struct_fields__ if name not in moments}
    return value


@given(SAMPLES)
def test_what_is_written_is_read_back(sample):
    """
    Every reading, and that one is missing; only why it was is not in the file.
    """
    file = io.StringIO()
    write_csv([sample], file)
    file.seek(0)
    (again,) = read_csv(file, "x.csv")

    assert known(sample) == known(again)


def filled(kind, **given):
    """One of that kind with a number in every reading."""
    return kind(**{name: 1.0 for name in kind.__struct_fields__ if name not in given} | given)


def documented():
    """The columns of the page; `.rss_bytes` behind `jobs.NAME.cpu_pct` is `jobs.NAME.rss_bytes`."""
    _, _, section = CONFIGURATION.read_text().partition("## Recorded readings")
    found = []
    for cell in re.findall(r"^\| (`.*?) \|", section.partition("\n## ")[0], re.MULTILINE):
        names = re.findall(r"`([^`]+)`", cell)
        start = names[0].rpartition(".")[0]
        start = ".".join(start.split(".")[:2])
        found += [f"{start}{name}" if name.startswith(".") else name for name in names]
    return found


def test_every_column_stands_in_the_page_about_them():
    """
    2026-11-29: `is_urgent` and `jobs.NAME.disk.is_there` were written, and nowhere explained.
    """
    gpu = filled(Gpu, uuid="UUID", index=0, name="x", processes=())
    use = filled(JobUse, num_processes=1, gpu_bytes={"UUID": 1}, disk=filled(DiskReading, is_there=True))
    told = filled(
        Sample, pressure=filled(Pressure), programs=("x",), gpus=(gpu,), jobs={"NAME": use}, left={},
        is_urgent=True, weekday=1, second_of_day=1,
    )  # fmt: skip
    untold = Sample(at=WALL, wall=WALL, gpus=Missing("x"), programs=Missing("x"))
    file = io.StringIO()
    write_csv([told, untold], file)
    (columns, *_) = file.getvalue().splitlines()

    assert sorted(documented()) == sorted(columns.split(","))


def test_a_file_of_ones_own_needs_little():
    """
    A moment and the readings that the rules look at; the rest is missing.
    """
    samples = read_csv(io.StringIO("wall,cpu_foreign_pct\n1700000010,80\n1700000000,\n"), "x.csv")

    assert [WALL, WALL + 10] == [sample.at for sample in samples]
    assert 80.0 == samples[1].cpu_foreign_pct
    assert isinstance(samples[0].cpu_foreign_pct, Missing)
    assert samples[0].second_of_day != samples[1].second_of_day


def test_what_is_no_number_is_no_reading_either():
    """
    2026-11-29: a trial took `nan`, as other programs write it, for a machine without any memory left.
    """
    (sample,) = read_csv(io.StringIO("wall,memory_available_bytes,jobs.a.cpu_pct\n1,nan,NaN\n"), "x.csv")

    assert Missing("not a number") == sample.memory_available_bytes == sample.jobs["a"].cpu_pct


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column `wall`"),
        ("cpu_pct\n1\n", "no column `wall`"),
        ("wall\nyesterday\n", "line 2: could not convert"),
        ("wall,cpu_pct\n1,1\n2,many\n", "line 3: cpu_pct: `many` is no number"),
        ("wall,num_cpus\n1,0\n", "line 2: num_cpus: `0` is no number of CPUs"),
        ("wall,num_cpus\n1,nan\n", "line 2: num_cpus: `nan` is no number of CPUs"),
        ("wall,gpus.G.processes\n1,x\n", "line 2"),
        ("wall,gpus.G.processes\n1,7:8:night:dances\n", "`7:8:night:dances` is not of the form"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_the_line(text, says):
    """
    And with what is wrong there.
    """
    with pytest.raises(UsageError, match=r"cannot replay `x\.csv`") as caught:
        read_csv(io.StringIO(text), "x.csv")

    assert says in str(caught.value)
    assert caught.value.hint


def test_files_of_earlier_versions_are_read_as_they_were_meant():
    """
    They did not tell who only draws, nor why GPUs could not be looked at.
    """
    (sample,) = read_csv(io.StringIO("wall,gpus.G.processes,is_urgent\n1,7:8:night 9::,0\n"), "x.csv")

    assert (GpuProcess(7, 8, "night"), GpuProcess(9, None, "")) == sample.gpus[0].processes
    assert (False, ()) == (sample.is_urgent, sample.programs)
