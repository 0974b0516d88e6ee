"""Checkpoints beside the raw device and beside other ways of saving the same state.

    python -m benchmarks.checkpoint [--sizes 0.25 2] [--rounds 5] [--folder DIR]
                                   [--held-gb-s 2 | --background]

Every round runs all ways one after the other, so that a slow moment of a
shared machine hits all of them; figures are medians, ratios are medians of
the ratios within a round, with the range beside. A quiet machine is no less
needed for that. "Durable" means: until fsync of everything has returned.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import shutil
import statistics
import time
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file

import trainer_shim
from benchmarks.common import goal, scratch
from benchmarks.held_disk import held_disk
from benchmarks.saving_ways import FRAMEWORKS, Ours, Raw, Stock, start_frameworks
from benchmarks.trained import change, flat, forget, size_of, state_of, trained
from trainer_shim.checkpoint import directwrite
from trainer_shim.checkpoint.pages import take
from trainer_shim.checkpoint.reader import load
from trainer_shim.checkpoint.stage import StagingFolder
from trainer_shim.checkpoint.tensorfile import Image, make_plan
from trainer_shim.checkpoint.tree import encode
from trainer_shim.errors import Damaged

STILL_PART = 0.95
#: Of an NVMe disk of the common kind; for the rest of the tables it is what the machine has.
HELD_GB_S = 2.0

#: Rows that others are compared with.
RAW = "raw device, over its own blocks"
KEPT = "the same, 8 MiB of memory again and again"
OURS = "ours, over a retired checkpoint"


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
    print(f"\n#### {title}\n")
    align = "|---:" if len(header) > 2 else "|---"  # Figures to the right, words to the left.
    print("| " + " | ".join(header) + " |\n|---" + align * (len(header) - 1) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def say(words, is_met):
    print(f"- {goal(words, met=is_met)}", flush=True)


def ratio(times, others):
    """The median of the ratios within a round."""
    return statistics.median(own / other for own, other in zip(times, others, strict=True))


def compare(title, ways, rounds, between=lambda: None):
    """Run all ways in turn; print their times and their ratios to the first one."""
    took, reference = defaultdict(list), next(iter(ways))
    for _ in range(rounds):
        for name, way in ways.items():
            between()
            took[name].append(timed(way))
    rows = []
    for name, times in took.items():
        ratios = sorted(own / other for own, other in zip(times, took[reference], strict=True))
        spread = f"{ratios[0]:.2f} - {ratios[-1]:.2f}"
        rows.append((name, f"{statistics.median(times):.3f} s", f"{statistics.median(ratios):.2f}", spread))
    table(title, rows, ("way", "time", "x first row", "range"))
    return took


def saving(place, state, frameworks, rounds, *, with_others=True):
    tensors = list(flat(state).values())
    new, over = Raw(place / "raw", tensors), Raw(place / "raw-over", tensors)
    stock, ours = Stock(place, state), Ours(place / "ours", state)
    ours.save()
    over.write()
    ways = {
        "raw device, new file": new.write_state,
        RAW: over.write_state,
        KEPT: over.write,
        "ours, new blocks": ours.save_anew,
        OURS: ours.save,
    }
    if with_others:
        ways |= {
            "safetensors + fsync": stock.safetensors,
            "DCP, 2 threads, + fsync": stock.dcp,
            "torch.save + fsync": stock.torch_save,
        }
    ways |= {f"{name} + fsync": lambda one=one: one.ask("save") for name, one in frameworks.items()}

    def between():
        change(state)
        new.path.unlink(missing_ok=True)
        stock.remove()

    took = compare("Until durable", ways, rounds, between)
    over.path.unlink()
    own = took[OURS]
    anew = ratio(took["raw device, new file"], took["ours, new blocks"])
    again, kept = ratio(took[RAW], own), ratio(took[KEPT], own)
    extra = peak_extra_bytes(ours.save) / 2**20 + 8  # The buffers are kept since the first save.
    print()
    say(f"{anew:.2f} x as fast as the raw device into new blocks; at least 0.85", anew >= 0.85)
    say(f"{again:.2f} x as fast as the raw device over its own blocks; at least 0.85", again >= 0.85)
    print(f"- {kept:.2f} x as fast as it writes the same 8 MiB again and again")
    if with_others:
        plain = ratio(took["torch.save + fsync"], own)
        wrapped = [name for name in took if name.endswith("+ fsync") and not name.startswith("torch.save")]
        name, best = min(((name, ratio(took[name], own)) for name in wrapped), key=lambda pair: pair[1])
        say(f"{plain:.1f} x as fast as torch.save + fsync; at least 2.5", plain >= 2.5)
        say(f"{best:.1f} x as fast as the best of the others, {name}; at least 1.3", best >= 1.3)
    say(f"{extra:.0f} MiB of extra memory at its peak, 8 MiB of buffers among it; at most 64", extra <= 64)
    return new, stock, ours


def loading(raw, stock, ours, state, frameworks, rounds):
    def cold(path, read):
        def way():
            forget(path)
            began_s = time.perf_counter()
            read()
            return time.perf_counter() - began_s

        return way

    for way in (raw.write, stock.torch_save, stock.safetensors, stock.dcp):
        way()
    folder = stock.folder
    ways = {
        "raw read into new memory": raw.read_anew,
        "raw read into the same 8 MiB again and again": raw.read,
        "ours, verified": cold(ours.newest, lambda: load(ours.newest)),
        "safetensors load_file": cold(
            folder / "peer.safetensors", lambda: load_file(folder / "peer.safetensors")
        ),
        "torch.load": cold(folder / "torch.pt", lambda: torch.load(folder / "torch.pt")),
        "DCP, in place, the model only": cold(
            folder / "dcp", lambda: stock.dcp_load({"model": dict(state["model"])})
        ),
    }
    ways |= {name: lambda one=one: one.ask("load") for name, one in frameworks.items()}
    took = compare("Loading with a cold cache", ways, rounds)
    own = took["ours, verified"]
    found = ratio(own, took["raw read into new memory"])
    kept = ratio(own, took["raw read into the same 8 MiB again and again"])
    print()
    say(f"{found:.2f} x the time of the raw read into new memory; at most 1.0", found <= 1)
    print(f"- {kept:.2f} x that of one that needs no new memory")


def background(place, model, optimizer, rounds):
    """What the loop waits for when a checkpoint is taken in the background."""
    state = state_of(model, optimizer)
    size_bytes = size_of(state)
    ours, stage = Ours(place / "background", state), StagingFolder()
    first = ours.store.prepare(state, step=1, epoch=0, facts={})
    grown = peak_extra_bytes(lambda: stage.grow(first)) / size_bytes
    source, target = take(size_bytes), take(size_bytes)
    addresses = [ctypes.addressof(ctypes.c_char.from_buffer(memory)) for memory in (target, source)]
    for address in addresses:
        ctypes.memset(address, 1, size_bytes)

    def copied():
        stage.fill(ours.store.prepare(state, step=1, epoch=0, facts={}))

    with session(place / "session", model, optimizer) as at_boundary:
        ways = {
            "one memcpy into kept memory: one call, one thread": lambda: (
                ctypes.memmove(*addresses, size_bytes) and None
            ),
            "walk and copy the state": copied,
            "`shim.boundary()`, all of it": at_boundary,
        }
        took = compare("The loop is blocked by a periodic checkpoint", ways, rounds, lambda: change(state))
    reference, walk, whole = took.values()
    copies, all_of_it = ratio(walk, reference), ratio(whole, reference)
    words = f"{copies:.2f} memcpys, {all_of_it:.2f} with all that a session does besides; at most 1.2"
    print()
    say(words, all_of_it <= 1.2)
    print(f"- memory kept for it: {grown:.2f} x the state")


@contextmanager
def session(folder, model, optimizer):
    """A boundary of a real session at which a checkpoint is due, as a way to be timed."""
    shim = trainer_shim.attach(checkpoints=folder, model=model, optimizer=optimizer, every_steps=1, keep=1)

    def at_boundary():
        began_s = time.perf_counter()
        shim.boundary()
        took_s = time.perf_counter() - began_s
        shim._background._periodic.wait()  # noqa: SLF001  # Written before the next way begins.
        return took_s

    for _ in range(3):  # The first takes the memory, the next ones new blocks.
        at_boundary()
    yield at_boundary
    shim.detach()


def frozen(place, state, rounds):
    """Nine tenths and more of a model are not trained."""
    tensors = flat(state)
    whole, left = size_of(state), (1 - STILL_PART) * size_of(state)
    trained_names = []
    for name, tensor in tensors.items():
        if sum(tensors[one].nbytes for one in trained_names) + tensor.nbytes <= left:
            trained_names.append(name)

    def step():
        for name in trained_names:
            tensors[name].view(-1)[:1].add_(1e-3)

    part, full = Ours(place / "frozen", tensors), Ours(place / "full", tensors)
    for _ in range(2):  # The first two learn what does not change, and write it once more.
        step()
        part.save()
        full.save()
    still = {name: tensor for name, tensor in tensors.items() if name not in trained_names}
    plan = make_plan(encode(still)[1])
    ways = {
        "all trained": full.save,
        f"{STILL_PART:.0%} frozen": part.save,
        "the digest of the frozen ones alone": lambda: directwrite.digest_of(Image(plan)) and None,
    }

    def between():
        step()
        full.store._guesses.__init__()  # noqa: SLF001  # Nothing is known to be frozen.

    took = compare(f"{whole / 1e9:.2f} GB, frozen parameters", ways, rounds, between)
    all_of_it, frozen_part, _ = took.values()
    found = ratio(frozen_part, all_of_it)
    print()
    say(f"{found:.0%} of a full save; at most 15 %", found <= 0.15)


def flipped_bits(place):
    """One bit in the middle of the data of each format."""
    state = {"w": torch.ones(1 << 16), "v": torch.ones(1 << 16)}
    wrapped = {"model": state, "optimizer": {"state": {}}}
    stock, ours = Stock(place, wrapped), Ours(place / "bits", wrapped)
    stock.torch_save()
    stock.safetensors()
    stock.dcp()
    ours.save()
    read_again = {"model": {name: torch.zeros_like(tensor) for name, tensor in state.items()}}
    ways = [
        ("torch.save", place / "torch.pt", lambda path: torch.load(path)["model"]),
        ("safetensors", place / "peer.safetensors", load_file),
        ("DCP", max((place / "dcp").glob("*.distcp"), key=lambda path: path.stat().st_size),
         lambda _: stock.dcp_load(read_again) or read_again["model"]),
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
    with ExitStack() as stack:
        for name, framework in start_frameworks(stack, 0.01, place).items():
            rows.insert(-1, (FRAMEWORKS[name][0].replace("==", " "), framework.ask("flip")))
    table("One flipped bit", rows, ("format", "what happens"))


def run(*, quick: bool) -> None:
    """Measure as `python -m benchmarks checkpoint` does."""
    sizes, rounds = ([0.05], 2) if quick else ([0.25, 2.0], 5)
    measure(sizes, rounds, None)
    try:
        measure_held(sizes[-1:], rounds, None, HELD_GB_S)
    except OSError as error:
        print(f"\nwithout a disk held to {HELD_GB_S:g} GB/s: {error}")


def measure(sizes, rounds, folder):
    for size_gb in sizes:
        with place_in(folder) as place, ExitStack() as stack:
            model, optimizer, state = begun(size_gb)
            frameworks = start_frameworks(stack, size_gb, place)
            raw, stock, ours = saving(place, state, frameworks, rounds)
            loading(raw, stock, ours, state, frameworks, rounds)
            stack.close()
            del raw, stock, ours
            for leftover in ("ours", "dcp", *FRAMEWORKS):
                shutil.rmtree(place / leftover, ignore_errors=True)
            background(place, model, optimizer, 2 * rounds)
            frozen(place, state, 2 * rounds)
    with place_in(folder) as place:
        flipped_bits(place)


def measure_held(sizes, rounds, folder, held_gb_s):
    """What depends on the speed of the disk, on a slower one; without those who write through the cache."""
    with place_in(folder) as place, held_disk(place, held_gb_s * 1e9):
        print(f"\nThe disk is held to {held_gb_s:g} GB/s.")
        for size_gb in sizes:
            _, _, state = begun(size_gb)
            saving(place, state, {}, rounds, with_others=False)
            shutil.rmtree(place / "ours")
            frozen(place, state, 2 * rounds)


def measure_background(sizes, rounds, folder):
    """What the loop waits for, and nothing else: it takes many rounds on a machine that others use."""
    for size_gb in sizes:
        with place_in(folder) as place:
            model, optimizer, _ = begun(size_gb)
            background(place, model, optimizer, rounds)


def begun(size_gb):
    model, optimizer = trained(size_gb)
    state = state_of(model, optimizer)
    print(f"\n### Checkpoints: {size_of(state) / 1e9:.2f} GB, {len(flat(state))} tensors")
    return model, optimizer, state


@contextmanager
def place_in(folder):
    """A folder on the disk to measure that is gone afterwards."""
    with TemporaryDirectory(dir=folder) if folder else scratch() as place:
        yield Path(place)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.25, 2.0], metavar="GB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--held-gb-s", type=float, help="measure as if the disk were no faster than that")
    part.add_argument("--background", action="store_true", help="only how long the loop is blocked")
    arguments = parser.parse_args()
    if arguments.background:
        measure_background(arguments.sizes, arguments.rounds, arguments.folder)
    elif arguments.held_gb_s:
        measure_held(arguments.sizes, arguments.rounds, arguments.folder, arguments.held_gb_s)
    else:
        measure(arguments.sizes, arguments.rounds, arguments.folder)


if __name__ == "__main__":
    main()
