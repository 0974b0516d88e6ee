"""Values of the standard library and of torch come back as what they were."""

from __future__ import annotations

import array
import base64
import io
import json
import random
import struct
import sys
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, getcontext
from fractions import Fraction
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from types import MappingProxyType, SimpleNamespace
from uuid import UUID

import numpy as np
import pytest
import torch

from tests.unit.checkpoint.test_checkpoint_tree import comes_back
from trainer_shim import rng
from trainer_shim.checkpoint import generators, kinds, live, tree
from trainer_shim.checkpoint.live import Live
from trainer_shim.errors import CannotRestore, CannotStore, Damaged

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
#: Each may be a key too.
HASHABLE = [
    Decimal("0.10"),
    Decimal("-0"),
    Decimal("1E+999999"),
    Decimal("NaN123"),
    Decimal("-Infinity"),
    Decimal("3." + "1" * 60),
    Fraction(-1, 3),
    Fraction(10**40, 7),
    UUID(int=7),
    date(2024, 2, 29),
    time(23, 59, 59, 999999),
    time(1, 2, fold=1, tzinfo=UTC),
    datetime(2024, 10, 27, 2, 30, fold=1),  # noqa: DTZ001  # what many scripts hold
    datetime(2024, 10, 27, 2, 30, 0, 5, tzinfo=BERLIN),
    datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30, seconds=7))),
    timedelta(days=-1, microseconds=1),
    timezone.utc,  # noqa: UP017  # the row is timezone's
    timezone(timedelta(hours=-3)),
    timezone(timedelta(0), "mine"),
    BERLIN,
    Path("data/a b.txt"),
    Path("/"),
    PurePosixPath("../x"),
    PureWindowsPath(r"C:\x\y"),
    Path("caf\udce9"),  # A name on the disk that is no UTF-8.
    range(3, 20, 4),
    range(-(10**20), 0),
    complex(float("nan"), -0.0),
    Ellipsis,
    frozenset({Fraction(1, 2), frozenset({Decimal(1)})}),
    (date(2000, 1, 1), Path("x")),
    b"\x00\xff",
    torch.Size([2, 3]),
    torch.float16,
    torch.device("cuda:1"),
    torch.channels_last,
    torch.sparse_csr,
    np.float32(0.1),
]
OTHER = [
    Counter({3: 2, "a": -1, Fraction(1, 2): 0}),
    Counter(),
    deque([1, {"a": 2}]),
    deque([1, 2, 3], maxlen=3),
    deque(maxlen=0),
    defaultdict(None, {1: 2}),
    *(
        defaultdict(kind, {"b": 1, "a": [2]})
        for kind in (int, float, bool, str, bytes, list, dict, set, tuple)
    ),
    defaultdict(OrderedDict, {"x": OrderedDict(a=1)}),
    defaultdict(dict, {0: {"step": 1}}),
    MappingProxyType({"a": 1, 2: [3]}),
    MappingProxyType(OrderedDict(b=1, a=2)),
    SimpleNamespace(a=1, b=SimpleNamespace(c=[2])),
    SimpleNamespace(**{"$": 1, "not a name": 2}),
    slice(1, None, -2),
    slice([1], (2,), "x"),
    array.array("d", [0.1, float("inf")]),
    array.array("b", b"\x01" * 3000),
    array.array("Q"),
    {Path("a"), date(2000, 1, 1), 1j, None},
    {Decimal(1): Decimal(2), (Fraction(1, 3), None): 1},
    OrderedDict({date(2000, 1, 1): 1}),
]


def plain(value):
    """Equal exactly when two values are of one type and the same to the last bit, in one order."""
    kind = type(value)
    if isinstance(value, dict):
        factory = getattr(value, "default_factory", None)
        return (kind, factory, [(plain(key), plain(item)) for key, item in value.items()])
    if isinstance(value, MappingProxyType):
        return (kind, plain(value.copy()))
    if isinstance(value, SimpleNamespace):
        return (kind, plain(vars(value)))
    if isinstance(value, list | tuple | deque):
        return (kind, getattr(value, "maxlen", None), [plain(item) for item in value])
    if isinstance(value, set | frozenset):
        return (kind, sorted(repr(plain(item)) for item in value))
    if isinstance(value, slice):
        return (kind, plain([value.start, value.stop, value.step]))
    if isinstance(value, datetime | time):
        return (kind, value.replace(tzinfo=None).isoformat(), value.fold, plain(value.tzinfo))
    if isinstance(value, complex):
        return (kind, struct.pack(">dd", value.real, value.imag))
    return (kind, repr(value), str(value))


