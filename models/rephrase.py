"""Rewords a question the way people do: synonyms, politeness, case, punctuation, small typing mistakes."""

import random
import re
from pathlib import Path

_SMALL = frozenset(
    "a an the to do does did i me my you is are was of in on for can it that some this how what".split()
)


class Rephraser:
    """Interchangeable phrases, frames of questions, and what people say around them (corpus/rephrase.txt)."""

    def __init__(self, path: Path) -> None:
        self._before: list[str] = []
        self._after: list[str] = []
        self._phrases: dict[str, list[str]] = {}
        self._frames: list[tuple[re.Pattern[str], list[str]]] = []
        for line in path.read_text(encoding="utf-8").splitlines():
            key, _, rest = line.partition(" ")
            if key == "before:":
                self._before.append(rest.strip())
            elif key == "after:":
                self._after.append(rest.strip())
            elif key == "frame:":
                found, _, others = rest.partition("=>")
                openings = "|".join(re.escape(part.strip()) for part in found.split("|"))
                frames = [part.strip() for part in others.split("|")]
                self._frames.append((re.compile(rf"(?:{openings}) (.+?)[?.!]*", re.IGNORECASE), frames))
            elif line and not line.startswith("#"):
                group = [part.strip() for part in line.split("|")]
                self._phrases |= dict.fromkeys(group, group)
        longest_first = sorted(map(re.escape, self._phrases), key=len, reverse=True)
        self._pattern = re.compile(rf"\b({'|'.join(longest_first)})\b", re.IGNORECASE)

    def __call__(self, text: str, answer: str, rng: random.Random, *, loosely: bool = False) -> str:
        """`loosely`: the topic matters, not each word: small words may go, the whole frame may change."""
        if loosely and rng.random() < 0.3:
            text = self._reframed(text, rng)
        if loosely and rng.random() < 0.1:
            text = _shortened(text, rng)
        if rng.random() < 0.5:
            text = self._pattern.sub(lambda found: self._synonym(found.group(0), rng), text)
        if rng.random() < 0.2:
            before = rng.choice(self._before)
            text = before + " " + (text if rng.random() < 0.3 else text[:1].lower() + text[1:])
        if rng.random() < 0.12:
            text = text.rstrip("?.!") + " " + rng.choice(self._after)
        if rng.random() < 0.15:
            text = _mistyped(text, answer, rng)
        return _dressed(text, answer, rng)

    def _reframed(self, text: str, rng: random.Random) -> str:
        for pattern, frames in self._frames:
            if found := pattern.fullmatch(text):
                return rng.choice(frames).replace("...", found.group(1))
        return text

    def _synonym(self, found: str, rng: random.Random) -> str:
        if rng.random() < 0.5:
            return found
        other = rng.choice(self._phrases.get(found.lower(), [found]))
        return other[:1].upper() + other[1:] if found[:1].isupper() else other


def _shortened(text: str, rng: random.Random) -> str:
    """Without some of the words that carry little."""
    words = text.split(" ")
    kept = [word for word in words if word.lower() not in _SMALL or rng.random() < 0.4]
    return " ".join(kept) if kept else text


def _mistyped(text: str, answer: str, rng: random.Random) -> str:
    words = text.split(" ")
    fit = [i for i, w in enumerate(words) if len(w) > 3 and w.isalpha() and w.lower() not in answer.lower()]
    for i in rng.sample(fit, min(len(fit), rng.choice((1, 1, 2)))):
        word = words[i]
        at = rng.randrange(1, len(word) - 1)
        missing, doubled = word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:]
        swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        other = word[:at] + rng.choice("aeiourstln") + word[at + 1 :]
        words[i] = rng.choice((missing, doubled, swapped, other))
    return " ".join(words)


def _dressed(text: str, answer: str, rng: random.Random) -> str:
    repeats_a_name = any(word in answer for word in re.findall(r"[A-Z][A-Za-z]+", text))
    dice = rng.random()
    if dice < 0.35:
        text = text[:1].lower() + text[1:] if repeats_a_name else text.lower()
    elif dice < 0.7:
        text = text[:1].upper() + text[1:]
    elif dice < 0.72 and not repeats_a_name:
        text = text.upper()
    dice = rng.random()
    if dice < 0.25:
        text = text.rstrip("?.!")
    elif dice < 0.4:
        text = text.rstrip("?.!") + rng.choice(("?", ".", "!", "...", " ?", "??"))
    return text
