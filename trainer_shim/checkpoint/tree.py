"""A state tree as a JSON skeleton and named blocks of memory, and back.

Covers: containers, Python's own values, paths, sharing, refusals.
Does not cover: tensors and arrays themselves (arrays.py), files.

Pure: nothing is read or written, and what comes from a file is only ever
data. Everything that cannot be stored is refused here, before a file exists.
JSON's own null, booleans, numbers, strings, lists and objects stand for
themselves; everything else is an object with the key `$`.
"""

from __future__ import annotations

import base64
import enum
import inspect
import math
import struct
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import msgspec

from trainer_shim.checkpoint import jsontext
from trainer_shim.checkpoint.arrays import Leaf, encode_leaf, finish_tensor
from trainer_shim.checkpoint.small import encode_small, restore_small
from trainer_shim.checkpoint.tensorfile import RESERVED_NAME, Block
from trainer_shim.errors import CannotStore, Damaged

__all__ = ["MAX_DEPTH", "Node", "block_nodes", "decode", "encode", "parse"]

#: What JSON can hold; see the table in docs/CHECKPOINTS.md.
Node = Any

#: Deeper trees would run into the interpreter's recursion limit, here or in a JSON reader.
MAX_DEPTH = 100
#: Integers beyond this are no longer exact in readers that know only doubles.
_EXACT_INT = 1 << 53
#: Longer byte strings go to the tensor file.
_INLINE_BYTES = 1024
_HINT = "keep numbers, text, bytes, lists, tuples, maps, sets, tensors and arrays; leave the rest out"


def encode(state: Mapping[str, Any]) -> tuple[bytes, list[Block]]:
    """The skeleton as JSON text, and the blocks it refers to; raises CannotStore."""
    encoder = _Encoder()
    root = state if type(state) in _CONTAINERS else dict(state)
    return msgspec.json.encode({"state": encoder.node(root, "")}), encoder.blocks


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
        OverflowError,
        AttributeError,
        RuntimeError,
        struct.error,
    ) as error:
        raise Damaged(f"cannot use the state file: {type(error).__name__}: {error}") from error


#: What nodes that share a block must agree on.
_SAME = ("$", "dtype", "shape", "size", "strides")


class _Encoder:
    """One walk over one tree."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._names: set[str] = {RESERVED_NAME}
        self._stored: dict[Hashable, str] = {}
        self._inside: set[int] = set()

    def node(self, value: Any, path: str) -> Node:
        """The node of any value."""
        if type(value) in _SCALARS:
            return _scalar(value, path)
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
            return leaf.node | {"block": self._block(leaf, path)}
        small = encode_small(value, path)
        if small is not None:
            return small
        raise _refusal(value, path)

    def mapping(self, value: dict[Any, Any], path: str) -> Node:
        """A dict as a JSON object where that loses nothing, as a list of pairs elsewhere."""
        if all(type(key) is str for key in value) and "$" not in value:
            return {_text(key, path): self.node(item, _join(path, key)) for key, item in value.items()}
        return {"$": "dict", "items": self._pairs(value, path)}

    def ordered(self, value: OrderedDict[Any, Any], path: str) -> Node:
        """An OrderedDict, with the one attribute that `Module.state_dict()` hangs on it."""
        node: dict[str, Node] = {"$": "OrderedDict", "items": self._pairs(value, path)}
        attributes = vars(value)
        if "_metadata" in attributes:
            node["metadata"] = self.node(attributes["_metadata"], _join(path, "_metadata"))
        for name in attributes.keys() - {"_metadata"}:
            raise CannotStore(_join(path, name), "an attribute of a map", hint="make it an entry of the map")
        return node

    def items(self, value: list[Any] | tuple[Any, ...], path: str) -> Node:
        """A list as itself, a tuple under its name."""
        nodes = [self.node(item, _join(path, index)) for index, item in enumerate(value)]
        return nodes if type(value) is list else {"$": "tuple", "items": nodes}

    def members(self, value: set[Any] | frozenset[Any], path: str) -> Node:
        """A set, in an order that depends only on its members so that equal states give equal files."""
        nodes = [_member(item, path) for item in value]
        return {"$": type(value).__name__, "items": sorted(nodes, key=msgspec.json.encode)}

    def _pairs(self, value: dict[Any, Any], path: str) -> list[Node]:
        return [[_key(key, path), self.node(item, _join(path, key))] for key, item in value.items()]

    def _bytes(self, value: bytes | bytearray, path: str) -> Node:
        kind = type(value).__name__
        if len(value) <= _INLINE_BYTES:
            return {"$": kind, "base64": base64.b64encode(value).decode()}
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

    def _enter(self, value: Any, path: str) -> None:
        """Go into a container; raises CannotStore when it contains itself or lies too deep."""
        if id(value) in self._inside:
            raise CannotStore(path, f"a {type(value).__name__} that contains itself", hint=_HINT)
        if len(self._inside) >= MAX_DEPTH:
            raise CannotStore(path, f"a tree deeper than {MAX_DEPTH} levels", hint="flatten it")
        self._inside.add(id(value))


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
_SCALARS = frozenset({type(None), bool, int, float, complex, str})


def _scalar(value: Any, path: str) -> Node:
    """The node of one of Python's own values."""
    kind = type(value)
    if kind is str:
        return _text(value, path)
    if kind is int and abs(value) > _EXACT_INT:
        return {"$": "int", "hex": hex(value)}
    if kind is float and not math.isfinite(value):
        return {"$": "float", "bits": struct.pack(">d", value).hex()}  # A NaN has 52 bits to say why.
    if kind is complex:
        return {"$": "complex", "bits": struct.pack(">dd", value.real, value.imag).hex()}
    return value


