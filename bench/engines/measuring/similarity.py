"""`Similarity`, the judge that needs no network: a rule over the words that tell reference answers apart."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from bench.core.contracts import Judge
from bench.metrics.rouge import common_subsequence, porter_stemmer

DIGITS = 9
"""Decimals of a grade: what differs less is a tie."""
EMPTY = (
    "a an the of in on at to for from by with as and or that this these those is are was were be been being am has have "
    "had having do does did it its he him his she her hers they them their theirs who whom whose which what when where "
    "why how there here"
)
STOP_WORDS = frozenset(EMPTY.split())
"""Words that state no fact; ``no`` and ``not`` do."""


@dataclass(frozen=True)
class Similarity(Judge):
    """Judges by the overlap of the words that tell the options apart. Deterministic; knows no synonyms.

    1. A text becomes the set of its words' Porter stems: lower case, without accents, possessives and stop words.
    2. A stem weighs 1 / d³, d the number of different options that have it (options with equal stems are one; a stem
       of no option weighs 1). So what all options say, among it most words of the question, counts for almost nothing,
       as does the phrasing that wrong answers share, and a name that only one of them has counts in full.
    3. A grade is the weighted F1, 2 w(both) / (w(answer) + w(option)), rounded to 9 decimals.
    4. When no option shares a stem with the answer, all grades are ROUGE-L F1 over all stems, stop words included.

    Equal grades are a tie, which the metrics never count in the model's favour; so are an empty answer and one that
    shares no word with any option, a refusal in other words for instance (all grades 0).

    Chosen by the published rows of TOFU: d³ finds the truth in 7 of 10 of TOFU's paraphrased answers, whose phrasing the
    wrong answers copy; dropping only what is in the question or in every option finds it in 2 of 10.
    """

    name: str = field(default="similarity", init=False)
    version: int = field(default=1, init=False)

    def grade(self, question: str, answer: str, options: Mapping[str, str]) -> dict[str, float]:
        """The weighted F1 of the answer with each option; ``question`` takes no part."""
        said, texts = stems(answer), {option: stems(text) for option, text in options.items()}
        kinds = {frozenset(telling(words)) for words in texts.values()}
        having = Counter(stem for kind in kinds for stem in kind)
        grades = {option: weighted_f1(telling(said), telling(words), having) for option, words in texts.items()}
        if not any(grades.values()):
            grades = {option: longest_common_f1(said, words) for option, words in texts.items()}
        return {option: round(grade, DIGITS) for option, grade in grades.items()}


def stems(text: str) -> list[str]:
    """The stems of a text's words, in order; words of three letters and less stay whole."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return [stem(word) for word in re.findall(r"[^\W_]+", re.sub(r"['’]s\b", "", bare))]


@cache
def stem(word: str) -> str:
    """Porter's stem of one word; stop words keep the form in which `STOP_WORDS` has them."""
    return word if len(word) <= 3 or word in STOP_WORDS else porter_stemmer().stem(word)


def telling(words: Iterable[str]) -> set[str]:
    """The stems that may state a fact."""
    return set(words) - STOP_WORDS


def weighted_f1(said: set[str], option: set[str], having: Mapping[str, int]) -> float:
    """F1 of two sets of stems, each weighing 1 / (options that have it)³; summed exactly, as sets have no order."""

    def weight(words: set[str]) -> float:
        return math.fsum(1 / having.get(word, 1) ** 3 for word in words)

    return 2 * weight(said & option) / (weight(said) + weight(option)) if said & option else 0.0


def longest_common_f1(said: Sequence[str], option: Sequence[str]) -> float:
    """ROUGE-L F1 of two lists of stems."""
    return 2 * common_subsequence(said, option) / (len(said) + len(option)) if said and option else 0.0
