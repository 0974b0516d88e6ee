"""Checkpoints beside the raw device and beside other ways of saving the same state.

    python -m benchmarks.checkpoint [--sizes 0.25 2] [--rounds 5] [--folder DIR]

Every round runs all ways one after the other, so that a slow moment of a
shared machine hits all of them; figures are medians, ratios are medians of
the ratios within a round, with the range beside. A quiet machine is no less
needed for that. "Durable" means: until fsync of everything has returned.
Lightning, Accelerate and Orbax are left out: they wrap `torch.save` or write
through the cache as the ways here do, and need environments of their own.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import mmap
import os
import shutil
import statistics
import tempfile
import threading
import time
import warnings
from collections import defaultdict
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file

from trainer_shim.checkpoint import Stage, Store
from trainer_shim.checkpoint.reader import load
from trainer_shim.checkpoint.tree import encode
from trainer_shim.errors import Damaged

PIECE_BYTES = 4 << 20
STILL_PART = 0.95


def trained_state(size_gb):
    """Model and AdamW state after one step: about so many GB, three equal parts."""
    num_layers = max(1, round(size_gb * 1e9 / 12 / 7_087_872))
    layers = [torch.nn.TransformerEncoderLayer(768, 8, 3072) for _ in range(num_layers)]
    model = torch.nn.ModuleList(layers)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def flat(state):
    """Every tensor under a name of its own, as safetensors wants them."""
    tensors = {f"model.{name}": tensor for name, tensor in state["model"].items()}
    for index, entries in state["optimizer"]["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in entries.items()}
    return tensors


def change(state):
    """What a step does to every tensor, as far as a checkpoint is concerned."""
    for tensor in flat(state).values():
        tensor.view(-1)[:1].add_(1e-3)


def size_of(state):
    return sum(block.size_bytes for block in encode(state)[1])


def fsync_all(path):
    for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def forget(path):
    """Out of the kernel's cache."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def kept_memory(size_bytes):
    """Memory that is really there."""
    memory = mmap.mmap(-1, size_bytes)
    for at in range(0, size_bytes, 4096):
        memory[at] = 1
    return memory


class Raw:
    """The device and nothing else: two threads, unbuffered, the same number of bytes."""

    def __init__(self, path, size_bytes):
        self.path, self.size_bytes = path, size_bytes // 4096 * 4096
        self.buffers = [memoryview(kept_memory(PIECE_BYTES)) for _ in range(2)]

    def write(self):
        """A new file, flushed."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT, 0o600)
        self._run(lambda buffer, at: os.pwrite(descriptor, buffer[: self.size_bytes - at], at))
        os.fsync(descriptor)
        os.close(descriptor)

    def read(self):
        """The whole file."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECT)
        self._run(lambda buffer, at: os.preadv(descriptor, [buffer], at))
        os.close(descriptor)

    def _run(self, transfer):
        begins, lock = iter(range(0, self.size_bytes, PIECE_BYTES)), threading.Lock()

        def work(buffer):
            while True:
                with lock:
                    at = next(begins, None)
                if at is None:
                    return
                transfer(buffer, at)

        threads = [threading.Thread(target=work, args=(buffer,)) for buffer in self.buffers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


class Peers:
    """The other ways, each writing to a path of its own."""

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
        self.state, self.step, self.newest = state, 0, None
        self.store = Store(folder, job="bench", keep_last=keep_last)
        self.store.open()

    def save(self):
        """Save; return the time until durable, without the tidying up after it."""
        self.step += 1
        began_s, durable_s = time.perf_counter(), 0.0

        def on_stage(stage):
            nonlocal durable_s
            if stage == "removing old":
                durable_s = time.perf_counter() - began_s

        self.newest = self.store.save(self.state, step=self.step, epoch=0, facts={}, on_stage=on_stage).path
        return durable_s

    def save_anew(self):
        """The same into new blocks, as the first saves of a run do."""
        self.store._drop_spare()  # noqa: SLF001
        return self.save()


def timed(way):
    """Seconds that a way takes; its own figure where it returns one."""
    gc.collect()
    began_s = time.perf_counter()
    own_s = way()
    return own_s if isinstance(own_s, float) else time.perf_counter() - began_s


def peak_extra_bytes(way):
    """How far the resident memory rises above what it was."""
    Path("/proc/self/clear_refs").write_text("5")
    before = status_bytes("VmRSS")
    way()
    return max(0, status_bytes("VmHWM") - before)


def status_bytes(field):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) << 10


