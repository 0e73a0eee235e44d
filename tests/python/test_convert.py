"""Objects become messages and come back: equal, of the same type, or with an error that says why not."""

import collections
import decimal
import enum
import math
import struct
import sys
import threading
from concurrent import interpreters
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import syncyte
from syncyte import _core


def travel(value: Any, **options: Any) -> Any:
    return _core.Message(value, **options).get()


def same(a: object, b: object) -> bool:
    """Equality that looks at types, bits of floats and order of dicts."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    if isinstance(a, complex):
        return struct.pack("dd", a.real, a.imag) == struct.pack("dd", b.real, b.imag)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b, strict=True))
    if isinstance(a, dict):
        return len(a) == len(b) and all(map(same, a.items(), b.items(), strict=True))
    return bool(a == b)


class Colour(enum.Enum):
    RED = 1


class Point(NamedTuple):
    x: int
    y: object


class Whole(int):
    pass


class Name(str):
    __slots__ = ("extra",)


class Refuses:
    def __reduce__(self) -> Any:
        raise OSError("will not be pickled")


class Node:
    def __init__(self, content: Any) -> None:
        self.content = content


atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-300, 300),
    st.floats(),
    st.complex_numbers(),
    st.text(st.characters()),  # lone surrogates too
    st.binary(),
)


@st.composite
def hashables(draw: st.DrawFn) -> Any:
    # A nan is not equal to the nan that arrives.
    atom = draw(atoms.filter(lambda a: a == a))
    shape = draw(st.integers(0, 5))
    if shape == 0:
        return (atom, draw(st.text()))
    if shape == 1:
        return frozenset({draw(st.integers()), draw(st.text())})
    return atom


@st.composite
def values(draw: st.DrawFn, depth: int = 3) -> Any:
    shape = draw(st.integers(0, 10 if depth else 4))
    inner = values(depth - 1) if depth else atoms
    if shape == 0:
        return bytearray(draw(st.binary()))
    if shape == 1:
        return draw(st.sets(hashables(), max_size=4))
    if shape == 2:
        return draw(st.lists(st.integers()))
    if shape == 3:
        return draw(st.lists(st.floats()))
    if shape <= 5:
        return draw(hashables())
    if shape <= 7:
        return draw(st.dictionaries(hashables(), inner, max_size=5))
    items = draw(st.lists(inner, max_size=6))
    return items if shape <= 9 else tuple(items)


@given(values())
@settings(max_examples=150, deadline=None)
def test_everything_comes_back_equal_and_of_the_same_type(value: Any) -> None:
    assert same(travel(value, pickle=False), value)


@given(st.integers(0, 4000), st.integers(-1, 1), st.booleans())
@settings(deadline=None)
def test_integers_around_powers_of_two(bits: int, offset: int, negative: bool) -> None:
    number = (1 << bits) + offset
    number = -number if negative else number
    assert travel(number) == number
    assert travel([number] * 5) == [number] * 5
    assert travel((1, 2, 3, number)) == (1, 2, 3, number)


@given(st.binary(min_size=8, max_size=8))
@settings(deadline=None)
def test_floats_keep_every_bit(raw: bytes) -> None:
    (number,) = struct.unpack("d", raw)
    assert same(travel(number), number)
    assert same(travel([number] * 4), [number] * 4)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a",
        "é",
        "\xff",
        "\u20ac",
        "\ud800",
        "\udfff\ud800",
        "\U0010ffff",
        "a" * 255,
        "a" * 256,
        "é" * 300,
        "\u20ac" * 5000,
        "\x00",
        "x" * 1_000_000,
        b"",
        b"\x00",
        bytearray(),
        bytearray(b"abc"),
        (),
        [],
        {},
        set(),
        frozenset(),
        ((),),
        True,
        0,
        -1,
        2**63,
        -(2**63),
        -(2**63) - 1,
        2**64,
        10**400,
        -0.0,
        math.inf,
        complex(-0.0, math.nan),
        None,
        {"a": {"b": [1, {2, 3}]}},
        [True, 1, 1.0],
        [1, 2, 3, True],
        [1.0, 2.0, 3.0, 4],
    ],
    ids=lambda value: repr(value)[:20],
)
def test_values_at_the_edges(value: Any) -> None:
    assert same(travel(value, pickle=False), value)


@pytest.mark.parametrize(
    "value",
    [
        Colour.RED,
        Point(1, [2]),
        Whole(5),
        collections.OrderedDict(a=1),
        decimal.Decimal("1.10"),
        range(3),
        collections.defaultdict(list, a=[1]),
        collections.deque([1, 2], 3),
        slice(1, 2),
        len,
        int,
        ValueError,
        {"mixed": [1, decimal.Decimal(2), {"x": Point(1, 2)}], Colour.RED: 3},
        {decimal.Decimal(1), 2},
        ...,
    ],
    ids=lambda value: type(value).__name__,
)
def test_everything_else_goes_by_pickle(value: Any) -> None:
    assert same(travel(value), value)


def test_subclasses_keep_type_and_attributes() -> None:
    name = Name("abc")
    name.extra = [1]
    back = travel([name, "abc"])
    assert type(back[0]) is Name
    assert back[0].extra == [1]
    assert type(back[1]) is str


def test_an_object_met_twice_arrives_as_one() -> None:
    shared: Any
    for shared in (
        [1],
        {"a": 1},
        {1},
        (1, "x", []),
        frozenset({1}),
        bytearray(b"x"),
        Node(1),
        [1, 2, 3, 4, 5],
    ):
        first, inner, last = travel([shared, {"inner": [shared]}, shared])
        assert first is last
        assert first is inner["inner"][0]
    many = [[i] for i in range(1000)]
    back = travel([many, list(reversed(many))])
    assert all(a is b for a, b in zip(back[0], reversed(back[1]), strict=True))


def test_sharing_within_sets_and_around_them() -> None:
    inner = (1, "a")
    outer = frozenset({inner, 5})
    back = travel([outer, inner, outer])
    assert back[0] is back[2]
    assert any(item is back[1] for item in back[0])


def test_doubling_structures_stay_small() -> None:
    value: list[Any] = []
    for _ in range(60):
        value = [value, value]
    assert _core.Message(value).nbytes < 2000
    back = travel(value)
    assert back[0] is back[1]


def test_cycles_arrive_as_cycles() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    back = travel(loop)
    assert back[1] is back
    table: dict[str, Any] = {}
    table["self"] = [table]
    back = travel(table)
    assert back["self"][0] is back
    pair: tuple[Any, ...] = ([], 1)
    pair[0].append(pair)
    back = travel(pair)
    assert back[0][0] is back


def nested(depth: int, wrap: Any = lambda inner: [inner]) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize(
    "wrap",
    [lambda v: [v], lambda v: (v,), lambda v: {"k": v}, lambda v: frozenset({v})],
    ids=["list", "tuple", "dict", "frozenset"],
)
def test_depth_has_a_limit(wrap: Any) -> None:
    value = nested(1000, wrap)
    back = travel(value)
    for _ in range(1000):
        value, back = (next(iter(v.values() if isinstance(v, dict) else v)) for v in (value, back))
    assert back == 1
    for depth in (1001, 50_000):
        with pytest.raises(ValueError, match="more than 1000 deep"):
            travel(nested(depth, wrap))


def test_no_stack_overflow_on_a_small_stack() -> None:
    outcome: list[object] = []
    value = nested(1000)

    def attempt() -> None:
        try:
            outcome.append(travel(value))
        except RecursionError as error:
            outcome.append(error)

    previous = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join(20)
    finally:
        threading.stack_size(previous)
    assert len(outcome) == 1


def test_pickle_can_be_forbidden_and_the_error_says_where() -> None:
    with pytest.raises(TypeError, match=r"value\['a'\]\[1\] is of type decimal.Decimal.*pickle=False"):
        travel({"a": [1, decimal.Decimal(1)]}, pickle=False)
    with pytest.raises(TypeError, match=r"value is of type decimal.Decimal"):
        travel(decimal.Decimal(1), pickle=False)
    with pytest.raises(TypeError, match="key"):
        travel({"a": {decimal.Decimal(1): 1}}, pickle=False)
    with pytest.raises(TypeError, match="in a set"):
        travel([{decimal.Decimal(1)}], pickle=False)


def test_what_cannot_be_pickled_is_named() -> None:
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"cannot pickle '_thread.lock'") as caught:
        travel({"fine": decimal.Decimal(1), "locks": [decimal.Decimal(2), lock]})
    assert "value['locks'][1]" in "".join(caught.value.__notes__)
    with pytest.raises(OSError, match="will not be pickled") as caught_too:
        travel([Refuses()])
    assert "value[0], of type test_convert.Refuses" in "".join(caught_too.value.__notes__)


def test_a_failing_load_is_an_error_and_no_more() -> None:
    with pytest.raises(ZeroDivisionError):
        travel([1, Explodes()])


def explode() -> None:
    raise ZeroDivisionError


class Explodes:
    def __reduce__(self) -> Any:
        return explode, ()


class Hostile:
    """A key whose hash fails once it has arrived."""

    arrived = False

    def __hash__(self) -> int:
        if self.arrived:
            raise ArithmeticError("no hash")
        return 1

    def __setstate__(self, state: object) -> None:
        self.arrived = True

    def __getstate__(self) -> object:
        return {"x": 1}


def test_keys_that_fail_to_hash_on_arrival() -> None:
    for value in ({Hostile(): 1}, {Hostile()}, frozenset({Hostile()})):
        with pytest.raises(ArithmeticError, match="no hash"):
            travel(value)


class Equal:
    """Distinct when sent, all equal on arrival."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return Equal, (0,)

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Equal) and self.number == other.number


