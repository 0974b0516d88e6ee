"""Which job a process belongs to, in a tree that looks like /proc: also for jobs of other users."""

import os

import pytest

from supervisor.system.marks import JobStart, Marks, group_name, jobs_folder, start_of
from tests.other_user import OTHER, THIRD, needs_root

#: The user ids that a process has: real, effective, saved, of files.
OURS = (os.geteuid(),) * 4


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state" / "jobs"


def make_group(root, pid, group, owner=-1):
    """Put a process into a group of some owner."""
    (root / "proc" / pid / "cgroup").write_text(f"0::{group}\n")
    mount = f"30 23 0:26 / {root}/groups rw - cgroup2 cgroup2 rw\n"
    (root / "proc" / "self" / "mountinfo").write_text(mount)
    folder = root / "groups" / group.lstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    os.chown(folder, owner, -1)


@pytest.fixture
def of(tmp_path, folder):
    """What a process is of by its environment and its control group, and who owns that."""

    def of(run_dir=None, group="/", uids=OURS, owner=-1):
        process = tmp_path / "proc" / "7"
        process.mkdir(parents=True, exist_ok=True)
        (tmp_path / "proc" / "self").mkdir(exist_ok=True)
        make_group(tmp_path, "self", "/")
        mark = b"" if run_dir is None else b"TRAINING_SUPERVISOR_RUN_DIR=" + os.fsencode(run_dir) + b"\0"
        (process / "environ").write_bytes(b"A=b\0" + mark)
        (process / "status").write_text("Name:\tx\nUid:\t" + "\t".join(map(str, uids)) + "\nGid:\t0\n")
        make_group(tmp_path, "7", group, owner)
        return Marks(folder, proc=tmp_path / "proc").of(7)

    return of


@pytest.mark.parametrize(("path", "job"), [("night", "night"), ("@ada/night", "ada/night")])
def test_a_start_is_known_by_folder_and_group(folder, of, path, job):
    """
    Both name it, and lead back to it.
    """
    run_dir = folder / path / "run-3"
    run_dir.mkdir(parents=True)
    start = JobStart(job, 3)

    assert start == start_of(run_dir) == of(run_dir)
    assert folder == jobs_folder(run_dir)
    assert start == of(group=f"/slice/{group_name(folder, start)}")
    assert "/" not in group_name(folder, start)


@pytest.mark.parametrize(
    "path", ["ada/night/run-3", "@ada/run-3", "@ada/night/x/run-3", "run-3", "@/x/run-3"]
)
def test_what_is_no_start_is_of_no_job(folder, of, path):
    """
    A process may say what it likes.
    """
    assert of(folder / path) is None


@pytest.mark.parametrize("which", range(4))
def test_an_environment_is_believed_only_of_a_process_that_is_wholly_ours(folder, of, which):
    """
    Its files in /proc are root's where it cannot be dumped; a setuid program has its caller's environment.
    """
    uids = list(OURS)
    uids[which] += 1

    assert of(folder / "night" / "run-3", uids=uids) is None
    assert of(folder / "night" / "run-3", uids=()) is None


@needs_root
@pytest.mark.parametrize("line", ["/user.slice/{}.service", "/{}/below"])
def test_a_group_that_another_user_made_says_nothing(folder, of, line):
    """
    His systemd makes units of any name for him.
    """
    start = JobStart("ada/night", 3)
    group = line.format(group_name(folder, start))

    assert of(group=group, owner=OTHER) == (start if group.endswith("below") else None)


@needs_root
@pytest.mark.parametrize(
    ("path", "owner", "uid", "is_believed"),
    [
        ("@ada/night", OTHER, OTHER, True),
        ("@ada/night", OTHER, THIRD, False),
        ("@ada/night", OTHER, 0, False),
        ("@ada/night", None, OTHER, False),
        ("@ada/night", None, 0, False),
        ("night", 0, OTHER, False),
        ("night", None, 0, True),
        ("night", None, OTHER, False),
    ],
)
def test_an_environment_is_believed_of_processes_of_the_jobs_user(folder, of, path, owner, uid, is_believed):
    """
    Who that is says the folder of the start; without it only the daemon's own is known.
    """
    run_dir = folder / path / "run-3"
    run_dir.parent.mkdir(parents=True)
    if owner is not None:
        run_dir.mkdir()
        os.chown(run_dir, owner, owner)

    assert is_believed == (of(run_dir, uids=(uid,) * 4) is not None)


@pytest.mark.parametrize(
    ("words", "parents_group", "is_of_it"),
    [
        (["python", "-I", "-S", "/lib/keeper.py", "ada/night.3"], "/init.scope", False),
        (["python", "train.py"], "/init.scope", True),
        # Whoever calls himself so is below the keeper.
        (["python", "-I", "-S", "/lib/keeper.py", "ada/night.3"], None, True),
    ],
    ids=["keeper", "orphan", "disguised"],
)
def test_all_in_the_unit_are_of_the_start_but_its_keeper(tmp_path, folder, words, parents_group, is_of_it):
    """
    The keeper is none of the job's processes: it is not counted, ended or waited for with them.
    """
    start = JobStart("ada/night", 3)
    unit = f"/training-jobs.slice/{group_name(folder, start)}.service"
    proc = tmp_path / "proc"
    for name, group in (("self", "/"), ("7", unit), ("5", parents_group or unit)):
        (proc / name).mkdir(parents=True)
        make_group(tmp_path, name, group)
    (proc / "7" / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))
    (proc / "7" / "stat").write_text(f"7 (python) S 5 7 7 {' '.join(['0'] * 15)} 1234 0\n")
    marks = Marks(folder, proc=proc)

    assert start == marks.group_of(7)
    assert (start if is_of_it else None) == marks.of(7)
