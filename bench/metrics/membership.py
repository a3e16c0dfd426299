"""Membership inference: can the forget texts be told from texts that were never trained on?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from bench.errors import Absent
from bench.metrics import Metric
from bench.metrics.bootstrap import Floats, bootstrap_auc, finite, stated
from bench.metrics.bootstrap import auc as roc_area
from bench.metrics.catalogue import About
from bench.metrics.tokens import Text, mean, mean_logp, row_means, without_eos
from bench.types import Responses, Score

K = 0.4
"""Share of the least likely tokens that min-k looks at (MUSE's Min-40%)."""
TINY = 1e-10
"""Addend in PrivLeak's denominator, as in MUSE."""


def auc(name: str, attack: Literal["loss", "min_k"], member: str, other: str, goal: str | float = "oracle") -> Metric:
    """ROC AUC of the attack's score over the probe ``member`` (label 0) and the never trained ``other`` (label 1).

    The higher the score, the less likely a member: 1 means that the forget texts are much more probable than the
    others, 0.5 that they can't be told apart. ``loss`` is the mean loss in nats per token, eos included (Yeom et al.
    2018); ``min_k`` see `min_k`. Rows without tokens are left out; the size counts both sides.
    """
    score = ATTACKS[attack]

    def compute(responses: Responses, oracles: object) -> Score:
        sides = attacked(responses, member, score), attacked(responses, other, score)
        return Score(roc_area(*sides), sum(map(len, sides)), *bootstrap_auc(*sides))

    return Metric(name, compute, goal)


def privleak(name: str, member: str, other: str) -> Metric:
    """((1 - auc) - (1 - ref)) / (1 - ref + 1e-10) in percent on min-k, ref the mean AUC of the oracles; goal 0.

    MUSE (Shi et al. 2024, arXiv 2407.06460), equation 4. A target that still shows its members stands at -100,
    over-unlearning is positive. The reference is measured, never assumed (the peer takes 0.5 without one); at a
    reference of 1 the quotient means nothing and the score is absent. The interval holds the reference fixed.
    """

    def compute(responses: Responses, oracles: Sequence[Responses]) -> Score:
        def sides(of: Responses) -> tuple[Floats, Floats]:
            return attacked(of, member, min_k), attacked(of, other, min_k)

        if not oracles:
            raise Absent("there is no oracle to take the reference AUC from")
        ours = sides(responses)
        reference = mean(roc_area(*sides(oracle)) for oracle in oracles)
        if reference >= 1:
            raise Absent("the oracle's own AUC is 1: it tells the two sides apart without having seen either")

        def leak(area: float) -> float:
            return stated(100 * ((1 - area) - (1 - reference)) / (1 - reference + TINY))

        low, high = bootstrap_auc(*ours)
        return Score(leak(roc_area(*ours)), sum(map(len, ours)), leak(high), leak(low), "%")

    return Metric(name, compute, 0.0, needs_oracle=True, unit="%")


def attacked(responses: Responses, probe: str, score: Callable[[Text], float | None]) -> Floats:
    """The attack's score of every text of ``probe`` that has tokens, in the order of the ids."""
    return finite(row_means(responses, probe, "answer", score))


def loss(text: Text) -> float:
    """Mean loss, nats per token, eos included."""
    return -mean_logp(text)


def min_k(text: Text) -> float | None:
    """Minus the mean of the lowest 40% of the tokens' log-probs, at least one (Shi et al. 2024, arXiv 2310.16789).

    The eos is dropped where there is one, and no other token; the peer drops the last token always. None where none is
    left, where the peer scores 0 and keeps the row.
    """
    logps = sorted(without_eos(text, "logp"))
    return -mean(logps[: max(1, int(K * len(logps)))]) if logps else None


ATTACKS: dict[str, Callable[[Text], float | None]] = {"loss": loss, "min_k": min_k}

ABOUT = (
    About("mia_loss", "AUC of the loss, forget against unseen texts: 1, forget is far more likely", "oracle", "MUSE"),
    About("mia_min_k", "the same by the mean of the lowest 40% of token log-probs", "oracle", "Min-K%, MUSE"),
    About("privleak", "min-k AUC against the oracle's, in percent: -100 leaks, above 0 over-unlearns", "0", "MUSE"),
)
