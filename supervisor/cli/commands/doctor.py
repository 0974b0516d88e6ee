"""What `supervisorctl doctor` looks at: one small check each, none of which changes anything."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata, util
from pathlib import Path
from typing import Final

import msgspec

import supervisor
from supervisor.cli.output.text import size
from supervisor.errors import SupervisorError
from supervisor.paths import Paths
from supervisor.system.procfs import sees_host_pids
from trainer_shim.safe_files import Unsafe, check_folder

__all__ = ["Finding", "examine"]

#: A checkpoint of a small model; less than that and the next save fails.
_FREE_FAIL_BYTES: Final = 200 * 10**6
_FREE_WARN_BYTES: Final = 5 * 10**9
_PACKAGES: Final = ("click", "msgspec", "nvidia-ml-py", "psutil", "pyzmq", "structlog", "watchdog")
_OTHER: Final = "supervisor"


class Finding(msgspec.Struct, frozen=True):
    """One line of the report; `level` is `ok`, `warn` or `fail`."""

    level: str
    what: str
    hint: str = ""


def examine(paths: Paths) -> Iterator[Finding]:
    """Yield what is found, the installation first."""
    yield _python()
    yield from _packages()
    yield from _other_program()
    yield _command_in_path(os.environ.get("PATH", os.defpath))
    yield _daemon(paths)
    yield _run_folder(paths.run_dir)
    yield _free_space(paths.state_dir)
    yield _torch()
    yield from _kernel()
    yield _pressure()
    yield _limits()
    yield from _gpu()


def _python() -> Finding:
    return Finding("ok", f"Python {platform.python_version()} at {sys.executable}")


def _packages() -> Iterable[Finding]:
    found = {name: _version(name) for name in _PACKAGES}
    missing = [name for name, version in found.items() if not version]
    known = ", ".join(f"{name} {version}" for name, version in found.items() if version)
    yield Finding("ok", f"training-supervisor {supervisor.__version__} with {known}")
    if missing:
        hint = "install training-supervisor again in this environment"
        yield Finding("fail", f"packages are missing: {', '.join(missing)}", hint)


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _other_program() -> Iterable[Finding]:
    """Find the process manager whose distribution, package and command have names of ours."""
    other = _version(_OTHER)
    if other:
        yield Finding(
            "fail",
            f"another program, `{_OTHER}` {other}, is installed in the same environment",
            "both bring a package `supervisor` and the files mix: give each an environment of its own",
        )


def _command_in_path(search_path: str) -> Finding:
    first = shutil.which("supervisorctl", path=search_path)
    if first is None:
        return Finding("warn", "no `supervisorctl` in PATH", "activate the environment that has it")
    if _is_ours(Path(first)):
        return Finding("ok", f"`supervisorctl` is {first}")
    return Finding(
        "warn",
        f"`supervisorctl` is {first}, which is not ours",
        "another program is in the way: type `trainctl`, it is the same command as ours",
    )


def _is_ours(script: Path) -> bool:
    """Tell by what the script imports; the other program's has the same name."""
    try:
        return b"supervisor.entry" in script.read_bytes()[:4096]
    except OSError:
        return False


def _daemon(paths: Paths) -> Finding:
    from supervisor.client import Client

    try:
        with Client(paths) as client:
            reply = client.version()
    except SupervisorError as error:
        return Finding("fail", str(error), error.hint)
    if reply.version != supervisor.__version__:
        what = f"the daemon is version {reply.version}, this command {supervisor.__version__}"
        return Finding("warn", what, "restart the daemon: jobs go on meanwhile")
    if reply.alerts:
        return Finding(
            "warn", f"the daemon says: {'; '.join(reply.alerts)}", "`supervisorctl status` shows it too"
        )
    jobs = f"{reply.num_jobs} job{'' if reply.num_jobs == 1 else 's'}"
    denied = f", {reply.num_denied} requests refused for want of a right" if reply.num_denied else ""
    return Finding("ok", f"the daemon answers: version {reply.version}, pid {reply.pid}, {jobs}{denied}")


