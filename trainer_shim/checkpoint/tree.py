"""A state tree as a JSON skeleton and named blocks of memory, and back.

Covers: containers, Python's own values, sharing.
Does not cover: tensors and arrays themselves (arrays.py), the types of the
standard library (kinds.py), what only a live object brings back (live.py), files.

Pure: nothing is read or written, and what comes from a file is only ever
data. Everything that cannot be stored is refused here, before a file exists.
JSON's own null, booleans, numbers, strings, lists and objects stand for
themselves; everything else is an object with the key `$`.
"""

from __future__ import annotations

import binascii
import enum
import struct
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import msgspec

from trainer_shim.checkpoint import generators, jsontext, live, scalars
from trainer_shim.checkpoint.arrays import Leaf, encode_leaf, finish_tensor
from trainer_shim.checkpoint.generators import encode_generator
from trainer_shim.checkpoint.kinds import kind_named, kind_of
from trainer_shim.checkpoint.live import Live, encode_live, note
from trainer_shim.checkpoint.paths import join
from trainer_shim.checkpoint.scalars import SCALARS, scalar, text
from trainer_shim.checkpoint.small import encode_small, restore_small
from trainer_shim.checkpoint.tensorfile import RESERVED_NAME, Block
from trainer_shim.checkpoint.unstorable import HINT, refusal_of
from trainer_shim.errors import CannotStore, Damaged

__all__ = ["MAX_DEPTH", "Node", "block_nodes", "decode", "encode", "parse", "record"]

#: What JSON can hold; see the table in docs/CHECKPOINTS.md.
Node = Any

#: Deeper trees would run into the interpreter's recursion limit, here or in a JSON reader.
MAX_DEPTH = 100
_TEXT = frozenset({str})
#: Longer byte strings go to the tensor file.
_INLINE_BYTES = 1024


def encode(state: Mapping[str, Any], live: Live | None = None) -> tuple[bytes, list[Block]]:
    """The skeleton as JSON text, and the blocks it refers to; raises CannotStore.

    What only a live object brings back must be in `live`; None takes it all, to be looked at.
    """
    encoder = _Encoder(live)
    return msgspec.json.encode({"state": encoder.node(_root(state), "")}), encoder.blocks


def record(state: Mapping[str, Any]) -> Live:
    """What a state holds that is stored by name, whatever else in it cannot be stored."""
    recorder = _Recorder(None)
    recorder.node(_root(state), "")
    return recorder.found


def _root(state: Mapping[str, Any]) -> Mapping[str, Any]:
    return state if type(state) in _CONTAINERS else dict(state)


def parse(text: bytes | bytearray) -> Node:
    """The skeleton in a text; raises Damaged."""
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(f"cannot use the state file: it is malformed ({error})") from None
    if not isinstance(document, dict) or document.keys() != {"state"}:
        raise Damaged("cannot use the state file: it does not hold a state")
    if jsontext.num_names(text) != jsontext.num_members(document):
        raise Damaged("cannot use the state file: a name stands twice in one object")
    return document["state"]


def block_nodes(skeleton: Node) -> dict[str, Node]:
    """One node for each block that a skeleton refers to; raises Damaged when two disagree about a block."""
    found: dict[str, Node] = {}
    todo = [skeleton]
    while todo:
        node = todo.pop()
        if isinstance(node, list):
            todo.extend(node)
        elif isinstance(node, dict):
            todo.extend(node.values())
            if "block" in node and "$" in node:
                if not isinstance(node["block"], str):
                    raise Damaged("cannot use the state file: the name of a block is no text")
                first = found.setdefault(node["block"], node)
                if [first.get(key) for key in _SAME] != [node.get(key) for key in _SAME]:
                    raise Damaged(f"cannot use the state file: `{node['block']}` is described in two ways")
    return found


def decode(skeleton: Node, values: Mapping[str, Any]) -> Any:
    """The state tree; `values` has the value of each block. Raises Damaged."""
    try:
        return _Decoder(values).value(skeleton)
    # What a well-formed but senseless node makes Python and torch raise.
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
        struct.error,
    ) as error:
        raise Damaged(f"cannot use the state file: {type(error).__name__}: {error}") from error


#: What nodes that share a block must agree on.
_SAME = ("$", "dtype", "shape", "size", "strides")


