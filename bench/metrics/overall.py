"""The field's overall score (arXiv 2605.24614): memorisation and privacy, its two parts that responses tell.

Its third part needs the target's record (`bench.records.overall`). Shown as theirs, beside distances to the oracle: it
rewards forgetting beyond the oracle's, so that the oracle itself doesn't get 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.core.contracts import Metric
from bench.core.errors import Absent
from bench.core.record import Score
from bench.core.types import Responses
from bench.metrics import check_finite, rounded_score
from bench.metrics.catalogue import listed
from bench.metrics.membership import Attack, attack_area
from bench.metrics.tokens import harmonic_mean, mean

ASKED: tuple[Attack, ...] = ("loss", "zlib", "min_k", "min_k_plus_plus")
"""The membership attacks of the privacy part."""


@listed(
    "field_memorisation",
    "harmonic mean of 1 - extraction strength, memorisation, paraphrased probability, truth ratio; the oracle has no 1",
    "up",
    "arXiv 2605.24614",
)
def field_memorisation(name: str, parts: Sequence[Metric]) -> Metric:
    """Harmonic mean of 1 - the scores of ``parts``, goal up: the field's, which the oracle isn't best at.

    Theirs are extraction strength, exact memorisation, the paraphrased answer's probability, and the truth ratio as the
    right answer's share p / (p + p_wrong). A part that is absent makes the whole absent; the size is the smallest part's.
    """

    def compute(responses: Responses, oracles: Sequence[Responses]) -> Score:
        scores = [check_finite(part.compute(responses, oracles)) for part in parts]
        value = harmonic_mean(1 - score.value for score in scores)
        return Score(rounded_score(value), min(score.n for score in scores))

    return replace(Metric(name, compute, "up"), late=True)


@listed(
    "field_privacy",
    "harmonic mean over four membership attacks of 1 - |AUC - oracle's| / oracle's",
    "up",
    "arXiv 2605.24614",
)
def field_privacy(name: str, member: str, other: str) -> Metric:
    """Harmonic mean over loss, zlib, min-k and min-k++ of 1 - min(|AUC - AUC_oracle| / AUC_oracle, 1), goal up.

    The oracle's AUC is the mean of the oracles'; where that is 0 the quotient means nothing and the score is absent.
    """

    def compute(responses: Responses, oracles: Sequence[Responses]) -> Score:
        if not oracles:
            raise Absent("there is no oracle to take the reference AUCs from")
        near, sizes = [], []
        for attack in ASKED:
            ours = attack_area(responses, attack, member, other)
            known = mean(attack_area(oracle, attack, member, other).value for oracle in oracles)
            if known == 0:
                raise Absent(f"the oracle's AUC by {attack} is 0")
            near.append(1 - min(abs(ours.value - known) / known, 1.0))
            sizes.append(ours.n)
        return Score(rounded_score(harmonic_mean(near)), min(sizes))

    return replace(Metric(name, compute, "up", needs_oracle=True), late=True)