def table(title, rows, header):
    print(f"\n### {title}\n")
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def compare(title, ways, reference, rounds, between=lambda: None):
    """Run all ways in turn; print their times and their ratios to the reference."""
    took = defaultdict(list)
    for _ in range(rounds):
        for name, way in ways.items():
            between()
            took[name].append(timed(way))
    rows = []
    for name, times in took.items():
        ratios = sorted(own / other for own, other in zip(times, took[reference], strict=True))
        spread = f"{ratios[0]:.2f}-{ratios[-1]:.2f}"
        rows.append((name, f"{statistics.median(times):.3f} s", f"{statistics.median(ratios):.2f}", spread))
    table(title, rows, ("way", "time", "x reference", "range"))
    return took


def saving(folder, state, rounds):
    raw, peers = Raw(folder / "raw", size_of(state)), Peers(folder, state)
    ours = Ours(folder / "ours", state)
    ours.save()
    over_own = Raw(folder / "raw-over", size_of(state))
    over_own.write()
    ways = {
        "raw device, `O_DIRECT`, 2 threads (reference)": raw.write,
        "raw device, over its own blocks": over_own.write,
        "ours, over a retired checkpoint": ours.save,
        "ours, new blocks": ours.save_anew,
        "safetensors + fsync": peers.safetensors,
        "DCP, 2 threads, + fsync": peers.dcp,
        "torch.save + fsync": peers.torch_save,
    }

    def between():
        change(state)
        raw.path.unlink(missing_ok=True)
        peers.remove()

    took = compare("until durable", ways, next(iter(ways)), rounds, between)
    for way in (raw.write, peers.torch_save, peers.safetensors, peers.dcp):  # To be read.
        way()
    over_own.path.unlink()
    own = took["ours, over a retired checkpoint"]
    faster = [peer / mine for peer, mine in zip(took["torch.save + fsync"], own, strict=True)]
    extra = f"{peak_extra_bytes(ours.save) / 2**20:.0f} MiB"
    print(f"\n{statistics.median(faster):.1f} x as fast as torch.save + fsync")
    print(f"extra memory at its peak {extra}, beyond the 8 MiB of buffers kept since the first save")
    return raw, peers, ours


def loading(raw, peers, ours, state, rounds):
    target = flat(state)

    def cold(path, read):
        def way():
            forget(path)
            began_s = time.perf_counter()
            read()
            return time.perf_counter() - began_s

        return way

    ways = {
        "raw read, `O_DIRECT`, 2 threads, kept memory (reference)": raw.read,
        "ours, verified": lambda: timed(lambda: load(ours.newest)),
        "safetensors load_file": cold(
            peers.folder / "peer.safetensors", lambda: load_file(peers.folder / "peer.safetensors")
        ),
        "torch.load": cold(peers.folder / "torch.pt", lambda: torch.load(peers.folder / "torch.pt")),
        "DCP, in place": cold(peers.folder / "dcp", lambda: peers.dcp_load({"model": dict(state["model"])})),
    }
    del target
    compare("loading (DCP: the model only, a third)", ways, next(iter(ways)), rounds)


def background(ours, state, rounds):
    """What the loop waits for when a checkpoint is taken in the background."""
    store, stage = ours.store, Stage()
    first = store.prepare(state, step=10**6, epoch=0, facts={})
    grown = peak_extra_bytes(lambda: stage.grow(first)) / size_of(state)
    size_bytes = size_of(state)
    source, target = kept_memory(size_bytes), kept_memory(size_bytes)
    addresses = [ctypes.addressof(ctypes.c_char.from_buffer(memory)) for memory in (target, source)]
    ways = {
        "one memcpy into kept memory (reference)": lambda: ctypes.memmove(*addresses, size_bytes) and None,
        "the loop is blocked": lambda: (
            stage.fill(store.prepare(state, step=10**6, epoch=0, facts={})) and None
        ),
    }
    compare("a periodic checkpoint", ways, next(iter(ways)), rounds)
    print(f"\nmemory kept for it: {grown:.2f} x the state")


