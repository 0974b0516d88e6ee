"""The small parent of one command: outlives the daemon and writes down how the command ended.

Covers: one run of one incarnation, whatever is killed meanwhile.
Does not cover: pausing, restarting, setting limits. It takes no orders at all: a job is
stopped through its command, so all signals that can be blocked are.

Imports the standard library only and little of it, because one of these lives
beside every job. It is run as a script and must never import our package. All
it needs comes through descriptor 0, so the environment of the command is
neither on a disk nor in a command line; descriptor 1 gets a byte once the
command is on record, and is of no use after a restart of the daemon.

How the promises are kept:

- Once only. The claim is an open-file-description lock. The child inherits it
  and loses it by `exec`, after it has put itself on record. So a claim that
  nobody holds, beside no record, proves that no command was ever started.
- No status is lost. The command stays a zombie until its status is on disk. If
  the keeper is killed before that, a foster parent can still read it.
- Whether memory was short is known. In a unit of systemd this process is in the command's control group; it
  is the last that can read there that the kernel has ended somebody, because the unit goes with it.
- What detached itself stays findable. Such processes become children of the
  keeper, which therefore stays until the last of them has ended. How that one
  ended that `heir.json` names is written down, as the command's end is.
"""

# pathlib would be the largest part of this process.
# ruff: noqa: PTH104, PTH108, PTH110, PTH112, PTH113, PTH118, PTH123, PTH208
from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import sys
import time

_PR_SET_CHILD_SUBREAPER = 36
_SIG_BLOCK, _SIG_SETMASK, _SIG_DFL, _SIG_IGN, _SIGPIPE = 0, 2, 0, 1, 13
#: Signals are numbered 1 to 64; the C library's signal set has room for 1024.
_MAX_SIGNAL = 64
_SIGSET_BYTES = 128
#: S_IFMT and S_IFREG of the stat module, which nothing else here needs.
_KIND, _REGULAR = 0o170000, 0o100000

#: In the names of our units. With so many digits a limit is none.
_UNIT, _NO_LIMIT_DIGITS = b"/training-supervisor-", 19

#: A full disk is asked again after this long, then after twice as long, up to the second.
_FIRST_WAIT_S = 0.1
_LAST_WAIT_S = 5.0


class _CannotStartError(Exception):
    """Why the command cannot be started; goes into `exit.json`."""


class _Spec:
    """The order: run folder, log, working directory, arguments, environment."""

    def __init__(self, text: bytes) -> None:
        self.run_dir, self.log, self.cwd, count, *rest = text.split(b"\0")[:-1]
        self.argv = rest[: int(count)]
        self.env = dict(entry.split(b"=", 1) for entry in rest[int(count) :])


