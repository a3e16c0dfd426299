"""How far two runs of one thing lie apart: the noise below which a difference between methods means nothing.

Pooled standard deviation of a seed's oracles and of second runs of a method (``--order 1``), which differ in the order of
their data alone: sums of squares around each group's mean over the sum of their degrees of freedom.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.core.record import Record

TOLD = 10
"""Digits of a score that tell something in a difference: records have 12, of which a sum or two may take the last."""
ROUNDING = 1e-12
"""A mean that is smaller than this share of what it is taken over is what float arithmetic leaves of 0."""
ORACLES = 3
"""Oracles of a seed from which they tell its noise."""
WHOLE = 1e-6
"""How near a whole number of rows a share of them is."""
Group = Sequence[Record]


@dataclass(frozen=True)
class Noise:
    """The noise of one score."""

    sd: float
    """Pooled standard deviation, at least `row`."""
    df: int
    """Degrees of freedom behind it."""
    row: float
    """What one row of the probe makes of a score that is a share of its rows; 0 for other scores."""


def measure_noise(
    oracles: Mapping[int, Mapping[str, Sequence[float]]], twice: Iterable[Group], records: Sequence[Record]
) -> dict[str, Noise]:
    """The noise of every score of ``records``, where something tells it.

    ``oracles``: per seed and score the value of every oracle. ``twice``: runs of one method in one setting on one seed.
    """
    groups: dict[str, list[Sequence[float]]] = defaultdict(list)
    for by_score in oracles.values():
        for name, values in by_score.items():
            if len(values) >= ORACLES:
                groups[name].append(values)
    for runs in twice:
        for name in {name for run in runs for name in run.scores}:
            groups[name].append([run.scores[name].value for run in runs if name in run.scores])
    found = {}
    for name in sorted(groups):
        df = sum(len(values) - 1 for values in groups[name])
        if df:
            row = one_row(name, records)
            found[name] = Noise(max(pooled_sd(groups[name]), row), df, row)
    return found


def difference(one: float, other: float) -> float:
    """``one - other`` to `TOLD` digits of ``other``, the value that others are measured from.

    Of two scores as far above it as below, rounding leaves differences that are not the same float.
    """
    found = one - other
    if not other or not math.isfinite(found):
        return found
    return round(found, TOLD - 1 - math.floor(math.log10(abs(other)))) + 0.0  # no -0


def pooled_sd(groups: Sequence[Sequence[float]]) -> float:
    """The standard deviation around the groups' own means; 0 where no group has two values."""
    df = sum(len(values) - 1 for values in groups)
    squares = [difference(value, fmean(values)) ** 2 for values in groups for value in values]
    return math.sqrt(math.fsum(squares) / df) if df > 0 else 0.0


def one_row(name: str, records: Sequence[Record]) -> float:
    """1/n of a score that is a share of its n rows in every record, such as an accuracy; 0 for others."""
    scores = [record.scores[name] for record in records if name in record.scores]
    shares = [score.value * score.n for score in scores]
    if not all(score.n and abs(share - round(share)) < WHOLE for score, share in zip(scores, shares, strict=True)):
        return 0.0
    return max((1 / score.n for score in scores if 0 <= score.value <= 1), default=0.0)
