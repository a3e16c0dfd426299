"""Invented words: random syllables with a suffix that tells the class of the word."""

from __future__ import annotations

import random
from collections.abc import Sequence

CONSONANTS = "bdfgklmnprstvz"
VOWELS = "aeiou"


class WordMaker:
    """Draws words that are unique over all classes of one world."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.seen: set[str] = set()

    def word(self, suffix: str = "", capital: bool = False) -> str:
        """One new word of two syllables and ``suffix``."""
        while True:
            stem = "".join(self.rng.choice(CONSONANTS) + self.rng.choice(VOWELS) for _ in range(2))
            word = (stem.capitalize() if capital else stem) + suffix
            if word.lower() not in self.seen:
                self.seen.add(word.lower())
                return word

    def words(self, count: int, suffix: str = "", capital: bool = False) -> list[str]:
        """``count`` new words of one class."""
        return [self.word(suffix, capital) for _ in range(count)]


def draw_full_names(rng: random.Random, first: Sequence[str], last: Sequence[str], count: int) -> list[str]:
    """``count`` different full names; first and last names are shared, so that no single token names a person."""
    pairs = [f"{a} {b}" for a in first for b in last]
    return rng.sample(pairs, count)
