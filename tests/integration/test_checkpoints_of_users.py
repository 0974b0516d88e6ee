"""Root looks at the checkpoints of a user, and reaches nothing that the user could not reach: two real users.

Covers: `checkpoints` by job and by path, links that the user put there, whose is what is written, the export.
Does not cover: what the commands do (tests/e2e/test_checkpoints.py).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from supervisor import api
from supervisor.cli.checkpoints.acting import owner_of
from supervisor.client import Client, new_id
from tests.harness import CONFIG, GUARD_S, ROOT, RunningDaemon
from tests.other_user import OTHER, THIRD, needs_root, run_as

pytestmark = needs_root

GOLDEN = ROOT / "tests/golden/checkpoint_v1/step-000000042"
STEP = GOLDEN.name
NIGHT = f"uid-{OTHER}/night"


def given(folder, uid):
    """Checkpoints of a user in a folder of that user."""
    shutil.copytree(GOLDEN, folder / STEP)
    for place in (folder, *folder.rglob("*")):
        os.chown(place, uid, uid)
        place.chmod(0o700 if place.is_dir() else 0o600)
    return folder


@pytest.fixture(scope="module")
def daemon():
    with RunningDaemon(CONFIG, words=("--system",)) as running:
        running.home.chmod(0o755)
        running.work.chmod(0o755)
        yield running


@pytest.fixture
def folder(daemon, tmp_path_factory):
    """The folder of the checkpoints of a user's job, which is not there yet."""
    home = daemon.work / f"home-{os.urandom(4).hex()}"
    home.mkdir()
    os.chown(home, OTHER, OTHER)

    def submits():
        with Client(daemon.paths, connect_s=5.0, answer_s=GUARD_S) as client:
            for kind in (api.StopRequest, api.RemoveRequest):
                client.ask_jobs(kind(id=new_id(), jobs=("night",)))
            request = api.RunRequest(id=new_id(), argv=("true",), cwd=str(home), env={}, name="night")
            client.run(api.msgspec.structs.replace(request, num_gpus=1))

    run_as(OTHER, submits)
    place = Path(daemon.client.show(NIGHT).checkpoints)
    run_as(OTHER, place.parent.mkdir)
    return place


def ctl(daemon, *words):
    return daemon.ctl("checkpoints", *map(str, words))


def test_root_acts_as_the_user_of_a_job(daemon, folder):
    """
    What is there is listed, checked and kept; what is written is the user's.
    """
    given(folder, OTHER)
    said = [ctl(daemon, verb, NIGHT) for verb in ("list", "verify")]
    said.append(ctl(daemon, "pin", NIGHT, "42"))
    by_path = ctl(daemon, "list", folder)
    owners = {place.lstat().st_uid for place in folder.rglob("*")}

    assert [0, 0, 0, 0] == [one.code for one in (*said, by_path)], said
    assert all("42" in one.out for one in (*said, by_path))
    assert {OTHER} == owners


@pytest.mark.parametrize("whose", [0, THIRD])
@pytest.mark.parametrize("by", ["job", "path"])
def test_a_link_leads_root_nowhere(daemon, folder, whose, by, tmp_path_factory):
    """
    2026-11-29: root's `prune` of a user's job removed the checkpoints of whoever the user's link named.
    """
    target = given(daemon.work / f"of-{whose}-{os.urandom(4).hex()}", whose)
    run_as(OTHER, lambda: folder.symlink_to(target))
    job = NIGHT if by == "job" else folder
    words = (("list",), ("verify",), ("prune", "--keep-last", "0", "--yes"), ("pin",), ("export",))
    more = {"pin": ("42",), "export": ("--to", daemon.work / "out")}
    said = [ctl(daemon, verb, job, *options, *more.get(verb, ())) for verb, *options in words]

    assert [3] * 5 == [one.code for one in said], said
    assert all(f"root acts as uid {OTHER} there" in one.err for one in said), said
    assert [STEP] == [place.name for place in target.iterdir()]
    assert not (daemon.work / "out").exists()


def test_root_removes_as_the_user(daemon, folder):
    """
    What cannot be read is not waited for, and goes as what is damaged.
    """
    given(folder, OTHER)

    def tricks():
        older = folder / "step-000000041"
        older.mkdir()
        os.mkfifo(older / "manifest.json")

    run_as(OTHER, tricks)
    said = ctl(daemon, "prune", NIGHT, "--keep-last", "1", "--yes")

    assert 0 == said.code, said
    assert "removed 1 checkpoint" in said.err
    assert [STEP] == [place.name for place in folder.iterdir() if place.name.startswith("step-")]


def test_an_export_goes_where_the_user_may_write(daemon, folder):
    """
    And is the user's; root's folders stay closed.
    """
    given(folder, OTHER)
    theirs, ours = folder.parent.parent / "out", daemon.work / "out"
    said = [ctl(daemon, "export", NIGHT, "--to", target) for target in (theirs, ours)]

    assert [0, 3] == [one.code for one in said], said
    assert OTHER == theirs.lstat().st_uid
    assert not ours.exists()


def test_whose_a_path_is_says_the_first_folder_that_is_not_roots(tmp_path):
    """
    A link on the way is as its owner likes, so what it names is not asked.
    """
    hers = tmp_path / "hers"
    hers.mkdir()
    (hers / "link").symlink_to("/etc")
    os.chown(hers, OTHER, OTHER)

    assert [0, OTHER, OTHER, 0] == [
        owner_of(path) for path in (Path("/etc"), hers, hers / "link/x", tmp_path / "none")
    ]
