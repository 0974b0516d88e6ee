"""How much host memory there is, from files as the kernel writes them."""

from __future__ import annotations

import pytest

from trainer_shim.devices import host_free_bytes

MEMINFO = "MemTotal:       24000000 kB\nMemFree:          100000 kB\nMemAvailable:    8000000 kB\n"


def host(root, *, groups=(), meminfo=MEMINFO, cgroup="0::/jobs/one\n"):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(meminfo)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, limit, used, cached in groups:
        folder = root / "sys/fs/cgroup" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\nactive_file 3\n")
    return host_free_bytes(root)


def test_a_machine_without_limits_has_what_is_available(tmp_path):
    """
    Not what is free: the page cache gives way.
    """
    assert 8_000_000 * 1024 == host(tmp_path, groups=[("jobs/one", "max", 7, 0)])


@pytest.mark.parametrize("limited", ["jobs/one", "jobs"])
def test_the_tightest_group_counts(tmp_path, limited):
    """
    The process's own, or one around it; pages of files that nobody uses are no use.
    """
    groups = [("jobs/one", "max", 700, 0), ("jobs", "max", 900, 0)]
    groups.append((limited, 1000, 800, 300))

    assert 500 == host(tmp_path, groups=groups)


def test_a_group_over_its_limit_has_nothing(tmp_path):
    """
    Never less than nothing.
    """
    assert 0 == host(tmp_path, groups=[("jobs/one", 1000, 2000, 0)])


@pytest.mark.parametrize("cgroup", ["", "4:memory:/x\n", "0::/gone\n"])
def test_what_cannot_be_read_limits_nothing(tmp_path, cgroup):
    """
    No version 2, no such folder: the machine's own number counts.
    """
    assert 8_000_000 * 1024 == host(tmp_path, cgroup=cgroup)


def test_a_machine_that_says_nothing_is_not_known(tmp_path):
    """
    Then it is tried.
    """
    assert None is host(tmp_path, meminfo="")
