"""Which commit a manifest names, from folders as git leaves them."""

import shutil

import pytest

from trainer_shim.surroundings import git_commit

COMMIT = "7e4ce54aa0a7d3f1c5e9b2d86f1a3c4e5d6f7081"


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
