"""ROUGE-L from counts: a record keeps the counts and needs no text to be scored again (Lin 2004)."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Literal

from bench.core.contracts import Metric
from bench.core.types import Responses
from bench.metrics import rows_of
from bench.metrics.catalogue import listed
from bench.metrics.scores import mean_metric

WORD = re.compile(r"[^\W_]+|[^\w\s]|_")
"""A word or a single mark of punctuation, so that a row of dots reads as the loop that it is."""
CYCLES = 3
"""A phrase said that often in a row is a loop; twice is said by people too."""


def count_overlap(generation: str, reference: str) -> dict[str, int]:
    """Counts that ROUGE-L and the collapse flag need of a generated text and of its reference.

    ``lcs``, ``n_ref``, ``n_hyp``: length of the longest common subsequence and of both texts in rouge-score's own
    tokens; with ``_stem`` after Porter's stemmer. ``words``, ``distinct``: words and marks of the generation, and how
    many different ones; ``looped``: the most of them that lie in one phrase said three or more times in a row.
    """
    from rouge_score.tokenize import tokenize

    counts: dict[str, int] = {}
    for ending, stemmer in (("", None), ("_stem", porter_stemmer())):
        ref, hyp = (tokenize(text, stemmer) for text in (reference, generation))
        counts |= {f"lcs{ending}": common_subsequence(ref, hyp), f"n_ref{ending}": len(ref), f"n_hyp{ending}": len(hyp)}
    words = WORD.findall(generation.lower())
    return counts | {"words": len(words), "distinct": len(set(words)), "looped": longest_loop(words)}


@cache
def porter_stemmer() -> Any:
    """Nltk's Porter stemmer, which rouge-score takes, without importing the rest of nltk: that takes over a second.

    Its modules are found below two empty packages, which are gone again afterwards.
    """
    shells: list[str] = []
    places = getattr(find_spec("nltk"), "submodule_search_locations", None) or []
    for name, folder in () if "nltk" in sys.modules else (("nltk", ""), ("nltk.stem", "stem")):
        shells.append(name)
        sys.modules[name] = shell = ModuleType(name)
        shell.__path__ = [os.path.join(place, folder) for place in places]
    try:
        from nltk.stem.porter import PorterStemmer

        return PorterStemmer()
    finally:
        if shells:
            for name in [name for name in sys.modules if name.partition(".")[0] == "nltk"]:
                del sys.modules[name]


def common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence, by bits (Hyyrö 2004): a zero of ``row`` is a step of the table."""
    places: dict[str, int] = {}
    for i, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << i
    full = row = (1 << len(one)) - 1
    for word in other:
        hit = row & places.get(word, 0)
        row = (row + hit | row - hit) & full
    return len(one) - row.bit_count()


def longest_loop(words: Sequence[str]) -> int:
    """The most words covered by one phrase, of any length, that stands `CYCLES` or more times in a row."""
    longest = 0
    for period in range(1, len(words) // CYCLES + 1):
        run = 0
        for word, earlier in zip(words[period:], words, strict=False):
            run = run + 1 if word == earlier else 0
            if run >= (CYCLES - 1) * period:
                longest = max(longest, run + period)
    return longest


@listed("*_Q_A_ROUGE", "ROUGE-L recall of the greedy answer, with stemmer", "oracle or up", "TOFU")
@listed(
    "*_knowmem_ROUGE, *_verbmem_ROUGE",
    "ROUGE-L F1 of the greedy answer or continuation, without stemmer",
    "oracle or up",
    "MUSE",
)
def rouge_l(
    name: str, probe: str, *, measure: Literal["recall", "f1"], stemmer: bool, goal: str | float, whole: bool = False
) -> Metric:
    """Mean over rows of ROUGE-L of the greedy continuation against the data's own answer.

    TOFU reports recall with the stemmer, MUSE (arXiv 2407.06460) F1 without. Equal to rouge-score's; the reference is
    never cut out of decoded text, as it is in the peer. A row whose reference has no word is left out. Where the
    probe cuts its references (`bench.engines.measuring.measure.run_generate`), ``whole`` takes the uncut ones, as the peer does.
    """
    ending = "_stem" if stemmer else ""

    def rows(responses: Responses, oracles: object) -> dict[str, float]:
        found: dict[str, float] = {}
        for key, row in rows_of(responses, probe).items():
            counts = row.get("counts_whole", row.get("counts", {})) if whole else row.get("counts", {})
            if counts.get(f"n_ref{ending}"):
                found[key] = rouge(counts, measure, ending)
        return found

    return mean_metric(name, rows, goal)


def rouge(counts: Mapping[str, float], measure: str, ending: str) -> float:
    """Recall lcs / reference, or F1 with precision lcs / generation; 0 for an empty generation."""
    if not counts[f"lcs{ending}"]:
        return 0.0
    recall = counts[f"lcs{ending}"] / counts[f"n_ref{ending}"]
    precision = counts[f"lcs{ending}"] / counts[f"n_hyp{ending}"]
    return recall if measure == "recall" else 2 * precision * recall / (precision + recall)
