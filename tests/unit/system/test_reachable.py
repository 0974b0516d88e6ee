"""Who may reach a file, asked of the modes on the way, and the kernel's own word for it."""

import os

import pytest

from supervisor.system.reachable import barrier
from tests.other_user import OTHER, needs_root, run_as


@pytest.fixture
def tree(home):
    """`open/closed/inner/file`, and a link to it beside."""
    home.chmod(0o755)
    inner = home / "open/closed/inner"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    for folder in (home / "open", inner.parent, inner):
        folder.chmod(0o755)
    (inner / "file").chmod(0o644)
    (home / "link").symlink_to(inner)
    return home


@needs_root
@pytest.mark.parametrize(
    ("closed", "mode", "owner"),
    [
        ("", 0o755, 0),
        ("open/closed", 0o700, 0),
        ("open/closed", 0o711, 0),
        ("open/closed", 0o750, OTHER),
        ("open/closed/inner/file", 0o600, 0),
        ("open/closed/inner/file", 0o604, 0),
        ("open/closed/inner/file", 0o044, OTHER),
    ],
)
@pytest.mark.parametrize("path", ["open/closed/inner/file", "link/file", "open/../link/file"])
def test_what_is_in_the_way_is_what_the_kernel_finds_in_the_way(tree, closed, mode, owner, path):
    """
    Through links as well.
    """
    if closed:
        (tree / closed).chmod(mode)
        os.chown(tree / closed, owner, 0)
    found = barrier(tree / path, OTHER)

    assert run_as(OTHER, lambda: os.access(tree / path, os.R_OK)) == (found is None)
    assert found in (None, tree / closed)


def test_without_a_user_it_is_what_some_may_not(tree):
    """
    What is not there is in nobody's way.
    """
    before = barrier(tree / "link/file")
    (tree / "open/closed").chmod(0o750)

    assert (None, tree / "open/closed") == (before, barrier(tree / "link/file"))
    assert barrier(tree / "none/file") is None
