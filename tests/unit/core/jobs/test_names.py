"""Names per user: one key inside, and no two jobs in one place whatever they are called."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.jobs import names

PARTS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)


def test_two_users_have_jobs_of_one_name():
    """
    Their keys and folders differ; each calls his `night`.
    """
    keys = [names.key_of(user, "night") for user in ("", "ada", "bob")]

    assert ["night", "ada/night", "bob/night"] == keys
    assert 3 == len({names.folder_of(key) for key in keys})
    assert {"night"} == {names.plain(key) for key in keys}
    assert ["", "ada", "bob"] == [names.user_of(key) for key in keys]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("ada", "ada"),
        ("_apt", "_apt"),
        ("uid-7", "uid-1234"),
        ("uid 1234", "uid-1234"),
        ("1000", "uid-1234"),
        ("..", "uid-1234"),
        ("-x", "uid-1234"),
        ("a/b", "uid-1234"),
        ("DOM\\ada", "uid-1234"),
        ("ada@example.org", "uid-1234"),
        ("", "uid-1234"),
        ("a" * 65, "uid-1234"),
    ],
)
def test_an_odd_user_name_is_a_number(name, part):
    """
    Nothing that could lead elsewhere comes into a path, and nobody gets the place of another by his name.
    """
    assert part == names.user_part(1234, name)


@given(PARTS, PARTS, PARTS)
def test_no_two_jobs_share_a_folder(user, name, other):
    """
    A job of ours that is called like a user has nothing of that user's in its folder.
    """
    keys = {name, other, names.key_of(user, name), names.key_of(user, other), names.key_of(other, name)}
    folders = [names.folder_of(key) for key in keys]

    assert len(keys) == len(set(folders)) == len({names.group_word(key) for key in keys})
    for one, two in itertools.permutations(folders, 2):
        assert not f"{two}/".startswith(f"{one}/")


@given(PARTS, PARTS)
def test_a_folder_tells_its_key(user, name):
    """
    What runs is found again by where it lies.
    """
    for key in (name, names.key_of(user, name)):
        folder = names.folder_of(key)
        above, _, last = f"jobs/{folder}".rpartition("/")

        assert names.KEY.fullmatch(key)
        assert key == names.key_of_path(folder)
        assert key == names.key_of_folder(above.rpartition("/")[2], last)
        assert key == names.key_of_group_word(names.group_word(key))


@pytest.mark.parametrize(
    "path", ["ada/night", "@ada", "@ada/night/more", "", "@/night", "@ada/", "..", "@ada/.."]
)
def test_what_is_no_folder_of_a_job_has_no_key(path):
    """
    Whatever a process says in its environment.
    """
    assert "" == names.key_of_path(path)
