"""What other users ask a running daemon that serves all: through the client, and by the command line.

Covers: both in a child that is really another user. Does not cover: the daemon (harness.py).
"""

from __future__ import annotations

import os
import sys

from supervisor import api
from supervisor.cli import main as cli
from supervisor.cli.commands import host, jobs, look, policy, why
from supervisor.cli.output import render_policy, render_why, tail
from supervisor.client import Client, new_id
from tests.harness import GUARD_S
from tests.other_user import OTHER, run_as

__all__ = ["IMPORTED", "as_client", "ctl_as", "waiting_job"]

#: Commands are imported when they are used, by a user who may not be able to read them.
IMPORTED = (host, jobs, look, policy, why, render_policy, render_why, tail)


def as_client(daemon, call, uid=OTHER, groups=()):
    """What a call of the client returns as another user."""

    def connected():
        with Client(daemon.paths, connect_s=5.0, answer_s=GUARD_S) as client:
            return call(client)

    return run_as(uid, connected, groups=groups)


def ctl_as(daemon, uid, *words, columns=None):
    """Run `supervisorctl` as another user, on so wide a screen; returns exit code, stdout, stderr."""
    out, err = (daemon.work / f"said-{number}" for number in (1, 2))

    def said():
        for path, number in ((out, 1), (err, 2)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), number)
        os.environ |= {} if columns is None else {"COLUMNS": str(columns)}
        sys.argv = ["supervisorctl", "--home", str(daemon.home), *words]
        sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115
        code = cli.main()
        sys.stdout.flush()
        sys.stderr.flush()
        return code

    for path in (out, err):
        path.unlink(missing_ok=True)
    return run_as(uid, said), out.read_text(), err.read_text()


def waiting_job(client, name, **fields):
    """A job that is never started: it waits for GPUs that are not there."""
    request = api.RunRequest(
        id=new_id(), argv=("true", "secret-word"), cwd="/", env={"TOKEN": "x"}, name=name
    )
    return client.run(api.msgspec.structs.replace(request, num_gpus=1, **fields)).job
