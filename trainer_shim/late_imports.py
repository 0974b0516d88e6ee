"""What the shim imports late, and when at the latest.

Covers: which modules attach() can do without, and why; loading them before they are needed in a hurry.
Does not cover: their use; whoever needs one imports it in the function that does.

A script that imports the shim has not said yet what it wants of it. But what is imported at a pause, days
later, would be that of another version after an update in the meantime, could fail on a full or missing
disk, and would stay half done in a worker that is forked meanwhile. So all of it is there before the first
batch is fetched, or at the first boundary, whichever comes first: in the thread that trains, and not in a
handler of a signal. Where that is not the main thread, attach() loads it: Python imports some modules no more
when the main thread is over.
"""

from __future__ import annotations

import functools
from importlib import import_module

__all__ = ["AT_ATTACH", "LATE", "import_late"]

#: Loaded by `import_late`; who needs each.
LATE = {
    "concurrent.futures.thread": "a save, for its threads; brings logging and traceback",
    "ctypes": "copies and states of generators; torch brings it",
    "hashlib": "digests of what is saved; brings OpenSSL, as torch does",
    "shlex": "the command of a run, in its lock and where another one goes on",
    "shutil": "the removal of checkpoints; brings bz2 and lzma",
    "sysconfig": "the first look at a loop",
    "xxhash": "digests of tensors, and of what loops carry",
    "trainer_shim.carried": "the look at what a loader reaches",
    "trainer_shim.checkpoint.directread": "reading tensors",
    "trainer_shim.checkpoint.directwrite": "writing them",
    "trainer_shim.checkpoint.survey": "the end of a save, which looks at the older ones",
    "trainer_shim.checkpoint.verify": "checkpoints that are brought back or looked at whole",
    "trainer_shim.enumerated": "the look at the loop around batches()",
    "trainer_shim.followed": "follow()",
    "trainer_shim.library_objects": "the look at what loops carry, in objects of libraries",
    "trainer_shim.loader": "a pass over a loader",
    "trainer_shim.loop_state": "the look at what loops carry, by their source",
    "trainer_shim.moving": "the same, by what moves",
    "trainer_shim.own_states": "the same, for what a part leaves out of its state",
    "trainer_shim.redone": "the way of a script back to where its checkpoint is",
    "trainer_shim.rounds": "steps()",
    "trainer_shim.tensors": "the look for what can be given back, once there are tensors on a device",
    "trainer_shim.weaving": "loaders inside of something else",
}

#: Loaded by attach() itself, where what it is told asks for it.
AT_ATTACH = {
    "trainer_shim.checkpoint.earlier": "only a run that begins anew keeps another one aside",
    "trainer_shim.link": "only a run with a daemon needs ZeroMQ",
    "trainer_shim.periodic": "only some runs save in the background",
    "trainer_shim.proof": "only a run under `supervisorctl prove` writes down what it does",
}


@functools.cache
def import_late() -> None:
    """Have everything loaded that a run may need from now on."""
    for name in LATE:
        import_module(name)
