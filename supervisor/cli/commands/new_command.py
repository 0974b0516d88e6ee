"""The command of a new job: everything that can be known to be wrong with it before it is sent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supervisor import api
from supervisor.client import new_id
from supervisor.core.jobs.names import NAME
from supervisor.core.jobs.treatment import JobLimits, Restart, inherited
from supervisor.errors import UsageError
from trainer_shim import protocol

__all__ = [
    "check_environment",
    "check_request",
    "earlier_checkpoints",
    "find_command",
    "run_request",
    "shell_words",
]


def run_request(
    argv: tuple[str, ...],
    *,
    cwd: str | None,
    name: str | None,
    checkpoints: str | None,
    restart: Restart,
    env: Mapping[str, str] | None = None,
    **treatment: Any,
) -> api.RunRequest:
    """Return the checked request; raises UsageError for what cannot work."""
    folder = Path(cwd).expanduser().absolute() if cwd else Path.cwd()
    if not folder.is_dir():
        raise UsageError(f"cannot run in `{folder}`: there is no such folder", hint="check --cwd")
    find_command(argv[0], folder, os.environ.get("PATH", os.defpath))
    limits = JobLimits(**{field: treatment.pop(field, None) for field in JobLimits.__struct_fields__})
    request = api.RunRequest(
        id=new_id(),
        argv=argv,
        cwd=str(folder),
        env=inherited({**os.environ, **(env or {})}),
        shell=shell_words(treatment.pop("nice", None)),
        name=name,
        checkpoints=str(Path(checkpoints).expanduser().absolute()) if checkpoints else "",
        restart=restart,
        limits=limits,
        **{field: value for field, value in treatment.items() if value is not None},
    )
    check_request(request)
    return request


def shell_words(nice: int | None) -> str:
    """Return umask, niceness, CPUs and limits of this process, for the job to have the same."""
    import resource

    umask = os.umask(0o077)
    os.umask(umask)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    cpus = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    numbers = {number for name, number in vars(resource).items() if name.startswith("RLIMIT_")}
    limits = ((number, *resource.getrlimit(number)) for number in sorted(numbers))
    words = [f"umask={umask}", f"nice={own if nice is None else nice}", f"cpus={cpus}"]
    return " ".join([*words, *(f"limit.{number}={soft}:{hard}" for number, soft, hard in limits)])


def earlier_checkpoints(request: api.RunRequest) -> Path | None:
    """Return the folder from which this run would go on, if there is something in it."""
    if not request.checkpoints and request.name is None:
        # A run without a name gets a folder of its own.
        return None
    folder = Path(request.checkpoints or Path(request.cwd, "checkpoints", request.name or ""))
    return folder if any(folder.glob("step-*/manifest.json")) else None


def find_command(word: str, folder: Path, search_path: str) -> None:
    """Raise UsageError when the program would not be found from that folder."""
    if "/" in word:
        program = folder / word
        if program.is_file() and os.access(program, os.X_OK):
            return
        if program.is_file():
            raise UsageError(
                f"cannot run `{word}`: it is not executable",
                hint=f"start it through its interpreter, `python {word} ...`, or `chmod +x {word}`",
            )
        raise UsageError(
            f"cannot run `{word}`: there is no such file in `{folder}`", hint="check the path, or --cwd"
        )
    from_folder = os.pathsep.join(str(folder / entry) for entry in search_path.split(os.pathsep) if entry)
    if shutil.which(word, path=from_folder):
        return
    is_file = (folder / word).is_file()
    raise UsageError(
        f"cannot run `{word}`: no such command in PATH",
        hint=f"start it through its interpreter: `supervisorctl run -- python {word} ...`"
        if is_file
        else "activate the environment that has it, or give its path",
    )


def check_request(request: api.RunRequest) -> None:
    """Say which word or variable cannot be sent; of variables names and sizes, never values."""
    if request.name is not None and not NAME.fullmatch(request.name):
        raise UsageError(
            f"cannot name a job `{request.name!a}`",
            hint="a name is 1 to 64 letters, digits, `.`, `_` and `-`; the first is a letter or digit",
        )
    check_environment(request.env)
    for word in (*request.argv, request.cwd, request.checkpoints):
        if not _is_text(word):
            raise UsageError(f"cannot send the command: {word!a} is not UTF-8", hint="rename what it names")
    try:
        protocol.encode(request)
    except (protocol.ProtocolError, UnicodeEncodeError) as error:
        raise UsageError(
            f"cannot send the command and its environment: {error}", hint=_shorten(request)
        ) from None


def check_environment(env: Mapping[str, str]) -> None:
    """Raise UsageError for a variable that cannot be sent."""
    for name, value in env.items():
        if not (_is_text(name) and _is_text(value)):
            raise UsageError(
                f"cannot send the environment: the variable `{name!a}` is not UTF-8",
                hint=f"leave it out: `env -u {name!a} supervisorctl ...`",
            )


def _shorten(request: api.RunRequest) -> str:
    sizes = sorted(((len(k.encode()) + len(v.encode()), k) for k, v in request.env.items()), reverse=True)[:3]
    num_argv_bytes = sum(len(word.encode()) for word in request.argv)
    if not sizes or num_argv_bytes > sizes[0][0]:
        return f"the command alone takes {num_argv_bytes:,} bytes: put its arguments into a file"
    largest = ", ".join(f"{name} ({size:,} bytes)" for size, name in sizes)
    return (
        f"leave out what the job does not need: `env -u {sizes[0][1]} supervisorctl run ...`; "
        f"the largest variables are {largest}"
    )


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True
