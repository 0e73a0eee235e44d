"""share(): frozen structures that behave like the plain ones and are read in place."""

import array
import collections
import copy
import dataclasses
import enum
import pickle
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent import interpreters
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from test_convert import nested, same, values

import syncyte
from syncyte import SharedBuffer, _core, share


class Point(NamedTuple):
    x: Any
    longer_name: Any


@dataclasses.dataclass
class Agent:
    name: str
    tools: list[Any]
    état: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    a: int
    b: tuple[int, ...] = ()


@dataclasses.dataclass
class Sneaky:
    """Changes what it sits in while it is shared."""

    victim: Any

    def __getattribute__(self, name: str) -> Any:
        if name == "victim":
            object.__getattribute__(self, "victim").clear()
            return None
        return object.__getattribute__(self, name)


@given(values())
@settings(max_examples=150, deadline=None)
def test_thaws_to_what_it_was(value: Any) -> None:
    frozen = share(value)
    assert same(frozen.thaw() if hasattr(frozen, "thaw") else frozen, value) or isinstance(value, bytearray)


def without_nan(value: Any) -> bool:
    return bool(value == copy.deepcopy(value)) and "nan" not in repr(value)


@given(values().filter(without_nan))
@settings(max_examples=150, deadline=None)
def test_equals_reads_and_prints_like_the_original(value: Any) -> None:
    frozen = share(value)
    assert frozen == value
    assert value == frozen
    unequal = frozen != value
    assert not unequal
    assert frozen == share(copy.deepcopy(value))
    hash(frozen)
    if isinstance(value, dict):
        assert list(frozen) == list(value)
        assert frozen.keys() == value.keys()
        assert list(frozen.values()) == list(value.values())
        assert list(frozen.items()) == list(value.items())
        for key, item in value.items():
            assert key in frozen
            assert frozen[key] == item
            assert frozen.get(key) == item
    elif isinstance(value, (list, tuple)):
        assert list(frozen) == list(value)
        assert list(reversed(frozen)) == list(reversed(value))
        assert [frozen[i] for i in range(-len(value), len(value))] == [*value, *value]
        assert frozen[1:] == value[1:]
        assert frozen[::-2] == value[::-2]
        assert all(item in frozen for item in value)
    elif isinstance(value, (set, frozenset)):
        assert set(frozen) == value
        assert all(item in frozen for item in value)
    if isinstance(value, (tuple, frozenset)) and not any(isinstance(v, (list, dict, set)) for v in value):
        try:
            expected = hash(value)
        except TypeError:
            return
        assert hash(frozen) == expected


def test_leaves_are_returned_as_they_are() -> None:
    for leaf in (None, True, 1, 2.5, 1j, "text", b"bytes", 10**100):
        assert share(leaf) is leaf
    buffer = SharedBuffer(4)
    assert share(buffer) is buffer
    frozen = share([1])
    assert share(frozen) is frozen


def test_integers_of_any_size_and_text_of_any_width() -> None:
    leaves: list[Any] = [
        s * (1 << bits) + d for bits in (59, 60, 61, 62, 63, 64, 200) for d in (-1, 0, 1) for s in (1, -1)
    ]
    leaves += [
        "",
        "a",
        "é",
        "\ud800",
        "1234567",
        "12345678",
        "é" * 7,
        "\u20ac" * 9,
        "\U0001f600",
        "\0",
        "\0" * 7,
    ]
    leaves += [b"", b"x", -0.0, float("inf"), complex(-0.0, 1)]
    frozen = share(leaves)
    assert all(same(a, b) for a, b in zip(frozen, leaves, strict=True))
    table = share({leaf: i for i, leaf in enumerate(leaves)})
    for leaf in leaves:
        assert leaf in table


def test_abstract_base_classes_and_match() -> None:
    assert isinstance(share({}), Mapping)
    assert isinstance(share([]), Sequence)
    assert isinstance(share(()), Sequence)
    assert isinstance(share(Point(1, 2)), Sequence)
    assert isinstance(share(set()), AbstractSet)
    assert not isinstance(share([]), Mapping)
    match share({"kind": "a", "items": [1, 2]}):
        case {"kind": "a", "items": [first, *_]}:
            assert first == 1
        case _:
            pytest.fail("a shared dict matches a mapping pattern")


