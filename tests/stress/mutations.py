"""Gives damaged files, grammars and schemas to a model, one after the other: run as a program by its test.

usage: mutations.py KIND FOLDER SEED COUNT

The address space is bounded, and so is the time of each: one that hangs ends the process with a traceback.
Prints a line of JSON at the end. What is being tried stands in a file FOLDER/*.now, so that a death names
its cause.
"""

from __future__ import annotations

import collections
import copy
import faulthandler
import json
import random
import re
import resource
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))
import gguf
from gguf_mutations import header_of, use
from gguf_mutations import mutate as mutate_tiny
from hypothesis import HealthCheck, given, settings
from schemas import KEYWORDS, recursive_schemas, schemas
from tiny_bert import write_tiny_bert
from tiny_gguf import write_tiny_gguf

import syncyte
from syncyte._structured import schema as schema_module

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST = 60  # seconds, for one of them: far more than any needs on a busy machine
ADDRESS_SPACE = 4 << 30  # bytes
HUGE = [2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**48, 2**63 - 1, 2**63, 2**64 - 1]


def damaged_bytes(data: bytes, draw: random.Random, others: list[bytes], reach: int) -> bytes:
    """A copy with one to three wrongs in its first ``reach`` bytes."""
    copied = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        at = draw.randrange(max(1, min(reach, len(copied))))
        size = draw.choice((1, 2, 8, 64, 300))
        kind = draw.randrange(8)
        if kind == 0:
            copied[at : at + 1] = bytes([(copied[at] if at < len(copied) else 0) ^ (1 << draw.randrange(8))])
        elif kind == 1:
            del copied[at:]
        elif kind == 2:
            copied[at:at] = draw.randbytes(size)
        elif kind == 3:
            del copied[at : at + size]
        elif kind == 4:
            other = draw.choice(others)
            start = draw.randrange(max(1, min(reach, len(other))))
            copied[at : at + draw.choice((0, size))] = other[start : start + size]
        elif kind == 5:
            copied[at:at] = copied[at : at + size] * draw.choice((1, 2, 50))
        elif kind == 6:
            copied[at : at + 8] = struct.pack("<Q", draw.choice(HUGE))
        else:
            copied[at : at + size] = bytes(size)
    return bytes(copied)


def damaged_text(text: str, draw: random.Random, others: list[str]) -> str:
    """As bytes, and with numbers made huge; what is no UTF-8 any more is read as Latin-1."""
    if draw.randrange(4) == 0:
        numbers = list(re.finditer(r"\d+", text))
        if numbers:
            found = draw.choice(numbers)
            return text[: found.start()] + str(draw.choice([*HUGE, 10**30, 0])) + text[found.end() :]
    data = damaged_bytes(text.encode(), draw, [other.encode() for other in others], len(text))
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def damaged_value(value: Any, draw: random.Random, others: list[Any]) -> Any:
    """A JSON value with a part replaced, repeated, nested, or put elsewhere."""
    value = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 2, 3))):
        places = list(containers(value))
        if not places:
            return odd_value(draw, others)
        place = draw.choice(places)
        key = draw.choice(list(place) if isinstance(place, dict) else range(len(place)))
        kind = draw.randrange(6)
        if kind == 0:
            place[key] = odd_value(draw, others)
        elif kind == 1:
            del place[key]
        elif kind == 2 and isinstance(place, dict):
            place[draw.choice(KEYWORDS)] = draw.choice([place[key], odd_value(draw, others)])
        elif kind == 3:
            place[key] = [place[key]] * draw.choice((0, 1, 2, 60))
        elif kind == 4:
            inner = draw.choice(list(containers(draw.choice(others))) or [{}])
            place[key] = copy.deepcopy(inner)
        else:
            for _ in range(draw.choice((1, 40, 200))):
                place[key] = {draw.choice(("items", "anyOf", "not", "properties")): place[key]}
    return value


def containers(value: Any) -> Any:
    """All lists and objects within that are not empty."""
    if isinstance(value, (dict, list)) and value:
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from containers(inner)


