"""A kernel that refuses one system call to this process and to all that it starts, from now on.

Covers: calls by their number, also only with a certain first argument, through seccomp.
Does not cover: calls on files, which syscalls.py lets fail in many more ways.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

__all__ = ["PR_SET_CHILD_SUBREAPER", "refuse", "why_not"]

PR_SET_CHILD_SUBREAPER = 36

_PR_SET_NO_NEW_PRIVS, _PR_GET_SECCOMP, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 21, 22, 2
_NUMBERS = {
    "x86_64": {"prctl": 157, "timerfd_create": 283, "timerfd_settime": 286},
    "aarch64": {"prctl": 167, "timerfd_create": 85, "timerfd_settime": 86},
}
#: Of BPF: load a word of the call, go on if it is this, return.
_LOAD, _IF_IS, _RETURN = 0x20, 0x15, 0x06
_NUMBER_AT, _ARGUMENT_AT = 0, 16
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000


def why_not() -> str:
    """Return the reason why this cannot be used here, empty if it can."""
    if platform.machine() not in _NUMBERS:
        return "the numbers of system calls are not known"
    return "" if ctypes.CDLL(None).prctl(_PR_GET_SECCOMP) >= 0 else "the kernel does not filter calls"


def refuse(call: str, argument: int | None = None) -> None:
    """Let this call fail with EPERM, or only with that first argument; there is no way back."""
    number = _NUMBERS[platform.machine()][call]
    tests = [(_NUMBER_AT, number)] + ([] if argument is None else [(_ARGUMENT_AT, argument)])
    program = []
    for left, (at, value) in zip(range(len(tests), 0, -1), tests, strict=True):
        # Where it is another one, over what is left of the tests and over the refusal.
        program += [(_LOAD, 0, 0, at), (_IF_IS, 0, 2 * left - 1, value)]
    program += [(_RETURN, 0, 0, _FAIL | errno.EPERM), (_RETURN, 0, 0, _ALLOW)]
    code = b"".join(struct.pack("HBBI", *one) for one in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_ = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filter_)):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "cannot filter system calls")
