"""A small SentencePiece-style vocabulary: trained on the corpus, encoding exactly as libllama does.

Spaces become U+2581, text falls apart into characters, and the neighbouring pair whose union has the best
score is joined again and again. Characters without a piece become their UTF-8 bytes. No piece holds a digit
beside anything else, so that numbers are always read digit by digit.
"""

import heapq
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

SPACE = "\u2581"
UNKNOWN, BOS, END, START = "<unk>", "<s>", "<|im_end|>", "<|im_start|>"
SPECIAL = (UNKNOWN, BOS, END, START)

_CHUNK = re.compile(rf"{SPACE}?[A-Za-z']+|[0-9.\-\n]|{SPACE}?[^A-Za-z0-9'.\-\s{SPACE}]+|{SPACE}|.")
_WORD = re.compile(rf"{SPACE}?[^{SPACE}]*")
_SPECIAL = re.compile("(" + "|".join(map(re.escape, (END, START))) + ")")


def _join(symbols: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    joined: list[str] = []
    i = 0
    while i < len(symbols):
        if symbols[i : i + 2] == pair:
            joined.append(pair[0] + pair[1])
            i += 2
        else:
            joined.append(symbols[i])
            i += 1
    return tuple(joined)


def learn_pieces(texts: Iterable[str], size: int) -> list[str]:
    """Up to `size` pieces, the best first: byte-pair merges of the texts' chunks, then their characters."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_CHUNK.findall(text.replace(" ", SPACE)))
    characters = {chr(c) for c in range(32, 127)} - {" "} | {"\n", SPACE}
    characters |= {c for chunk, n in counts.items() if n > 3 for c in chunk}
    words = {chunk: tuple(chunk) for chunk in counts}
    pairs: Counter[tuple[str, str]] = Counter()
    holders: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for chunk, symbols in words.items():
        for pair in pairwise(symbols):
            pairs[pair] += counts[chunk]
            holders[pair].add(chunk)
    merged: list[str] = []
    while len(merged) + len(characters) < size:
        pair = max(pairs, key=lambda p: (pairs[p], p))
        if pairs[pair] < 4:
            break
        for chunk in list(holders[pair]):
            old, new = words[chunk], _join(words[chunk], pair)
            for p in pairwise(old):
                pairs[p] -= counts[chunk]
            for p in pairwise(new):
                pairs[p] += counts[chunk]
                holders[p].add(chunk)
            words[chunk] = new
        del pairs[pair]
        if (piece := pair[0] + pair[1]) not in merged:
            merged.append(piece)
    return merged + sorted(characters)


class Tokenizer:
    """Pieces in order of rank, behind the special tokens and the 256 bytes."""

    def __init__(self, pieces: list[str]) -> None:
        self.pieces = pieces
        self.tokens = [*SPECIAL, *(f"<0x{b:02X}>" for b in range(256)), *pieces]
        self._ids = {token: i for i, token in enumerate(self.tokens)}
        first = len(SPECIAL) + 256
        self.scores = [0.0] * first + [-float(rank) for rank in range(len(pieces))]
        self._rank = {piece: rank for rank, piece in enumerate(pieces)}
        self._first_byte = len(SPECIAL)
        self._cache: dict[str, list[int]] = {}
        self.bos, self.end, self.start = (self._ids[t] for t in (BOS, END, START))

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        return cls(json.loads(path.read_text(encoding="utf-8")))

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.pieces, ensure_ascii=False, indent=0), encoding="utf-8")

    def encode(self, text: str) -> list[int]:
        """The tokens of a plain text; nothing in it is special."""
        ids: list[int] = []
        for word in _WORD.findall(text.replace(" ", SPACE)):
            if word not in self._cache:
                self._cache[word] = self._encode_word(word)
            ids += self._cache[word]
        return ids

    def encode_marked(self, text: str) -> list[int]:
        """As encode, but the chat markers in the text become their tokens."""
        ids: list[int] = []
        for part in _SPECIAL.split(text):
            ids += [self._ids[part]] if part in (END, START) else self.encode(part)
        return ids

    def _encode_word(self, word: str) -> list[int]:
        symbols: list[str | None] = list(word)
        after = [*range(1, len(word)), -1]
        before = list(range(-1, len(word) - 1))
        queue: list[tuple[int, int, str, int]] = []

        def consider(left: int) -> None:
            right = after[left]
            if left < 0 or right < 0:
                return
            union = f"{symbols[left]}{symbols[right]}"
            if union in self._rank:
                heapq.heappush(queue, (self._rank[union], left, union, right))

        for i in range(len(word) - 1):
            consider(i)
        while queue:
            _, left, union, right = heapq.heappop(queue)
            if symbols[left] is None or symbols[right] is None or f"{symbols[left]}{symbols[right]}" != union:
                continue
            symbols[left], symbols[right] = union, None
            after[left] = after[right]
            if after[left] >= 0:
                before[after[left]] = left
            if before[left] >= 0:
                consider(before[left])
            consider(left)
        ids: list[int] = []
        for symbol in symbols:
            if symbol is not None:
                ids += self._symbol_ids(symbol)
        return ids

    def _symbol_ids(self, symbol: str) -> list[int]:
        if symbol in self._rank:
            return [self._ids[symbol]]
        return [self._first_byte + b for b in symbol.encode()]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of tokens; special ones are left out."""
        data = bytearray()
        for i in ids:
            if i >= self._first_byte + 256:
                data += self.tokens[i].replace(SPACE, " ").encode()
            elif i >= self._first_byte:
                data.append(i - self._first_byte)
        return data.decode(errors="replace")