def test_sets_take_part_in_set_operations() -> None:
    a = share({1, 2, 3})
    assert a & {2, 9} == {2}
    assert {2, 9} & a == {2}
    assert a | share({4}) == {1, 2, 3, 4}
    assert a - {1} == {2, 3}
    assert {1, 5} - a == {5}
    assert a ^ {1} == {2, 3}
    assert a.union([7], (8,)) == {1, 2, 3, 7, 8}
    assert a.isdisjoint([9])
    assert a.issubset(range(9))
    assert a <= {1, 2, 3, 4}
    assert a < share({1, 2, 3, 4})
    assert not a > {1}.union([5])
    with pytest.raises(TypeError):
        a & [1]  # type: ignore[operator]


def test_sequences_compare_count_and_find() -> None:
    a = share([1, "b", 2, "b"])
    assert a.count("b") == 2
    assert a.index("b") == 1
    assert a.index("b", 2) == 3
    with pytest.raises(ValueError, match="not in"):
        a.index("z")
    with pytest.raises(IndexError, match="out of range"):
        a[4]
    with pytest.raises(TypeError):
        a["x"]
    assert share((1, 2)) < (1, 3)
    plain = (1, 3)
    assert plain > share((1, 2))
    assert share([1]) != (1,)
    assert share((1,)) != [1]
    assert sorted([share((2,)), share((1,))]) == [(1,), (2,)]


def test_nothing_can_be_changed() -> None:
    for frozen in (share([1]), share({1: 2}), share({1}), share(Agent("a", []))):
        with pytest.raises((TypeError, AttributeError)):
            frozen[0] = 1
        with pytest.raises((TypeError, AttributeError)):
            del frozen[0]
        with pytest.raises(AttributeError):
            frozen.name = 1
        with pytest.raises(TypeError, match="cannot create"):
            type(frozen)()


def test_lookups_of_keys_that_are_equal_but_of_other_types() -> None:
    table = share({1: "one", "a": 2, (1, 2): 3, frozenset({1}): 4, None: 5, b"x": 6, 2.5: 7, Point(1, 2): 8})
    assert table[1.0] == table[True] == table[1 + 0j] == "one"
    assert table[(1, 2)] == 8, "as in the dict itself: a namedtuple equals the tuple"
    assert table[share((1, 2))] == 8
    assert table[frozenset({1})] == table[share({1})] == 4
    assert table[None] == 5
    for missing in (2, "b", "a" * 50, b"y", (1,), 10**50, 0.1):
        assert missing not in table
        with pytest.raises(KeyError) as caught:
            table[missing]
        assert caught.value.args == (missing,)
    assert table.get("nope", 3) == 3
    with pytest.raises(TypeError, match="unhashable"):
        table[[]]
    with pytest.raises(TypeError):
        table.get()


def test_records_by_field() -> None:
    agent = Agent("scout", ["search", {"k": Point(1, [2])}], état=Frozen(1, (2,)))
    frozen = share(agent)
    assert frozen.name == "scout"
    assert frozen.tools[1]["k"].longer_name == [2]
    assert frozen.état.b == (2,)
    assert frozen == agent
    assert agent == frozen
    assert frozen != Agent("scout", [])
    assert frozen == share(Agent("scout", ["search", {"k": Point(1, [2])}], état=Frozen(1, (2,))))
    assert share(Frozen(1, (2,))) == Frozen(1, (2,))
    assert hash(share(Frozen(1, (2,)))) == hash(Frozen(1, (2,)))
    assert {share(Frozen(1)): 1}[Frozen(1)] == 1
    assert share(Frozen(1)) != 5
    assert "name" in dir(frozen)
    with pytest.raises(AttributeError, match="missing"):
        _ = frozen.missing
    with pytest.raises(AttributeError):
        getattr(frozen, "\ud800")
    thawed = frozen.thaw()
    assert type(thawed) is Agent
    assert thawed == agent
    assert type(thawed.tools[1]["k"]) is Point
    assert type(thawed.état) is Frozen
    assert repr(frozen).startswith("syncyte.share(Agent(name='scout', tools=['search', {'k': Point(x=1,")


