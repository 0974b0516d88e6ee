"""Where everything lies on disk: the one owner of every path.

--home DIR or $TRAINING_SUPERVISOR_HOME: everything below one folder
the system's:  /etc, /var/lib and /run/training-supervisor; the usual ones of root
a user's:      the XDG folders of the user, each with training-supervisor/

config/  config.toml  jobs.d/*.toml          written by people
state/   journal.sqlite  jobs/NAME/log  jobs/NAME/run-N/     written by the daemon
         jobs/@USER/NAME/ of other users, by root's daemon
run/     control.sock  events.sock  daemon.lock              gone after a reboot
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from supervisor.core.jobs.names import folder_of
from supervisor.errors import UsageError
from trainer_shim.server_check import CONTROL_SOCKET, SOCKET_FOLDER, SYSTEM_RUN_DIR, folder_id, users_run_dir

__all__ = ["Paths"]

_NAME = SYSTEM_RUN_DIR.name

#: sockaddr_un.sun_path holds 108 bytes with the closing zero (unix(7)).
_SOCKET_PATH_MAX = 107


class Paths(msgspec.Struct, frozen=True):
    """The three folders, and everything in them by name."""

    config_dir: Path
    state_dir: Path
    run_dir: Path
    #: The folder given by --home or the environment; None for the system's or user's own places.
    home: Path | None = None
    #: Of a daemon that all users of the machine may use.
    serves_all: bool = False

    @classmethod
    def find(cls, home: str | None = None, *, system: bool | None = None) -> Paths:
        """Return the places for this user, or below `home`; `system`: those of the system, or one's own."""
        chosen = home or os.environ.get("TRAINING_SUPERVISOR_HOME")
        if chosen:
            base = Path(chosen).expanduser().absolute()
            _check_utf8(base)
            return cls(base / "config", base / "state", base / "run", base, serves_all=bool(system))
        if system or (system is None and os.geteuid() == 0):
            return cls.of_the_system()
        user_home = Path.home()
        return cls(
            Path(os.environ.get("XDG_CONFIG_HOME") or user_home / ".config", _NAME),
            Path(os.environ.get("XDG_STATE_HOME") or user_home / ".local/state", _NAME),
            users_run_dir(os.environ),
        )

    @classmethod
    def of_the_system(cls) -> Paths:
        """Return the places of root's daemon, whoever asks."""
        return cls(Path("/etc", _NAME), Path("/var/lib", _NAME), SYSTEM_RUN_DIR, serves_all=True)

    @property
    def start_hint(self) -> str:
        """What to do where no daemon serves these."""
        if self.serves_all and os.geteuid() != 0:
            return "it is the system's, which root starts; `--user` talks to a daemon of your own"
        if self.home is not None:
            is_known = str(self.home) == os.environ.get("TRAINING_SUPERVISOR_HOME")
            return f"start it: `training-supervisord{'' if is_known else f' --home {self.home}'}`"
        ask = f"supervisorctl service status{'' if self.serves_all else ' --user'}"
        return f"start it: `training-supervisord`; of a service, `{ask}` tells why it is not there"

    @property
    def config_file(self) -> Path:
        """Settings of the daemon."""
        return self.config_dir / "config.toml"

    @property
    def jobs_dir(self) -> Path:
        """Drop-in job files."""
        return self.config_dir / "jobs.d"

    @property
    def journal(self) -> Path:
        """The SQLite database."""
        return self.state_dir / "journal.sqlite"

    @property
    def lock(self) -> Path:
        """Held by the running daemon."""
        return self.run_dir / "daemon.lock"

    @property
    def control_endpoint(self) -> str:
        """ZeroMQ address of the ROUTER socket."""
        return self._endpoint(CONTROL_SOCKET)

    @property
    def events_endpoint(self) -> str:
        """ZeroMQ address of the PUB socket."""
        return self._endpoint("events.sock")

    @property
    def jobs_state_dir(self) -> Path:
        """All that the daemon keeps of all jobs."""
        return self.state_dir / "jobs"

    def job_dir(self, job: str) -> Path:
        """All that the daemon keeps of a job."""
        return self.jobs_state_dir / folder_of(job)

    def log(self, job: str) -> Path:
        """Return the file with the output of all incarnations of a job."""
        return Path(self.log_name(job))

    def log_name(self, job: str) -> str:
        """Return the same as text: a hundredth of the time, and `status` asks for that of each job."""
        return f"{self.state_dir}/jobs/{folder_of(job)}/log"

    def incarnation_dir(self, job: str, incarnation: int) -> Path:
        """Return the folder of one start of the command."""
        return self.job_dir(job) / f"run-{incarnation}"

    def for_shim(self, job: str, incarnation: int) -> dict[str, str]:
        """Return the places that the shim of a job finds in its environment."""
        return {
            "TRAINING_SUPERVISOR_SOCKET": self.control_endpoint,
            SOCKET_FOLDER: folder_id(self.run_dir),
            "TRAINING_SUPERVISOR_RUN_DIR": str(self.incarnation_dir(job, incarnation)),
        }

    def _endpoint(self, name: str) -> str:
        path = self.run_dir / name
        if len(os.fsencode(path)) > _SOCKET_PATH_MAX:
            raise UsageError(
                f"cannot use the socket `{path}`: its path is longer than {_SOCKET_PATH_MAX} bytes",
                hint="choose a shorter --home",
            )
        return f"ipc://{path}"


def _check_utf8(path: Path) -> None:
    """Refuse what neither a message nor the journal can hold."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"cannot use the folder `{path}`: its path is not UTF-8", hint="choose another --home"
        ) from None
