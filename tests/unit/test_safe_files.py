"""Which files are safe from other users, and locks that overwrite nothing: on a real file system."""

from __future__ import annotations

import errno
import os
import pwd
import socket
import stat
import struct
import subprocess
import sys

import pytest

from supervisor.launcher import records
from supervisor.server.shims import read_receipt
from tests.other_user import OTHER, acting_as, needs_root
from trainer_shim import protocol as wire
from trainer_shim.lock_file import HeldLock, take_lock
from trainer_shim.receipt import leave_receipt
from trainer_shim.safe_files import (
    Unsafe,
    check_folder,
    make_folder,
    open_checked,
    read_checked,
    read_in,
    read_short,
)


@pytest.fixture
def place(home):
    """A folder of our own with one file in it, which other users can reach."""
    folder = home / "on" / "the" / "way"
    folder.mkdir(parents=True)
    for one in (folder, *folder.parents[:3]):
        one.chmod(0o755)
    (folder / "file").write_bytes(b"ours")
    return folder


def put(kind, path, target):
    """Put something else in the place of a file."""
    match kind:
        case "link":
            path.symlink_to(target)
        case "pipe":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as one:
                # The path of a socket is short, the test's folder may be long.
                here = os.open(path.parent, os.O_RDONLY)
                one.bind(f"/proc/self/fd/{here}/{path.name}")
                os.close(here)
        case "device":
            if os.geteuid() != 0:
                pytest.skip("making a device needs root")
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
        case "folder":
            path.mkdir()


KINDS = ("link", "pipe", "socket", "device", "folder")


class TestTheWay:
    """Whoever may rename a folder above a file may put another file in its place."""

    def test_what_only_we_may_write_is_safe(self, place):
        """
        Also through links of ours, relative and absolute ones, and with `..` on the way.
        """
        (place.parent / "relative").symlink_to("../the/way")
        (place / "absolute").symlink_to(place.parent / "relative" / "file")

        check_folder(place.parent / "relative" / ".." / "way")
        assert b"ours" == read_checked(place.parent / "relative" / "absolute")

    @pytest.mark.parametrize("mode", [0o777, 0o702])
    @pytest.mark.parametrize("steps_up", [0, 1, 2])
    def test_a_folder_that_others_may_write_is_named(self, place, mode, steps_up):
        """
        As `~/.config` is that was made under umask 000; with what to do about it.
        """
        open_folder = (place, *place.parents)[steps_up]
        open_folder.chmod(mode)
        with pytest.raises(Unsafe, match=rf"others may write `{open_folder}` \(mode {mode:04o}\)") as caught:
            check_folder(place)
        open_folder.chmod(0o700)

        assert f"`chmod go-w {open_folder}`" == caught.value.hint

    def test_a_link_leads_nowhere_unseen(self, place):
        """
        The folders on both sides of a link count.
        """
        (place.parent / "link").symlink_to(place)
        place.parent.chmod(0o777)
        with pytest.raises(Unsafe, match="others may write"):
            read_checked(place.parent / "link" / "file")

    def test_links_in_a_circle_are_an_error(self, place):
        """
        As the kernel says it; nobody walks in it for ever.
        """
        (place / "circle").symlink_to(place / "circle" / "x")
        with pytest.raises(OSError, match="Too many levels") as caught:
            check_folder(place / "circle")

        assert errno.ELOOP == caught.value.errno

    def test_a_sticky_folder_is_safe_on_the_way_and_not_at_its_end(self, place):
        """
        In /tmp nobody can take away what is ours, but anybody can put something beside it.
        """
        place.parent.chmod(0o1777)
        check_folder(place)
        with pytest.raises(Unsafe, match="others may write"):
            check_folder(place.parent)

    @needs_root
    @pytest.mark.parametrize("what", ["folder", "link"])
    def test_what_somebody_else_put_into_a_sticky_folder_is_not_ours(self, place, what):
        """
        They may change it whenever they like.
        """
        place.parent.chmod(0o1777)
        theirs = place.parent / "theirs"
        with acting_as():
            theirs.mkdir(mode=0o755) if what == "folder" else theirs.symlink_to(place)
        with pytest.raises(Unsafe, match=f"`{theirs}` belongs to user id {OTHER}"):
            check_folder(theirs)

    @needs_root
    def test_a_private_group_may_write_and_no_other(self, place):
        """
        Where each user has a group of its own, umask 002 is usual.
        """
        user = pwd.getpwnam("daemon")
        place.chmod(0o770)
        os.chown(place, user.pw_uid, user.pw_gid)
        with acting_as(user.pw_uid):
            check_folder(place)
        os.chown(place, user.pw_uid, OTHER)
        with acting_as(user.pw_uid), pytest.raises(Unsafe, match="others may write"):
            check_folder(place)
        os.chown(place, OTHER, user.pw_gid)
        with acting_as(user.pw_uid), pytest.raises(Unsafe, match=f"belongs to user id {OTHER}"):
            check_folder(place)

    @needs_root
    @pytest.mark.parametrize(("group", "is_safe"), [("alice", True), ("users", False)])
    def test_a_group_that_many_have_who_are_not_listed_is_not_private(self, home, place, group, is_safe):
        """
        Users of a directory service are found by name and not in the list of all.
        """
        (home / "passwd").write_text(f"root:x:0:0::/:/bin/sh\nalice:x:{OTHER}:{OTHER}::/:/bin/sh\n")
        (home / "group").write_text(f"root:x:0:\n{group}:x:{OTHER}:\n")
        os.chown(place, OTHER, OTHER)
        place.chmod(0o770)
        code = (
            "import os, sys, pathlib, trainer_shim.safe_files as s; "
            f"os.seteuid({OTHER}); s.check_folder(pathlib.Path(sys.argv[1]))"
        )
        script = 'mount --bind "$1/passwd" /etc/passwd && mount --bind "$1/group" /etc/group && shift && "$@"'
        command = ["unshare", "--mount", "sh", "-c", script, "sh", home, sys.executable, "-c", code, place]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if "unshare failed" in done.stderr or "mount:" in done.stderr:
            pytest.skip("mounting is refused here")

        assert is_safe == (done.returncode == 0), done.stderr
        assert is_safe or "others may write" in done.stderr

    @needs_root
    def test_an_access_list_is_seen_behind_a_private_group(self, place):
        """
        Where one user is let in by name, the mode shows the group as if it could write.
        """
        place.chmod(0o770)
        check_folder(place)  # Root's own group is private.
        entries = [(0x01, 7, -1), (0x02, 7, OTHER), (0x04, 0, -1), (0x10, 7, -1), (0x20, 0, -1)]
        packed = b"".join(struct.pack("<HHi", *entry) for entry in entries)
        os.setxattr(place, "system.posix_acl_access", struct.pack("<I", 2) + packed)
        with pytest.raises(Unsafe, match="others may write"):
            check_folder(place)

    def test_folders_are_made_for_this_user_alone(self, tmp_path):
        """
        Whatever the umask says: a folder above ours that others may write is as bad as ours.
        """
        before = os.umask(0)
        try:
            make_folder(tmp_path / "a" / "b" / "c")
        finally:
            os.umask(before)

        made = [tmp_path / "a", tmp_path / "a/b", tmp_path / "a/b/c"]
        assert [0o700] * 3 == [stat.S_IMODE(folder.stat().st_mode) for folder in made]