def by_name(value):
    # The order of a set is another in each process.
    text = type(value).__name__ if isinstance(value, set | frozenset) else f"{type(value).__name__} {value!r}"
    return text[:60].encode(errors="replace").decode()


@pytest.mark.parametrize("value", [*HASHABLE, *OTHER], ids=by_name)
def test_a_value_comes_back_as_what_it_was(value):
    """
    The same type, the same value to the last bit, the same order.
    """
    assert plain({"a": [value]}) == plain(comes_back({"a": [value]}))


@pytest.mark.parametrize("value", HASHABLE, ids=by_name)
def test_it_may_be_a_key_and_a_member(value):
    """
    Maps and sets find it again.
    """
    state = {"map": {value: 1}, "set": {value}, "frozen": frozenset({value}), "counts": Counter([value])}
    state["ordered"], state["pairs"] = OrderedDict({value: 2}), {(value, 1): 3}

    assert plain(state) == plain(comes_back(state))


@pytest.mark.parametrize("name", [None, *"1"])
def test_what_comes_back_goes_on_as_it_did(name):
    """
    A deque drops its oldest entry, a defaultdict makes missing ones, a proxy stays closed.
    """
    back = comes_back(
        {"d": deque([1, 2], 2), "m": defaultdict(list), "p": MappingProxyType({name: 1}), "c": Counter("aab")}
    )
    back["d"].append(3)
    back["m"]["new"].append(1)

    assert [2, 3] == list(back["d"])
    assert {"new": [1]} == back["m"]
    assert [("a", 2)] == back["c"].most_common(1)
    with pytest.raises(TypeError):
        back["p"]["x"] = 1


def test_exact_numbers_do_not_depend_on_how_precisely_the_script_reckons():
    """
    A decimal number has all its digits whatever the context says.
    """
    getcontext().prec, before = 3, getcontext().prec
    try:
        assert "1.23456789" == str(comes_back({"a": Decimal("1.23456789")})["a"])
    finally:
        getcontext().prec = before


def numpy_drawn(generator):
    """One that keeps half a draw back."""
    generator.integers(5, dtype="u4")
    return generator


@pytest.mark.parametrize(
    ("make", "draw"),
    [
        (lambda: random.Random(3), lambda one: [one.gauss(0, 1), one.random()]),
        (lambda: torch.Generator().manual_seed(3), lambda one: torch.randn(3, generator=one).tolist()),
        (lambda: np.random.RandomState(3), lambda one: one.randn(3).tolist()),
        *(
            (
                lambda bits=bits: numpy_drawn(np.random.Generator(bits(3))),
                lambda one: one.integers(9, size=3, dtype="u4").tolist(),
            )
            for bits in (
                np.random.MT19937,
                np.random.PCG64,
                np.random.PCG64DXSM,
                np.random.Philox,
                np.random.SFC64,
            )
        ),
    ],
)
def test_a_generator_goes_on_where_it_was(make, draw):
    """
    What is drawn after a resume is what would have been drawn, and the script's own draws nothing for it.
    """
    one = make()
    draw(one)
    before = comes_back({"a": one})["a"]
    expected = draw(one)

    assert type(one) is type(before)
    assert expected == draw(before)


def test_a_generator_of_the_scripts_own_make_is_refused():
    """
    Its class draws in a way that no name describes.
    """
    mine = type("Mine", (np.random.PCG64,), {})

    with pytest.raises(CannotStore, match="a: cannot store a generator that draws from `Mine`") as caught:
        tree.encode({"a": np.random.Generator(mine(1))})
    assert "PCG64" in caught.value.hint


