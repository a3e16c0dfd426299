"""Membership inference: can the forget texts be told from texts that were never trained on?

Six attacks, each a score of one text that is the higher the less likely the text is a member. The probes that an
attack reads beside the texts' own log-probs are named after the texts' probe: ``forget`` is also asked as
``forget_reference`` and ``forget_gradnorm`` (`attack_probes`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from bench.core.contracts import Metric
from bench.core.errors import Absent
from bench.core.record import Score
from bench.core.rows import Text
from bench.core.types import Probe, Responses
from bench.metrics import numbers_of, rounded_score
from bench.metrics.catalogue import listed
from bench.metrics.scores import finite_values, people_of
from bench.metrics.tokens import loss, mean, row_means, without_eos

K = 0.4
"""Share of the least likely tokens that min-k looks at (MUSE's Min-40%)."""
TINY = 1e-10
"""Addend in PrivLeak's denominator, as in MUSE."""

Attack = Literal["loss", "zlib", "min_k", "min_k_plus_plus", "gradnorm", "reference", "min_k_peer"]
Values = dict[str, float]


def attack_probes(probe: Probe) -> tuple[Probe, ...]:
    """The probes that all attacks read: ``probe`` with vocabulary moments and zlib lengths, and its two kin."""
    asked = replace(probe, options={**probe.options, "vocabulary": True, "zlib": True})
    kin = ("reference", "gradnorm")
    return (asked, *(replace(probe, name=f"{probe.name}_{kind}", kind=kind, roles=("answer",)) for kind in kin))


def attacks(member: str, other: str) -> tuple[Metric, ...]:
    """The six of the field and PrivLeak, over two probes made by `attack_probes`."""
    six: tuple[Attack, ...] = ("loss", "zlib", "min_k", "min_k_plus_plus", "gradnorm", "reference")
    return (*(auc(f"mia_{attack}", attack, member, other) for attack in six), privleak("privleak", member, other))


@listed("mia_loss", "AUC of the loss, forget against unseen texts: 1, forget is far more likely", "oracle", "MUSE")
@listed("mia_zlib", "the same by the loss over the text's compressed bytes", "oracle", "Carlini et al. 2021")
@listed("mia_min_k", "the same by the mean of the lowest 40% of token log-probs", "oracle", "Min-K%, MUSE")
@listed(
    "mia_min_k_plus_plus",
    "the same by the lowest 40% of log-probs standardised over the vocabulary",
    "oracle",
    "Min-K%++",
)
@listed("mia_gradnorm", "the same by the mean norm of the loss's gradient", "oracle", "Maini et al. 2024")
@listed("mia_reference", "the same by the loss minus a reference model's", "oracle", "Carlini et al. 2021")
def auc(name: str, attack: Attack, member: str, other: str) -> Metric:
    """ROC AUC of the attack's score over the probe ``member`` (label 0) and the never trained ``other`` (label 1).

    The higher the score, the less likely a member: 1 means that the forget texts are much more probable than the
    others, 0.5 that they can't be told apart. Rows without tokens are left out; the size counts both sides.

    - ``loss``: mean loss in nats per token, eos included (Yeom et al. 2018).
    - ``zlib``: that over the compressed bytes of the answer's text (Carlini et al. 2021).
    - ``min_k``: minus the mean of the lowest 40% log-probs (Shi et al. 2024, arXiv 2310.16789).
    - ``min_k_plus_plus``: the same of (log p - mu) / sigma under the vocabulary distribution (Zhang et al. 2024).
    - ``gradnorm``: mean over parameter tensors of the norm of the loss's gradient (Maini et al. 2024).
    - ``reference``: loss minus a reference model's loss, which never saw the texts (Carlini et al. 2021).

    min_k, min_k_plus_plus and gradnorm drop the eos where there is one. The peer drops the last token always, so that
    a passage without an eos loses a real one; ``min_k_peer`` is its min_k.
    """
    score = ATTACKS[attack]

    def compute(responses: Responses, oracles: object) -> Score:
        from bench.metrics.bootstrap import bootstrap_auc, roc_auc

        asked = [score(responses, side) for side in (member, other)]
        sides = finite_values(asked[0]), finite_values(asked[1])
        return Score(roc_auc(*sides), sum(map(len, sides)), *bootstrap_auc(*sides, *map(people_of, asked)))

    def examples(responses: Responses, oracles: object) -> dict[str, Any]:
        forget = {key: {"forget": value} for key, value in score(responses, member).items()}
        return forget | {key: {"holdout": value} for key, value in score(responses, other).items()}

    return Metric(name, compute, "oracle", examples=examples)


def attack_area(responses: Responses, attack: Attack, member: str, other: str) -> Score:
    """The AUC of `auc` without its interval."""
    from bench.metrics.bootstrap import roc_auc

    sides = [finite_values(ATTACKS[attack](responses, probe)) for probe in (member, other)]
    return Score(roc_auc(*sides), sum(map(len, sides)))


@listed("privleak", "min-k AUC against the oracle's, in percent: -100 leaks, above 0 over-unlearns", "0", "MUSE")
@listed("*_peer", "the value as open-unlearning defines it, where it differs from MUSE's authors", "varies", "peer")
def privleak(name: str, member: str, other: str, attack: Attack = "min_k") -> Metric:
    """((1 - auc) - (1 - ref)) / (1 - ref + 1e-10) in percent on min-k, ref the mean AUC of the oracles; goal 0.

    MUSE (Shi et al. 2024, arXiv 2407.06460), equation 4. A target that still shows its members stands at -100,
    over-unlearning is positive. The reference is measured, never assumed (the peer takes 0.5 without one); at a
    reference of 1 the quotient means nothing and the score is absent. The interval holds the reference fixed.
    """
    score = ATTACKS[attack]

    def compute(responses: Responses, oracles: Sequence[Responses]) -> Score:
        from bench.metrics.bootstrap import bootstrap_auc, roc_auc

        def sides(of: Responses) -> tuple[list[float], list[float]]:
            return finite_values(score(of, member)), finite_values(score(of, other))

        if not oracles:
            raise Absent("there is no oracle to take the reference AUC from")
        ours = sides(responses)
        reference = mean(roc_auc(*sides(oracle)) for oracle in oracles)
        if reference >= 1:
            raise Absent("the oracle's own AUC is 1: it tells the two sides apart without having seen either")

        def leak(area: float) -> float:
            return rounded_score(100 * ((1 - area) - (1 - reference)) / (1 - reference + TINY))

        low, high = bootstrap_auc(*ours, *(people_of(score(responses, side)) for side in (member, other)))
        value, n = leak(roc_auc(*ours)), sum(map(len, ours))
        if low is None or high is None:
            return Score(value, n, unit="%")
        return Score(value, n, leak(high), leak(low), "%")

    return Metric(name, compute, 0.0, needs_oracle=True, unit="%")


def of_text(value: Callable[[Text], float | None]) -> Callable[[Responses, str], Values]:
    """An attack that looks at one text's log-probs."""
    return lambda responses, probe: row_means(responses, probe, "answer", value)


def loss_per_byte(text: Text) -> float:
    """Loss over the bytes of the compressed text."""
    if "zlib" not in text:
        raise Absent("the texts' compressed lengths were not asked for")
    return loss(text) / float(text["zlib"])


def lowest(values: Sequence[float]) -> float | None:
    """Minus the mean of the lowest 40%, at least one; None where there is none, where the peer scores 0.

    NaN where one is no finite number: the lowest may seem sound without it.
    """
    if not all(map(math.isfinite, values)):
        return math.nan
    return -mean(sorted(values)[: max(1, int(K * len(values)))]) if values else None


def min_k(text: Text) -> float | None:
    """`lowest` of the log-probs; no token but the eos is dropped."""
    return lowest(without_eos(text, "logp"))


def min_k_peer(text: Text) -> float | None:
    """`lowest` of the log-probs without the last, whatever it is."""
    return lowest(list(text["logp"])[:-1])


def min_k_plus_plus(text: Text) -> float | None:
    """`lowest` of (log p - mu) / sigma."""
    if "mu" not in text:
        raise Absent("the mean and deviation over the vocabulary were not asked for")
    logp, mu, sigma = (without_eos(text, name) for name in ("logp", "mu", "sigma"))
    if not all(map(math.isfinite, sigma)):  # by an infinite one any number is 0
        return math.nan
    return lowest([(each - middle) / sd for each, middle, sd in zip(logp, mu, sigma, strict=True)])


def gradient(responses: Responses, probe: str) -> Values:
    """Mean gradient norm by example id."""
    asked = f"{probe}_gradnorm"
    return numbers_of(responses, asked, "norm", f"no row of the probe '{asked}' has a gradient")


def beside_reference(responses: Responses, probe: str) -> Values:
    """Loss minus the reference model's loss, by example id."""
    lacking = "there is no reference model that never saw the texts"
    theirs = numbers_of(responses, f"{probe}_reference", "loss", lacking)
    ours = row_means(responses, probe, "answer", loss)
    return {key: value - theirs[key] for key, value in ours.items() if key in theirs}


ATTACKS: Mapping[str, Callable[[Responses, str], Values]] = {
    "loss": of_text(loss),
    "zlib": of_text(loss_per_byte),
    "min_k": of_text(min_k),
    "min_k_peer": of_text(min_k_peer),
    "min_k_plus_plus": of_text(min_k_plus_plus),
    "gradnorm": gradient,
    "reference": beside_reference,
}
