"""Probability of the answers, and whether they are the model's own: TOFU's probabilities, accuracy, memorisation."""

from __future__ import annotations

import math
from dataclasses import replace

from bench.core.contracts import Metric
from bench.core.rows import Text
from bench.core.types import Responses
from bench.metrics import rows_of
from bench.metrics.catalogue import listed
from bench.metrics.scores import mean_metric
from bench.metrics.tokens import all_hit, mean, mean_logp, row_metric, texts, without_eos

TINY = 1e-10
"""TOFU's addend in the denominator of the normalised probability."""


@listed("*_Q_A_Prob", "probability of the answer per token (geometric mean), eos included", "oracle or up", "TOFU")
@listed("*_Q_A_PARA_Prob", "the same of the paraphrased answer", "oracle or up", "TOFU")
@listed("*_Q_A_PERT_Prob", "the same of the wrong answers, averaged inside a row", "oracle", "TOFU")
def probability(name: str, probe: str, role: str = "answer", *, goal: str | float) -> Metric:
    """Mean over rows of exp(mean log-prob of the answer tokens), eos included (TOFU, arXiv 2401.06121, section 2.2.2).

    A role with several texts (wrong answers) is averaged inside the row first. A row without answer tokens is left
    out, where the peer's mean becomes NaN.
    """
    metric = row_metric(name, probe, role, text_probability, goal)
    if role != "wrong":
        return metric
    return replace(metric, examples=lambda responses, _: each_text(responses, probe, role))


@listed("*_accuracy", "share of questions answered exactly, greedy, to the end", "oracle or up", "own")
def accuracy(name: str, probe: str, goal: str | float) -> Metric:
    """Share of rows whose answer tokens, eos included, are all the most likely token when the right ones are fed.

    That is the exact answer of greedy decoding: if the first token is the argmax, greedy decoding writes it and then
    stands where teacher forcing stands; so on to the eos, where it stops. At the first miss both differ from the
    answer. Hence no generation is needed, and an answer with something added does not count as right.
    """
    return row_metric(name, probe, "answer", all_hit, goal)


@listed("*_Q_A_Prob_normalised", "the answer's share of its and the wrong answers' probability", "up", "TOFU")
def normalised_probability(name: str, probe: str) -> Metric:
    """Mean over rows of p / (p + sum of the wrong answers' p + 1e-10), goal up (TOFU, section 2.2.2).

    Each p is exp(mean log-prob), of the roles ``answer`` and ``wrong``. The 1e-10 is TOFU's: it sends a collapsed
    model, under which nothing is probable, to 0. Rows without one of the roles are left out.
    """

    def rows(responses: Responses, oracles: object) -> dict[str, float]:
        found: dict[str, float] = {}
        for key, row in rows_of(responses, probe).items():
            right, wrong = texts(row, "answer"), texts(row, "wrong")
            if right and wrong:
                p = mean(map(text_probability, right))
                found[key] = p / (p + math.fsum(map(text_probability, wrong)) + TINY)
        return found

    return mean_metric(name, rows, "up")


@listed(
    "exact_memorization",
    "share of answer tokens that the model would predict, fed the right ones",
    "oracle",
    "Tirumala et al. 2022; only an eos is dropped",
)
def exact_memorization(name: str, probe: str) -> Metric:
    """Mean over rows of the share of answer tokens that are the argmax when the right ones are fed, goal oracle.

    Tirumala et al. 2022 (arXiv 2205.10770). The last token is dropped only where it is the eos (the peer: always).
    """
    return row_metric(name, probe, "answer", hit_share, "oracle")


@listed(
    "extraction_strength",
    "share of the answer's end that the model predicts without a miss, fed the right tokens",
    "oracle",
    "Carlini et al. 2021; a wrong end is 0, only an eos is dropped",
)
def extraction_strength(name: str, probe: str) -> Metric:
    """Mean over rows of 1 - k/n, k the first position from which all n argmaxes are right, goal oracle.

    Carlini et al. 2021 (arXiv 2012.07805), teacher-forced. Nothing right at the end gives k = n and so 0; the peer
    gives 1/n there, and 1.0 to a single wrong token. The last token is dropped only where it is the eos.
    """
    return row_metric(name, probe, "answer", right_tail, "oracle")


def each_text(responses: Responses, probe: str, role: str) -> dict[str, list[float]]:
    """The probability of each text of ``role``, by example id."""
    rows = rows_of(responses, probe).items()
    return {key: [text_probability(text) for text in found] for key, row in rows if (found := texts(row, role))}


def text_probability(text: Text) -> float:
    """exp(mean log-prob): the geometric mean of the tokens' probabilities; NaN where one is no finite number."""
    return math.exp(mean_logp(text)) if all(map(math.isfinite, text["logp"])) else math.nan


def hit_share(text: Text) -> float | None:
    """Share of argmax hits, or None where no token is left."""
    hits = without_eos(text, "hit")
    return mean(hits) if hits else None


def right_tail(text: Text) -> float | None:
    """Length of the unbroken run of hits at the end over the number of tokens; None where no token is left."""
    hits = without_eos(text, "hit")
    tail = next((i for i, hit in enumerate(reversed(hits)) if not hit), len(hits))
    return tail / len(hits) if hits else None
