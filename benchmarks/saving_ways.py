"""The ways of saving that `checkpoint.py` compares: the bare device, ours, torch's own, other frameworks."""

from __future__ import annotations

import ctypes
import itertools
import json
import mmap
import os
import shutil
import subprocess
import sysconfig
import threading
import time
import warnings
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file

from benchmarks.common import ROOT, peer_env
from benchmarks.peers import environment, reason
from benchmarks.trained import flat, fsync_all
from trainer_shim.checkpoint import Store
from trainer_shim.checkpoint.pages import PAGE_BYTES, take

PIECE_BYTES = 4 << 20
#: What is installed for each framework; torch is lent to those that want it.
FRAMEWORKS = {
    "lightning": ("lightning==2.6.6",),
    "accelerate": ("accelerate==1.15.0",),
    "orbax": ("orbax-checkpoint==0.12.8", "jax==0.10.2"),
}


class Raw:
    """The device and nothing else: two threads, unbuffered, the same number of bytes, flushed."""

    def __init__(self, path, tensors):
        self.path = path
        self.size_bytes = sum(tensor.nbytes for tensor in tensors) // PAGE_BYTES * PAGE_BYTES
        # In pages of 2 MiB, as ours.
        self.buffers = [take(PIECE_BYTES) for _ in range(2)]
        for buffer in self.buffers:
            buffer[:] = os.urandom(PIECE_BYTES)
        self._pieces = list(itertools.chain.from_iterable(map(_pieces, tensors)))
        self._begins = list(range(0, self.size_bytes, PIECE_BYTES))

    def write(self):
        """A few MiB of memory again and again; over the blocks of a file that is there."""
        with self._opened(os.O_WRONLY | os.O_CREAT) as file:
            self._run(self._begins, lambda buffer, at: os.pwrite(file, buffer[: self.size_bytes - at], at))

    def write_state(self):
        """The tensors out of the pages in which they lie; what does not fill a page is left out."""
        ends = itertools.accumulate(piece.nbytes for piece in self._pieces)
        places = [(end - piece.nbytes, piece) for end, piece in zip(ends, self._pieces, strict=True)]
        with self._opened(os.O_WRONLY | os.O_CREAT) as file:
            self._run(places, lambda _, place: os.pwrite(file, place[1], place[0]))

    def read(self):
        """The whole file, into a few MiB of memory again and again."""
        with self._opened(os.O_RDONLY) as file:
            self._run(self._begins, lambda buffer, at: os.preadv(file, [buffer], at))

    def read_anew(self):
        """The whole file into new memory, where it has to be in the end."""
        memory = memoryview(mmap.mmap(-1, self.size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        with self._opened(os.O_RDONLY) as file:
            self._run(self._begins, lambda _, at: os.preadv(file, [memory[at : at + PIECE_BYTES]], at))

    @contextmanager
    def _opened(self, flags):
        descriptor = os.open(self.path, flags | os.O_DIRECT, 0o600)
        yield descriptor
        if flags & os.O_WRONLY:
            os.fsync(descriptor)
        os.close(descriptor)

    def _run(self, items, transfer):
        left, lock = iter(items), threading.Lock()

        def work(buffer):
            while True:
                with lock:
                    item = next(left, None)
                if item is None:
                    return
                transfer(buffer, item)

        threads = [threading.Thread(target=work, args=(buffer,)) for buffer in self.buffers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _pieces(tensor):
    """The whole pages of a tensor, a few MiB each."""
    begin = -(-tensor.data_ptr() // PAGE_BYTES) * PAGE_BYTES
    end = (tensor.data_ptr() + tensor.nbytes) // PAGE_BYTES * PAGE_BYTES
    for at in range(begin, end, PIECE_BYTES):
        yield memoryview((ctypes.c_ubyte * min(PIECE_BYTES, end - at)).from_address(at)).cast("B")


class Stock:
    """What comes with torch and safetensors, each writing to a path of its own."""

    def __init__(self, folder, state):
        self.folder, self.state = folder, state

    def torch_save(self):
        """As most scripts do, but flushed."""
        torch.save(self.state, self.folder / "torch.pt")
        fsync_all(self.folder / "torch.pt")

    def safetensors(self):
        """The stock writer, flushed."""
        save_file(flat(self.state), self.folder / "peer.safetensors")
        fsync_all(self.folder / "peer.safetensors")

    def remove(self):
        """Make room, outside of what is timed."""
        shutil.rmtree(self.folder / "dcp", ignore_errors=True)
        for name in ("torch.pt", "peer.safetensors"):
            (self.folder / name).unlink(missing_ok=True)

    def dcp(self):
        """Torch's distributed checkpoint of one process, flushed."""
        writer = dcp.FileSystemWriter(self.folder / "dcp", thread_count=2, sync_files=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcp.save(self.state, storage_writer=writer, no_dist=True)
        fsync_all(self.folder / "dcp")

    def dcp_load(self, into):
        """Back into tensors that are there."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcp.load(into, storage_reader=dcp.FileSystemReader(self.folder / "dcp"), no_dist=True)


class Ours:
    """A store that saves step after step."""

    def __init__(self, folder, state, keep_last=1):
        self.state, self.newest = state, None
        self.steps = itertools.count(1)
        self.store = Store(folder, job="bench", keep_last=keep_last)
        self.store.open()

    def save(self):
        """Save; return the time until durable, without the tidying up after it."""
        began_s, durable_s = time.perf_counter(), 0.0

        def on_stage(stage):
            nonlocal durable_s
            if stage == "removing old":
                durable_s = time.perf_counter() - began_s

        step = next(self.steps)
        self.newest = self.store.save(self.state, step=step, epoch=0, facts={}, on_stage=on_stage).path
        return durable_s

    def save_anew(self):
        """The same into new blocks, as the first saves of a run do."""
        self.store._drop_spare()  # noqa: SLF001
        return self.save()


class Framework:
    """A framework in a process and an environment of its own, with a state of the same size."""

    def __init__(self, name, size_gb, folder):
        lends = None if name == "orbax" else Path(sysconfig.get_path("purelib"))
        python = environment(FRAMEWORKS[name], lends=lends) / "python"
        argv = [python, "-m", "benchmarks.framework", name, str(size_gb), folder]
        self._process = subprocess.Popen(
            [str(part) for part in argv],
            cwd=ROOT,
            env=peer_env() | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answer()

    def ask(self, command):
        """The seconds it took, or what came of it."""
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self):
        """End it; may be repeated."""
        self._process.kill()
        self._process.communicate()

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise RuntimeError(f"it ended with {self._process.returncode}")
        return json.loads(line)


def start_frameworks(stack: ExitStack, size_gb, folder) -> dict[str, Framework]:
    """Start all that can be had, until the stack closes; say which cannot."""
    started = {}
    for name in FRAMEWORKS:
        try:
            started[name] = Framework(name, size_gb, folder / name)
        except (subprocess.CalledProcessError, OSError, RuntimeError) as error:
            print(f"\nwithout {name}: {reason(error)}", flush=True)
        else:
            stack.callback(started[name].close)
    return started