def test_namedtuples_are_tuples() -> None:
    frozen = share(Point(1, "two"))
    assert frozen == (1, "two") == frozen
    assert hash(frozen) == hash((1, "two"))
    assert frozen.x == frozen[0] == 1
    assert list(frozen) == [1, "two"]
    assert type(frozen.thaw()) is Point


def test_arrays_become_frozen_buffers() -> None:
    buffer = SharedBuffer(8)
    frozen = share(
        {"numpy": np.arange(6.0).reshape(2, 3), "array": array.array("i", [1, 2]), "buffer": buffer}
    )
    assert frozen["numpy"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert frozen["numpy"].readonly
    assert frozen["array"].tolist() == [1, 2]
    assert frozen["buffer"] == buffer
    assert not frozen["buffer"].readonly
    assert share(memoryview(b"abc")).tobytes() == b"abc"


def test_what_is_shared_twice_is_stored_once() -> None:
    big = {"x": "text" * 1000}
    assert share([big] * 100).nbytes < share([big]).nbytes + 2000
    row = "a string that repeats"
    assert share([{row: i} for i in range(100)]).nbytes < 100 * 120
    thawed = share([big, {"inner": big}]).thaw()
    assert thawed[0] is thawed[1]["inner"]


def test_shared_inside_shared_and_handles_inside() -> None:
    inner = share({"a": [1]})
    outer = share({"inner": inner, "message": _core.Message("m")})
    assert outer["inner"] == {"a": [1]}
    assert outer["message"].get() == "m"
    assert outer == {"inner": {"a": [1]}, "message": outer["message"]}
    assert outer.thaw()["inner"] == {"a": [1]}
    assert type(outer.thaw()["inner"]) is dict
    assert "{'inner': {'a': [1]}" in repr(outer)
    part = outer["inner"]["a"]
    del inner, outer
    assert part == [1]


def test_what_cannot_be_shared_is_named() -> None:
    cases: list[tuple[Any, str, str]] = [
        ({"a": [1, object()]}, "object cannot be shared", "value['a'][1]"),
        ({"a": OrderedDict()}, "OrderedDict cannot be shared", "value['a']"),
        (Agent("x", [sys]), "module cannot be shared", "value.tools[0]"),
        ([{object()}], "object cannot be shared", "value[0] (in a set)"),
        ((collections.Counter(),), "Counter cannot be shared", "value[0]"),
    ]
    for value, message, place in cases:
        with pytest.raises(TypeError, match=message) as caught:
            share(value)
        assert place in "".join(caught.value.__notes__)
    with pytest.raises(TypeError, match="int"):
        share(type("Whole", (int,), {})(1))


def test_cycles_and_depth() -> None:
    loop: list[Any] = [1]
    loop.append({"x": loop})
    with pytest.raises(ValueError, match="contains itself"):
        share(loop)
    deep = share(nested(1000))
    assert deep == share(nested(1000))
    assert deep.thaw() == nested(1000)
    assert repr(deep).count("[") == 1000
    with pytest.raises(ValueError, match="more than 1000 deep"):
        share(nested(1001))


def test_changes_while_it_is_shared() -> None:
    victims: list[Any] = [[1, None, 2, 3], {1: 1, 2: 2, 3: 3}]
    for victim in victims:
        if isinstance(victim, list):
            victim[0] = Sneaky(victim)
        else:
            victim[1] = Sneaky(victim)
        with pytest.raises(RuntimeError, match="changed while"):
            share(victim)


@dataclasses.dataclass(frozen=True)
class Key:
    a: Any

    def __hash__(self) -> int:
        return hash(self.a)

    def __eq__(self, other: object) -> bool:
        if self.a == "raise":
            raise ArithmeticError("no equality")
        return isinstance(other, Key) and self.a == other.a


def test_dataclasses_as_keys() -> None:
    table = share({Key(1): "a", Key("raise"): "b"})
    assert table[Key(1)] == "a"
    with pytest.raises(KeyError):
        table[Key(2)]


def test_every_interpreter_reads_the_same() -> None:
    value = {f"key number {i}": [i, str(i), {"n": i}] for i in range(1000)}
    frozen = share({"table": value, 1: {("a", 1): frozenset({"b"})}, "point": Point(1, "x"), b"bytes": None})
    interpreter = interpreters.create()
    try:
        interpreter.prepare_main(frozen=frozen, hash_here=hash("key number 1"))
        interpreter.exec(
            "from collections.abc import Mapping\n"
            "assert hash('key number 1') == hash_here, 'one secret for all interpreters of a process'\n"
            "assert isinstance(frozen, Mapping)\n"
            "assert frozen['table']['key number 500'] == [500, '500', {'n': 500}]\n"
            "assert len(frozen['table']) == 1000 and 'no key' not in frozen['table']\n"
            "assert frozen[1][('a', 1)] == {'b'} and frozen[b'bytes'] is None\n"
            "assert frozen['point'].x == 1\n"
            "part = frozen['table']['key number 7']\n"
        )
        queue = interpreters.create_queue()
        interpreter.prepare_main(queue=queue)
        interpreter.exec("queue.put(part)")
        assert queue.get(timeout=10) == [7, "7", {"n": 7}]
        interpreter.exec(
            "try:\n    frozen.thaw()\n"
            "except TypeError as error:\n    assert 'cannot import that class' in str(error)\n"
            "else:\n    raise SystemExit('imported?')"
        )
    finally:
        interpreter.close()


def test_travels_by_reference() -> None:
    frozen = share({i: str(i) for i in range(100_000)})
    message = _core.Message([frozen, frozen[5], {"again": frozen}], pickle=False)
    assert message.nbytes < 100
    assert message.get()[0] == frozen
    assert pickle.loads(pickle.dumps(frozen)) == frozen
    assert copy.deepcopy(frozen) is frozen


@pytest.mark.memory
def test_memory_is_freed_and_references_return() -> None:
    text, number = "some text" * 3, 123456789
    value = {"a": [text, number, {"b": (text,)}], text: Agent("a", [text]), "p": Point(text, 1)}
    before = sys.getrefcount(text), sys.getrefcount(Agent), sys.getrefcount(number)
    for _ in range(1000):
        frozen = share(value)
        assert frozen == value
        repr(frozen)
        frozen.thaw()
        hash(frozen)
        list(frozen.items())
        with pytest.raises(TypeError):
            share([value, sys])
    del frozen
    assert (sys.getrefcount(text), sys.getrefcount(Agent), sys.getrefcount(number)) == before

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    big = {i: str(i) * 10 for i in range(100_000)}
    share(big)
    start = resident()
    for _ in range(50):
        share(big)
    assert resident() - start < 30_000_000


def test_public_names() -> None:
    assert syncyte.share is share
    assert "SharedBuffer" in dir(syncyte)


@dataclasses.dataclass
class DictToo(dict):  # type: ignore[type-arg]
    field: int = 1


@dataclasses.dataclass
class ErrorToo(Exception):  # noqa: N818
    field: int = 1


class Planet(enum.Enum):
    EARTH = 1


class Fields(tuple):  # type: ignore[type-arg]
    _fields = ("x", "y")


class MorePoint(Point):
    pass


def more_point() -> MorePoint:
    point = MorePoint(1, 2)
    point.extra = 3
    return point


@pytest.mark.parametrize(
    "thing",
    [
        DictToo(),
        ErrorToo(),
        Planet.EARTH,
        Fields((1,)),
        Fields((1, 2)),
        more_point(),
        np.int64(3),
        np.float32(1),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_what_is_more_than_it_seems_is_refused(thing: Any) -> None:
    with pytest.raises(TypeError, match=f"{type(thing).__name__} cannot be shared"):
        share(thing)
    with pytest.raises(TypeError, match="cannot be shared"):
        share({"key": [thing]})


def test_arrays_without_axes_are_shared() -> None:
    assert np.asarray(share(np.array(1.5))) == 1.5


def test_hashing_a_long_chain_is_a_recursion_error() -> None:
    chain: Any = ()
    for _ in range(200_000):
        chain = share((chain,))
    with pytest.raises(RecursionError):
        hash(chain)