def _shown(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def _quoted(text: str) -> str:
    """Return a JSON string; the json module would add an eighth to this process."""
    return '"' + "".join(f"\\u{ord(c):04x}" if c < " " or c in '"\\' else c for c in text) + '"'


def _no_input() -> None:
    fd = os.open(os.devnull, os.O_RDONLY)
    os.dup2(fd, 0)
    os.close(fd)


def _read_all(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, 1 << 16):
        parts.append(part)
    return b"".join(parts)


def _detach() -> None:
    """Leave the daemon's folder, descriptors and signals behind; only 0, 1 and 2 stay."""
    os.chdir("/")
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.close(int(name))
            except OSError:
                continue  # The descriptor of the listing itself.
    libc = ctypes.CDLL(None)
    libc.sigprocmask(_SIG_BLOCK, b"\xff" * _SIGSET_BYTES, None)


def _adopt_orphans() -> None:
    """Keep processes that detach from the command findable below the keeper."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise _CannotStartError(f"its processes could not be kept track of: {reason}")


def _restore_signals() -> None:
    """Give the command the signal handling it would have in a shell."""
    libc = ctypes.CDLL(None)
    # A notice to a dead daemon left this one pending: blocked, it waits even where it is ignored.
    libc.signal(_SIGPIPE, _SIG_IGN)
    for number in range(1, _MAX_SIGNAL + 1):
        libc.signal(number, _SIG_DFL)
    libc.sigprocmask(_SIG_SETMASK, b"\0" * _SIGSET_BYTES, None)


def _restore_limit() -> None:
    """Give the command the limit of open files that the daemon was started with; ours is higher.

    A daemon of an earlier version, whose keeper was replaced on disk meanwhile, does not tell it.
    """
    if len(sys.argv) < 3:
        return
    # Only the child needs it: a module more in the keeper would stay there for days.
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), hard))


def _enter_group(folder: str) -> None:
    """Enter the control group of this start; where we may not, its processes are found in other ways."""
    try:
        fd = os.open(folder + "/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    _try_to_write(fd, b"0")
    os.close(fd)


def _try_to_write(fd: int, text: bytes) -> None:
    """Write what nothing depends on."""
    try:
        os.write(fd, text)
    except OSError:
        return


def _become_as_the_shell(words: list[str]) -> None:
    """Take over umask, niceness, CPUs and limits of the shell that asked, as far as the system lets us.

    What it does not allow is said in the log: the command runs all the same, as the daemon does.
    """
    import resource

    for word in words:
        name, _, text = word.partition("=")
        try:
            if name == "umask":
                os.umask(int(text))
            elif name == "nice":
                os.setpriority(os.PRIO_PROCESS, 0, int(text))
            elif name == "cpus":
                os.sched_setaffinity(0, set(map(int, text.split(","))))
            elif name.startswith("limit."):
                soft, hard = map(int, text.split(":"))
                resource.setrlimit(int(name[len("limit.") :]), (soft, hard))
        except (OSError, ValueError, OverflowError) as error:
            os.write(2, f"training-supervisor: cannot set {word} as in the shell: {error}\n".encode())


def _identity(pid: int) -> bytes:
    with open(f"/proc/{pid}/stat", "rb") as file:
        start_ticks = int(file.read().rpartition(b")")[2].split()[19])
    places = [f"/proc{at}/sys/kernel/random/boot_id" for at in ("/1/root/proc", "")]  # See procfs.py.
    with open(next(place for place in places if os.access(place, os.R_OK)), "rb") as file:
        boot_id = file.read().strip()
    return b'{"pid":%d,"start_ticks":%d,"boot_id":"%s"}' % (pid, start_ticks, boot_id)


def _open_file(path: bytes, flags: int) -> int:
    """Open a file or make it; what else lies in its place is neither followed nor waited for."""
    if os.path.lexists(path) and os.lstat(path).st_mode & _KIND != _REGULAR:
        raise _CannotStartError(f"`{_shown(path)}` is not a file")
    flags |= os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    fd = os.open(path, flags, 0o600)
    os.set_blocking(fd, True)  # The command gets the log, and may not be used to such a one.
    return fd


def _claim(spec: _Spec) -> bool:
    """Take the right to run this incarnation; it is held until this process and its child let go."""
    path = spec.run_dir + b"/claim"
    fd = _open_file(path, os.O_RDWR)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    for name in (b"/process.json", b"/exit.json"):
        if os.path.lexists(spec.run_dir + name):
            return False
    if os.fstat(fd).st_nlink > 1:
        raise _CannotStartError(f"`{_shown(path)}` has a second name, whose contents would be lost")
    os.ftruncate(fd, 0)
    os.pwrite(fd, _identity(os.getpid()), 0)
    return True


def _store(run_dir: bytes, name: bytes, text: bytes) -> None:
    """Make the file appear whole and safe from a power cut, or not at all."""
    staging = run_dir + b"/.%s.%d" % (name, os.getpid())
    if os.path.lexists(staging):
        os.unlink(staging)
    fd = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        while text:
            text = text[os.write(fd, text) :]
        os.fsync(fd)
    except OSError:
        os.unlink(staging)
        raise
    finally:
        os.close(fd)
    os.rename(staging, run_dir + b"/" + name)
    folder = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _store_exit(run_dir: bytes, text: bytes, name: bytes = b"exit.json") -> bool:
    """Write down how it ended, however long the disk refuses; False when the folder was removed."""
    wait_s = _FIRST_WAIT_S
    while True:
        try:
            _store(run_dir, name, text)
        except FileNotFoundError:
            return False
        except OSError:
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, _LAST_WAIT_S)
        else:
            return True


def _check_cwd(cwd: bytes) -> None:
    try:
        os.chdir(cwd)
    except FileNotFoundError:
        raise _CannotStartError(
            f"there is no working directory `{_shown(cwd)}`; make it, or name another"
        ) from None
    except OSError as error:
        raise _CannotStartError(f"working directory `{_shown(cwd)}`: {error.strerror}") from None
    finally:
        os.chdir("/")


def _open_log(path: bytes) -> int:
    try:
        log = _open_file(path, os.O_WRONLY | os.O_APPEND)
    except OSError as error:
        raise _CannotStartError(f"cannot write log `{_shown(path)}`: {error.strerror}") from None
    if sys.argv[5:] and (os.fstat(log).st_size or os.path.lexists(path + b".1")):
        _try_to_write(log, f"\n{sys.argv[5]}\n".encode())
    return log


def _find_command(spec: _Spec) -> bytes:
    """Return the file to run, looked up as a shell in the job's folder with the job's PATH would."""
    if not spec.argv or not spec.argv[0]:
        raise _CannotStartError("the command is empty")
    name = spec.argv[0]
    folders = [b""] if b"/" in name else spec.env.get(b"PATH", os.fsencode(os.defpath)).split(b":")
    found = [path for f in folders if os.path.exists(path := os.path.join(spec.cwd, f, name))]
    for path in found:
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    if not found:
        raise _CannotStartError(f"no such command `{_shown(name)}`")
    problem = "is a folder" if os.path.isdir(found[0]) else "is not executable"
    raise _CannotStartError(f"`{_shown(found[0])}` {problem}")


def _exit_text(message: str) -> bytes:
    return b'{"error":%s}' % _quoted(f"cannot start: {message}").encode()


def _become_command(spec: _Spec, path: bytes, log: int) -> None:
    """Put this child on record, then turn it into the command; returns only when that failed."""
    try:
        os.setsid()
        if len(sys.argv) > 4:
            _enter_group(sys.argv[4])
        _store(spec.run_dir, b"process.json", _identity(os.getpid()))
        # The daemon that started us, if it still lives; another one looks at the files.
        _try_to_write(1, b".")
        os.chdir(spec.cwd)
        os.dup2(log, 1)
        os.dup2(log, 2)
        _restore_limit()
        _become_as_the_shell(sys.argv[3].split() if len(sys.argv) > 3 else [])
        _restore_signals()
        os.execve(path, spec.argv, spec.env)  # noqa: S606  This is what the program is for.
    # A ValueError: the environment has a variable without a name.
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        _store_exit(spec.run_dir, _exit_text(f"`{_shown(path)}`: {reason}"))


def _start(spec: _Spec) -> int:
    _adopt_orphans()
    _check_cwd(spec.cwd)
    path = _find_command(spec)
    log = _open_log(spec.log)
    try:
        pid = os.fork()
    except OSError as error:
        raise _CannotStartError(str(error.strerror)) from None
    if pid == 0:
        try:
            _become_command(spec, path, log)
        finally:
            os._exit(127)
    os.close(log)
    return pid


def _wait(command: int) -> bytes:
    """Return how the command ended and leave it a zombie; other orphans are let go."""
    while True:
        info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        if info is None:
            continue
        if info.si_pid != command:
            os.waitpid(info.si_pid, 0)
            continue
        return _status(info)


def _status(info: os.waitid_result) -> bytes:
    kind = b"code" if info.si_code == os.CLD_EXITED else b"signal"
    limit = None if info.si_status == 0 else _limit_of_ended()
    memory = b"" if limit is None else b',"memory_limit_bytes":%d' % limit
    return b'{"%s":%d%s}' % (kind, info.si_status, memory)


def _limit_of_ended() -> int | None:
    """Return the limit on memory of our unit, where the kernel has ended somebody in it; 0: another limit."""
    for line in _words_of("/proc/self/cgroup", b"\n"):
        number, controllers, path = (*line.split(b":", 2), b"", b"")[:3]
        is_first = b"memory" in controllers.split(b",")
        if _UNIT not in path or not (is_first or number == b"0"):
            continue
        folder = f"/sys/fs/cgroup{'/memory' if is_first else ''}{os.fsdecode(path)}/memory."
        events = _words_of(folder + ("oom_control" if is_first else "events"))
        counts = dict(zip(events[::2], events[1::2], strict=False))
        if counts.get(b"oom_kill", b"0") == b"0":
            continue
        limit = (_words_of(folder + ("limit_in_bytes" if is_first else "max")) or [b""])[0]
        # Version 2 counts how often its own limit was reached; version 1 says "no limit" with a great number.
        is_its_own = counts.get(b"oom") != b"0" and limit.isdigit() and len(limit) < _NO_LIMIT_DIGITS
        return int(limit) if is_its_own else 0
    return None


def _words_of(path: str, separator: bytes | None = None) -> list[bytes]:
    """Return what stands in a small file; nothing where there is none."""
    try:
        with open(path, "rb") as file:
            return file.read(1 << 16).split(separator)
    except OSError:
        return []


def _outlast_orphans(run_dir: bytes) -> None:
    """Stay for what the command left, which is found below this process; only an heir leaves a trace."""
    while True:
        try:
            info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            return
        if info is None:
            continue
        if _is_heir(run_dir, info.si_pid):
            _store_exit(run_dir, _status(info), b"heir-exit.json")
        os.waitpid(info.si_pid, 0)


def _is_heir(run_dir: bytes, pid: int) -> bool:
    """Say whether the daemon has named this process as the one that goes on in the place of the command."""
    try:
        fd = os.open(run_dir + b"/heir.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.read(fd, 1024) == _identity(pid)
    except OSError:
        return False
    finally:
        os.close(fd)


def main() -> None:
    """Run the incarnation that descriptor 0 describes, unless another keeper has or had it."""
    _detach()
    spec = _Spec(_read_all(0))
    _no_input()
    try:
        # An error of the disk is nobody's word on the command: another keeper may have the claim.
        if not _claim(spec):
            return
        command = _start(spec)
    except _CannotStartError as error:
        _store_exit(spec.run_dir, _exit_text(str(error)))
        return
    # The daemon learns the end of this process by other means; an open pipe would only cost it.
    os.dup2(0, 1)
    text = _wait(command)
    # A child that failed to become the command has already said so.
    if os.path.lexists(spec.run_dir + b"/exit.json") or _store_exit(spec.run_dir, text):
        os.waitpid(command, 0)
        _outlast_orphans(spec.run_dir)


if __name__ == "__main__":
    main()
    os._exit(0)