def test_keys_that_become_equal_do_not_free_what_is_shared() -> None:
    shared = [1, "x"]
    back = travel([{Equal(1): shared, Equal(2): None}, shared])
    assert back[1] == [1, "x"]
    assert len(back[0]) == 1


class Meddles:
    """Changes the structure it sits in while it is pickled."""

    def __init__(self, victim: Any) -> None:
        self.victim = victim

    def __reduce__(self) -> Any:
        self.victim.clear()
        return Whole, (1,)


def test_structures_that_change_under_our_feet() -> None:
    victims: list[Any] = [[1, 2, 3], {"a": [1], "b": [2]}, {1, 2, 3}, bytearray(b"abc")]
    for victim in victims:
        expected = travel(victim)
        back = travel([Meddles(victim), victim])
        assert back[1] == expected, "the message is the state before any pickling"
        assert not victim


def test_other_threads_may_change_what_is_sent() -> None:
    table: dict[int, Any] = {i: [i] for i in range(100)}
    stop = threading.Event()

    def change() -> None:
        i = 100
        while not stop.is_set():
            table[i] = [i]
            del table[i - 100]
            i += 1

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(2000):
            back = travel(table)
            assert len(back) in (100, 101)
    finally:
        stop.set()
        thread.join()


def test_huge_values() -> None:
    big = b"x" * 50_000_000
    assert travel(big) == big
    numbers = list(range(1_000_000))
    assert travel(numbers) == numbers
    assert travel("\U0001f600" * 5_000_000) == "\U0001f600" * 5_000_000