def frozen(folder, state, rounds):
    """Nine tenths and more of a model are not trained."""
    tensors = flat(state)
    whole, left = size_of(state), (1 - STILL_PART) * size_of(state)
    trained = []
    for tensor in tensors.values():
        if sum(one.nbytes for one in trained) + tensor.nbytes <= left:
            trained.append(tensor)

    def step():
        for tensor in trained:
            tensor.view(-1)[:1].add_(1e-3)

    part, full = Ours(folder / "frozen", tensors), Ours(folder / "full", tensors)
    for _ in range(2):  # The first two learn what does not change, and write it once more.
        step()
        part.save()
    ways = {"all trained (reference)": full.save, "95 % frozen": part.save}

    def between():
        step()
        full.store._guesses.__init__()  # noqa: SLF001  # Nothing is known to be frozen.

    compare(f"{whole / 1e9:.2f} GB, frozen parameters", ways, next(iter(ways)), rounds, between)


def flipped_bits(folder):
    """One bit in the middle of the data of each format."""
    state = {"w": torch.ones(1 << 16), "v": torch.ones(1 << 16)}
    wrapped = {"model": state, "optimizer": {"state": {}}}
    peers, ours = Peers(folder, wrapped), Ours(folder / "bits", wrapped)
    peers.torch_save()
    peers.safetensors()
    peers.dcp()
    ours.save()
    read_again = {"model": {name: torch.zeros_like(tensor) for name, tensor in state.items()}}
    ways = [
        ("torch.save", folder / "torch.pt", lambda path: torch.load(path)["model"]),
        ("safetensors", folder / "peer.safetensors", load_file),
        ("DCP", max((folder / "dcp").glob("*.distcp"), key=lambda path: path.stat().st_size),
         lambda _: peers.dcp_load(read_again) or read_again["model"]),
        ("ours", ours.newest / "rank-00000.safetensors", lambda path: load(path.parent).state["model"]),
    ]  # fmt: skip
    rows = []
    for name, path, read in ways:
        data = bytearray(path.read_bytes())
        data[data.index(b"\x00\x00\x80\x3f" * 64) + 1000] ^= 64
        path.write_bytes(data)
        try:
            wrong = sum(int((tensor != 1).sum()) for tensor in read(path).values())
            rows.append((name, f"loads without a word, {wrong} number wrong"))
        except Damaged as error:
            rows.append((name, f"refused: {str(error).rsplit(': ', 1)[1]}"))
        except Exception as error:
            rows.append((name, f"refused: {type(error).__name__}"))
    table("one flipped bit", rows, ("format", "what happens"))


def run(*, quick: bool) -> None:
    """Measure as `python -m benchmarks checkpoint` does."""
    sizes, rounds = ([0.05], 2) if quick else ([0.25, 2.0], 5)
    measure(sizes, rounds, None)


def measure(sizes, rounds, folder):
    for size_gb in sizes:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            place, state = Path(name), trained_state(size_gb)
            print(f"\n### Checkpoints: {size_of(state) / 1e9:.2f} GB, {len(flat(state))} tensors")
            raw, peers, ours = saving(place, state, rounds)
            loading(raw, peers, ours, state, rounds)
            background(ours, state, rounds)
            del raw, peers, ours
            for leftover in ("ours", "dcp"):
                shutil.rmtree(place / leftover)
            frozen(place, state, rounds)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        flipped_bits(Path(name))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.25, 2.0], metavar="GB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure")
    arguments = parser.parse_args()
    measure(arguments.sizes, arguments.rounds, arguments.folder)


if __name__ == "__main__":
    main()
