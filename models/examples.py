"""Turns the corpus into token sequences: conversations in the chat template, reworded, fixed by a seed."""

import random
import re
from collections import defaultdict
from collections.abc import Iterator

from corpus import CORPUS, Block, Turn, expand, normalised, read_blocks, read_held_out, read_systems
from rephrase import Rephraser
from tokenizer import Tokenizer

# How often a field is drawn. Copied numbers and sums need more examples than texts that are learnt by heart.
FIELD_WEIGHTS = {
    "drone": 5.2,
    "sums": 2.0,
    "units": 2.2,
    "routing": 2.2,
    "classify": 1.5,
    "summarise": 3.4,
    "chat": 2.6,
    "howto": 1.6,
    "physics": 1.2,
    "unknown": 1.5,
    "dialogue": 0.8,
}
TASKS = {"drone", "sums", "units", "routing", "classify", "summarise"}
TOPICS = {"chat", "howto", "physics", "unknown"}
IGNORED = -100

Sequence = tuple[list[int], list[int]]


class Examples:
    """Draws training sequences; all that it draws follows from the generator given."""

    def __init__(self) -> None:
        self._fields: defaultdict[str, list[Block]] = defaultdict(list)
        for block in read_blocks():
            self._fields[block.field].append(block)
        unknown = set(self._fields) - set(FIELD_WEIGHTS)
        if unknown:
            raise ValueError(f"no weight for the fields {sorted(unknown)}")
        self._names = [name for name in FIELD_WEIGHTS if name in self._fields]
        self._weights = [FIELD_WEIGHTS[name] for name in self._names]
        self.systems = read_systems()
        self._rephrase = Rephraser(CORPUS / "rephrase.txt")
        held_out = read_held_out()
        self._held_out = {normalised(item.question) for item in held_out}
        # Sums with + and - are computed: no held-out one may be learnt in other words. Products and
        # quotients are tables learnt by heart, so that only their wording is new in the test.
        self._held_out_answers = {
            item.answer
            for item in held_out
            if item.field == "sums" and item.answer and not re.search(r" [*/] ", item.answer)
        }

    def turns(self, rng: random.Random, field: str | None = None) -> tuple[str, list[Turn]]:
        """A field and the turns of one example of it, reworded; never a held-out question."""
        while True:
            name = field or rng.choices(self._names, self._weights)[0]
            blocks = self._fields[name]
            block = rng.choices(blocks, [b.weight for b in blocks])[0]
            plain = expand(block, rng)
            loosely = name in TOPICS
            turns = [
                (self._rephrase(q, a, rng, loosely=loosely) if rng.random() < 0.8 else q, a) for q, a in plain
            ]
            if not any(self._withheld(q, a) for q, a in [*plain, *turns]):
                return name, turns

    def _withheld(self, question: str, answer: str) -> bool:
        """The wording of a held-out question, or the answer of a held-out sum with + or -."""
        return normalised(question) in self._held_out or answer in self._held_out_answers

    def sequence(self, tokenizer: Tokenizer, rng: random.Random) -> Sequence:
        """Tokens of one conversation and the targets: only what the assistant says is learnt."""
        if rng.random() < 0.15:
            return self._drill(tokenizer, rng)
        ids = [tokenizer.bos] if rng.random() < 0.93 else []
        labels = [IGNORED] * len(ids)
        field, turns = self.turns(rng)
        if rng.random() < 0.06:
            question, answer = turns[0]
            _say(ids, labels, tokenizer.encode(f"{question}\n"), learn=False)
            _say(ids, labels, [*tokenizer.encode(answer), tokenizer.end], learn=True)
            return ids, labels
        if rng.random() < 0.2:
            fitting = self.systems["any"] + 2 * self.systems.get(field, [])
            text = f"<|im_start|>system\n{rng.choice(fitting)}<|im_end|>\n"
            _say(ids, labels, tokenizer.encode_marked(text), learn=False)
        limit = rng.choices((0, 200, 400, 1000), (60, 28, 10, 2))[0]
        while True:
            for question, answer in turns:
                _turn(ids, labels, tokenizer, question, answer)
            if len(ids) >= limit or rng.random() < 0.1:
                break
            again = field if field in TASKS and rng.random() < 0.5 else None
            turns = self.turns(rng, again)[1]
        return ids[:1024], labels[:1024]

    def _drill(self, tokenizer: Tokenizer, rng: random.Random) -> Sequence:
        """Answers of sums and conversions line by line: arithmetic takes many examples, wordings few."""
        ids, labels = [tokenizer.bos], [IGNORED]
        field = rng.choices(("sums", "units"), (4, 1))[0]
        while len(ids) < 240:
            answer = self.turns(rng, field)[1][0][1]
            _say(ids, labels, tokenizer.encode(f"{answer}\n"), learn=True)
        return ids, labels

    def texts(self, rng: random.Random, count: int) -> Iterator[str]:
        """Texts for the vocabulary."""
        for _ in range(count):
            for question, answer in self.turns(rng)[1]:
                yield question
                yield answer


def _say(ids: list[int], labels: list[int], tokens: list[int], *, learn: bool) -> None:
    ids += tokens
    labels += tokens if learn else [IGNORED] * len(tokens)


def _turn(ids: list[int], labels: list[int], tokenizer: Tokenizer, question: str, answer: str) -> None:
    _say(ids, labels, [tokenizer.start, *tokenizer.encode(f"user\n{question}")], learn=False)
    opening = [tokenizer.end, *tokenizer.encode("\n"), tokenizer.start, *tokenizer.encode("assistant\n")]
    _say(ids, labels, opening, learn=False)
    _say(ids, labels, [*tokenizer.encode(answer), tokenizer.end], learn=True)
    _say(ids, labels, tokenizer.encode("\n"), learn=False)


def prompt_tokens(tokenizer: Tokenizer, question: str) -> list[int]:
    """What libllama sees of a first question."""
    text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    return [tokenizer.bos, *tokenizer.encode_marked(text)]


def batches(sequences: list[Sequence], rng: random.Random, tokens: int) -> list[list[Sequence]]:
    """Batches of sequences of like length, each of about so many tokens with its padding."""
    ordered = sorted(sequences, key=lambda s: len(s[0]))
    made: list[list[Sequence]] = [[]]
    for item in ordered:
        if made[-1] and (len(made[-1]) + 1) * len(item[0]) > tokens:
            made.append([])
        made[-1].append(item)
    rng.shuffle(made)
    return made
