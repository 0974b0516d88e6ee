"""Where everything lies."""

from pathlib import Path

import pytest

from supervisor.errors import UsageError
from supervisor.paths import Paths


@pytest.fixture
def as_user(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/ada")


def test_a_home_holds_everything():
    """
    One folder to look at, to copy and to remove.
    """
    paths = Paths.find("/srv/ts")

    assert Path("/srv/ts") == paths.home
    assert "ipc:///srv/ts/run/control.sock" == paths.control_endpoint
    assert "ipc:///srv/ts/run/events.sock" == paths.events_endpoint
    assert [
        Path("/srv/ts", *rest)
        for rest in (
            ("config", "config.toml"),
            ("config", "jobs.d"),
            ("state", "journal.sqlite"),
            ("run", "daemon.lock"),
            ("state", "jobs", "job-3"),
            ("state", "jobs", "job-3", "log"),
            ("state", "jobs", "job-3", "run-2"),
        )
    ] == [
        paths.config_file,
        paths.jobs_dir,
        paths.journal,
        paths.lock,
        paths.job_dir("job-3"),
        paths.log("job-3"),
        paths.incarnation_dir("job-3", 2),
    ]


def test_a_home_may_come_from_the_environment_or_be_relative(monkeypatch, tmp_path):
    """
    What is given on the command line goes first.
    """
    monkeypatch.setenv("TRAINING_SUPERVISOR_HOME", "/srv/env")
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.chdir(tmp_path)

    assert Path("/srv/env") == Paths.find().home
    assert tmp_path / "here" == Paths.find("here").home
    assert Path("/home/ada/ts") == Paths.find("~/ts").home


def test_roots_daemon_uses_the_places_of_the_system(monkeypatch):
    """
    As file-hierarchy(7) has it.
    """
    monkeypatch.setattr("os.geteuid", lambda: 0)
    paths = Paths.find()

    assert ["/etc", "/var/lib", "/run"] == [
        str(folder.parent) for folder in (paths.config_dir, paths.state_dir, paths.run_dir)
    ]
    assert None is paths.home


@pytest.mark.usefixtures("as_user")
def test_a_users_daemon_uses_the_users_places(monkeypatch):
    """
    The XDG folders, or what stands for them.
    """
    bare = Paths.find()
    for name in ("CONFIG_HOME", "STATE_HOME", "RUNTIME_DIR"):
        monkeypatch.setenv(f"XDG_{name}", f"/x/{name}")
    chosen = Paths.find()

    assert ["/home/ada/.config", "/home/ada/.local/state", "/tmp"] == [
        str(folder.parent) for folder in (bare.config_dir, bare.state_dir, bare.run_dir)
    ]
    assert "training-supervisor-1000" == bare.run_dir.name
    assert ["/x/CONFIG_HOME", "/x/STATE_HOME", "/x/RUNTIME_DIR"] == [
        str(folder.parent) for folder in (chosen.config_dir, chosen.state_dir, chosen.run_dir)
    ]


def test_a_socket_path_that_the_kernel_cannot_hold_is_refused():
    """
    107 bytes are the most, counted in bytes, not letters; the hint says what to do.
    """
    room = 107 - len("/run/control.sock")
    fits, long = Paths.find("/" + "x" * (room - 1)), Paths.find("/" + "\u00fc" * (room // 2) + "x")

    assert 107 == len(fits.control_endpoint.removeprefix("ipc://"))
    with pytest.raises(UsageError, match="longer than 107 bytes") as caught:
        _ = long.control_endpoint
    assert "--home" in caught.value.hint


def test_a_home_that_no_message_could_name_is_refused():
    """
    The journal could not store the jobs of its files: nothing would ever be started.
    """
    with pytest.raises(UsageError, match="not UTF-8"):
        Paths.find("/srv/\udcff")