class TestTheFile:
    """What was opened is judged, and nothing is waited for."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_what_is_no_file_is_not_read(self, place, kind):
        """
        A pipe would be waited for; a link would show the contents of any other file.
        """
        (place / "precious").write_bytes(b"secret")
        put(kind, place / "odd", place / "precious")
        with pytest.raises((Unsafe, IsADirectoryError)):
            os.close(open_checked(place / "odd"))
        with pytest.raises((Unsafe, IsADirectoryError)):
            os.close(open_checked(place / "odd", os.O_RDWR | os.O_CREAT))

    def test_a_file_that_others_may_write_is_not_read(self, place):
        """
        Where the folder is ours, the file itself may still be everybody's.
        """
        (place / "file").chmod(0o666)
        with pytest.raises(Unsafe, match="others may write"):
            read_in(place, "file")

    @needs_root
    def test_a_file_of_another_user_is_not_read(self, place):
        """
        Also behind a link of ours.
        """
        os.chown(place / "file", OTHER, OTHER)
        (place / "link").symlink_to("file")
        for path in (place / "file", place / "link"):
            with pytest.raises(Unsafe, match=f"belongs to user id {OTHER}"):
                read_checked(path)

    def test_a_file_without_end_is_not_read(self, place):
        """
        A hole of a terabyte takes no room on the disk, but all of the memory.
        """
        os.truncate(place / "file", 1 << 40)
        for read in (lambda: read_in(place, "file"), lambda: read_short(place / "file")):
            with pytest.raises(Unsafe, match="longer than 256 KiB"):
                read()

    def test_a_user_that_a_namespace_hides_trusts_nobody(self, place):
        """
        There, files of all users look alike.
        """
        code = (
            f"from trainer_shim.safe_files import *; check_folder(__import__('pathlib').Path({str(place)!r}))"
        )
        command = ["unshare", "--user", sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if "unshare failed" in done.stderr:
            pytest.skip("user namespaces are refused here")

        assert "own files look like everybody's" in done.stderr


class TestLocks:
    """A lock is a file with one line; what else lies there is left alone."""

    def test_one_process_has_it_and_is_named(self, tmp_path):
        """
        Until it lets go; the file stays and means nothing.
        """
        first = take_lock(tmp_path / "lock", "first")
        with pytest.raises(HeldLock) as held:
            take_lock(tmp_path / "lock", "second")
        os.close(first)
        second = take_lock(tmp_path / "lock", "2nd")
        os.close(second)

        assert "first" == held.value.holder
        assert "2nd" == (tmp_path / "lock").read_text()

    def test_a_second_name_of_the_file_keeps_its_contents(self, tmp_path):
        """
        A backup by hard links, or a trap: what others call that file is not overwritten.
        """
        precious = tmp_path / "precious"
        precious.write_text("a week of work")
        os.link(precious, tmp_path / "lock")
        taken = take_lock(tmp_path / "lock", "me")
        with pytest.raises(HeldLock):
            take_lock(tmp_path / "lock", "other")
        os.close(taken)

        assert "a week of work" == precious.read_text()
        assert 1 == precious.stat().st_nlink
        assert "me" == (tmp_path / "lock").read_text()

    def test_a_second_name_that_comes_while_it_is_held_lets_nobody_in(self, tmp_path):
        """
        Two daemons would serve one folder.
        """
        taken = take_lock(tmp_path / "lock", "me")
        os.link(tmp_path / "lock", tmp_path / "copy")
        with pytest.raises(HeldLock):
            take_lock(tmp_path / "lock", "other")
        os.close(taken)

    @pytest.mark.parametrize("kind", KINDS)
    def test_what_is_no_file_is_left_alone(self, tmp_path, kind):
        """
        A link would overwrite what it points to.
        """
        (tmp_path / "precious").write_text("a week of work")
        put(kind, tmp_path / "lock", tmp_path / "precious")
        with pytest.raises((Unsafe, IsADirectoryError)):
            take_lock(tmp_path / "lock", "me")

        assert "a week of work" == (tmp_path / "precious").read_text()


class TestRunFolders:
    """Who runs a command and how it ended is believed only where a keeper of ours wrote it."""

    PROCESS = b'{"pid":1,"start_ticks":1,"boot_id":"x"}'

    @pytest.mark.parametrize("kind", KINDS)
    def test_nothing_in_the_place_of_a_file_is_read_or_waited_for(self, tmp_path, kind):
        """
        A pipe in the place of any of them would stop the daemon.
        """
        told = tmp_path / "told"
        told.write_bytes(self.PROCESS)
        for name in ("claim", "process.json", "exit.json", wire.RECEIPT):
            put(kind, tmp_path / name, told)

        assert records.read_keeper(tmp_path) is None
        for read in (records.read_process, records.read_exit):
            with pytest.raises(records.DamagedRecord):
                read(tmp_path)
        assert not records.is_claimed(tmp_path)
        assert read_receipt(tmp_path) is None

    def test_a_folder_that_is_a_link_is_not_entered(self, tmp_path):
        """
        Another run's word is not this one's.
        """
        (tmp_path / "run-1").mkdir()
        (tmp_path / "run-1" / "process.json").write_bytes(self.PROCESS)
        (tmp_path / "run-2").symlink_to("run-1")

        assert records.read_process(tmp_path / "run-1") is not None
        assert records.read_process(tmp_path / "run-2") is None

    @pytest.mark.parametrize("link", [os.symlink, os.link])
    def test_a_receipt_is_not_written_through_a_link(self, tmp_path, link):
        """
        What was put in the way of its draft keeps its contents, and the receipt is left all the same.
        """
        precious = tmp_path / "precious"
        precious.write_text("a week of work")
        link(precious, tmp_path / f"{wire.RECEIPT}.partial")
        checkpoint = wire.Checkpointed(step=3, epoch=0, path="/c", digest="d", took_s=0.1)
        said = leave_receipt(tmp_path, wire.Yielded(request="r", depth="exit", checkpoint=checkpoint))

        assert "" == said
        assert "a week of work" == precious.read_text()
        assert read_receipt(tmp_path).checkpoint.step == 3
