"""TOML to frozen structs: every default, unit and bound of the daemon's settings.

Covers: reading, checking, the rules in force, and what a file may say of them.
Does not cover: printing them (config_text.py), job files (jobfile.py), when a file
is read again (watch.py).

Units are in the names. An unknown key is an error that names the nearest known
one: a typo must never leave a default silently in force.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from supervisor.core.policy.default_rules import DEFAULT_RULES
from supervisor.core.policy.rule_check import RuleError, check_rules
from supervisor.core.policy.rules import PolicyConfig, QueueConfig, Rule, Settings, SharesConfig
from supervisor.core.rights import RightsConfig, UsersConfig
from supervisor.errors import ConfigError
from supervisor.settings.file_values import Place, described, line_of
from trainer_shim.safe_files import Unsafe, read_short

__all__ = [
    "RULE_EXAMPLES",
    "Config",
    "DaemonConfig",
    "JobsConfig",
    "ShimConfig",
    "advice",
    "default_of",
    "load",
    "read_toml",
]

_Seconds = Annotated[float, Meta(ge=0, le=365 * 86400)]

T = TypeVar("T")

_HINT = "`training-supervisord --print-config` shows every setting with its unit and bounds"

#: What a key of a rule may look like.
RULE_EXAMPLES: Final = MappingProxyType(
    {
        "rules": '[[rules]], and below it name = "office-hours" and the other keys of this rule',
        "name": 'name = "office-hours"',
        "about": 'about = "The workstation belongs to its owner by day."',
        "when": 'when = [{ metric = "cpu_foreign_pct", above = 50, clear_below = 40 }]',
        "metric": 'metric = "cpu_foreign_pct"',
        "above": "above = 50",
        "clear_below": "clear_below = 40",
        "below": "below = 10",
        "clear_above": "clear_above = 15",
        "clock": 'clock = "mon-fri 09:00-18:00"',
        "program": 'program = "steam"',
        "pause_after_s": "pause_after_s = 45",
        "pause_again_after_s": "pause_again_after_s = 10",
        "resume_after_s": "resume_after_s = 180",
        "depth": 'depth = "auto"',
        "jobs": 'jobs = { names = ["night-*"], labels = { team = "vision" } }',
        "names": 'names = ["night-*"]',
        "users": 'users = ["ada"]',
        "labels": 'labels = { team = "vision" }',
        "escalate_after_s": "escalate_after_s = 600",
        "deadline_s": "deadline_s = 300",
        "at_deadline": 'at_deadline = "freeze"',
        "enabled": "enabled = false",
    }
)


class DaemonConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The daemon itself."""

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="Least severity that is logged: debug, info, warning or error."),
    ] = "info"
    launcher: Annotated[
        Literal["auto", "keeper", "systemd"],
        Meta(
            description="How jobs are started: keeper (by the daemon), systemd (each a unit of its own), or "
            "auto: as units where the daemon is a service. In force from the daemon's next start on."
        ),
    ] = "auto"
    sample_s: Annotated[
        float,
        Meta(ge=0.2, le=3600, description="Time between two looks at the machine and its jobs, seconds."),
    ] = 1.0


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
    free_cuda_context: Annotated[
        bool,
        Meta(
            description="Free the CUDA context as well (some 0.5 GiB) of a job paused at depth offload. "
            "Experimental: needs driver 570, the package cuda-core, and the daemon as the job's user or root."
        ),
    ] = False
    cuda_restore_limit_s: Annotated[
        float,
        Meta(
            ge=1,
            le=86400,
            description="So long it is tried to take that context back; then the process is killed and "
            "started again from its checkpoint. Seconds.",
        ),
    ] = 300.0
    log_max_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=2**62,
            description="A log of a job that is longer is copied to log.1 and cut; 0: none is. Bytes.",
        ),
    ] = 64 << 20
    log_files: Annotated[
        int,
        Meta(ge=0, le=1000, description="So many older files of each log are kept: log.1, log.2, ..."),
    ] = 2
    adopt: Annotated[
        bool,
        Meta(description="A program that a person started by hand and that calls attach() becomes a job."),
    ] = True
    max_adopted: Annotated[
        int,
        Meta(
            ge=1,
            le=10000,
            description="Jobs of one user that were started by hand; at the bound those that are over are "
            "forgotten, the oldest first.",
        ),
    ] = 100


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
            description="So long a resumed job tries to get GPU memory back that is free and is still not to "
            "be had; then its process ends and is started again from its checkpoint. Seconds."
        ),
    ] = 60.0


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings."""

    daemon: DaemonConfig = DaemonConfig()
    jobs: JobsConfig = JobsConfig()
    shim: ShimConfig = ShimConfig()
    policy: PolicyConfig = PolicyConfig()
    queue: QueueConfig = QueueConfig()
    rights: RightsConfig = RightsConfig()
    users: UsersConfig = UsersConfig()
    shares: SharesConfig = SharesConfig()
    #: Those in force, the defaults among them.
    rules: tuple[Rule, ...] = DEFAULT_RULES

    @property
    def settings(self) -> Settings:
        """What the policy is told."""
        return Settings(policy=self.policy, queue=self.queue, shares=self.shares, rules=self.rules)


#: Python's reader of TOML takes time and memory by the square of the parts of one key: `a.a.a = 1`.
_MAX_PARTS = 64
_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_TOO_DEEP = re.compile(rf"(?<![\w-])(?:{_PART}[ \t]*+\.[ \t]*+){{{_MAX_PARTS}}}")


def _parsed(text: str) -> dict[str, Any]:
    """Return what a text says; raises ValueError."""
    if _TOO_DEEP.search(text):
        raise ValueError(f"a key of more than {_MAX_PARTS} parts")
    return tomllib.loads(text)


def load(path: Path, *, read: Callable[[Path], bytes] = read_short) -> Config:
    """Return the settings of a file, or the defaults when there is none; raises ConfigError."""
    if not _is_there(path):
        return Config()
    config, _ = read_toml(path, Config, prepare=_with_default_rules, read=read)
    try:
        check_rules(config.rules)
    except RuleError as error:
        raise ConfigError(f"cannot use `{path}`: {error}", hint=error.hint) from error
    return config


def advice(place: Place, examples: Mapping[str, str], otherwise: str) -> str:
    """Return what the innermost key of a place that has an example may look like."""
    known = [step for step in place if isinstance(step, str) and step in examples]
    return f"for example: {examples[known[-1]]}" if known else otherwise


def _advice(place: Place) -> str:
    """Return what a wrong setting is there for."""
    if place[:1] == ("rules",):
        example = advice(place, RULE_EXAMPLES, "")
        return f"{example}; {_HINT}" if example else _HINT
    kind: Any = Config
    for step in place:
        field = next((one for one in msgspec.structs.fields(kind) if one.encode_name == step), None)
        if field is None or _is_struct(field.type):
            kind = kind if field is None else field.type
            continue
        metas = get_args(get_type_hints(kind, include_extras=True)[field.name])[1:]
        about = next((one.description for one in metas if isinstance(one, Meta) and one.description), "")
        return f"{step}: {about} By default {msgspec.json.encode(default_of(field)).decode()}; {_HINT}"
    return _HINT


def default_of(field: msgspec.structs.FieldInfo) -> Any:
    """Return what a setting is by default."""
    is_made = field.default_factory is not msgspec.NODEFAULT
    return field.default_factory() if is_made else field.default


def _with_default_rules(data: dict[str, Any]) -> dict[str, Any]:
    """Put the file's rules among the default ones: in the place of one of the same name, else behind them.

    One without `when` changes only what it says of the default; one with it is a whole new rule.
    """
    rules, policy = data.get("rules", []), data.get("policy", {})
    are_rules = isinstance(rules, list) and all(isinstance(rule, dict) for rule in rules)
    if not are_rules or not isinstance(policy, dict):
        # What is wrong with it is said when it is converted.
        return data
    defaults: dict[str, dict[str, Any]] = {}
    if policy.get("default_rules", True) is True:
        defaults = {rule.name: msgspec.to_builtins(rule) for rule in DEFAULT_RULES}
    said: dict[str, dict[str, Any]] = {}
    added: list[dict[str, Any]] = []
    for rule in rules:
        name = rule.get("name")
        if isinstance(name, str) and name in defaults and name not in said:
            said[name] = rule if "when" in rule else defaults[name] | rule
        else:
            added.append(rule)
    return data | {"rules": [*(said.get(name, rule) for name, rule in defaults.items()), *added]}


def read_toml(
    path: Path,
    kind: type[T],
    *,
    advise: Callable[[Place], str] = _advice,
    elsewhere: Mapping[str, str] = MappingProxyType({}),
    prepare: Callable[[dict[str, Any]], dict[str, Any]] = lambda data: data,
    read: Callable[[Path], bytes] = read_short,
) -> tuple[T, str]:
    """Return a file's contents as a struct, with their digest; all that can be wrong is a ConfigError.

    `advise` is the hint for a wrong value at a place, `elsewhere` those for keys that are said otherwise.
    """
    if _is_there(path) and not (path.is_file() or path.is_dir()):
        # To read a pipe would be to wait for ever.
        raise ConfigError(f"cannot read `{path}`: it is not a file", hint="move it away")
    try:
        raw = read(path)
        data = _parsed(raw.decode("utf-8"))
    except Unsafe as error:
        raise ConfigError(f"cannot trust `{path}`: {error.strerror}", hint=error.hint) from error
    except OSError as error:
        raise ConfigError(
            f"cannot read `{path}`: {error.strerror}", hint="check that the file is there and readable"
        ) from error
    # A ValueError: not TOML, not UTF-8, an integer of thousands of digits.
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"cannot read `{path}`: not valid TOML: {error}",
            hint="correct that place in the file",
        ) from error
    if told := next((key for key in data if key in elsewhere), None):
        raise ConfigError(f"cannot use `{path}`: unknown key `{told}`", hint=elsewhere[told])
    _refuse_unknown(path, data, kind, "")
    whole = prepare(data)
    try:
        return msgspec.convert(whole, kind, strict=True), hashlib.sha256(raw).hexdigest()
    # The others: a number that is larger than any, written in hexadecimal digits.
    except (msgspec.ValidationError, ValueError, OverflowError) as error:
        place, what = described(error, kind, whole)
        line = line_of(raw.decode("utf-8"), place)
        at = "" if line is None else f" (line {line})"
        raise ConfigError(
            f"cannot use `{path}`: {_named(place, whole, data)} {what}{at}", hint=advise(place)
        ) from error


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise ConfigError(
            f"cannot read `{path}`: {error.strerror}", hint="check owner and mode of the folders above it"
        ) from error


def _refuse_unknown(path: Path, data: dict[str, Any], kind: Any, prefix: str) -> None:
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in data.items():
        if key not in fields:
            nearest = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean `{prefix}{nearest[0]}`?" if nearest else f"known here: {', '.join(fields)}"
            raise ConfigError(f"cannot use `{path}`: unknown key `{prefix}{key}`", hint=hint)
        section = fields[key]
        if get_origin(section) is Annotated:
            section = get_args(section)[0]
        of = next(iter(get_args(section)), None)
        if isinstance(value, list) and _is_struct(of):
            for number, one in enumerate(value, 1):
                if isinstance(one, dict):
                    _refuse_unknown(path, one, of, f"{prefix}{key}[{one.get('name', number)}].")
        elif isinstance(value, dict) and _is_struct(section):
            _refuse_unknown(path, value, section, f"{prefix}{key}.")


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _named(place: Place, whole: dict[str, Any], data: dict[str, Any]) -> str:
    """Name a place as the person who wrote the file would: rules by name, or as counted there."""
    words = ""
    for number, step in enumerate(place):
        if number == 1 and place[0] == "rules" and isinstance(step, int):
            rule = whole["rules"][step]
            name = rule.get("name") if isinstance(rule, dict) else None
            # The default ones stand before those of the file.
            counted = next((i for i, one in enumerate(data["rules"], 1) if one is rule), step + 1)
            words += f"[{name if isinstance(name, str) else counted}]"
        else:
            words += f"[{step + 1}]" if isinstance(step, int) else f".{step}"
    return words.removeprefix(".") or "it"