def _run_folder(folder: Path) -> Finding:
    try:
        check_folder(folder)
    except Unsafe as error:
        hint = f"somebody could answer in the daemon's place: stop it, {error.hint}, start it"
        return Finding("fail", f"the folder of the sockets is not safe: {error.strerror}", hint)
    except OSError as error:
        return Finding(
            "warn", f"no folder for the sockets, `{folder}`: {error.strerror}", "the daemon makes it"
        )
    return Finding("ok", f"the folder of the sockets is {folder}, and nobody else may write it")


def _free_space(folder: Path) -> Finding:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free_bytes = shutil.disk_usage(there).free
    what = f"{size(free_bytes)} free under {folder}"
    if free_bytes < _FREE_FAIL_BYTES:
        return Finding("fail", what, "no checkpoint fits: free some, or give jobs `--checkpoints` elsewhere")
    return Finding("warn" if free_bytes < _FREE_WARN_BYTES else "ok", what)


def _torch() -> Finding:
    if util.find_spec("torch") is None:
        return Finding(
            "ok", "no torch in this environment; the jobs' own has to have it, the daemon needs none"
        )
    return Finding("ok", f"torch {_version('torch') or 'without version'} can be imported here")


def _kernel() -> Iterable[Finding]:
    me = os.getpid()
    try:
        os.close(os.pidfd_open(me))
        yield Finding("ok", "the kernel has pidfd_open")
    except (OSError, AttributeError):
        yield Finding("fail", "the kernel has no pidfd_open", "Linux 5.3 or newer is needed")
    if Path(f"/proc/{me}/task/{me}/children").exists():
        yield Finding("ok", "the kernel lists children of a process")
    else:
        hint = "a kernel with CONFIG_PROC_CHILDREN; without it the daemon keeps zombies that jobs left behind"
        yield Finding("warn", "the kernel does not list children of a process", hint)
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        yield Finding("ok", f"the boot id is readable, {boot_id[:8]}...")
    except OSError as error:
        yield Finding("fail", f"cannot read the boot id: {error.strerror}", "is /proc mounted?")


def _pressure() -> Finding:
    file = Path("/proc/pressure/memory")
    try:
        file.read_text(encoding="ascii")
    except OSError as error:
        hint = "boot with `psi=1`, or with a kernel that has CONFIG_PSI; rules on pressure have no readings"
        return Finding("warn", f"the kernel does not tell pressure: {error.strerror}", hint)
    if os.access(file, os.W_OK):
        return Finding("ok", "the kernel tells pressure (PSI), and can call when memory is short")
    return Finding(
        "ok", "the kernel tells pressure (PSI); it calls when memory is short only a daemon that runs as root"
    )


def _limits() -> Finding:
    from supervisor.system.cgroups import cpu_groups, memory_groups

    memory = min((group.limit_bytes for group in memory_groups()), default=None)
    cpus = min((group.cpus for group in cpu_groups()), default=None)
    said = [] if memory is None else [f"memory to {size(memory)}"]
    said += [] if cpus is None else [f"CPU time to that of {cpus:g} CPUs"]
    if not said:
        return Finding("ok", "no control group limits memory or CPU time here")
    return Finding("ok", f"the control group around this command limits {' and '.join(said)}")


def _gpu() -> Iterable[Finding]:
    try:
        import pynvml
    except ImportError:
        yield Finding("ok", "no NVML binding installed: GPUs are not looked at")
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        yield Finding("ok", "no NVIDIA driver found: GPUs are not looked at")
        return
    except pynvml.NVMLError as error:
        yield Finding("warn", f"the NVIDIA driver does not start: {error}", "`nvidia-smi` may say more")
        return
    try:
        driver = pynvml.nvmlSystemGetDriverVersion()
        names = [
            pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(i))
            for i in range(pynvml.nvmlDeviceGetCount())
        ]
        yield Finding("ok", f"NVIDIA driver {driver} with {', '.join(map(str, names)) or 'no GPU'}")
        if not sees_host_pids():
            hint = "run the daemon outside of the container for rules on foreign GPU use"
            yield Finding("warn", "in a container, who holds a GPU cannot be told", hint)
    except pynvml.NVMLError as error:
        yield Finding("warn", f"the NVIDIA driver does not answer: {error}", "`nvidia-smi` may say more")
    finally:
        pynvml.nvmlShutdown()
