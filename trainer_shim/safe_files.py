"""Whether a file is safe from other users: looked at on the way to it, and once it is open.

Covers: the folders and links that lead to a path, opening a file and judging what
was opened, making folders that nobody else may write.
Does not cover: who answers on a socket (server_check.py), locks (lock_file.py), what is
done about what is not safe.

As sshd judges `authorized_keys`: all on the way belongs to this user or root, and only
they may write it. A sticky folder (/tmp) is safe on the way, because nobody can take away
in it what belongs to another, and so is what a user's private group may write. A name is
looked at after its folder was found safe, so nobody else can change it behind the look.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from pathlib import Path

__all__ = [
    "Unsafe",
    "check_folder",
    "is_renamed_user",
    "make_folder",
    "open_checked",
    "open_in",
    "open_regular",
    "read_checked",
    "read_in",
    "read_short",
]

#: As many as the kernel follows (path_resolution(7)).
_MAX_LINKS = 40

#: Nothing that we read whole is as long. To parse 1 MiB of TOML takes 2 s, and the daemon does nothing else
#: meanwhile; a sparse file of a terabyte would take its memory.
_MAX_BYTES = 256 << 10

#: Where no user namespace is around this process: the last number is nobody's.
_ALL_IDS = [(0, (1 << 32) - 1)]

_WRITABLE = stat.S_IWGRP | stat.S_IWOTH

_KINDS = {stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


class Unsafe(PermissionError):
    """A path is not what it has to be, or others could make it so; `strerror` says which and how."""

    def __init__(self, reason: str, *, hint: str) -> None:
        super().__init__(errno.EPERM, reason)
        self.hint = hint


def check_folder(folder: Path) -> None:
    """Raise Unsafe unless this user and root alone decide what lies in a folder; OSError where it is none."""
    place = _settle(folder)
    info = place.lstat()
    if not stat.S_ISDIR(info.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, f"`{place}` is not a folder")
    _check_owner(place, info, _own_ids())
    _check_mode(place, info)


def open_checked(path: str | Path, flags: int = os.O_RDONLY, *, dir_fd: int | None = None) -> int:
    """Open a regular file that is this user's or root's and that nobody else may write; never waits.

    No link is followed in the place of the file itself, and with O_CREAT it is made 0600. Raises Unsafe
    for what is not so, OSError as open(2) does.
    """
    descriptor = open_regular(path, flags, dir_fd=dir_fd)
    try:
        info = os.fstat(descriptor)
        _check_owner(path, info, _own_ids())
        _check_mode(path, info, descriptor)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def open_regular(path: str | Path, flags: int, *, dir_fd: int | None = None) -> int:
    """Open a regular file, whoever owns it; never waits, follows no link in its place, makes it 0600."""
    try:
        # Opening a device may already do something.
        _check_regular(path, os.stat(path, dir_fd=dir_fd, follow_symlinks=False))
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    descriptor = os.open(path, flags, 0o600, dir_fd=dir_fd)
    try:
        _check_regular(path, os.fstat(descriptor))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def read_checked(path: Path) -> bytes:
    """Return what a file holds that a person may have put behind links; all on the way has to be safe."""
    return _read(open_checked(_settle(path)), path)


def read_short(path: Path) -> bytes:
    """Return what a file holds, whoever wrote it, also behind links; raises Unsafe where it is too long."""
    return _read(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY), path)


def read_in(folder: Path, name: str) -> bytes:
    """Return what a file holds that we wrote into a folder of ours: see open_in()."""
    return _read(open_in(folder, name), folder / name)


def open_in(folder: Path, name: str) -> int:
    """Open, as open_checked(), what we wrote into a folder of ours; no link is followed to either.

    Where root has handed the folder to another user, that one's files are read as well. They tell what that
    one says, and nothing that lies elsewhere under a second name.
    """
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        owner = os.fstat(at).st_uid
        if os.geteuid() != 0 or owner == 0:
            return open_checked(name, dir_fd=at)
        return _open_of(owner, name, at)
    finally:
        os.close(at)


def _open_of(owner: int, name: str, at: int) -> int:
    descriptor = open_regular(name, os.O_RDONLY, dir_fd=at)
    try:
        info = os.fstat(descriptor)
        _check_owner(name, info, {0, owner})
        if info.st_nlink > 1:
            raise Unsafe(f"`{name}` has a second name", hint="remove one of them")
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def make_folder(folder: Path) -> None:
    """Make a folder and what is missing above it, each for this user alone, whatever the umask."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def is_renamed_user() -> bool:
    """Say whether this process sees users under other numbers than the kernel (user_namespaces(7))."""
    return _uid_map() != _ALL_IDS