def odd_value(draw: random.Random, others: list[Any]) -> Any:
    """What a schema does not have in most places."""
    words = [
        *KEYWORDS,
        "\ud800",
        "",
        "#",
        "#/$defs/node",
        "(",
        "(a*)*" * 9,
        "^" + "(a|b){40}" * 8 + "$",
        "$" * 99,
    ]
    simple = [
        None,
        True,
        -1,
        0.5,
        1e308,
        float("nan"),
        float("inf"),
        [],
        {},
        [[]],
        {"": {}},
        *HUGE,
        -(10**40),
    ]
    return draw.choice(
        [draw.choice(words), draw.choice(simple), {draw.choice(words): draw.choice(simple)}] * 3
        + [copy.deepcopy(draw.choice(others))]
    )


def sound_schemas(count: int) -> list[Any]:
    """Random ones, the same each time."""
    found: list[Any] = []

    @settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(schemas | recursive_schemas())
    def collect(one: Any) -> None:
        found.append(one)

    collect()
    return found


class Trier:
    """Tries damaged copies of one kind; ``try_one`` draws, tries and says how it ended."""

    # What bad input is documented to raise.
    expected: tuple[type[Exception], ...] = (ValueError,)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = folder / f"{type(self).__name__}.now"

    def try_one(self, draw: random.Random) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """After the last one."""


class Gguf(Trier):
    expected = (syncyte.ModelError, ValueError)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.tiny = write_tiny_gguf(folder / "sound.gguf").read_bytes()
        shipped = Path(syncyte.embedded_model_path()).read_bytes()
        self.header = header_of(self.tiny)
        self.sound = [self.tiny, shipped]
        self.reach = [16_000, shipped.index(b"output_norm.weight") + 4000]

    def try_one(self, draw: random.Random) -> None:
        which = draw.choice((0, 0, 0, 1))
        if which == 0 and draw.random() < 0.5:
            data = mutate_tiny(self.tiny, self.header, draw)[0]
        else:
            data = damaged_bytes(
                self.sound[which], draw, self.sound, draw.choice((40, 2000, self.reach[which]))
            )
        self.now.write_bytes(data)
        with syncyte.Model(self.now, threads=1, context_length=64, max_sequences=2) as model:
            use(model)
            if model.info.has_chat_template:
                model.chat([{"role": "user", "content": "hello"}], max_tokens=2)


class Embedding(Trier):
    expected = (syncyte.ModelError, ValueError)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        kinds = (gguf.PoolingType.CLS, gguf.PoolingType.RANK, gguf.PoolingType.MEAN)
        self.sound = [write_tiny_bert(folder / "sound.gguf", pooling=kind).read_bytes() for kind in kinds]

    def try_one(self, draw: random.Random) -> None:
        sound = draw.choice(self.sound)
        header = header_of(sound)
        if draw.random() < 0.5:
            data = mutate_tiny(sound, header, draw)[0]
        else:
            data = damaged_bytes(sound, draw, self.sound, draw.choice((40, 1000, header, len(sound))))
        self.now.write_bytes(data)
        with syncyte.Model(self.now, threads=1, context_length=64, max_sequences=2) as model:
            use(model)


class WithModel(Trier):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.model = syncyte.Model(
            write_tiny_gguf(folder / "sound.gguf", context_length=512), threads=1, max_sequences=4
        )

    def close(self) -> None:
        assert self.model.generate("the", max_tokens=3, ignore_eos=True).usage.completion_tokens == 3
        stats = self.model.stats()
        assert (stats.running, stats.waiting, stats.paused) == (0, 0, 0)
        self.model.close()


