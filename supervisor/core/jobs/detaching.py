"""Commands that hand their work to somebody else and end: what can be told of them.

Covers: the word for people where such a command ended at once and no training shim of it ever spoke.
Does not cover: following what stays within the job (launcher/heirs.py).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from supervisor.core.jobs.job import Job

__all__ = ["problem"]

#: A command that ran longer has done something itself; the first word of a shim is waited for 20 s.
_AT_ONCE_S: Final = 30.0

#: What these start belongs to a server that ran before, or to another machine.
_ELSEWHERE: Final = re.compile(
    "at|batch|bsub|byobu|docker|dtach|podman|qsub|sbatch|screen|srun|ssh|systemd-run|tmux|zellij"
)
#: The next word is a command, too.
_BEFORE: Final = frozenset(["command", "env", "exec", "nice", "nohup", "setsid", "stdbuf", "sudo", "time"])
_SEPARATOR: Final = re.compile(r"[;&|(){}]+")
#: `sh -c`, `bash -lc`.
_SCRIPT_COMES: Final = re.compile(r"-[a-z]*c")


def problem(job: Job, now: float) -> str:
    """Return what to tell of a job whose command has ended well; "" where there is nothing to tell."""
    if job.run is None or job.run.depths or now - job.run.started_at > _AT_ONCE_S:
        return ""
    names = _commands(job.spec.argv)
    elsewhere = next((name for name in names if _ELSEWHERE.fullmatch(name)), "")
    if elsewhere:
        what, way_out = f"what `{elsewhere}` starts is not of the job", f"without `{elsewhere}`"
    elif "&" in names and "wait" not in names:
        what, way_out = "what it put into the background was not followed", "without `&`"
    else:
        return ""
    silent = "its command ended at once, and no training shim of it ever spoke"
    return f"{silent}: {what}; run the training itself, {way_out}"


def _commands(argv: tuple[str, ...]) -> list[str]:
    """Return the names of the programs that a command starts, as far as its words tell; and `&`."""
    found: list[str] = []
    is_command = True
    for word in _words(argv):
        if _SEPARATOR.fullmatch(word):
            found += ["&"] if word == "&" else []
            is_command = True
        elif is_command and not word.startswith("-") and "=" not in word:
            found.append(word.rpartition("/")[2])
            is_command = found[-1] in _BEFORE
    return found


def _words(argv: tuple[str, ...]) -> Iterator[str]:
    """Yield the words of a command, those of a shell's script one by one."""
    before = ""
    for word in argv:
        if not _SCRIPT_COMES.fullmatch(before):
            yield word
        else:
            yield ";"
            lexer = shlex.shlex(word.replace("\n", " ; "), posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            # A quote that is not closed: nothing is known of the rest.
            with suppress(ValueError):
                yield from lexer
        before = word
