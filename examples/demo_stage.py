"""Where the demo plays: a private daemon in a temporary folder, commands as people type them, tidying up.

Does not cover: what is done in which order (demo.py), the picture (demo_timeline.py).
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from supervisor.client import Client
from supervisor.errors import SupervisorError
from supervisor.paths import Paths

__all__ = ["ROOT", "DemoFailed", "Sampler", "Stage", "others_pct", "say", "show"]

ROOT = Path(__file__).resolve().parent.parent

#: Every wait ends: a demo that hangs tells nothing.
GUARD_S = 120.0

#: Quick to show: a machine that people use has longer times, see docs/POLICY.md.
CONFIG = """\
[daemon]
sample_s = 0.5
[shim]
heartbeat_s = 0.5
[policy]
default_rules = false
settle_s = 5
min_run_s = 0
easing_long_s = 0
"""
RULE = """
[[rules]]
name = "others-first"
when = [{{ metric = "cpu_foreign_pct", above = {above:g}, clear_below = {clear:g} }}]
pause_after_s = 2
resume_after_s = 3
depth = "hold"
"""


class DemoFailed(Exception):
    """Something did not happen that the demo promises."""


class Sampler(threading.Thread):
    """Asks the daemon twice a second for its rows and its rule, and keeps the readings for the picture."""

    def __init__(self, home: Path) -> None:
        super().__init__(daemon=True)
        self._paths = Paths.find(str(home))
        self._over = threading.Event()
        self._news = threading.Condition()
        self._rows = {}
        #: (Unix time, CPU % of each job, CPU % of all others); missing, or None, where nothing is known.
        self.samples = []
        #: The rule as it is now; None: nobody tells.
        self.rule = None

    def run(self) -> None:
        """Look until closed."""
        while not self._over.wait(0.5):
            rows, rule = self._look()
            with self._news:
                self._rows, self.rule = {row.name: row for row in rows}, rule
                self.samples.append(
                    (time.time(), {row.name: _cpu_pct(row) for row in rows}, others_pct(rule))
                )
                self._news.notify_all()

    def until(self, what: str, condition) -> None:
        """Return when the condition on the rows, by job name, holds."""
        deadline = time.monotonic() + GUARD_S
        with self._news:
            while not (self._rows and condition(self._rows)):
                if failed := [row for row in self._rows.values() if row.state == "failed"]:
                    # The log goes away with the folder.
                    raise DemoFailed(f"job {failed[0].name} failed:\n{Path(failed[0].log).read_text()}")
                if not self._news.wait(max(0.0, deadline - time.monotonic())):
                    raise DemoFailed(f"waited {GUARD_S:g} s until {what}")

    def forget(self) -> None:
        """Let nobody wait on what was known of a daemon that is gone."""
        with self._news:
            self._rows = {}

    def close(self) -> None:
        """Look no more."""
        self._over.set()
        if self.is_alive():
            self.join()

    def _look(self):
        try:
            with Client(self._paths) as client:
                return client.status().rows, client.policy().rules[0]
        except SupervisorError:
            return (), None


def _cpu_pct(row) -> float | None:
    """Return the reading; a paused job without a process uses nothing."""
    return 0.0 if row.state == "paused" and row.pid is None else row.cpu_pct


def others_pct(rule) -> float | None:
    """Return what the rule reads: the CPU that others use, of all CPUs."""
    reading = rule.conditions[0].reading if rule is not None else None
    return reading if isinstance(reading, float) else None


class Stage:
    """A context manager: whatever happens inside, nothing is left behind.

    Ctrl-C reaches the commands in the foreground only; daemon and reference runs have sessions of their own.
    """

    def __init__(self) -> None:
        self.home = Path()
        self.daemon = None

    def __enter__(self) -> Self:
        # Not in $TMPDIR: the path of a socket may have 107 bytes.
        self.home = Path(tempfile.mkdtemp(prefix="ts-", dir="/tmp"))
        bin_dir = Path(sys.executable).parent
        self.env = {
            **{key: value for key, value in os.environ.items() if not key.startswith("TRAINING_SUPERVISOR_")},
            "TRAINING_SUPERVISOR_HOME": str(self.home),
            "PATH": f"{bin_dir}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }
        is_installed = (bin_dir / "supervisorctl").exists()
        if not is_installed:
            # Run from a bare checkout, the commands exist as modules only.
            self.env["PYTHONPATH"] = str(ROOT)
        modules = {"supervisorctl": "supervisor.cli.main", "training-supervisord": "supervisor"}
        self._start_of = {
            name: [str(bin_dir / name)] if is_installed else [sys.executable, "-m", module]
            for name, module in modules.items()
        }
        (self.home / "config").mkdir(mode=0o700)
        # Its readings are wanted before the load is known that it is to be about: until then it is never on,
        # for the jobs themselves use more than what is left for that.
        self.write_rule(above=99.9, clear=99)
        self.sampler = Sampler(self.home)
        # The jobs run in here: their checkpoints lie below the folder they run in.
        (self.home / "examples").symlink_to(ROOT / "examples")
        say(f"Everything lives in {self.home} and goes away at the end.")
        show(f"cd {self.home}")
        show("export TRAINING_SUPERVISOR_HOME=$PWD")
        return self

    def __exit__(self, *_error: object) -> None:
        # A second Ctrl-C must not leave half of it behind.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        say("\nTidying up: jobs, daemon, folder.")
        try:
            self.sampler.close()
            self._end_jobs()
        finally:
            for pid in self._left_over():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            shutil.rmtree(self.home, ignore_errors=True)

    def start_daemon(self) -> None:
        """Start the daemon in the background and return when it serves."""
        show("training-supervisord &")
        self._launch_daemon()
        if not self.sampler.is_alive():
            self.sampler.start()

    def write_rule(self, *, above: float, clear: float) -> str:
        """Put these thresholds into the configuration; returns the rule as it stands there."""
        rule = RULE.format(above=above, clear=clear)
        (self.home / "config/config.toml").write_text(CONFIG + rule, encoding="utf-8")
        return rule

    def kill_daemon(self) -> None:
        """End the daemon as a crash would."""
        show(f"kill -9 {self.daemon.pid}  # the daemon")
        self.daemon.kill()
        self.daemon.wait()
        self.sampler.forget()

    def ctl(self, line: str) -> None:
        """Show and run a `supervisorctl` command."""
        show(f"supervisorctl {line}")
        code = subprocess.run(
            self._ctl(*shlex.split(line)), env=self.env, cwd=self.home, check=False
        ).returncode
        if code:
            raise DemoFailed(f"`supervisorctl {line}` ended with exit code {code}")

    def ask(self, line: str, *, as_json: bool = True):
        """Return what a `supervisorctl` command prints, without showing it."""
        words = [*shlex.split(line), *(["--json"] if as_json else [])]
        done = subprocess.run(self._ctl(*words), env=self.env, check=False, stdout=subprocess.PIPE)
        if done.returncode:
            raise DemoFailed(f"`supervisorctl {line}` ended with exit code {done.returncode}")
        return json.loads(done.stdout) if as_json else done.stdout.decode()

    def start_load(self):
        """Start a process that only computes; it ends with the demo, and soon anyway. Returns it."""
        show("python -c 'while True: pass' &")
        code = f"import time\nend = time.monotonic() + {GUARD_S}\nwhile time.monotonic() < end: pass"
        # By which it is found if it has to be ended early.
        env = {"DEMO_FOLDER": str(self.home)}
        return subprocess.Popen([sys.executable, "-c", code], env=env, start_new_session=True)

    def train_alone(self, script: str):
        """Start a training script without any daemon, in a folder of its own; returns the process."""
        folder = self.home / f"alone-{script}"
        folder.mkdir()
        env = {key: value for key, value in self.env.items() if not key.startswith("TRAINING_SUPERVISOR_")}
        return subprocess.Popen(
            [sys.executable, str(ROOT / f"examples/{script}.py")],
            cwd=folder,
            # By which it is found if it has to be ended early.
            env=env | {"DEMO_FOLDER": str(self.home)},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _ctl(self, *words: str) -> list[str]:
        return [*self._start_of["supervisorctl"], *words]

    def _launch_daemon(self) -> None:
        with (self.home / "daemon.log").open("ab") as log:
            self.daemon = subprocess.Popen(
                self._start_of["training-supervisord"],
                env=self.env,
                cwd=self.home,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + GUARD_S
        while subprocess.run(self._ctl("status"), env=self.env, capture_output=True, check=False).returncode:
            if self.daemon.poll() is not None or time.monotonic() > deadline:
                raise DemoFailed("the daemon does not serve:\n" + (self.home / "daemon.log").read_text())

    def _end_jobs(self) -> None:
        """End all jobs, by the daemon: it knows them even if it was killed just now."""
        if self.daemon is None:
            return
        if self.daemon.poll() is not None:
            self._launch_daemon()
        kill = self._ctl("kill", "--all", "--wait", "--timeout", "20s")
        subprocess.run(kill, env=self.env, capture_output=True, check=False, timeout=60)
        self.daemon.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.daemon.wait(timeout=20)

    def _left_over(self) -> list[int]:
        """Return the processes that name our folder: reference runs, and whatever did not end as asked."""
        mark = os.fsencode(self.home)
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if int(folder.name) != os.getpid() and mark in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
        return found


def say(text: str) -> None:
    """Print for the one who watches, before anything that runs next prints."""
    print(text, flush=True)


def show(command: str) -> None:
    """Print a command as it is typed."""
    say(f"\n$ {command}")