class Session(WithModel):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.texts = []
        for system, questions in ((None, ["hello"]), ("kind", ["word", "日本 and é", "<|im_end|>"])):
            session = self.model.session(system, max_tokens=5, temperature=0)
            for question in questions:
                session.send(question)
            session.save(self.now)
            self.texts.append(self.now.read_text("utf-8"))

    def try_one(self, draw: random.Random) -> None:
        text = draw.choice(self.texts)
        if draw.random() < 0.3:
            others = [json.loads(one) for one in self.texts]
            data = json.dumps(damaged_value(json.loads(text), draw, others)).encode()
        elif draw.random() < 0.5:
            data = damaged_text(text, draw, self.texts).encode("utf-8", "surrogatepass")
        else:
            data = damaged_bytes(text.encode(), draw, [one.encode() for one in self.texts], len(text))
        self.now.write_bytes(data)
        session = self.model.load_session(self.now, max_tokens=2)
        fork = session.fork()
        session.send("on")
        fork.rewind(min(len(fork), 1))
        fork.save(self.folder / "again.json")
        assert self.model.load_session(self.folder / "again.json").messages == fork.messages


class Grammar(WithModel):
    # The vocabulary may lack what a grammar asks for.
    expected = (ValueError, syncyte.ModelError)
    sound = (
        'root ::= expr\nexpr ::= term (("+" | "-") term)* # sum\nterm ::= [0-9]{1,3} | "(" expr ")"\n',
        'root ::= "a" x{2,40}\nx ::= "é" [а-я]{2}\n  | "日本" . | "\\x41\\u00e9\\U0001F642" [^a-z\\]\\-^]\n',
        'root ::= s\ns ::= "a" s t | "a" s u | ""\nt ::= "b"\nu ::= "b"\n',
        'root ::= (("a"? | "b")* x* ){3} "b"\nx ::= y* y*\ny ::= ""\n',
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        dated = {"type": "object", "properties": {"a": {"type": "string", "format": "date-time"}}}
        self.texts = [*self.sound, schema_module.any_json(), schema_module.convert(dated)]

    def try_one(self, draw: random.Random) -> None:
        text = draw.choice(self.texts)
        for _ in range(draw.choice((1, 1, 1, 3))):
            text = damaged_text(text, draw, self.texts)
        self.now.write_text(text, "utf-8")
        self.model.generate("the", grammar=text, max_tokens=draw.choice((2, 2, 12)), seed=1, ignore_eos=True)


class Schema(WithModel):
    # TypeError: not a schema at all, and not a class either.
    expected = (ValueError, TypeError)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.sound = sound_schemas(120)

    def try_one(self, draw: random.Random) -> None:
        wanted = draw.choice(self.sound)
        if draw.random() < 0.6:
            wanted = damaged_value(wanted, draw, self.sound)
        else:
            text = damaged_text(json.dumps(wanted), draw, [json.dumps(draw.choice(self.sound))])
            try:
                wanted = json.loads(text)
            except ValueError, RecursionError:
                wanted = damaged_value(wanted, draw, self.sound)
        self.now.write_text(json.dumps(wanted))
        try:
            self.model.generate("the", json_schema=wanted, max_tokens=draw.choice((2, 2, 12)), seed=1)
        except TypeError:
            assert not isinstance(wanted, dict), wanted
            raise


KINDS: dict[str, Callable[[Path], Trier]] = {
    "gguf": Gguf,
    "embedding": Embedding,
    "session": Session,
    "grammar": Grammar,
    "schema": Schema,
}


def main() -> None:
    """Tries as many as the command line says."""
    kind, folder, seed, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    trier = KINDS[kind](folder)
    endings: collections.Counter[str] = collections.Counter()
    unexpected: list[str] = []
    slowest, before = 0.0, 0
    for number in range(count):
        if number == min(200, count // 2):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        faulthandler.dump_traceback_later(LONGEST, exit=True)
        start = time.monotonic()
        try:
            trier.try_one(random.Random(f"{kind} {seed + number}"))
            endings["accepted"] += 1
        except trier.expected as error:
            endings[type(error).__name__] += 1
        except Exception as error:
            endings["unexpected"] += 1
            unexpected.append(f"{seed + number}: {type(error).__name__}: {error}"[:500])
        slowest = max(slowest, time.monotonic() - start)
        faulthandler.cancel_dump_traceback_later()
    faulthandler.dump_traceback_later(LONGEST, exit=True)
    trier.close()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = {
        "endings": endings,
        "unexpected": unexpected[:20],
        "slowest_seconds": round(slowest, 3),
        "peak_kib": [before, after],
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
