"""A drop-in file `jobs.d/NAME.toml` to a JobSpec, or a ConfigError that names file and key."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from supervisor.core.durations import parse_period
from supervisor.core.jobs.job import JobSpec
from supervisor.core.jobs.names import NAME
from supervisor.core.jobs.treatment import LEAST_MEMORY_BYTES, CpuWeight, JobLimits, Labels, Priority, Restart
from supervisor.errors import ConfigError
from supervisor.settings.config import advice, read_toml
from supervisor.settings.file_values import Place
from trainer_shim.safe_files import read_checked

__all__ = ["EXAMPLES", "JobFile", "read_job_file"]

_GIB = 1 << 30


_HINT = 'a job file needs at least `command = ["python", "train.py"]` and `cwd = "/where/it/runs"`'

#: What each key may look like.
EXAMPLES: Final = MappingProxyType(
    {
        "command": 'command = ["python", "train.py"]',
        "cwd": 'cwd = "/where/it/runs"',
        "env": 'env = { OMP_NUM_THREADS = "4" }',
        "checkpoints": 'checkpoints = "/data/checkpoints/vision"',
        "restart": 'restart = "on-failure"',
        "max_restarts": "max_restarts = 3",
        "restart_delay_s": "restart_delay_s = 10",
        "priority": "priority = 5",
        "protected": "protected = true",
        "labels": 'labels = { team = "vision" }',
        "gpus": "gpus = 1",
        "gpu_memory_gib": "gpu_memory_gib = 20",
        "memory_gib": "memory_gib = 8",
        "cpus": "cpus = 4",
        "memory_max_gib": "memory_max_gib = 12",
        "cpu_weight": "cpu_weight = 50",
        "keep_children": "keep_children = true",
        "log_max_bytes": "log_max_bytes = 67108864",
        "log_files": "log_files = 2",
        "every": 'every = "10m"',
    }
)
#: What `supervisorctl run` has an option for, and a file says in its command.
_ELSEWHERE: Final = MappingProxyType(
    {"nice": 'begin the command with it, from -20 to 19: command = ["nice", "-n", "10", "python", ...]'}
)


class JobFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What such a file may say."""

    #: A list of words, or one string that is split as a shell would.
    command: str | Annotated[list[str], Meta(min_length=1)]
    #: Working directory, absolute.
    cwd: str
    #: Added to the daemon's own environment.
    env: dict[str, str] = {}
    #: Folder of the checkpoints; default: checkpoints/NAME below cwd.
    checkpoints: str = ""
    restart: Restart = "never"
    max_restarts: Annotated[int, Meta(ge=0, le=1000)] = 3
    restart_delay_s: Annotated[float, Meta(ge=0, le=86400)] = 10.0
    #: Higher yields later and returns earlier; jobs without one have 0.
    priority: Priority = 0
    #: Rules leave it alone.
    protected: bool = False
    labels: Labels = {}
    #: What it needs to start; 0: not said.
    gpus: Annotated[int, Meta(ge=0, le=1024)] = 0
    #: What it needs on each of its GPUs; 0: not said.
    gpu_memory_gib: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    memory_gib: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    cpus: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    #: Units of systemd only: more than that the kernel ends; its share of busy CPUs, where others have 100.
    memory_max_gib: Annotated[float, Meta(ge=LEAST_MEMORY_BYTES / _GIB, le=1e6)] | None = None
    cpu_weight: CpuWeight | None = None
    #: What it started besides outlives a pause, a stop and a kill of it.
    keep_children: bool = False
    #: Its log is cut when it is longer (0: never), and that many older files are kept; default: the settings.
    log_max_bytes: Annotated[int, Meta(ge=0, le=2**62)] | None = None
    log_files: Annotated[int, Meta(ge=0, le=1000)] | None = None
    #: It saves in the background so often: "10m", or seconds; default: it does not.
    every: str | float | None = None


def _advice(place: Place) -> str:
    return advice(place, EXAMPLES, _HINT)


def read_job_file(path: Path, base_env: Mapping[str, str], *, user: str = "") -> JobSpec:
    """Return what to run, for that user; the job's name is the file's name without `.toml`.

    It is a command to be run, so a file that another user could have written is a ConfigError as well.
    """
    if not NAME.fullmatch(path.stem):
        raise ConfigError(
            f"cannot use `{path}`: `{path.stem}` is not a job name",
            hint="letters, digits, dot, dash and underscore; at most 64, the first a letter or digit",
        )
    file, digest = read_toml(path, JobFile, advise=_advice, elsewhere=_ELSEWHERE, read=read_checked)
    try:
        argv = shlex.split(file.command) if isinstance(file.command, str) else file.command
    except ValueError as error:
        raise ConfigError(
            f"cannot use `{path}`: command: {error}", hint="write it as a list of words"
        ) from error
    if not argv:
        raise ConfigError(
            f"cannot use `{path}`: command: it is empty", hint='command = ["python", "train.py"]'
        )
    if not Path(file.cwd).is_absolute():
        raise ConfigError(
            f"cannot use `{path}`: cwd: `{file.cwd}` is not absolute", hint="write the whole path"
        )
    try:
        every_s = None if file.every is None else parse_period(str(file.every))
    except ValueError as error:
        raise ConfigError(f"cannot use `{path}`: every: {error}", hint='every = "10m"') from error
    return JobSpec(
        argv=tuple(argv),
        cwd=file.cwd,
        env={**base_env, **file.env},
        checkpoints=file.checkpoints,
        restart=file.restart,
        max_restarts=file.max_restarts,
        restart_delay_s=file.restart_delay_s,
        source=str(path),
        source_digest=digest,
        user=user,
        priority=file.priority,
        protected=file.protected,
        labels=file.labels,
        num_gpus=file.gpus,
        gpu_memory_bytes=round(file.gpu_memory_gib * _GIB),
        memory_bytes=round(file.memory_gib * _GIB),
        num_cpus=file.cpus,
        limits=JobLimits(
            memory_max_bytes=None if file.memory_max_gib is None else round(file.memory_max_gib * _GIB),
            cpu_weight=file.cpu_weight,
        ),
        keep_children=file.keep_children,
        log_max_bytes=file.log_max_bytes,
        log_files=file.log_files,
        every_s=every_s,
    )