class _Encoder:
    """One walk over one tree."""

    def __init__(self, live: Live | None) -> None:
        self.blocks: list[Block] = []
        self._live = live
        #: What exists only for this walk: the address of something that is gone may be another's.
        self._alive: list[Any] = []
        self._names: set[str] = {RESERVED_NAME}
        self._stored: dict[Hashable, str] = {}
        self._inside: set[int] = set()

    def node(self, value: Any, path: str) -> Node:
        """The node of any value."""
        if type(value) in SCALARS:
            return scalar(value, path)
        write = _CONTAINERS.get(type(value))
        if write is not None:
            self._enter(value, path)
            try:
                return write(self, value, path)
            finally:
                self._inside.discard(id(value))
        if type(value) in (bytes, bytearray):
            return self._bytes(value, path)
        leaf = encode_leaf(value, path)
        if leaf is not None:
            leaf.node["block"] = self._block(leaf, path)
            return leaf.node
        found = encode_small(value, path) or encode_generator(value, path)
        if found is None:
            self._enter(value, path)
            try:
                found = self._by_name(value, _Inside(self, path, self.node))
            finally:
                self._inside.discard(id(value))
        if found is None:
            raise refusal_of(value, path)
        return found

    def key(self, value: Any, path: str) -> Node:
        """The node of a map's key."""
        if type(value) in SCALARS:
            return scalar(value, path)
        return self._hashable(value, path, f"a key of type `{type(value).__qualname__}`")

    def _member(self, value: Any, path: str) -> Node:
        if type(value) in SCALARS:
            return scalar(value, path)
        return self._hashable(value, path, f"a set with a member of type `{type(value).__qualname__}`")

    def _hashable(self, value: Any, path: str, what: str) -> Node:
        """The node of what is found by its own value: no part of it may change."""

        def inner(item: Any, _: str) -> Node:
            return self._hashable(item, path, what)

        if type(value) in SCALARS:
            return scalar(value, path)
        if type(value) is bytes:
            return {"$": "bytes", "base64": binascii.b2a_base64(value, newline=False).decode()}
        if type(value) is tuple:
            return {"$": "tuple", "items": [inner(item, path) for item in value]}
        if type(value) is frozenset:
            return {"$": "frozenset", "items": _sorted(inner(item, path) for item in value)}
        row, found = kind_of(value), encode_small(value, path)
        if found is None and (isinstance(value, enum.Enum | tuple) if row is None else row[1].is_key):
            found = self._by_name(value, _Inside(self, path, inner))
        if found is None:
            hint = "use text, numbers, dates, paths or tuples of them; keep other things in a list"
            raise CannotStore(path, what, hint=hint)
        return found

    def _by_name(self, value: Any, inside: _Inside) -> Node | None:
        """The node of what a table has a name for, or the live state."""
        row = kind_of(value)
        if row is None:
            return encode_live(value, inside, self._live)
        name, kind = row
        return {"$": name, **kind.write(value, inside)}

    def mapping(self, value: dict[Any, Any], path: str) -> Node:
        """A dict as a JSON object where that loses nothing, as a list of pairs elsewhere."""
        if _TEXT.issuperset(map(type, value)) and "$" not in value:
            return {text(key, path): self.node(item, join(path, key)) for key, item in value.items()}
        return {"$": "dict", "items": self.pairs(value, path)}

    def ordered(self, value: OrderedDict[Any, Any], path: str) -> Node:
        """An OrderedDict, with the one attribute that `Module.state_dict()` hangs on it."""
        node: dict[str, Node] = {"$": "OrderedDict", "items": self.pairs(value, path)}
        attributes = vars(value)
        if "_metadata" in attributes:
            node["metadata"] = self.node(attributes["_metadata"], join(path, "_metadata"))
        for name in attributes.keys() - {"_metadata"}:
            raise CannotStore(join(path, name), "an attribute of a map", hint="make it an entry of the map")
        return node

    def items(self, value: list[Any] | tuple[Any, ...], path: str) -> Node:
        """A list as itself, a tuple under its name."""
        nodes = [
            # What cannot be refused needs no path.
            scalar(item, path)
            if type(item) in SCALARS and (type(item) is not str or item.isascii())
            else self.node(item, join(path, index))
            for index, item in enumerate(value)
        ]
        return nodes if type(value) is list else {"$": "tuple", "items": nodes}

    def members(self, value: set[Any] | frozenset[Any], path: str) -> Node:
        """A set, in an order that depends only on its members so that equal states give equal files."""
        return {"$": type(value).__name__, "items": _sorted(self._member(item, path) for item in value)}

    def pairs(self, value: Mapping[Any, Any], path: str) -> list[Node]:
        """Keys and values, one after the other."""
        return [[self.key(key, path), self.node(item, join(path, key))] for key, item in value.items()]

    def _bytes(self, value: bytes | bytearray, path: str) -> Node:
        kind = type(value).__name__
        if len(value) <= _INLINE_BYTES:
            return {"$": kind, "base64": binascii.b2a_base64(value, newline=False).decode()}
        leaf = Leaf(
            # Not the path: two values may have the same one.
            ("bytes", id(value)),
            {"$": kind, "size": len(value)},
            "U8",
            (len(value),),
            lambda begin, end: memoryview(value)[begin:end],
        )
        return leaf.node | {"block": self._block(leaf, path)}

    def _block(self, leaf: Leaf, path: str) -> str:
        """The name of the leaf's block, which is new unless the same memory was met before."""
        name = self._stored.get(leaf.identity)
        if name is None:
            name, again = path, 1
            while name in self._names:  # {"a.b": x} and {"a": {"b": x}} have the same path.
                again += 1
                name = f"{path}#{again}"
            self._names.add(name)
            self._stored[leaf.identity] = name
            self.blocks.append(_block_of(name, leaf))
        return name

    def keep(self, value: Any) -> None:
        """Hold a value that may have been made just now."""
        self._alive.append(value)

    def _enter(self, value: Any, path: str) -> None:
        """Go into a container; raises CannotStore when it contains itself or lies too deep."""
        if id(value) in self._inside:
            raise CannotStore(path, f"a {type(value).__name__} that contains itself", hint=HINT)
        if len(self._inside) >= MAX_DEPTH:
            raise CannotStore(path, f"a tree deeper than {MAX_DEPTH} levels", hint="flatten it")
        self._inside.add(id(value))


