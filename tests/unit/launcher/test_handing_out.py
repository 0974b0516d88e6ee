"""What root's daemon makes for another user, and believes of what that one writes there.

Covers: owners and rights of folders and log, links and second names, processes of others.
Does not cover: systemd (tests/systemd/test_job_units.py, which also runs as those users).
"""

import json
import os
import pwd
import subprocess

import pytest

from supervisor.core.jobs.job import Exit, Owner
from supervisor.launcher import handing_out, records
from supervisor.launcher.identity import identify
from supervisor.ports import LaunchSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes anything for another user")

NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def spec(tmp_path):
    spec = LaunchSpec(
        job="nobody/night",
        incarnation=1,
        argv=("true",),
        cwd="/",
        env={},
        run_dir=tmp_path / "jobs/@nobody/night/run-1",
        log=tmp_path / "jobs/@nobody/night/log",
        owner=Owner(NOBODY.pw_uid, NOBODY.pw_name),
    )
    handing_out.prepare(spec)
    return spec


def write(spec, name, text):
    path = spec.run_dir / name
    path.write_text(text)
    os.chown(path, NOBODY.pw_uid, -1)
    return path


def test_run_folder_and_log_are_the_users_and_all_above_is_ours(spec):
    """
    Others pass, list nothing and change no name; it may be made again.
    """
    handing_out.prepare(spec)
    places = (spec.run_dir, spec.log, spec.run_dir.parent, spec.run_dir.parents[1], spec.run_dir.parents[2])
    found = [(place.stat().st_uid, f"{place.stat().st_mode & 0o777:o}") for place in places]

    uid = NOBODY.pw_uid
    assert [(uid, "700"), (uid, "600"), (0, "711"), (0, "711"), (0, "711")] == found


def test_a_link_in_the_place_of_the_log_is_not_given_away(spec, tmp_path):
    """
    It would hand over what it points to.
    """
    other = tmp_path / "other"
    other.write_text("x")
    spec.log.unlink()
    spec.log.symlink_to(other)

    with pytest.raises(OSError):
        handing_out.prepare(spec)
    assert 0 == other.stat().st_uid


def test_what_the_user_says_of_the_end_is_read(spec):
    """
    It is that one's job.
    """
    write(spec, "exit.json", '{"code":3}')

    assert Exit(code=3) == records.read_exit(spec.run_dir)


def test_a_file_that_is_also_elsewhere_is_not_read(spec, tmp_path):
    """
    Under a second name it may be anybody's.
    """
    path = write(spec, "exit.json", '{"code":3}')
    os.link(path, tmp_path / "second")

    with pytest.raises(records.DamagedRecord, match="second name"):
        records.read_exit(spec.run_dir)


def test_a_process_of_another_user_is_not_believed(spec):
    """
    Root would signal it.
    """
    for name in ("process.json", "claim", "heir.json"):
        own = identify(os.getpid())
        text = json.dumps({"pid": own.pid, "start_ticks": own.start_ticks, "boot_id": own.boot_id})
        write(spec, name, text)

    with pytest.raises(records.DamagedRecord, match="process of another user"):
        records.read_process(spec.run_dir)
    assert (None, None) == (records.read_keeper(spec.run_dir), records.read_heir(spec.run_dir))


def test_a_process_of_the_user_is_believed(spec):
    """
    Also as heir, which the daemon writes and the keeper reads.
    """
    command = subprocess.Popen(["sleep", "60"], user=NOBODY.pw_uid)
    try:
        records.write_heir(spec.run_dir, identify(command.pid))
        heir = records.read_heir(spec.run_dir)
    finally:
        command.kill()
        command.wait()

    assert command.pid == heir.pid
    assert NOBODY.pw_uid == (spec.run_dir / "heir.json").stat().st_uid
