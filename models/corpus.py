"""Reads models/corpus/ and makes training examples of it.

The files are plain text. Blocks are separated by empty lines; a line that starts with # is a comment.

    @field chat               the blocks below belong to this field
    slot city = Oslo | Rome   a slot of this file: {city} becomes one of the values
    slot n = 0..99            a whole number; 0.00..9.99 draws decimals of at most two places
    slot w = ten=10 | two=2   {w} is the left side, {w.value} the right one

    Q: a question             any number of wordings; [a|b|] picks one of the parts
    A: an answer              any number of answers, one is drawn
    if: a >= b                draw the slots again unless this holds
    let: c = a + b            a computed slot
    weight: 2                 drawn so much more often than its neighbours

A dialogue has U: and S: lines in turn instead. A block of log lines has `class:`, L: lines and an S: summary.
held_out.txt has Q: lines that training never sees, with `A:` the whole answer or `K:` words of it
(a|b: either).
"""

import random
import re
from dataclasses import dataclass, field
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
HELD_OUT = CORPUS / "held_out.txt"

_CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")
_SLOT = re.compile(r"\{([a-z_][a-z_0-9]*(?:\.value)?)\}")
_RANGE = re.compile(r"^(-?\d+(?:\.\d+)?)\.\.(-?\d+(?:\.\d+)?)$")

Turn = tuple[str, str]


@dataclass
class Block:
    """One thing the model should know: wordings of a question and the answers to it, or a dialogue."""

    field: str
    questions: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    dialogue: list[str] = field(default_factory=list)
    lets: dict[str, str] = field(default_factory=dict)
    conditions: list[str] = field(default_factory=list)
    slots: dict[str, list[str]] = field(default_factory=dict)
    weight: float = 1.0
    label: str = ""
    log_lines: list[str] = field(default_factory=list)


@dataclass
class HeldOut:
    """One held-out question: the whole answer, or words of it (every entry, one of its alternatives)."""

    field: str
    question: str
    answer: str = ""
    keywords: list[str] = field(default_factory=list)


def _lines(path: Path) -> list[tuple[int, str]]:
    text = path.read_text(encoding="utf-8")
    return [(n, line.rstrip()) for n, line in enumerate(text.splitlines(), 1) if not line.startswith("#")]


def _parts(text: str) -> list[str]:
    """The parts between the bars that are in no brackets."""
    return [part.strip() for part in re.split(r"\|(?![^\[]*\])", text)]


def _finished(block: Block) -> list[Block]:
    """What a block stands for: itself, or for log lines two tasks: name the class, say it shortly."""
    if block.log_lines:
        classify = [f"{{classify}} {line}" for line in block.log_lines]
        summarise = [f"{{summarise}} {line}" for line in block.log_lines]
        return [
            Block("classify", classify, [block.label], slots=block.slots, weight=block.weight),
            Block("summarise", summarise, block.dialogue, slots=block.slots, weight=block.weight),
        ]
    return [block] if block.answers or block.dialogue else []


def read_file(path: Path) -> list[Block]:
    """The blocks of one file of the corpus. ValueError names the line that is not understood."""
    blocks: list[Block] = []
    slots: dict[str, list[str]] = {}
    block = Block(path.stem, slots=slots)
    for number, line in [*_lines(path), (0, "")]:
        key, _, rest = line.partition(" ")
        rest = rest.strip()
        name, _, value = (part.strip() for part in rest.partition("="))
        match key:
            case "":
                blocks += _finished(block)
                block = Block(block.field, slots=slots)
            case "@field":
                block.field = rest
            case "slot":
                slots[name] = _parts(value)
            case "Q:":
                block.questions.append(rest)
            case "A:":
                block.answers.append(rest)
            case "U:" | "S:":
                block.dialogue.append(rest)
            case "L:":
                block.log_lines.append(rest)
            case "class:":
                block.label = rest
            case "if:":
                block.conditions.append(rest)
            case "let:":
                block.lets[name] = value
            case "weight:":
                block.weight = float(rest)
            case _:
                raise ValueError(f"{path.name}:{number}: not understood: {line!r}")
    return blocks


