"""Every system call of a save, of a start and of a training run fails once, and from then on.

Covers: what the C library is asked for below the checkpoint folder, by whichever thread: opening, making,
writing (also half of it), allocating, cutting, flushing, closing, renaming, linking, removing, modes, locks,
leases, free space, looking, listing; full, over quota, broken, read-only, forbidden, out of descriptors.
Does not cover: power cuts (test_power_cut.py), file systems that really are so (test_real_disks.py).
"""

from __future__ import annotations

import json
import os

import pytest

from tests.fakes.syscalls import run_with_library, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can be done")

#: Calls that there must be, or the test looks at nothing.
EXPECTED = {
    "saving": {
        "make": 5,
        "write": 5,
        "allocate": 1,
        "cut": 2,
        "flush": 8,
        "rename": 4,
        "link": 1,
        "lease": 1,
    },
    "starting": {"open": 5, "read": 3, "lock": 1, "unlink": 3, "rmdir": 2, "list": 4},
    "training": {"make": 10, "write": 10, "flush": 16, "rename": 5, "unlink": 4, "mkdir": 2, "room": 2},
}


def tried(scene, folder, stride):
    return json.loads(
        run_with_library("-m", "tests.trainers.failing_disk", scene, str(folder), str(stride), timeout_s=3000)
    )


@pytest.mark.parametrize(("scene", "stride"), [("saving", 29), ("starting", 19), ("training", 97)])
def test_whichever_system_call_fails_the_promise_holds_and_training_goes_on(tmp_path, scene, stride):
    """
    Some complete checkpoint loads, the newest that was promised or a newer
    one; the error says what happened and what to do; the next save works and
    the next start leaves no rubbish. Here for a spread of the calls.
    """
    seen = tried(scene, tmp_path / "ckpt", stride)

    assert [] == seen["wrong"]
    assert seen["num_cases"] >= 25
    missing = {kind for kind, at_least in EXPECTED[scene].items() if seen["counts"][kind] < at_least}
    assert set() == missing


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scene", EXPECTED)
def test_every_single_system_call_may_fail(tmp_path, capsys, scene):
    """
    The same for each call and each error; STRIDE=n takes every n-th.
    """
    seen = tried(scene, tmp_path / "ckpt", os.environ.get("STRIDE", "1"))
    with capsys.disabled():
        print(f"\n{seen['num_cases']} failures injected into {scene}")

    assert [] == seen["wrong"]
