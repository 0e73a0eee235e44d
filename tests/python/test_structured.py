"""Answers that have to be something: grammars, choices, JSON, schemas, classes."""

from __future__ import annotations

import dataclasses
import enum
import json
import random
import re
import threading
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from schemas import CHECKER, damaged, recursive_schemas, schemas

import syncyte
from syncyte._structured import numbers, schema
from syncyte._structured.problem import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def tiny(tiny_model: Path) -> Iterator[syncyte.Model]:
    with syncyte.Model(tiny_model, threads=1, max_sequences=8) as opened:
        yield opened


@pytest.fixture(scope="module")
def demo() -> Iterator[syncyte.Model]:
    with syncyte.Model(threads=1) as opened:
        yield opened


def test_a_grammar_is_followed(tiny: syncyte.Model) -> None:
    grammar = r"""
        # a sum
        root ::= number (" + " number){1,3} "=" end?
        number ::= [1-9] [0-9]{0,2} |
            "0"
        end ::= "?" | "é" [а-я]{2}
            | "日本" . | "\x41\u00e9\U0001F642" [^a-z\]\-^]
    """
    expression = re.compile(
        r"(0|[1-9]\d{0,2})( \+ (0|[1-9]\d{0,2})){1,3}=(\?|é[а-я]{2}|日本.|Aé🙂[^a-z\]\-^])?", re.S
    )
    stopped = 0
    for seed in range(40):
        made = tiny.generate(
            "the", grammar=grammar, seed=seed, max_tokens=64, temperature=2.0, top_k=0, min_p=0
        )
        stopped += made.finish_reason == "stop"
        assert made.finish_reason != "stop" or expression.fullmatch(made.text), made.text
        assert (
            "".join(
                tiny.stream(
                    "the", grammar=grammar, seed=seed, max_tokens=64, temperature=2.0, top_k=0, min_p=0
                )
            )
            == made.text
        )
    assert stopped > 30


def test_a_grammar_ends_the_answer_even_where_the_model_may_not(tiny: syncyte.Model) -> None:
    made = tiny.generate("the", grammar='root ::= "word"', ignore_eos=True, max_tokens=50)
    assert (made.text, made.finish_reason) == ("word", "stop")
    made = tiny.generate("the", grammar='root ::= "word" [a-z]*', ignore_eos=True, max_tokens=30)
    assert re.fullmatch("word[a-z]*", made.text)
    assert made.finish_reason == "length"
    assert tiny.generate("the", grammar='root ::= "ab"', max_tokens=1).finish_reason in ("length", "stop")


def test_stop_strings_hold_beside_a_grammar(tiny: syncyte.Model) -> None:
    made = tiny.generate("the", grammar='root ::= "one, two, three"', stop=", t")
    assert (made.text, made.finish_reason) == ("one", "stop")


