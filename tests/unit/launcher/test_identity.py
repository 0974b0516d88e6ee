"""Who a process is: comparison of identities. Reads only this process.

Does not cover: other processes (tests/contract/test_launcher.py).
"""

import os

import msgspec
import pytest

from supervisor.core.jobs.job import Pid
from supervisor.launcher.identity import identify, is_alive, open_process
from supervisor.system.procfs import boot_id

BOOT = "this-boot"


def test_this_process_is_itself():
    """
    What is read of a living process opens that process.
    """
    me = identify(os.getpid())
    fd = open_process(me)
    os.close(fd)

    assert me.pid == os.getpid()
    assert is_alive(me)


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "another-boot"}, {"pid": 0}, {"pid": -1}])
def test_a_process_that_differs_in_anything_is_not_opened(change):
    """
    Number, start and boot must all be the same.
    """
    other = msgspec.structs.replace(identify(os.getpid()), **change)

    assert open_process(other) is None
    assert not is_alive(other)


def test_nobody_has_no_identity():
    """
    A number above the kernel's limit names nobody.
    """
    beyond = 1 << 30

    assert identify(beyond) is None
    assert not is_alive(Pid(beyond, 1, boot_id()))