def _text(value: str, path: str) -> str:
    """The string itself, which must be one that a file can hold."""
    if value.isascii():  # Almost all is, and that costs nothing to know.
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        reason = "text with half a surrogate pair, which no UTF-8 file can hold"
        raise CannotStore(path, reason, hint="store bytes") from None
    return value


def _key(key: Any, path: str) -> Node:
    """The node of a map's key."""
    if type(key) is tuple:
        return {"$": "tuple", "items": [_key(item, path) for item in key]}
    if type(key) not in _SCALARS or type(key) is complex:
        raise CannotStore(
            _join(path, key), f"a key of type `{type(key).__qualname__}`", hint="use text or numbers"
        )
    return _scalar(key, path)


def _member(item: Any, path: str) -> Node:
    """The node of a set's member."""
    if type(item) is tuple:
        return {"$": "tuple", "items": [_member(part, path) for part in item]}
    if type(item) is bytes:
        return {"$": "bytes", "base64": base64.b64encode(item).decode()}
    if type(item) not in _SCALARS:
        raise CannotStore(
            path, f"a set with a member of type `{type(item).__qualname__}`", hint="store a list"
        )
    return _scalar(item, path)


def _join(path: str, key: Any) -> str:
    """The path of an entry, as a person would write it."""
    text = str(key) if isinstance(key, str | int) else repr(key)
    return f"{path}.{text}" if path else text


def _refusal(value: Any, path: str) -> CannotStore:
    """The error for a value that has no safe form on disk."""
    kind = type(value)
    name = f"`{kind.__module__}.{kind.__qualname__}`"
    if isinstance(value, enum.Enum):
        return CannotStore(path, f"a member of the enum {name}", hint="store its `.value` or `.name`")
    if inspect.isroutine(value):
        return CannotStore(path, "a function", hint=_HINT)
    if inspect.isclass(value):
        return CannotStore(path, "a class", hint="store its name")
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return CannotStore(
            path, f"a named tuple of type {name}", hint="store `._asdict()` or `tuple()` of it"
        )
    if isinstance(value, Mapping):
        return CannotStore(path, f"a map of type {name}", hint="store `dict()` of it")
    return CannotStore(path, f"an object of type {name}", hint=_HINT)


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
        return restore_small(node) if read is None else read(self, node)

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
        return kind(base64.b64decode(node["base64"], validate=True))

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


_READERS: dict[str, Callable[[_Decoder, Node], Any]] = {
    "dict": _Decoder.pairs,
    "OrderedDict": _Decoder.ordered,
    "tuple": lambda decoder, node: tuple(map(decoder.value, node["items"])),
    "set": lambda decoder, node: set(map(decoder.value, node["items"])),
    "frozenset": lambda decoder, node: frozenset(map(decoder.value, node["items"])),
    "int": lambda _, node: int(node["hex"], 16),
    "float": lambda _, node: struct.unpack(">d", bytes.fromhex(node["bits"]))[0],
    "complex": lambda _, node: complex(*struct.unpack(">dd", bytes.fromhex(node["bits"]))),
    "bytes": _Decoder.bytes,
    "bytearray": _Decoder.bytes,
    "tensor": _Decoder.tensor,
    "numpy.ndarray": _Decoder.array,
}
