"""Which daemon a process finds that none has started, and what it tells that one."""

import os
import socket
from pathlib import Path

import pytest

from trainer_shim import adoption
from trainer_shim.adoption import ByHand, check_restart, find_server
from trainer_shim.surroundings import Surroundings


@pytest.fixture
def listening(home):
    """A daemon's socket below a folder that is named, with the environment that names it."""
    folder = home / "run"
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "control.sock"))
        listener.listen()
        yield {"TRAINING_SUPERVISOR_HOME": str(home)}


def test_a_daemon_that_listens_is_found(listening):
    """
    Where the environment names its folder that is the one that is meant.
    """
    server = find_server(listening)

    assert f"ipc://{listening['TRAINING_SUPERVISOR_HOME']}/run/control.sock" == server.endpoint


def test_one_word_of_the_environment_says_no(listening):
    """
    No other word does.
    """
    assert find_server({**listening, "TRAINING_SUPERVISOR_ADOPT": "0"}) is None
    assert find_server({**listening, "TRAINING_SUPERVISOR_ADOPT": "1"}) is not None


def test_without_a_daemon_there_is_none(home, tmp_path):
    """
    No folder, a socket that nobody listens on any more, a file in its place.
    """
    env = {"TRAINING_SUPERVISOR_HOME": str(home)}
    nowhere = find_server({"TRAINING_SUPERVISOR_HOME": str(tmp_path)})
    (home / "run").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "run/control.sock"))
    left = find_server(env)
    (home / "run/control.sock").unlink()
    (home / "run/control.sock").touch()

    assert (None, None, None) == (nowhere, left, find_server(env))


def test_a_folder_that_others_may_write_holds_no_daemon_of_ours(listening):
    """
    Nobody becomes our daemon by making a socket, and nothing is said of it.
    """
    Path(listening["TRAINING_SUPERVISOR_HOME"], "run").chmod(0o777)

    assert find_server(listening) is None


def test_ones_own_daemon_comes_before_the_systems(listening, monkeypatch, home):
    """
    As for commands; of a user without a runtime folder it lies in /tmp.
    """
    monkeypatch.setattr(adoption, "SYSTEM_RUN_DIR", home / "run")
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_323)
    places = list(adoption._folders({"XDG_RUNTIME_DIR": "/run/user/4000323"}))
    without = list(adoption._folders({}))

    assert [Path("/run/user/4000323/training-supervisor"), home / "run"] == places
    assert Path("/tmp/training-supervisor-4000323") == without[0]


def test_a_process_that_a_daemon_started_looks_for_no_other(listening):
    """
    Nor does a run that is proved.
    """
    started = Surroundings.read({"TRAINING_SUPERVISOR_SOCKET": "ipc:///else"})
    proved = Surroundings.read({"TRAINING_SUPERVISOR_PROVE": "/proof"})
    alone = Surroundings.read({})

    assert started == started.by_a_daemon(listening, ())
    assert proved == proved.by_a_daemon(listening, ())
    assert ByHand(("a", "b")) == alone.by_a_daemon(listening, ("a", "b")).by_hand


@pytest.mark.parametrize("restart", ["python train.py", [1], [Path("train.py")]])
def test_a_command_is_words_one_by_one(restart):
    """
    A line for a shell is none.
    """
    with pytest.raises(TypeError, match="give the words of the command one by one"):
        check_restart(restart)


def test_what_is_told_fits_into_a_message(tmp_path, monkeypatch):
    """
    Names that are no UTF-8 or too long, a folder relative to where the script is.
    """
    monkeypatch.chdir(tmp_path)
    words = ByHand(("run\udcff",)).words("x\udcff" + 300 * "y", Path("c"))

    assert {"script": "x?" + 254 * "y", "checkpoints": f"{tmp_path}/c", "restart": ("run?",)} == words