def test_a_time_zone_without_a_name_is_refused():
    """
    One that was read from a file of the script's own.
    """
    files = [path for folder in zoneinfo.TZPATH if (path := Path(folder, "UTC")).exists()]
    if not files:
        pytest.skip("this machine has no files of time zones")
    zone = zoneinfo.ZoneInfo.from_file(io.BytesIO(files[0].read_bytes()))

    with pytest.raises(CannotStore, match=r"a\.tzinfo: cannot store a time zone without a name") as caught:
        tree.encode({"a": datetime(2024, 1, 1, tzinfo=zone)})
    assert caught.value.hint


def test_an_attribute_on_a_counter_is_refused_and_not_lost():
    """
    As on any other map.
    """
    counts = Counter()
    counts.extra = 1

    with pytest.raises(CannotStore, match=r"a\.extra: cannot store an attribute"):
        tree.encode({"a": counts})


def test_a_deque_that_contains_itself_is_refused():
    """
    As any other container.
    """
    ring = deque()
    ring.append({"again": ring})

    with pytest.raises(CannotStore, match=r"a\.0\.again: cannot store a deque that contains itself"):
        tree.encode({"a": ring})


def test_a_tensor_in_any_container_is_found_and_named_by_its_path():
    """
    Replay buffers and running averages live in deques and maps with defaults.
    """
    tensor = torch.arange(3.0)
    state = {"buffer": deque([tensor, (1, tensor)]), "sums": defaultdict(dict, {"a": {"b": tensor + 1}})}
    _, blocks = tree.encode(state)
    back = comes_back(state)

    assert ["buffer.0", "sums.a.b"] == [block.name for block in blocks]
    assert back["buffer"][0] is back["buffer"][1][1]
    assert torch.equal(tensor + 1, back["sums"]["a"]["b"])


def test_empty_tensors_that_exist_for_a_moment_only_stay_apart():
    """
    The address of something that is gone may be another's.
    """
    views = {str(index): MappingProxyType({"a": torch.zeros(0)}) for index in range(50)}

    class Made:
        """Makes its state when it is asked."""

        def state_dict(self):
            return {"a": torch.zeros(0)}

        def load_state_dict(self, state):
            pass

    back = comes_back({**views, "made": [Made() for _ in range(50)]})

    assert 50 == len({id(back[name]["a"]) for name in views})
    assert 50 == len({id(one.state["a"]) for one in back["made"]})


