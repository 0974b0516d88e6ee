"""What an installed service consists of, and what keeps it from being installed.

Covers: texts of the files, whose they are, places and environments. Does not cover: systemd (tests/systemd/).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor.cli.service import obstacles
from supervisor.cli.service.files import SYSTEM, ServiceKind, is_ours, personal, program_of, text_of
from supervisor.errors import Refused, SupervisorError, UsageError

ROOT = Path(__file__).parents[2]
PERSONAL = personal({"XDG_CONFIG_HOME": "/c"})


@pytest.mark.parametrize("kind", [SYSTEM, PERSONAL], ids=["system", "personal"])
def test_a_service_is_all_its_files_filled_in(kind):
    """
    Each is known as ours afterwards; the unit starts the program of that environment.
    """
    texts = {
        path.name: text_of(packaged, Path("/opt/a b/bin"), "1.2") for packaged, path in kind.files.items()
    }
    folder = "user" if kind.is_personal else "system"
    units = {path.name for path in (ROOT / "systemd" / folder).iterdir()}

    assert units <= texts.keys()
    assert all(is_ours(text) and "@BIN@" not in text and "version 1.2" in text for text in texts.values())
    assert "/opt/a b/bin/training-supervisord" == program_of(texts[kind.unit_file.name])


def test_a_unit_that_was_written_by_hand_from_ours_is_ours():
    """
    As the documents told it before there was a command; a comment of another program that names ours is not.
    """
    text = (ROOT / "systemd/system/training-supervisord.service").read_text().replace("@BIN@", "/opt/x/bin")

    assert is_ours(text)
    assert not is_ours("# not for training-supervisord\n[Service]\nExecStart=/usr/bin/supervisord\n")
    assert "" == program_of("[Service]\nExecStart=/usr/bin/supervisord\n")


@pytest.mark.parametrize("folder", ['/opt/a"b', "/opt/a%b", "/opt/a$b", "/opt/a:b", "/opt/a\nb", "/opt/a\\b"])
def test_a_folder_that_means_something_else_in_a_unit_is_refused(folder):
    """
    A quote would end the path, a percent sign or a dollar would be replaced, a colon divides PATH.
    """
    with pytest.raises(SupervisorError, match="cannot install from") as caught:
        text_of("system/training-supervisord.service", Path(folder), "1")

    assert "another" in caught.value.hint or "environment" in caught.value.hint


def test_where_no_systemd_runs_the_daemon_is_started_by_hand(tmp_path):
    """
    As in most containers.
    """
    with pytest.raises(SupervisorError, match="systemd does not run this machine") as caught:
        obstacles.check_systemd(SYSTEM, {}, booted=tmp_path / "nothing")

    assert "training-supervisord &" in caught.value.hint


@pytest.mark.parametrize(
    ("kind", "uid", "error", "hint"),
    [(SYSTEM, 1000, Refused, "sudo /x/supervisorctl service install"), (PERSONAL, 0, UsageError, "--user")],
    ids=["a user", "root"],
)
def test_who_may_not_is_told_who_may(kind, uid, error, hint):
    """
    The system's service is root's; root has no other.
    """
    with pytest.raises(error) as caught:
        obstacles.check_person(kind, uid, verb="install", program="/x/supervisorctl")
    obstacles.check_person(kind, 1000 - uid, verb="install", program="x")

    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "folder", ["/tmp/env/bin", "/var/tmp/env/bin", "/run/env/bin", "/home/a/.cache/uv/archive-v0/x/bin"]
)
@pytest.mark.parametrize("kind", [SYSTEM, PERSONAL], ids=["system", "personal"])
def test_an_environment_that_does_not_stay_is_refused(kind, folder):
    """
    The service would be gone after a start of the machine, or when a cache is cleared.
    """
    with pytest.raises(SupervisorError, match="does not stay"):
        obstacles.check_environment(kind, Path(folder))


def test_programs_are_found_through_the_links_of_pipx_and_uv(tmp_path):
    """
    `~/.local/bin/supervisorctl` leads into the environment; the daemon is started from there.
    """
    (tmp_path / "env/bin").mkdir(parents=True)
    for name in ("supervisorctl", "training-supervisord"):
        (tmp_path / "env/bin" / name).write_text("")
        (tmp_path / "env/bin" / name).chmod(0o755)
    (tmp_path / "supervisorctl").symlink_to("env/bin/supervisorctl")

    assert tmp_path / "env/bin" == obstacles.find_programs(str(tmp_path / "supervisorctl"))


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda path: path.write_text("[Unit]\n"), "it is there and not ours"),
        (lambda path: path.symlink_to(os.devnull), "it is masked"),
        (lambda path: path.symlink_to("elsewhere"), "a link to somewhere else"),
    ],
    ids=["other", "masked", "link"],
)
def test_a_file_of_another_program_is_in_the_way(tmp_path, make, what):
    """
    It is named, and neither read for long nor changed.
    """
    unit = tmp_path / "training-supervisord.service"
    kind = ServiceKind({"system/training-supervisord.service": unit}, is_personal=False)
    obstacles.check_files(kind)
    unit.write_text(text_of("system/training-supervisord.service", Path("/opt/bin"), "1"))
    obstacles.check_files(kind)
    unit.unlink()
    make(unit)

    with pytest.raises(Refused, match=what):
        obstacles.check_files(kind)


def test_an_environment_that_other_users_may_not_reach_is_told(home):
    """
    2026-11-29: the service was installed from below /root, and no job of another user could be started.
    """
    home.chmod(0o755)
    closed = home / "closed"
    (closed / "bin").mkdir(parents=True)
    (closed / "bin/supervisorctl").touch()
    closed.chmod(0o700)
    told = obstacles.closed_to_users(SYSTEM, closed / "bin")
    closed.chmod(0o755)
    told_later = obstacles.closed_to_users(SYSTEM, closed / "bin")

    assert f"may not enter or read `{closed}`, on the way to `{closed / 'bin/supervisorctl'}`" in told
    assert str(closed) not in told_later
    assert "" == obstacles.closed_to_users(PERSONAL, closed / "bin")