class _Recorder(_Encoder):
    """A walk that takes note instead of refusing."""

    def __init__(self, live: Live | None) -> None:
        super().__init__(live)
        self.found = Live()

    def node(self, value: Any, path: str) -> Node:
        try:
            return super().node(value, path)
        except CannotStore:
            return None

    def _by_name(self, value: Any, inside: _Inside) -> Node | None:
        note(value, inside.path, self.found)
        return super()._by_name(value, inside)


def _sorted(nodes: Iterable[Node]) -> list[Node]:
    """In an order that depends only on the nodes."""
    return sorted(nodes, key=msgspec.json.encode)


def _block_of(name: str, leaf: Leaf) -> Block:
    return Block(name, leaf.dtype, leaf.shape, leaf.fetch, leaf.is_costly, leaf.stamp, leaf.copy_to)


# Exact types only: a subclass carries more than its base can bring back.
_CONTAINERS: dict[type, Callable[[_Encoder, Any, str], Node]] = {
    dict: _Encoder.mapping,
    OrderedDict: _Encoder.ordered,
    list: _Encoder.items,
    tuple: _Encoder.items,
    set: _Encoder.members,
    frozenset: _Encoder.members,
}


class _Inside:
    """What a row of a table asks for the nodes of what is in its value."""

    def __init__(self, encoder: _Encoder, path: str, node: Callable[[Any, str], Node]) -> None:
        self.path = path
        self._encoder = encoder
        self._node = node

    def node(self, value: Any, key: object) -> Node:
        self._encoder.keep(value)
        return self._node(value, self.path if key is None else join(self.path, key))

    def pairs(self, value: Mapping[Any, Any]) -> list[Node]:
        return self._encoder.pairs(value, self.path)


class _Decoder:
    """One walk over one skeleton."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._tensors: dict[tuple[str, bool, bool], Any] = {}

    def value(self, node: Node) -> Any:
        """The value of any node."""
        if isinstance(node, list):
            return [self.value(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$" not in node:
            return {key: self.value(item) for key, item in node.items()}
        read = _READERS.get(node["$"])
        if read is not None:
            return read(self, node)
        named = kind_named(node["$"]) or live.READERS.get(node["$"])
        return restore_small(node) if named is None else named(node, self.value)

    def pairs(self, node: Node) -> dict[Any, Any]:
        """A dict with keys that JSON does not have."""
        return {self.value(key): self.value(item) for key, item in node["items"]}

    def ordered(self, node: Node) -> OrderedDict[Any, Any]:
        """An OrderedDict with its metadata."""
        found = OrderedDict(self.pairs(node))
        if "metadata" in node:
            found._metadata = self.value(node["metadata"])  # type: ignore[attr-defined]  # noqa: SLF001  # torch's name.
        return found

    def bytes(self, node: Node) -> Any:
        """Bytes from the node, or from their block."""
        kind = {"bytes": bytes, "bytearray": bytearray}[node["$"]]
        if "block" in node:
            return kind(self._values[node["block"]])
        return kind(binascii.a2b_base64(node["base64"], strict_mode=True))

    def tensor(self, node: Node) -> Any:
        """A tensor; the same one for nodes that mean the same."""
        name = node["block"]
        key = (name, bool(node.get("parameter")), bool(node.get("requires_grad")))
        if key not in self._tensors:
            self._tensors[key] = finish_tensor(self._values[name], node)
        return self._tensors[key]

    def array(self, node: Node) -> Any:
        """A numpy array."""
        return self._values[node["block"]]


def _alone(read: Callable[[Node], Any]) -> Callable[[_Decoder, Node], Any]:
    """A reader of nodes with nothing inside."""
    return lambda _, node: read(node)


_READERS: dict[str, Callable[[_Decoder, Node], Any]] = {
    "dict": _Decoder.pairs,
    "OrderedDict": _Decoder.ordered,
    "tuple": lambda decoder, node: tuple(map(decoder.value, node["items"])),
    "set": lambda decoder, node: set(map(decoder.value, node["items"])),
    "frozenset": lambda decoder, node: frozenset(map(decoder.value, node["items"])),
    **{name: _alone(read) for name, read in scalars.READERS.items()},
    **{name: _alone(read) for name, read in generators.READERS.items()},
    "bytes": _Decoder.bytes,
    "bytearray": _Decoder.bytes,
    "tensor": _Decoder.tensor,
    "numpy.ndarray": _Decoder.array,
}