@pytest.mark.parametrize(
    "node",
    [
        {"$": "decimal.Decimal", "text": "x"},
        {"$": "decimal.Decimal", "text": 1},
        {"$": "decimal.Context"},
        {"$": "fractions.Fraction", "numerator": 1, "denominator": 0},
        {"$": "fractions.Fraction", "numerator": 1.5, "denominator": 1},
        {"$": "uuid.UUID", "text": ""},
        {"$": "uuid.getnode"},
        {"$": "datetime.date", "text": "2024-02-30"},
        {"$": "datetime.datetime", "text": "2024-02-03T01:00:00", "fold": 2},
        {"$": "datetime.datetime", "text": "2024-02-03T01:00:00", "tzinfo": 7},
        {"$": "datetime.time", "text": 7},
        {"$": "datetime.timedelta", "days": 10**10, "seconds": 0, "microseconds": 0},
        {"$": "datetime.timezone", "offset": 1},
        {
            "$": "datetime.timezone",
            "offset": {"$": "datetime.timedelta", "days": 2, "seconds": 0, "microseconds": 0},
        },
        {"$": "zoneinfo.ZoneInfo", "key": "../../etc/passwd"},
        {"$": "zoneinfo.ZoneInfo", "key": "/etc/localtime"},
        {"$": "zoneinfo.ZoneInfo", "key": 3},
        {"$": "pathlib.PosixPath", "text": 3},
        {"$": "pathlib.PosixPath", "base64": "?"},
        {"$": "pathlib.WindowsPath", "text": "x"},
        {"$": "builtins.range", "start": 0, "stop": 1, "step": 0},
        {"$": "builtins.range", "start": "a", "stop": 1, "step": 1},
        {"$": "builtins.eval", "text": "1"},
        {"$": "array.array", "typecode": "x", "item_bytes": 8, "data": {"$": "bytes", "base64": ""}},
        {"$": "array.array", "typecode": "d", "item_bytes": 8, "data": {"$": "bytes", "base64": "AAA="}},
        {"$": "array.array", "typecode": "d", "item_bytes": 8, "data": 10**9},
        {"$": "collections.deque", "items": [1], "maxlen": -1},
        {"$": "collections.deque", "items": 3},
        {"$": "collections.defaultdict", "factory": "eval", "items": []},
        {"$": "collections.defaultdict", "factory": 7, "items": []},
        {"$": "collections.Counter", "items": [[[], 1]]},
        {"$": "types.MappingProxyType", "of": 7},
        {"$": "types.SimpleNamespace", "items": [[1, 2]]},
        {"$": "random.Random", "base64": "AAAA"},
        {"$": "random.Random"},
        {"$": "torch.Generator", "base64": "AAAA"},
        {"$": "numpy.random.Generator", "bits": "seed", "base64": "AAAA"},
        {"$": "numpy.random.Generator", "bits": "PCG64", "base64": "AAAA"},
        {"$": "torch.memory_format", "name": "load"},
        {"$": "torch.layout", "name": "float32"},
        {"$": "enum", "name": 7, "member": "RED"},
        {"$": "enum", "name": "a.B", "member": None},
        {"$": "namedtuple", "name": "a.B", "fields": ["x"], "items": []},
        {"$": "namedtuple", "name": "a.B", "fields": 1, "items": []},
        {"$": "live"},
        {"$": "live", "name": ["os.system"]},
        {"$": "stateful", "name": "a.B"},
    ],
    ids=str,
)
def test_a_node_that_makes_no_sense_is_damage_and_nothing_else(node):
    """
    Nothing is imported, called or made that the table does not have.
    """
    before = set(sys.modules)

    with pytest.raises(Damaged):
        tree.decode({"a": node}, {})
    assert not {
        name for name in set(sys.modules) - before if not name.startswith(("numpy", "tzdata", "torch"))
    }


@pytest.mark.parametrize(("bits", "place"), [("MT19937", b"pos"), ("Philox", b"buffer_pos")])
@pytest.mark.parametrize("at", [-1, 625, 5000])
def test_a_generator_that_would_read_outside_its_own_state_is_damage(bits, place, at):
    """
    NumPy believes any place it is given, and draws the next number from there.
    """
    generator = np.random.Generator(getattr(np.random, bits)(1))
    text = rng.dump(generator)
    if text[:1] == b"M":
        forged = text[:1] + struct.pack("<I", at % 2**32) + text[5:]
    else:
        state = json.loads(text)
        state["buffer_pos"] = at
        forged = json.dumps(state).encode()
    node = {"$": "numpy.random.Generator", "bits": bits, "base64": base64.b64encode(forged).decode()}

    with pytest.raises(Damaged):
        tree.decode({"a": node}, {})


def test_a_time_zone_that_this_machine_does_not_know_is_no_damage():
    """
    The checkpoint is whole, and an older one would lack the same.
    """
    with pytest.raises(CannotRestore, match="Atlantis") as caught:
        tree.decode({"a": {"$": "zoneinfo.ZoneInfo", "key": "Europe/Atlantis"}}, {})

    assert not isinstance(caught.value, Damaged)
    assert "tzdata" in caught.value.hint


def test_no_table_is_needed_to_store_any_of_them():
    """
    Nothing here waits for a live object.
    """
    tree.encode({"a": [*OTHER, *HASHABLE]}, Live())


def test_the_same_values_give_the_same_text():
    """
    Checkpoints of one state can be compared by their digests.
    """
    states = [
        {"s": {Fraction(1, 2), Decimal(1), PurePath("x")}},
        {"s": {PurePath("x"), Decimal(1), Fraction(1, 2)}},
    ]

    assert tree.encode(states[0])[0] == tree.encode(states[1])[0]


