"""TOML to frozen structs: every default, unit and bound of the daemon's settings.

Covers: reading, checking, and printing the settings with their documentation.
Does not cover: job files (jobfile.py), when a file is read again (watch.py).

Units are in the names. An unknown key is an error that names the nearest known
one: a typo must never leave a default silently in force.
"""

from __future__ import annotations

import difflib
import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Meta

from supervisor.errors import ConfigError

__all__ = ["Config", "DaemonConfig", "JobsConfig", "ShimConfig", "annotated_toml", "load", "read_toml"]

_Seconds = Annotated[float, Meta(ge=0, le=365 * 86400)]

T = TypeVar("T")

_HINT = "`training-supervisord --print-config` shows every setting with its unit and bounds"


class DaemonConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The daemon itself."""

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="Least severity that is logged: debug, info, warning or error."),
    ] = "info"
    sample_s: Annotated[
        float,
        Meta(
            ge=0.2, le=3600, description="Time between two readings of CPU and memory of the jobs, seconds."
        ),
    ] = 2.0


class JobsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How jobs are started, paused and ended."""

    start_grace_s: Annotated[
        _Seconds,
        Meta(
            description="A job whose shim has not connected by then counts as running, not pausable. Seconds."
        ),
    ] = 60.0
    pause_deadline_s: Annotated[
        _Seconds,
        Meta(description="A pause that reaches no batch boundary in that time is shown as late. Seconds."),
    ] = 300.0
    stop_grace_s: Annotated[
        _Seconds,
        Meta(description="Time for `stop` to reach a boundary and checkpoint before SIGTERM. Seconds."),
    ] = 300.0
    kill_grace_s: Annotated[
        float,
        Meta(
            ge=1, le=86400, description="Time between SIGTERM and SIGKILL, and between two SIGKILLs. Seconds."
        ),
    ] = 15.0


class ShimConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the daemon tells the shims."""

    heartbeat_s: Annotated[
        float,
        Meta(ge=0.1, le=60, description="Time between two heartbeats of a training process, seconds."),
    ] = 2.0
    orphan_resume_s: Annotated[
        _Seconds,
        Meta(description="Without a daemon for that long, a job that a rule paused goes on. Seconds."),
    ] = 300.0
    return_retry_s: Annotated[
        _Seconds,
        Meta(
            description="So long a resumed job tries to get GPU memory back that it had given back; then its "
            "process ends and is started again from its checkpoint. Seconds."
        ),
    ] = 60.0


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings."""

    daemon: DaemonConfig = DaemonConfig()
    jobs: JobsConfig = JobsConfig()
    shim: ShimConfig = ShimConfig()


def load(path: Path) -> Config:
    """Return the settings of a file, or the defaults when there is none; raises ConfigError."""
    return read_toml(path, Config)[0] if path.exists() else Config()


def read_toml(path: Path, kind: type[T], *, hint: str = _HINT) -> tuple[T, str]:
    """Return a file's contents as a struct, with their digest; all that can be wrong is a ConfigError."""
    try:
        raw = path.read_bytes()
        data = tomllib.loads(raw.decode("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read `{path}`: {error.strerror}", hint="check that the file is there and readable"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(
            f"cannot read `{path}`: not valid TOML: {error}",
            hint="correct the file; it is read again when it changes",
        ) from error
    _refuse_unknown(path, data, kind, "")
    try:
        return msgspec.convert(data, kind, strict=True), hashlib.sha256(raw).hexdigest()
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `$")
        key = where.rstrip("`").lstrip(".")
        what = f"{key}: {reason}" if key else reason.replace("Object missing required field", "missing key")
        raise ConfigError(f"cannot use `{path}`: {what}", hint=hint) from error


def _refuse_unknown(path: Path, data: dict[str, Any], kind: Any, prefix: str) -> None:
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in data.items():
        if key not in fields:
            nearest = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean `{prefix}{nearest[0]}`?" if nearest else f"known here: {', '.join(fields)}"
            raise ConfigError(f"cannot use `{path}`: unknown key `{prefix}{key}`", hint=hint)
        section = fields[key]
        if isinstance(value, dict) and isinstance(section, type) and issubclass(section, msgspec.Struct):
            _refuse_unknown(path, value, section, f"{prefix}{key}.")


def annotated_toml() -> str:
    """Return the default settings as TOML, each with its documentation; what --print-config prints."""
    lines = ["# Settings of training-supervisord, with their defaults.", ""]
    for section in msgspec.structs.fields(Config):
        kind: Any = section.type
        lines += [f"# {(kind.__doc__ or '').strip()}", f"[{section.name}]"]
        hints = get_type_hints(kind, include_extras=True)
        for field in msgspec.structs.fields(kind):
            lines += [f"# {_describe(hints[field.name])}", f"{field.name} = {_toml(field.default)}"]
        lines.append("")
    return "\n".join(lines)


def _describe(hint: Any) -> str:
    metas = [arg for arg in get_args(hint)[1:] if isinstance(arg, Meta)]
    text = next((meta.description for meta in metas if meta.description), "")
    low = next((meta.ge for meta in metas if meta.ge is not None), None)
    high = next((meta.le for meta in metas if meta.le is not None), None)
    return f"{text} From {low:g} to {high:g}." if low is not None and high is not None else text


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else f"{value}"