def test_the_message_does_not_change_with_its_object() -> None:
    value = {"list": [1, 2], "array": bytearray(b"ab")}
    message = _core.Message(value)
    value["list"].append(3)
    value["array"][0] = 0
    first = message.get()
    assert first == {"list": [1, 2], "array": bytearray(b"ab")}
    first["list"].clear()
    assert message.get()["list"] == [1, 2]


def test_other_interpreters_receive_the_same() -> None:
    value = {
        "text": "é\ud800",
        "numbers": [1, 2**70, -0.0],
        "pair": (1, {2}),
        "by pickle": decimal.Decimal("1.5"),
    }
    message = _core.Message(value)
    interpreter = interpreters.create()
    try:
        interpreter.prepare_main(message=message)
        interpreter.exec("from syncyte import _core; back = _core.Message(message.get())")
        queue = interpreters.create_queue()
        interpreter.prepare_main(queue=queue)
        interpreter.exec("queue.put(back)")
        assert same(queue.get(timeout=10).get(), value)
    finally:
        interpreter.close()


def test_references_are_neither_lost_nor_kept() -> None:
    value: list[Any] = ["text" * 3, [1, 2.5], {"k": Point(1, 2)}, Node(3), (4, frozenset({5}))]
    for _ in range(100):
        travel(value)
    before = [sys.getrefcount(item) for item in value]
    allocated = sys.getallocatedblocks()
    for _ in range(2000):
        travel(value)
        with pytest.raises(TypeError):
            _core.Message([value, threading.Lock()], pickle=False)
    assert [sys.getrefcount(item) for item in value] == before
    assert sys.getallocatedblocks() < allocated + 1000


def test_how_things_travel() -> None:
    assert syncyte.how(_core.Message(1)) == "by reference"
    assert syncyte.how(syncyte.SharedBuffer(1)) == "by reference"
    assert syncyte.how(syncyte.share([1])) == "by reference"
    for value in (1, "a", [1, {"a": (2.5, None)}], [syncyte.SharedBuffer(1)]):
        assert syncyte.how(value) == "copied"
    for value in (decimal.Decimal(1), [1, Point(1, 2)], Whole(1)):
        assert syncyte.how(value) == "pickled"
    answer = syncyte.how({"a": [threading.Lock()]})
    assert answer.startswith("not at all: TypeError: cannot pickle")
    assert "value['a'][0]" in answer
    assert syncyte.how(nested(1001)).startswith("not at all: ValueError")
    assert syncyte.is_shareable([1])
    assert syncyte.is_shareable(decimal.Decimal(1))
    assert not syncyte.is_shareable(threading.Lock())
    assert not syncyte.is_shareable(Refuses())


def test_keys_received_again_are_right_whatever_came_between() -> None:
    for length in (1, 2, 3, 4, 7, 8, 9, 40, 41):
        table = {f"{i:x}"[-length:].rjust(length, "-"): i for i in range(3000)}
        message = _core.Message(table)
        for _ in range(3):
            assert message.get() == table
    again = [next(iter(travel({"some key": 1}))) for _ in range(2)]
    assert again[0] is again[1], "short keys are kept"
