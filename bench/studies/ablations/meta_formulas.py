"""Faithfulness and robustness of a metric, in the two forms that were published.

OU: open-unlearning's meta-evaluation (arXiv 2506.12618). UD: its symmetric form (arXiv 2605.24614). In both, a metric is
turned first so that a higher value says that more is known. ``None`` is where a form says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import harmonic_mean

CLOSE = 1e-12
"""Changes below this are the arithmetic's own."""


def measure_auc(knowing: Sequence[float], ignorant: Sequence[float]) -> float | None:
    """The probability that a model which knows scores above one that doesn't, ties half; None where a side is empty."""
    from bench.metrics.bootstrap import roc_auc

    return roc_auc(ignorant, knowing) if knowing and ignorant else None


def find_threshold(knowing: Sequence[float], ignorant: Sequence[float]) -> float:
    """The value that tells the pools apart best: most of the knowing above it and of the ignorant not above, each by share.

    Halfway between two neighbouring values; of several equally good ones the middle one.
    """
    values = sorted({*knowing, *ignorant})
    between = [(low + high) / 2 for low, high in zip(values, values[1:], strict=False)] or values

    def told_apart(at: float) -> float:
        above = sum(value > at for value in knowing) / len(knowing)
        return above + sum(value <= at for value in ignorant) / len(ignorant)

    best = max(map(told_apart, between))
    good = [at for at in between if told_apart(at) > best - CLOSE]
    return good[len(good) // 2]


def relearning_ratio(unlearned: tuple[float, float], oracle: tuple[float, float]) -> float | None:
    """OU: R = min((m_ret^a - m_ret^b) / (m_unl^a - m_unl^b), 1), each pair the value before (b) and after (a) relearning.

    1 where the unlearned model learns no faster than the oracle. None where one of them doesn't rise: the quotient is
    then negative or without end, and the paper doesn't say what that would mean.
    """
    own, theirs = unlearned[1] - unlearned[0], oracle[1] - oracle[0]
    return min(theirs / own, 1.0) if own > CLOSE and theirs > CLOSE else None


def relearning_symmetric(unlearned: tuple[float, float], oracle: tuple[float, float]) -> float | None:
    """UD: R = 1 - |D_unl - D_ret| / (|D_unl| + |D_ret|), D the change under relearning; None where neither changes."""
    return agreement(unlearned[1] - unlearned[0], oracle[1] - oracle[0])


def rounding_ratio(before: float, after: float) -> float | None:
    """OU: Q = min(before / after, 1), 1 where rounding brings nothing back; None where nothing is left to divide by."""
    return min(before / after, 1.0) if after > CLOSE else None


def agreement(one: float, other: float) -> float | None:
    """UD: 1 - |a - b| / (|a| + |b|), for rounding of the values before and after; None where both are 0."""
    size = abs(one) + abs(other)
    return 1 - abs(one - other) / size if size > CLOSE else None


def harmonic(relearning: float | None, rounding: float | None) -> float | None:
    """Robustness: the harmonic mean of R and Q; None where one is missing."""
    if relearning is None or rounding is None:
        return None
    return harmonic_mean([max(relearning, 0.0), max(rounding, 0.0)])
