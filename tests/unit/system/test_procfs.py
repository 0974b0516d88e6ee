"""What /proc says of a process whose name is hostile."""

import os

import pytest

from supervisor.system.procfs import Stat, boot_id, parse_stat, users_of

BEHIND_THE_NAME = b" S 17 42 43 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 250 18446744073709551615\n"


@pytest.mark.parametrize("name", [b"python", b"a b", b"(a) (b", b") S 1 2 3", b"a\nb", b"\xff\xfe", b""])
def test_a_process_cannot_hide_behind_its_name(name):
    """
    A program chooses its name freely; what is read behind it stays right.
    """
    stat = parse_stat(b"4711 (" + name + b")" + BEHIND_THE_NAME)

    assert stat == Stat(state="S", parent=17, session=43, start_ticks=98765)


def test_the_users_of_a_process_are_real_effective_saved_and_that_of_its_files():
    """
    Of one that is not there, none.
    """
    assert os.getresuid() == users_of(os.getpid())[:3]
    assert () == users_of(2**22 + 1)


def test_the_boot_is_the_one_of_pid_1_where_we_may_look(tmp_path):
    """
    A container lays its own over the kernel's, and the sandbox of a service in it has a /proc without that.
    """
    for proc, seen in ((tmp_path / "service", "kernel"), (tmp_path / "service/1/root/proc", "container")):
        (proc / "sys/kernel/random").mkdir(parents=True)
        (proc / "sys/kernel/random/boot_id").write_text(f"{seen}\n")
    alone = tmp_path / "service/1/root/proc"

    assert ["container"] * 2 == [boot_id(tmp_path / "service"), boot_id(alone)]
