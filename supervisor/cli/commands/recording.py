"""Recorded readings for people's own tools: samples to CSV and back.

Covers: the columns. Does not cover: fetching them (policy.py), replaying them (core/policy/simulation.py).

A row is a sample, an empty cell a value that could not be read. Columns are the fields of
`core.sample.Sample`; of what there can be several the name stands in between:
`pressure.cpu_some_pct`, `gpus.GPU-8f2c.temperature_c`, `jobs.night.cpu_pct`. Who holds a GPU is a
list of `pid:bytes:job`, separated by spaces; without a job it is foreign, without bytes nobody
can tell how much, and one that only draws ends with `:draws`. Where GPUs or programs could not be
looked at, their column has `?`, and why. Only `wall` (Unix time) has to be there.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TextIO

from supervisor.core.readings.sample import DiskReading, Gpu, GpuProcess, JobUse, Missing, Pressure, Sample
from supervisor.errors import UsageError

__all__ = ["read_csv", "write_csv"]

_NOT_RECORDED: Final = Missing("not in the recording")

#: Fields that are no readings.
_PLAIN: Final = ("at", "wall", "weekday", "second_of_day", "num_cpus", "cpu_over_s")
#: Of one that could not be looked at; why stands behind it.
_UNREAD: Final = "?"
#: Of a process that holds a GPU and does not compute on it.
_DRAWS: Final = "draws"
_APART: Final = ("pressure", "gpus", "programs", "jobs", "left", "totals", "is_urgent", *_PLAIN)


def write_csv(samples: Sequence[Sample], file: TextIO) -> None:
    """Write a header and a row a sample; a column stands for whatever was read at least once."""
    rows = [dict(_cells(sample)) for sample in samples]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def read_csv(file: TextIO, name: str) -> list[Sample]:
    """Return the samples of a file; raises UsageError with the line that cannot be read."""
    reader = csv.DictReader(file)
    try:
        if "wall" not in (reader.fieldnames or []):
            raise UsageError(
                f"cannot replay `{name}`: it has no column `wall`",
                hint="the first line names the columns, see docs/CONFIGURATION.md; `wall` is Unix time",
            )
        samples = [_sample({key: cell for key, cell in row.items() if key and cell}) for row in reader]
    # The first one is also of a file that is not UTF-8, the last of one that is no text at all.
    except (ValueError, TypeError, OverflowError, OSError, csv.Error) as error:
        raise UsageError(
            f"cannot replay `{name}`: line {reader.line_num}: {error}", hint="correct the line"
        ) from None
    return sorted(samples, key=lambda sample: sample.at)


def _cells(sample: Sample) -> Iterator[tuple[str, str]]:
    for name in sample.__struct_fields__:
        if name not in _APART or name in _PLAIN:
            yield from _cell(name, getattr(sample, name))
    if sample.is_urgent:
        yield "is_urgent", "1"
    for name in sample.pressure.__struct_fields__:
        yield from _cell(f"pressure.{name}", getattr(sample.pressure, name))
    if isinstance(sample.programs, Missing):
        yield "programs", f"{_UNREAD} {sample.programs.why}"
    elif sample.programs:
        yield "programs", ";".join(sample.programs)
    if isinstance(sample.gpus, Missing):
        yield "gpus", f"{_UNREAD} {sample.gpus.why}"
    for gpu in () if isinstance(sample.gpus, Missing) else sample.gpus:
        yield from _gpu_cells(gpu)
    for job, use in sample.jobs.items():
        yield from _job_cells(job, use)


def _gpu_cells(gpu: Gpu) -> Iterator[tuple[str, str]]:
    for name in gpu.__struct_fields__:
        if name not in ("uuid", "processes"):
            yield from _cell(f"gpus.{gpu.uuid}.{name}", getattr(gpu, name))
    if not isinstance(gpu.processes, Missing):
        yield f"gpus.{gpu.uuid}.processes", " ".join(map(_holder, gpu.processes)) or "none"


def _job_cells(job: str, use: JobUse) -> Iterator[tuple[str, str]]:
    for name in ("cpu_pct", "rss_bytes", "num_processes"):
        yield from _cell(f"jobs.{job}.{name}", getattr(use, name))
    for uuid, bytes_ in use.gpu_bytes.items():
        yield f"jobs.{job}.gpu_bytes.{uuid}", "?" if bytes_ is None else str(bytes_)
    for name in use.disk.__struct_fields__:
        yield from _cell(f"jobs.{job}.disk.{name}", getattr(use.disk, name))


def _cell(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(value, Missing):
        yield name, value if isinstance(value, str) else f"{value:.14g}"


def _holder(process: GpuProcess) -> str:
    used = "" if process.used_bytes is None else str(process.used_bytes)
    words = f"{process.pid}:{used}:{process.job}"
    return words if process.computes else f"{words}:{_DRAWS}"


def _sample(row: Mapping[str, str]) -> Sample:
    wall = float(row["wall"])
    local = time.localtime(wall)
    fields: dict[str, Any] = {
        "at": wall,
        "wall": wall,
        "weekday": local.tm_wday,
        "second_of_day": local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec,
        "num_cpus": _num_cpus(row.get("num_cpus", "1")),
        "cpu_over_s": float(row.get("cpu_over_s", "0")),
    }
    for name in Sample.__struct_fields__:
        if name not in _APART:
            fields[name] = _number(row, name)
    fields["pressure"] = Pressure(
        **{name: _number(row, f"pressure.{name}") for name in Pressure.__struct_fields__}
    )
    programs = row.get("programs", "")
    fields["programs"] = _unread(programs) or (tuple(programs.split(";")) if programs else ())
    fields["is_urgent"] = row.get("is_urgent", "0") != "0"
    gpus = tuple(_gpu(uuid, cells) for uuid, cells in _grouped(row, "gpus").items())
    fields["gpus"] = _unread(row.get("gpus", "")) or gpus
    fields["jobs"] = {name: _job(cells) for name, cells in _grouped(row, "jobs").items()}
    return Sample(**fields)


def _unread(cell: str) -> Missing | None:
    mark, _, why = cell.partition(" ")
    return Missing(why or "not in the recording") if mark == _UNREAD else None


def _number(row: Mapping[str, str], name: str) -> float | Missing:
    cell = row.get(name)
    if cell is None:
        return _NOT_RECORDED
    try:
        number = float(cell)
    except ValueError:
        raise ValueError(f"{name}: `{cell}` is no number") from None
    # Other programs write so what they could not read; nothing can be reckoned with it.
    return Missing("not a number") if math.isnan(number) else number


def _num_cpus(cell: str) -> float:
    number = float(cell)
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"num_cpus: `{cell}` is no number of CPUs")
    return number


def _grouped(row: Mapping[str, str], group: str) -> dict[str, dict[str, str]]:
    """Return the cells of each thing of a kind; its name may itself have dots."""
    found: dict[str, dict[str, str]] = {}
    for column, cell in row.items():
        if column.startswith(f"{group}."):
            rest = column.removeprefix(f"{group}.")
            name, field = _split(rest)
            found.setdefault(name, {})[field] = cell
    return found


def _split(rest: str) -> tuple[str, str]:
    """Return whose it is and which; the last dots tell, for a job may be called `a.disk.b`."""
    name, _, field = rest.rpartition(".")
    for inner in ("gpu_bytes", "disk"):
        if name.endswith(f".{inner}"):
            return name.removesuffix(f".{inner}"), f"{inner}.{field}"
    return name, field


def _gpu(uuid: str, cells: Mapping[str, str]) -> Gpu:
    readings = {
        name: _number(cells, name)
        for name in Gpu.__struct_fields__
        if name not in ("uuid", "index", "name", "processes")
    }
    processes = _holders(cells["processes"]) if "processes" in cells else _NOT_RECORDED
    index = int(float(cells.get("index", "0")))
    return Gpu(uuid=uuid, index=index, name=cells.get("name", ""), processes=processes, **readings)


def _holders(text: str) -> tuple[GpuProcess, ...]:
    if text == "none":
        return ()
    found = []
    for word in text.split():
        pid, used, job, *rest = word.split(":")
        if rest not in ([], [_DRAWS]):
            raise ValueError(
                f"processes: `{word}` is not of the form pid:bytes:job, with or without :{_DRAWS}"
            )
        found.append(GpuProcess(int(pid), int(used) if used else None, job, computes=not rest))
    return tuple(found)


def _job(cells: Mapping[str, str]) -> JobUse:
    held: Iterable[tuple[str, str]] = (
        (field.removeprefix("gpu_bytes."), cell)
        for field, cell in cells.items()
        if field.startswith("gpu_bytes.")
    )
    return JobUse(
        cpu_pct=_number(cells, "cpu_pct"),
        rss_bytes=_number(cells, "rss_bytes"),
        num_processes=int(float(cells.get("num_processes", "1"))),
        gpu_bytes={uuid: None if cell == "?" else int(float(cell)) for uuid, cell in held},
        disk=DiskReading(
            _number(cells, "disk.free_bytes"),
            _number(cells, "disk.total_bytes"),
            cells.get("disk.is_there", "1") != "0",
        ),
    )
