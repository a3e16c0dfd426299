"""Scores of a named option (the truth, a falsehood, an unrelated word), pooled probes, and plain losses."""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.contracts import Metric
from bench.core.types import Responses
from bench.metrics.catalogue import listed
from bench.metrics.probability import hit_share
from bench.metrics.scores import mean_metric
from bench.metrics.tokens import all_hit, loss, mean_logp, row_means, row_metric

NATS = "nats/token"


@listed("restor_accuracy*", "share of questions whose greedy answer is exactly the truth", "up", "RESTOR; exact match")
@listed("restor_wrong", "share of questions answered with the falsehood that was spread", "oracle", "own")
def answered(name: str, probes: Sequence[str], role: str, *, goal: str | float) -> Metric:
    """Share of the rows of all ``probes`` whose greedy answer is exactly the text of ``role``.

    Read off teacher-forced argmax hits, for the reason that `bench.metrics.probability.accuracy` gives.
    """

    def rows(responses: Responses, oracles: object) -> dict[str, float]:
        found: dict[str, float] = {}
        for probe in probes:
            of_probe = row_means(responses, probe, role, all_hit)
            found |= {f"{probe}/{key}": value for key, value in of_probe.items()}
        return found

    return mean_metric(name, rows, goal)


@listed("logprob_*", "mean token log-prob of the true, the corrupted or an unrelated answer", "varies", "RESTOR")
def option_logprob(name: str, probe: str, role: str, *, goal: str | float) -> Metric:
    """Mean over rows of the mean token log-prob of the text of ``role`` (RESTOR's logit view)."""
    return row_metric(name, probe, role, mean_logp, goal, NATS)


@listed("*_passage_loss", "mean token loss of whole passages", "varies", "own")
def mean_loss(name: str, probe: str, *, goal: str | float) -> Metric:
    """Mean over rows of the mean token loss of the answer."""
    return row_metric(name, probe, "answer", loss, goal, NATS)


@listed("*_passage_hits", "share of a passage's tokens that the model predicts, fed the right ones", "varies", "own")
def token_hits(name: str, probe: str, *, goal: str | float) -> Metric:
    """Mean over rows of the share of tokens that are the most likely one when the right ones are fed."""
    return row_metric(name, probe, "answer", hit_share, goal)
