"""95% percentile bootstrap over people, the same on every machine.

Examples about one author, entity or book succeed and fail together, so that people are drawn and bring all of theirs
(the cluster bootstrap; Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). An example whose
id names nobody (`person_of`) is drawn for itself. A statistic here is a function of how often each example was
drawn, so that a thousand resamples are a few array
operations. Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.metrics import rounded_score

RESAMPLES = 1000
BLOCK = 100
"""Resamples held in memory at a time."""
KEPT = 2000
"""Examples up to which their draws are kept, 4 MB."""
LEVELS = (2.5, 97.5)

Floats = NDArray[np.float64]
Counts = NDArray[np.integer[Any]]
Ends = tuple[float, float] | tuple[None, None]
"""Of an interval; none where there is nobody to draw instead."""
Statistic = Callable[..., Floats]
"""One (B, n) array of draws per group of examples -> the statistic of each resample, (B,)."""
PERSON = re.compile(r"(?:\w+/)?(\w+-\d+)-")
"""In an example's id, or in one with its probe before it, as in scores that pool several."""


def person_of(id: str) -> str:
    """Whom an example is about: ``author-3`` of ``author-3-birthplace-q1``; an id that names nobody is its own."""
    found = PERSON.match(id)
    return found[1] if found else id


def interval(statistic: Statistic, *people: Sequence[str]) -> Ends:
    """(low, high) of ``statistic`` over resamples that draw the people of each group of examples anew, with replacement.

    ``people``: for each group, whom each of its examples is about. Seeded with 0: equal data, equal interval.
    """
    places = [np.unique(np.asarray(group), return_inverse=True) for group in people]
    sizes = tuple(len(found) for found, _ in places)
    if min(sizes) < 2:
        return None, None
    apart = [size == len(group) for size, group in zip(sizes, people, strict=True)]
    blocks = kept_draws(sizes) if sum(sizes) <= KEPT else all_draws(sizes)
    drawn = [
        statistic(*(c if own else c[:, at] for c, own, (_, at) in zip(block, apart, places, strict=True)))
        for block in blocks
    ]
    low, high = np.percentile(np.concatenate(drawn), LEVELS)
    return rounded_score(low), rounded_score(high)


def all_draws(sizes: Sequence[int]) -> Iterator[list[Counts]]:
    """For each block of resamples the `draws` of each group."""
    rng = np.random.default_rng(0)
    for _ in range(RESAMPLES // BLOCK):
        yield [draws(rng, size) for size in sizes]


@lru_cache(8)
def kept_draws(sizes: Sequence[int]) -> list[list[Counts]]:
    """The same of groups so small that their draws are kept for the next statistic, in 16 bits."""
    return [[counts.astype(np.int16) for counts in block] for block in all_draws(sizes)]


def draws(rng: np.random.Generator, size: int) -> Counts:
    """Draw with replacement: how often each of ``size`` examples comes, (BLOCK, size); every row sums to ``size``."""
    picks = rng.integers(size, size=(BLOCK, size)) + size * np.arange(BLOCK)[:, None]
    return np.bincount(picks.ravel(), minlength=BLOCK * size).reshape(BLOCK, size)


def bootstrap_mean(values: Sequence[float], people: Sequence[str]) -> Ends:
    """(low, high) of the mean of ``values``, one per example, each about one of ``people``."""
    array = np.asarray(values, dtype=np.float64)
    return interval(lambda counts: (counts * array).sum(axis=1) / counts.sum(axis=1), people)


def area(members: Floats, others: Floats, member_counts: Counts, other_counts: Counts) -> Floats:
    """ROC AUC of the resamples, (B,): the probability that an other scores above a member, ties half.

    Mann and Whitney's U over the number of pairs. Arrays are (n,) and (m,), counts (B, n) and (B, m).
    """
    order = np.argsort(members)
    ranked = members[order]
    below = np.zeros((len(member_counts), len(members) + 1), dtype=np.int64)
    np.cumsum(member_counts[:, order], axis=1, out=below[:, 1:])
    twice = below[:, np.searchsorted(ranked, others, "left")] + below[:, np.searchsorted(ranked, others, "right")]
    pairs = member_counts.sum(axis=1, dtype=np.int64) * other_counts.sum(axis=1, dtype=np.int64)
    wins: Floats = (twice * other_counts).sum(axis=1) / (2 * pairs)
    return wins


def roc_auc(members: ArrayLike, others: ArrayLike) -> float:
    """ROC AUC with members labelled 0 and others 1, as `area`, each example once."""
    sides = np.asarray(members), np.asarray(others)
    once = [np.ones((1, len(side)), dtype=np.int64) for side in sides]
    return rounded_score(area(*sides, *once)[0])


def bootstrap_auc(members: ArrayLike, others: ArrayLike, *people: Sequence[str]) -> Ends:
    """(low, high) of `roc_auc`, the people of members and of others drawn apart."""
    sides = np.asarray(members), np.asarray(others)
    return interval(lambda m, o: area(*sides, m, o), *people)
