"""A checkpoint that was verified, read in parts: one tensor at a time, or one part of the state.

Covers: the skeleton, the bytes of each block where they lie in the file, the
value of any node.
Does not cover: whole states (reader.py, which reads and verifies in one pass).

For tools that look at much larger checkpoints than they have memory. The
files are verified first and mapped then; a reader's lock keeps them meanwhile.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from trainer_shim.checkpoint import layout, reader, reading, tensorfile, tree
from trainer_shim.checkpoint.arrays import make_place
from trainer_shim.checkpoint.chunks import copy
from trainer_shim.checkpoint.manifest import Manifest
from trainer_shim.checkpoint.strides import laid_out
from trainer_shim.checkpoint.verify import verify
from trainer_shim.errors import Damaged

__all__ = ["View", "viewed"]


class View:
    """Made by `viewed()`, and of use as long as that lasts."""

    def __init__(self, folder: Path, manifest: Manifest, digest: str) -> None:
        self.folder, self.manifest, self.digest = folder, manifest, digest
        #: The state as nodes of tree.py.
        self.skeleton: tree.Node = None
        #: Texts of the files that hold no tensors, by name.
        self.texts: dict[str, bytes] = {}
        #: Element type and shape of every block.
        self.entries: dict[str, tensorfile.Entry] = {}
        self._memory: dict[str, memoryview] = {}

    def memory(self, block: str) -> memoryview:
        """The bytes of a block, read when they are used."""
        return self._memory[block]

    def value(self, node: tree.Node) -> Any:
        """The value of a node, with memory of its own; raises CannotRestore where a library is missing."""
        values = {}
        try:
            for block, leaf in tree.block_nodes(node).items():
                entry = self.entries[block]
                place = make_place(leaf, entry.dtype, entry.shape)
                copy(place.memory, self._memory[block])
                values[block] = laid_out(place.value, leaf.get("strides"))
        # What senseless shapes and types make Python and torch raise.
        except (LookupError, TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise Damaged(f"cannot use the checkpoint `{self.folder}`: {error}") from error
        return tree.decode(node, values)

    def add(self, file: str, size_bytes: int, at: int, stack: ExitStack) -> None:
        """Take in one file of rank 0."""
        source = stack.enter_context(reader.opened(at, file, size_bytes))
        if not layout.is_tensors(file):
            self.texts[file] = source.read()
            return
        begin, entries = tensorfile.read_header(source, size_bytes)
        # Not closed: values made from it may still be in use. The last one of them closes it.
        memory = memoryview(mmap.mmap(source.fileno(), size_bytes, prot=mmap.PROT_READ))
        for block, entry in entries.items():
            first, last = entry.data_offsets
            self.entries[block] = entry
            self._memory[block] = memory[begin + first : begin + last]


@contextmanager
def viewed(
    folder: Path, name: layout.Name, on_bytes: Callable[[int], None] = lambda _: None
) -> Iterator[View]:
    """A verified checkpoint that nobody removes meanwhile; raises Damaged, CannotRestore or OSError."""
    with ExitStack() as stack:
        stack.enter_context(reading.reading(folder))
        bad = verify(folder, name, on_bytes=on_bytes).problems
        if bad:
            raise Damaged(f"cannot use the checkpoint `{folder}`: `{bad[0].file}`: {bad[0].why}")
        at = stack.enter_context(reader.opened_folder(folder))
        manifest, own = reader.read_manifest(at, str(name))
        view = View(folder, manifest, own)
        others = {layout.ENVIRONMENT, layout.PREPROCESSING}
        of_rank = {layout.rank_json(0), layout.rank_tensors(0), layout.rank_still(0)}
        for file in sorted(manifest.files.keys() & (others | of_rank)):
            view.add(file, manifest.files[file].size_bytes, at, stack)
        view.skeleton = tree.parse(view.texts[layout.rank_json(0)])
        yield view
