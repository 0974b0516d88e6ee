"""A real daemon in a process of its own, and training runs that a test can steer.

Covers: starting, killing and restarting a daemon, talking to it through the
client and the command line, waiting for what becomes true, leaving no process.
Does not cover: what any of it should do.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self

from supervisor import api
from supervisor.client import Client, new_id
from supervisor.errors import NoDaemon, SupervisorError
from supervisor.launcher.own_groups import OwnGroups
from supervisor.paths import Paths
from supervisor.system.procfs import read_stat
from tests.trainers import chain
from trainer_shim import protocol as wire

#: A busy machine is slow; a hang is longer.
GUARD_S = 45.0
ROOT = Path(__file__).parents[1]
PYTHON = sys.executable
CHAIN = (PYTHON, str(ROOT / "tests/trainers/chain.py"))
#: Quick to show, slow to lose patience; a busy machine pauses no test.
CONFIG = "[daemon]\nsample_s = 0.5\n[shim]\nheartbeat_s = 0.2\n[policy]\ndefault_rules = false\n"
DONE = ("completed", "failed", "stopped")


def until(claim: Callable[[], Any], what: Callable[[], object] | str = "it") -> Any:
    """Return the first true answer; a claim that never comes true is a failure."""
    deadline = time.monotonic() + GUARD_S
    while not (answer := claim()):
        told = what() if callable(what) else what
        assert time.monotonic() < deadline, f"never came true: {told}"
        time.sleep(0.02)
    return answer


def is_running(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is not None and stat.state != "Z"


class Said(NamedTuple):
    """What a command line had to say."""

    code: int
    out: str
    err: str


class Run:
    """One training run of tests/trainers/chain.py, steered through its folder."""

    def __init__(self, folder: Path, num_steps: int) -> None:
        self.folder = folder
        self.num_steps = num_steps
        folder.mkdir(exist_ok=True)

    def block(self, *places: str) -> None:
        for place in places:
            (self.folder / f"hold-{place}").touch()

    def let_go(self, *places: str) -> None:
        for place in places:
            (self.folder / f"hold-{place}").unlink()

    def until_at(self, place: str) -> None:
        until((self.folder / f"at-{place}").exists, f"{self.folder.name} at {place}")

    def passed(self, place: str) -> None:
        self.let_go(place)
        until(lambda: not (self.folder / f"at-{place}").exists(), f"{self.folder.name} past {place}")

    @property
    def starts(self) -> list[int]:
        """The process of each start of the command."""
        return [pid for pid, _ in self._starts()]

    @property
    def incarnations(self) -> list[int]:
        """The incarnation that each start of the command was told to be."""
        return [incarnation for _, incarnation in self._starts()]

    def _starts(self) -> list[tuple[int, int]]:
        file = self.folder / "starts"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(int(pid), int(incarnation)) for pid, incarnation in map(str.split, lines)]

    @property
    def result(self) -> str:
        file = self.folder / "result"
        return file.read_text() if file.exists() else ""

    def is_exact(self) -> bool:
        """It went to its end, and no step was lost, repeated or made otherwise."""
        return self.result == chain.expected(self.num_steps)


class RunningDaemon:
    """A daemon below a folder of its own; a context manager that leaves nothing behind."""

    def __init__(
        self,
        config: str = CONFIG,
        *,
        env: Mapping[str, str] | None = None,
        inside: tuple[str, ...] = (),
        words: tuple[str, ...] = (),
    ) -> None:
        """Take more of an environment, and words to put before its command (load.py), or behind it."""
        # A socket path holds 107 bytes; pytest's own folders can be longer.
        self.home = Path(tempfile.mkdtemp(prefix="ts-"))
        self.paths = Paths.find(str(self.home))
        self.work = self.home / "work"
        self.work.mkdir()
        self.paths.jobs_dir.mkdir(parents=True, mode=0o700)
        self.paths.config_dir.chmod(0o700)
        self.configure(config)
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TRAINING_SUPERVISOR_HOME": str(self.home),
            **(env or {}),
        }
        self._inside, self._words = inside, words
        self._process: subprocess.Popen[bytes] | None = None
        self._client: Client | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the process --------------------------------------------------------------------------

    def configure(self, text: str) -> None:
        self.paths.config_file.write_text(text)

    def start(self) -> None:
        """Return when it answers."""
        with (self.home / "daemon.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._inside, PYTHON, "-m", "supervisor", "--home", str(self.home), *self._words],
                env=self.env,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._answers, self.log)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """Ask it to end; returns its exit code."""
        return self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Crash, and start again."""
        self.kill()
        self.start()

    def log(self) -> str:
        return (self.home / "daemon.log").read_text()[-3000:]

    def close(self) -> None:
        """End everything that was ever started here."""
        self._end(signal.SIGKILL)
        until(lambda: not self._kill_jobs())
        # A daemon that was killed leaves those to the next one, which never comes.
        OwnGroups().sweep(self.paths.jobs_state_dir, ())
        shutil.rmtree(self.home)

    def _end(self, number: int) -> int:
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._process is None:
            return 0
        self._process.send_signal(number)
        code = self._process.wait(GUARD_S)
        self._process = None
        return code

    def _kill_jobs(self) -> list[int]:
        """Whoever has our folder in the environment is ours; a keeper goes with its command."""
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
        found = [pid for pid in pids if self._is_ours(pid)]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return found

    def _is_ours(self, pid: int) -> bool:
        try:
            return os.fsencode(self.home) in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        try:
            return self.client.version().pid == self.pid
        except NoDaemon:
            self._client = None
            return False

    # --- talking to it ------------------------------------------------------------------------

    @property
    def client(self) -> Client:
        if self._client is None:
            self._client = Client(self.paths, connect_s=5.0, answer_s=GUARD_S)
        return self._client

    def ctl(self, *words: str, **env: str) -> Said:
        """Run `supervisorctl` as a person would."""
        done = subprocess.run(
            self.ctl_argv(*words),
            env={**self.env, **env},
            cwd=self.work,
            capture_output=True,
            text=True,
            timeout=GUARD_S + 15,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def ctl_argv(self, *words: str) -> list[str]:
        return [PYTHON, "-m", "supervisor.cli.main", "--home", str(self.home), *words]

    @contextlib.contextmanager
    def following(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A `supervisorctl` that goes on, with its output as a pipe."""
        command = self.ctl_argv(*words)
        pipe = subprocess.PIPE
        with subprocess.Popen(command, env=self.env, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    def row(self, job: str) -> api.JobRow:
        return self.client.status((job,)).rows[0]

    def names(self) -> list[str]:
        return [row.name for row in self.client.status().rows]

    def until(self, job: str, claim: Callable[[api.JobRow], Any] | str) -> api.JobRow:
        """Return the job's row once the claim about it (or about its state) is true."""
        wanted = (lambda row: row.state == claim) if isinstance(claim, str) else claim
        last: list[api.JobRow] = []

        def look() -> api.JobRow | None:
            last[:] = [self.row(job)]
            return last[0] if wanted(last[0]) else None

        return until(look, lambda: f"{claim if isinstance(claim, str) else ''} {last}\n{self.job_log(job)}")

    def until_told(self, job: str) -> None:
        """Return when the job's shim has what was asked of it last, so that a daemon may die.

        Its second heartbeat since then says so: the first one may have been on its way already.
        """

        def heard_after_s() -> float:
            row = self.until(job, lambda row: row.heartbeat_age_s is not None and row.since_s is not None)
            return row.since_s - row.heartbeat_age_s

        until(lambda: heard_after_s() > 0, f"a heartbeat of {job}")
        first = heard_after_s()
        # Both ages are of one moment; a hundredth of a second is far below the time between heartbeats.
        until(lambda: heard_after_s() > first + 0.01, f"another heartbeat of {job}")

    def job_log(self, job: str) -> str:
        file = self.paths.log(job)
        return file.read_text() if file.exists() else ""

    def events(self, job: str | None = None) -> list[api.Event]:
        return self.client.events(job=job, limit=1000)

    def ask(self, kind: type[api.JobsRequest], *jobs: str, **fields: Any) -> list[Any]:
        """Ask something of jobs; a refusal is an error here, with its exit code and hint."""
        answers = self.client.ask_jobs(kind(id=new_id(), jobs=jobs, **fields))
        for answer in answers:
            if isinstance(answer, wire.Refusal):
                raise Denied(answer)
        return answers

    def try_to(self, kind: type[api.JobsRequest], job: str, **fields: Any) -> None:
        """Ask, and take it well when the job's state does not allow it."""
        (answer,) = self.client.ask_jobs(kind(id=new_id(), jobs=(job,), **fields))
        assert isinstance(answer, api.Accepted) or answer.exit_code == 3, answer

    def pause(self, *jobs: str, **fields: Any) -> None:
        self.ask(api.PauseRequest, *jobs, **fields)

    def resume(self, *jobs: str) -> None:
        self.ask(api.ResumeRequest, *jobs)

    def command(self, name: str, *argv: str, **fields: Any) -> None:
        """Start any command as a job."""
        env = fields.pop("env", self.job_env())
        request = api.RunRequest(id=new_id(), argv=argv, cwd=str(self.work), env=env, name=name)
        self.client.run(_with(request, fields))

    def job_env(self, **more: object) -> dict[str, str]:
        base = {name: self.env[name] for name in ("PATH", "HOME", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")}
        return {**base, **{name: str(value) for name, value in more.items()}}

    def plan(self, name: str, *, steps: int = 100_000, hold: tuple[str, ...] = ()) -> Run:
        """The folder of a training run that is not started yet."""
        run = Run(self.work / name, steps)
        run.block(*hold)
        return run

    def train(
        self,
        name: str,
        *,
        steps: int = 100_000,
        hold: tuple[str, ...] = (),
        argv: tuple[str, ...] = CHAIN,
        wait: bool = True,
        restart: str = "never",
        treated: Mapping[str, Any] = MappingProxyType({}),
        **env: object,
    ) -> Run:
        """Start a run of chain.py as a job; `treated` is how. Returns when its shim is connected."""
        run = self.plan(name, steps=steps, hold=hold)
        self.command(name, *argv, env=self.chain_env(run, **env), restart=restart, **treated)
        if wait:
            self.until(name, lambda row: row.state == "running" and row.pausable)
        return run

    def chain_env(self, run: Run, **more: object) -> dict[str, str]:
        return self.job_env(CHAIN=run.folder, CHAIN_STEPS=run.num_steps, **more)


class Denied(SupervisorError):
    """The daemon refused."""

    def __init__(self, refused: wire.Refusal) -> None:
        super().__init__(refused.error, hint=refused.hint)
        self.code = refused.exit_code


def _with(request: api.RunRequest, fields: dict[str, Any]) -> api.RunRequest:
    from msgspec.structs import replace  # noqa: PLC0415

    return replace(request, **fields)
