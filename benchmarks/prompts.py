"""Prompts whose length in tokens is known. Light to import: it is used inside interpreters."""

CONSONANTS, VOWELS = "bcdfghjklmnpqrstvwyz", "aeiou"


def words(count: int, seed: int = 0) -> str:
    """A text that tokenises to `count` tokens (BOS not counted) with the vocabulary of models.py."""
    text = []
    state = seed * 2 + 1
    for _ in range(count):
        state = state * 6364136223846793005 % 2**64 + 1442695040888963407
        high = state >> 33
        text.append(CONSONANTS[high % 20] + VOWELS[high // 20 % 5])
    return " ".join(text)
