"""What a training process reads of its environment, and which commit of its folder a manifest names."""

import shutil

import pytest

from trainer_shim.surroundings import Surroundings, git_commit

EVERY = "TRAINING_SUPERVISOR_EVERY_S"
COMMIT = "7e4ce54aa0a7d3f1c5e9b2d86f1a3c4e5d6f7081"


def read(**env):
    return Surroundings.read({f"TRAINING_SUPERVISOR_{name}": value for name, value in env.items()})


def test_without_a_word_nothing_is_saved_by_itself_and_nothing_goes_on():
    """
    As for every script that is started by hand.
    """
    here = read()

    assert (None, False, ()) == (here.every_s, here.goes_on, here.ignored)
    assert (None, ()) == here.period(None, None)
    assert (5.0, ()) == here.period(5.0, None)


@pytest.mark.parametrize(("text", "every_s"), [("600.0", 600.0), ("1", 1.0), ("315360000.0", 315360000.0)])
def test_how_often_to_save_counts_where_the_script_does_not_say_it(text, every_s):
    """
    The script's own wins, and that is said with both.
    """
    here = read(EVERY_S=text)

    assert (every_s, ()) == here.period(None, None)
    own_s, (by_s,) = here.period(0.5, None)
    none_s, (by_steps,) = here.period(None, 100)
    assert (0.5, None) == (own_s, none_s)
    assert f"saves as the script says (every_s=0.5), not every {every_s:g} s as the job says" == by_s
    assert "(every_steps=100)" in by_steps


@pytest.mark.parametrize("text", ["soon", "0", "0.99", "-5", "nan", "inf", "1e999", "10m", "9" * 400])
def test_what_is_no_time_is_ignored_and_said(text):
    """
    It is no reason not to train.
    """
    every_s, (said,) = read(EVERY_S=text).period(None, None)

    assert every_s is None
    assert said.startswith(f"cannot save every '{text[:40]}' seconds, as {EVERY} says")
    assert (7.0, (said,)) == read(EVERY_S=text).period(7.0, None)


@pytest.mark.parametrize(("text", "goes_on"), [("1", True), ("", False), ("0", False), ("yes", False)])
def test_a_start_goes_on_by_one_word(text, goes_on):
    """
    Nothing else means it.
    """
    assert goes_on is read(GOES_ON=text).goes_on


def git(folder, **files):
    """
    A `.git` folder with these files; a double underscore is a slash.
    """
    for name, text in files.items():
        file = folder / ".git" / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")


@pytest.mark.parametrize(
    "files",
    [
        {"HEAD": COMMIT},
        {"HEAD": "ref: refs/heads/main", "refs__heads__main": COMMIT},
        {
            "HEAD": "ref: refs/heads/main",
            "packed-refs": f"# pack-refs\n0000 refs/heads/x\n{COMMIT} refs/heads/main",
        },
    ],
    ids=["detached", "branch", "packed"],
)
def test_the_commit_that_is_checked_out_is_found_from_below(tmp_path, files):
    """
    A script may run anywhere in its repository.
    """
    git(tmp_path, **files)
    (tmp_path / "train" / "deep").mkdir(parents=True)

    assert COMMIT == git_commit(tmp_path / "train" / "deep")


def test_a_worktree_has_a_commit_of_its_own(tmp_path):
    """
    Not that of the repository around it, and not that of the checkout it belongs to.
    """
    git(tmp_path, HEAD="ref: refs/heads/main", refs__heads__main="0000", refs__heads__try=COMMIT)
    git(tmp_path, worktrees__try__HEAD="ref: refs/heads/try", worktrees__try__commondir="../..")
    tree = tmp_path / "inside" / "try"
    tree.mkdir(parents=True)
    (tree / ".git").write_text(f"gitdir: {tmp_path / '.git' / 'worktrees' / 'try'}\n")

    assert COMMIT == git_commit(tree)


def test_a_submodule_names_its_folder_by_a_relative_path(tmp_path):
    """
    Its commit counts, not that of the repository that it is part of.
    """
    git(tmp_path, HEAD="0000", modules__part__HEAD=COMMIT)
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / ".git").write_text("gitdir: ../.git/modules/part\n")

    assert COMMIT == git_commit(tmp_path / "part")


def test_without_a_commit_nothing_is_said(tmp_path):
    """
    A new repository, one that is damaged, or none at all.
    """
    git(tmp_path, HEAD="ref: refs/heads/main")

    assert "" == git_commit(tmp_path)
    (tmp_path / ".git" / "HEAD").write_bytes(b"\xff")
    assert "" == git_commit(tmp_path)
    shutil.rmtree(tmp_path / ".git")
    assert "" == git_commit(tmp_path)
