"""That the kernel ended a job's process for its memory is known, and said with the limit.

Covers: a real limit of a real group that is called like a unit's, which the keeper is in.
Does not cover: units of systemd with limits (docs/OPERATIONS.md says what has to be there for them).
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from supervisor.system.marks import JobStart, names_of_groups
from tests.groups import limited
from tests.harness import ROOT

#: Lets a command, or a child of it, take more memory than the group has that we are in.
SHORT_OF_MEMORY = """
import select, sys
from pathlib import Path
from supervisor.launcher import KeeperLauncher
from supervisor.ports import Ended, LaunchSpec

folder, script = Path(sys.argv[1]), sys.argv[2]
spec = LaunchSpec(job="a", incarnation=1, argv=("sh", "-c", script, sys.executable), cwd=str(folder), env={},
                  run_dir=folder / "run-1", log=folder / "log")
launcher, ends = KeeperLauncher(), []
launcher.launch(spec)
while not ends:
    select.select([launcher], [], [], 10)
    ends = [news.exit for news in launcher.drain() if isinstance(news, Ended)]
print(ends[0])
"""
ENTERS = 'echo 0 > "$0/cgroup.procs" && exec "$@"'


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("exec $0 -c 'bytearray(300 << 20)'", "ended by the kernel: more memory than its 128.0 MiB"),
        (
            "$0 -c 'bytearray(300 << 20)'; exit 5",
            "exit code 5; the kernel ended a process of it: more memory than its 128.0 MiB",
        ),
        ("exit 5", "exit code 5"),
    ],
    ids=["the command", "a child of it", "nobody"],
)
def test_that_the_kernel_ended_it_for_its_memory_is_known(tmp_path, script, told):
    """
    By the keeper, which is in the unit's group: here in one that is called so.
    """
    name = names_of_groups(tmp_path, JobStart("a", 1))[1]
    try:
        with limited("oom", "memory", {"memory.limit_in_bytes": 128 << 20}, below=name) as folder:
            command = (sys.executable, "-c", SHORT_OF_MEMORY, str(tmp_path), script)
            done = subprocess.run(
                ["sh", "-c", ENTERS, str(folder), *command],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
    except OSError as error:
        pytest.skip(f"no group with a limit on memory can be made here: {error}")

    assert f"{told}\n" == done.stdout, done.stderr
