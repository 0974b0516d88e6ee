"""A private daemon of this checkout, for as long as a benchmark lasts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from benchmarks.common import ROOT, own_env, wait_for
from supervisor import api
from supervisor.client import Client, new_id
from supervisor.errors import NoDaemon
from supervisor.paths import Paths

__all__ = ["Scene", "keepers"]

#: Others load this machine too; no rule may pause what is measured.
_NO_RULES = "[policy]\ndefault_rules = false\n"

_FINAL = ("completed", "failed", "stopped")


class Scene:
    """A context manager; at its end all jobs are killed and the daemon is gone."""

    def __init__(self, folder: Path, config: str = _NO_RULES, *, inside: Sequence[str] = ()) -> None:
        """`inside` is put before the daemon's command."""
        self._inside = inside
        self.home = folder
        self.paths = Paths.find(str(folder))
        folder.mkdir(mode=0o700, exist_ok=True)
        self.paths.config_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.configure(config)

    def __enter__(self) -> Self:
        log = (self.home / "daemon.log").open("w")
        with log:
            self._daemon = subprocess.Popen(
                [*self._inside, sys.executable, "-m", "supervisor", "--home", str(self.home)],
                cwd=ROOT,
                env=own_env(),
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_for(self._answers, "the daemon")
        except BaseException:
            self._daemon.kill()
            self._daemon.wait()
            raise
        self.client = self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.client.ask_jobs(api.KillRequest(id=new_id(), all=True))
            wait_for(lambda: all(row.state in _FINAL for row in self.rows()), "the jobs to end")
            self.client.close()
        finally:
            self._daemon.terminate()
            self._daemon.wait(30)

    @property
    def pid(self) -> int:
        """The daemon's process."""
        return self._daemon.pid

    def configure(self, config: str) -> None:
        """Write the settings; a daemon that runs reads them when it is asked to, or soon."""
        self.paths.config_file.write_text(config, encoding="utf-8")

    def connect(self) -> Client:
        """Return another connection to the daemon."""
        return Client(self.paths, answer_s=60)

    def rows(self) -> list[api.JobRow]:
        """Return the rows of all jobs."""
        return self.client.status().rows

    def run(self, name: str, argv: Sequence[str], **env_more: str) -> None:
        """Start a job; with more of an environment if need be."""
        env = own_env(OMP_NUM_THREADS="1", **env_more)
        self.client.run(api.RunRequest(id=new_id(), argv=tuple(argv), cwd=str(self.home), env=env, name=name))

    def stamps(self, job: str) -> Path:
        """Return where a toy trainer writes."""
        return self.home / f"stamps-{job}"

    def run_toys(self, names: Sequence[str], kind: str) -> None:
        """Start training loops and return when all shims are connected."""
        for name in names:
            self.run(name, [sys.executable, "-m", "benchmarks.toy_trainer", kind, str(self.stamps(name))])
        wait_for(lambda: all(row.pausable for row in self.rows()), "the shims")

    def run_sleepers(self, num_jobs: int) -> None:
        """Start children that do nothing, and return when all run."""
        for number in range(num_jobs):
            self.run(f"sleeper-{number}", ["sleep", "3600"])
        wait_for(lambda: all(row.pid for row in self.rows()), "the jobs")

    def _answers(self) -> bool:
        if self._daemon.poll() is not None:
            log = (self.home / "daemon.log").read_text(encoding="utf-8")
            raise RuntimeError(f"the daemon ended at once:\n{log}")
        try:
            with Client(self.paths) as client:
                return client.version().pid == self._daemon.pid
        except NoDaemon:
            return False


def keepers(rows: Sequence[api.JobRow]) -> set[int]:
    """Return the processes that stand between the daemon and the jobs."""
    parents = set()
    for row in rows:
        stat = Path(f"/proc/{row.pid}/stat").read_text(encoding="ascii", errors="replace")
        # The name in parentheses may hold spaces.
        parents.add(int(stat.rpartition(")")[2].split()[1]))
    return parents - {os.getpid()}