def read_blocks() -> list[Block]:
    """Every block that training may see."""
    skip = {"held_out", "rephrase", "system"}
    return [
        block for path in sorted(CORPUS.glob("*.txt")) if path.stem not in skip for block in read_file(path)
    ]


def read_systems() -> dict[str, list[str]]:
    """System messages that may stand before the questions of a field; `any` fits all."""
    systems: dict[str, list[str]] = {}
    for _, line in _lines(CORPUS / "system.txt"):
        name, _, text = line.partition(":")
        if text:
            systems.setdefault(name, []).append(text.strip())
    return systems


def read_held_out(path: Path = HELD_OUT) -> list[HeldOut]:
    """The held-out questions: Q: lines, then A: or K: for all of them."""
    items: list[HeldOut] = []
    field_name, questions = "", list[str]()
    for number, line in _lines(path):
        key, _, rest = line.partition(" ")
        rest = rest.strip()
        match key:
            case "":
                continue
            case "@field":
                field_name = rest
            case "Q:":
                questions.append(rest)
            case "A:":
                items += [HeldOut(field_name, question, answer=rest) for question in questions]
                questions = []
            case "K:":
                items += [
                    HeldOut(field_name, question, keywords=rest.lower().split()) for question in questions
                ]
                questions = []
            case _:
                raise ValueError(f"{path.name}:{number}: not understood: {line!r}")
    return items


def _draw(values: list[str], rng: random.Random) -> tuple[str, str]:
    value = rng.choice(values)
    span = _RANGE.match(value)
    if not span:
        surface, _, meaning = value.partition("=")
        return surface.strip(), (meaning or surface).strip()
    low, high = span.groups()
    places = len(low.partition(".")[2])
    if places:
        places = rng.randint(max(1, places - 2), places)
        text = f"{rng.uniform(float(low), float(high)):.{places}f}"
    else:
        text = str(rng.randint(int(low), int(high)))
    return text, text


def _number(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _shown(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


class Filler:
    """The slots of one example: drawn when first named, then the same in question and answer."""

    def __init__(self, block: Block, rng: random.Random) -> None:
        self._block, self._rng = block, rng
        self._values: dict[str, tuple[str, str]] = {}

    def value(self, name: str) -> tuple[str, str]:
        if name not in self._values:
            if name in self._block.lets:
                shown = _shown(self.evaluate(self._block.lets[name]))
                self._values[name] = (shown, shown)
            else:
                surface, meaning = _draw(self._block.slots[name], self._rng)
                self._values[name] = (self.fill(surface), self.fill(meaning))
        return self._values[name]

    def evaluate(self, expression: str) -> object:
        known = [
            n for n in re.findall(r"[a-z_]+", expression) if n in self._block.lets or n in self._block.slots
        ]
        names = {name: _number(self.value(name)[1]) for name in known}
        return eval(expression, {"__builtins__": {"round": round, "int": int}}, names)

    def fill(self, text: str) -> str:
        while choice := _CHOICE.search(text):
            picked = self._rng.choice(choice.group(1).split("|"))
            text = text[: choice.start()] + picked + text[choice.end() :]

        def replace(match: re.Match[str]) -> str:
            name = match.group(1)
            return self.value(name.removesuffix(".value"))[name.endswith(".value")]

        return re.sub(r"  +", " ", _SLOT.sub(replace, text)).strip()


def expand(block: Block, rng: random.Random) -> list[Turn]:
    """One example of a block: its turns, filled in."""
    for _ in range(200):
        filler = Filler(block, rng)
        if not all(filler.evaluate(condition) for condition in block.conditions):
            continue
        if block.dialogue:
            said = [filler.fill(line) for line in block.dialogue]
            return list(zip(said[::2], said[1::2], strict=True))
        question = filler.fill(rng.choice(block.questions))
        return [(question, filler.fill(rng.choice(block.answers)))]
    raise ValueError(f"no values satisfy {block.conditions} of {block.questions[:1]}")


def normalised(text: str) -> str:
    """The letters and digits of a text: two wordings that differ only in case and punctuation are equal."""
    return " ".join(re.findall(r"[a-z0-9.+*/-]+", text.lower().rstrip(".?! ")))