#: As they stand in files of format 1 for ever; docs/CHECKPOINTS.md says the same in words.
NODES = [
    (range(1, 9, 2), '{"$":"builtins.range","start":1,"stop":9,"step":2}'),
    (slice(None, 2), '{"$":"builtins.slice","start":null,"stop":2,"step":null}'),
    (Ellipsis, '{"$":"types.EllipsisType"}'),
    (MappingProxyType({"a": 1}), '{"$":"types.MappingProxyType","of":{"a":1}}'),
    (SimpleNamespace(a=1), '{"$":"types.SimpleNamespace","items":[["a",1]]}'),
    (Counter({3: 2}), '{"$":"collections.Counter","items":[[3,2]]}'),
    (defaultdict(list, a=[1]), '{"$":"collections.defaultdict","factory":"list","items":[["a",[1]]]}'),
    (defaultdict(None), '{"$":"collections.defaultdict","factory":null,"items":[]}'),
    (deque([1], 2), '{"$":"collections.deque","items":[1],"maxlen":2}'),
    (PurePosixPath("a/b"), '{"$":"pathlib.PurePosixPath","text":"a/b"}'),
    (Path("caf\udce9"), '{"$":"pathlib.PosixPath","base64":"Y2Fm6Q=="}'),
    (date(2024, 2, 29), '{"$":"datetime.date","text":"2024-02-29"}'),
    (
        datetime(2024, 2, 29, 1, fold=1, tzinfo=BERLIN),
        (
            '{"$":"datetime.datetime","text":"2024-02-29T01:00:00","fold":1,'
            '"tzinfo":{"$":"zoneinfo.ZoneInfo","key":"Europe/Berlin"}}'
        ),
    ),
    (time(1, 2, 3), '{"$":"datetime.time","text":"01:02:03"}'),
    (
        timezone(timedelta(hours=1), "x"),
        (
            '{"$":"datetime.timezone","offset":{"$":"datetime.timedelta","days":0,"seconds":3600,"microseconds":0},'
            '"name":"x"}'
        ),
    ),
    (Decimal("-0.10"), '{"$":"decimal.Decimal","text":"-0.10"}'),
    (Fraction(1, 3), '{"$":"fractions.Fraction","numerator":1,"denominator":3}'),
    (UUID(int=1), '{"$":"uuid.UUID","text":"00000000-0000-0000-0000-000000000001"}'),
    (
        array.array("h", [1]),
        '{"$":"array.array","typecode":"h","item_bytes":2,"data":{"$":"bytes","base64":"AQA="}}',
    ),
    (torch.channels_last, '{"$":"torch.memory_format","name":"channels_last"}'),
    (torch.sparse_csr, '{"$":"torch.layout","name":"sparse_csr"}'),
    (
        {Fraction(1, 2): 1},
        '{"$":"dict","items":[[{"$":"fractions.Fraction","numerator":1,"denominator":2},1]]}',
    ),
    (
        torch.zeros(2, 3).T,
        '{"$":"tensor","dtype":"float32","shape":[3,2],"strides":[1,3],"block":"a"}',
    ),
    (
        np.asfortranarray(np.zeros((2, 3))),
        '{"$":"numpy.ndarray","dtype":"<f8","shape":[2,3],"strides":[1,2],"block":"a"}',
    ),
]


@pytest.mark.parametrize(("value", "node"), NODES, ids=[f"{number}" for number in range(len(NODES))])
def test_each_stands_in_a_file_as_the_format_says(value, node):
    """
    Another program reads them by the documentation, and later versions read what this one wrote.
    """
    text, _ = tree.encode({"a": value})

    assert f'{{"state":{{"a":{node}}}}}' == text.decode()


def test_every_kind_of_node_is_documented():
    """
    A kind that was added without a word there is one that no other program can read.
    """
    page = (Path(__file__).parents[3] / "docs" / "CHECKPOINTS.md").read_text()

    names = {*kinds._KINDS, *generators.READERS, *live.READERS}
    assert [] == sorted(name for name in names if f'"{name}"' not in page)