def test_choices(tiny: syncyte.Model) -> None:
    wanted = ["yes", "no", 'may"be\n', "\\x41", "日本語", "yes sir", ""]
    texts = {tiny.generate("the", choices=wanted, seed=s, temperature=5.0, top_k=0).text for s in range(60)}
    assert texts <= set(wanted)
    assert len(texts) >= 4
    many = [f"choice {number}" for number in range(20_000)]
    assert tiny.generate("the", choices=many, max_tokens=40).text in many


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"grammar": 3}, TypeError, "grammar must be str"),
        ({"grammar": " "}, ValueError, "grammar is empty"),
        ({"grammar": 'root ::= "\ud800"'}, ValueError, "lone surrogate"),
        ({"grammar": 'root ::= root "a" | "b"'}, ValueError, r"begins with itself \(left recursion\)"),
        ({"grammar": 'root ::= a\na ::= "x"? b\nb ::= a "y"'}, ValueError, "begins with itself"),
        ({"grammar": "root ::= ((x)*)* root\nx ::= y?\ny ::= [a]*"}, ValueError, "begins with itself"),
        ({"grammar": 'root ::= "a" root'}, ValueError, "never ends"),
        ({"grammar": "root ::= []"}, ValueError, "never ends"),
        ({"grammar": "root ::= x"}, ValueError, "line 1, column 10: there is no rule x"),
        ({"grammar": 'start ::= "x"'}, ValueError, "no rule root"),
        ({"grammar": 'root ::= "a"\nroot ::= "b"'}, ValueError, "line 2, column 1: .* root is there"),
        ({"grammar": 'root ::= ("a"'}, ValueError, r"a \) is expected"),
        ({"grammar": "root ::= " + "(" * 10_000}, ValueError, "nested more than"),
        ({"grammar": "root ::= [b-a]"}, ValueError, "upwards"),
        ({"grammar": 'root ::= "\\q"'}, ValueError, "unknown escape"),
        ({"grammar": 'root ::= "a'}, ValueError, "ends within quotes"),
        ({"grammar": 'root ::= "a"{3,2}'}, ValueError, "n <= m"),
        ({"grammar": 'root ::= "a"{99999999999}'}, ValueError, "repetitions"),
        ({"grammar": 'root ::= "a"*****'}, ValueError, "too many repetitions"),
        ({"grammar": "root ::= * x"}, ValueError, "nothing before"),
        ({"grammar": "root ::= <think>"}, ValueError, "tokens in a grammar"),
        ({"grammar": "root ::= " + " ".join(['("abc" [a-z]){50000}'] * 40)}, ValueError, "too large"),
        ({"choices": "yes"}, TypeError, "choices must be a list"),
        ({"choices": []}, ValueError, "choices is empty"),
        ({"choices": ["a", 3]}, TypeError, "not of int"),
        ({"choices": ["\ud800"]}, ValueError, "lone surrogate"),
        ({"json_object": "yes"}, TypeError, "json_object must be True or False"),
        ({"json_schema": {"type": "strin"}}, ValueError, "json_schema at #: keyword 'type' has 'strin'"),
        ({"json_schema": {"not": {}}}, ValueError, "keyword 'not' cannot be expressed"),
        ({"json_schema": {"properties": {"a": {"multipleOf": 3}}}}, ValueError, "#/properties/a: .*'mult"),
        ({"json_schema": {"pattern": "(?=a)"}}, ValueError, "'pattern' cannot be expressed.*look-ahead"),
        ({"json_schema": {"pattern": "(a)\\1"}}, ValueError, r"'pattern' cannot be expressed.*\\1"),
        ({"json_schema": {"format": "regex"}}, ValueError, "'format' cannot be expressed for 'regex'"),
        ({"json_schema": {"pattern": "a", "maxLength": 3}}, ValueError, "'pattern' and 'maxLength' together"),
        ({"json_schema": {"$ref": "#/$defs/x"}}, ValueError, "points to nothing"),
        ({"json_schema": {"$ref": "http://x/y"}}, ValueError, "cannot be followed"),
        ({"json_schema": {"$ref": "#"}}, ValueError, r"\$ref to '#' leads back to itself"),
        (
            {"json_schema": {"anyOf": [{"type": "null"}, {"anyOf": [{"$ref": "#"}]}]}},
            ValueError,
            r"at #/anyOf/1/anyOf/0: \$ref to '#' leads back",
        ),
        ({"json_schema": {"allOf": [{"$ref": "#"}]}}, ValueError, "nested too deeply"),
        ({"json_schema": {"properties": {"a": {"$ref": "#"}}, "required": ["a"]}}, ValueError, "never ends"),
        ({"json_schema": {"oneOf": [{"type": "integer"}, {"type": "number"}]}}, ValueError, "oneOf may both"),
        ({"json_schema": {"type": "integer", "minimum": 3, "maximum": 2}}, ValueError, "no whole number"),
        ({"json_schema": {"uniqueItems": True}}, ValueError, "'uniqueItems' cannot"),
        ({"json_schema": {"type": "integer", "maximum": None}}, ValueError, "keyword 'maximum' is null"),
        ({"json_schema": False}, ValueError, "nothing satisfies"),
        ({"json_schema": {"enum": [float("nan")]}}, ValueError, "not JSON"),
        ({"json_schema": int | set}, TypeError, "cannot be made of"),
        ({"json_schema": {}, "choices": ["a"]}, ValueError, "only one of them"),
        ({"json_schemas": {}}, TypeError, "Did you mean 'json_schema'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tiny: syncyte.Model, options, error, message) -> None:
    for method in (tiny.generate, tiny.stream):
        with pytest.raises(error, match=message):
            method("the", **options)


def test_ambiguous_grammars_end_in_time(tiny: syncyte.Model) -> None:
    # Each has exponentially many ways; none may take the engine's thread.
    rules = "".join(f'a{i} ::= a{i + 1} "x" | a{i + 1} "y"\n' for i in range(40))
    with pytest.raises(ValueError, match="too ambiguous"):
        tiny.generate("the", grammar=f'root ::= a0\n{rules}a40 ::= "z"')
    grammar = 'root ::= s\ns ::= "a" s t | "a" s u | ""\nt ::= "b"\nu ::= "b"'
    try:
        made = tiny.generate("the", grammar=grammar, max_tokens=60, seed=1, temperature=5.0)
        assert re.fullmatch("a*b*", made.text)
    except ValueError as error:
        assert "too ambiguous" in str(error)  # noqa: PT017
    nullable = 'root ::= ((("a"?)*)* x*)* "b"\nx ::= y* y*\ny ::= ""'
    assert re.fullmatch("a*b?", tiny.generate("the", grammar=nullable, max_tokens=10).text)
    assert tiny.generate("the", max_tokens=3, ignore_eos=True).tokens


def test_damaged_grammars_are_errors(tiny: syncyte.Model) -> None:
    random_ = random.Random(5)
    sources = [
        schema.convert({"type": "object", "properties": {"a": {"type": "string", "format": "date-time"}}}),
        schema.any_json(),
        'root ::= expr\nexpr ::= term (("+" | "-") term)* # sum\nterm ::= [0-9]{1,3} | "(" expr ")"\n',
    ]
    alphabet = '"[](){}|*+?.,^-\\#:=\n aroot0129x' + "é"
    for _ in range(3000):
        text = random_.choice(sources)
        for _ in range(random_.randint(1, 4)):
            at = random_.randrange(len(text))
            insert = "".join(random_.choices(alphabet, k=random_.randint(0, 3)))
            text = text[:at] + insert + text[at + random_.randint(0, 3) :]
        try:
            tiny.generate("the", grammar=text or "x", max_tokens=2, seed=1)
        except ValueError:
            pass
        except syncyte.ModelError as error:
            assert "vocabulary" in str(error)  # noqa: PT017
    assert tiny.generate("the", max_tokens=3, ignore_eos=True).tokens


class Shade(enum.Enum):
    DARK = "dark"
    LIGHT = "light"


@dataclasses.dataclass
class Point:
    x: int
    y: float
    shade: Shade = Shade.DARK


class Options(TypedDict, total=False):
    depth: Literal[1, 2]


@dataclasses.dataclass
class Shape:
    name: Literal["circle", "square"]
    points: list[Point]
    inner: Shape | None
    size: tuple[int, bool]
    options: Options
    marks: dict[str, int] = dataclasses.field(default_factory=dict)


class Modelled:
    @classmethod
    def model_json_schema(cls) -> dict[str, Any]:
        return {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}


def test_classes_stand_for_schemas(demo: syncyte.Model) -> None:
    from syncyte._structured.resolve import plain_schema

    whole = 0
    for seed in range(12):
        made = demo.generate("a shape", json_schema=Shape, max_tokens=600, seed=seed, temperature=1.5)
        if made.finish_reason == "stop":
            whole += 1
            found = json.loads(made.text)
            jsonschema.validate(found, plain_schema(Shape))
            assert found["name"] in ("circle", "square")
            assert isinstance(found["size"][1], bool)
    assert whole >= 3
    made = demo.generate("ok?", json_schema=Modelled, temperature=0)
    assert json.loads(made.text)["ok"] in (True, False)
    assert set(json.loads(demo.generate("n", json_schema=list[Literal["a"]], temperature=0).text)) <= {"a"}


def test_json_objects(demo: syncyte.Model) -> None:
    whole = 0
    for seed in range(20):
        made = demo.chat(
            [{"role": "user", "content": "Land now."}], json_object=True, max_tokens=150, seed=seed
        )
        if made.finish_reason == "stop":
            whole += 1
            assert isinstance(json.loads(made.text), dict)
    assert whole >= 10
    assert demo.generate("hello", json_object=False, max_tokens=3).text


class Tally:
    """How many answers were whole, of how many."""

    def __init__(self) -> None:
        self.whole = 0
        self.all = 0

    def check(self, model: syncyte.Model, wanted: object, **options: Any) -> None:
        made = model.generate("the word is", json_schema=wanted, max_tokens=250, **options)
        self.all += 1
        if made.finish_reason != "stop":
            return
        self.whole += 1
        value = json.loads(made.text)
        jsonschema.Draft202012Validator(wanted, format_checker=CHECKER).validate(value)


@pytest.mark.parametrize("which", ["tiny", "demo"])
def test_every_whole_answer_satisfies_its_schema(which: str, request: pytest.FixtureRequest) -> None:
    model: syncyte.Model = request.getfixturevalue(which)
    tally = Tally()

    @settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(schemas | recursive_schemas())
    def check(wanted: dict[str, Any]) -> None:
        try:
            schema.convert(wanted)
        except SchemaError:
            return  # see the damaged ones for what these may be
        tally.check(model, wanted, temperature=0)
        tally.check(model, wanted, seed=tally.all, temperature=1.5, top_k=0, top_p=1.0, min_p=0.0)

    check()
    assert tally.all >= 350
    assert tally.whole >= tally.all * 0.6


def test_damaged_schemas_are_errors(tiny: syncyte.Model) -> None:
    refused = 0

    @settings(max_examples=1500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(damaged())
    def check(wanted: object) -> None:
        nonlocal refused
        try:
            made = tiny.generate("the", json_schema=wanted, max_tokens=2, seed=1)
        except ValueError:
            refused += 1
        except TypeError:
            assert not isinstance(wanted, dict)
        else:
            assert made.finish_reason in ("length", "stop")

    check()
    assert refused > 200


@pytest.mark.parametrize("low", [None, -1050, -100, -7, 0, 3, 10, 99, 100, 857])
@pytest.mark.parametrize("span", [None, 0, 1, 12, 90, 1000, 3333])
def test_ranges_of_whole_numbers_are_exact(low: int | None, span: int | None) -> None:
    if low is None and span is None:
        return
    high = None if span is None else (low or 0) + span
    text = numbers.integers(low, high).replace('"', "").replace(" ", "").replace("\\x2D", "-")
    expression = re.compile(text.replace("{0,}", "*"))
    for number in range(-6000, 6000):
        inside = (low is None or number >= low) and (high is None or number <= high)
        assert bool(expression.fullmatch(str(number))) == inside, number
    assert not expression.fullmatch("007")
    assert not expression.fullmatch("-0")


def test_schemas_travel_through_the_pool(tiny_model: Path) -> None:
    with syncyte.InferencePool(2, tiny_model) as pool:
        made = pool.execute("the", choices=["yes", "no"])
        assert made.text in ("yes", "no")
        answers = list(pool.map(["one", "two"], json_schema=Modelled, max_tokens=60))
        assert all(json.loads(a.text)["ok"] in (True, False) for a in answers if a.finish_reason == "stop")
        assert "".join(pool.stream("the", grammar='root ::= "streamed"')) == "streamed"
        with pytest.raises(ValueError, match="keyword 'not'"):
            pool.execute("the", json_schema={"not": {}})


def test_many_requests_share_a_grammar(demo: syncyte.Model) -> None:
    wanted = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99999}},
        "required": ["n"],
    }
    alone = demo.generate("number", json_schema=wanted, temperature=0, max_tokens=40).text
    texts: list[str] = []

    def ask() -> None:
        texts.extend(
            demo.generate("number", json_schema=wanted, temperature=0, max_tokens=40).text for _ in range(5)
        )

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(texts) == {alone}