def _settle(path: Path) -> Path:
    """Return what a path names, with all that leads there found safe; raises Unsafe and OSError."""
    own = _own_ids()
    root = Path("/")
    info = root.lstat()
    # Whoever owns the root has all that we see in hand; in a user namespace root itself has no number.
    on_the_way = own | {info.st_uid}
    _check_on_the_way(root, info)
    at, names, num_links = root, list(path.absolute().parts[:0:-1]), 0
    while names:
        name = names.pop()
        if name == "..":
            at = at.parent
            continue
        here = at / name
        info = here.lstat()
        _check_owner(here, info, on_the_way)
        if stat.S_ISLNK(info.st_mode):
            num_links += 1
            if num_links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            target = here.readlink()
            names += target.parts[:0:-1] if target.is_absolute() else target.parts[::-1]
            at = root if target.is_absolute() else at
            continue
        at = here
        # The end of the way is judged by whoever asked.
        if names:
            _check_on_the_way(here, info)
    return at


def _check_on_the_way(folder: Path, info: os.stat_result) -> None:
    if not info.st_mode & stat.S_ISVTX:
        _check_mode(folder, info)


def _read(descriptor: int, path: Path) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        text = file.read(_MAX_BYTES + 1)
    if len(text) > _MAX_BYTES:
        raise Unsafe(f"`{path}` is longer than {_MAX_BYTES >> 10} KiB", hint="move it away")
    return text


def _check_regular(path: str | Path, info: os.stat_result) -> None:
    if stat.S_ISDIR(info.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(info.st_mode):
        kind = _KINDS.get(stat.S_IFMT(info.st_mode), "a device")
        raise Unsafe(f"`{path}` is {kind}, not a file", hint="move it away")


def _check_owner(path: str | Path, info: os.stat_result, allowed: set[int]) -> None:
    if info.st_uid not in allowed:
        raise Unsafe(
            f"`{path}` belongs to user id {info.st_uid}", hint="move it away, or choose another place"
        )


def _check_mode(path: str | Path, info: os.stat_result, descriptor: int | None = None) -> None:
    by = info.st_mode & _WRITABLE
    if not by:
        return
    is_by_group = by == stat.S_IWGRP and not _has_list(path if descriptor is None else descriptor)
    if is_by_group and any(_is_private(info.st_gid, uid) for uid in _own_ids()):
        return
    raise Unsafe(
        f"others may write `{path}` (mode {stat.S_IMODE(info.st_mode):04o})", hint=f"`chmod go-w {path}`"
    )


def _is_private(gid: int, uid: int) -> bool:
    """Say whether a group has that user in it and nobody else: distributions make one for each user."""
    try:
        user = pwd.getpwuid(uid)
        group = grp.getgrgid(gid)
    except KeyError:
        return False
    # By its name too: users of a directory service are not listed, and may all have one primary group.
    return (
        group.gr_name == user.pw_name
        and set(group.gr_mem) <= {user.pw_name}
        and all(other.pw_gid != gid or other.pw_uid == user.pw_uid for other in pwd.getpwall())
    )


def _has_list(file: str | Path | int) -> bool:
    """Say whether a list names who may write: the group's bits then tell only that somebody may (acl(5))."""
    try:
        return bool(os.getxattr(file, "system.posix_acl_access"))
    except OSError:  # It has none, or its file system knows none.
        return False


def _own_ids() -> set[int]:
    """Return the ids of this user and root, as they are seen from here."""
    own = os.geteuid()
    if is_renamed_user() and not any(first <= own < first + count for first, count in _uid_map()):
        raise Unsafe(
            "this user namespace has no number for its own user, so own files look like everybody's",
            hint="map the user: `unshare --map-current-user`",
        )
    return {0, own}


def _uid_map() -> list[tuple[int, int]]:
    """Return the ranges of user ids that have a number here, as first and count."""
    try:
        lines = Path("/proc/self/uid_map").read_bytes().splitlines()
    except OSError:  # Without /proc nothing is known, and mostly there is none around.
        return _ALL_IDS
    return [(int(first), int(count)) for first, _, count in map(bytes.split, lines)]
