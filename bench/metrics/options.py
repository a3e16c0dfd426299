"""Scores of a named option (the truth, a falsehood, an unrelated word), pooled probes, and plain losses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from bench.errors import Absent
from bench.metrics import Metric, rows_of
from bench.metrics.bootstrap import bootstrap_mean
from bench.types import Responses, Score


def answered(name: str, probes: Sequence[str], role: str, goal: str | float, version: int = 1) -> Metric:
    """Share of the rows of all ``probes`` whose greedy answer is exactly the text of ``role``.

    Every token of that text, the end of sequence included, is the most likely one after what stands before it; by
    induction that is when greedy decoding writes this text and stops. Rows without the role or its tokens are left out.
    """

    def compute(responses: Responses, _: Sequence[Responses]) -> Score:
        return mean_score([float(all(x["hit"])) for p in probes for x in texts(rows_of(responses, p), role)], name)

    return Metric(name, compute, goal, version, unit="share")


def pooled_accuracy(name: str, probes: Sequence[str], goal: str | float) -> Metric:
    """Exact answers over the rows of several probes together."""
    return answered(name, probes, "answer", goal)


def option_logprob(name: str, probe: str, role: str, goal: str | float) -> Metric:
    """Mean over rows of the mean token log-prob of the text of ``role``, nats per token (RESTOR's logit view)."""

    def compute(responses: Responses, _: Sequence[Responses]) -> Score:
        return mean_score([fmean(x["logp"]) for x in texts(rows_of(responses, probe), role)], name, "nats/token")

    return Metric(name, compute, goal, unit="nats/token")


def mean_loss(name: str, probe: str, goal: str | float) -> Metric:
    """Mean over rows of the mean token loss of the answer, nats per token."""

    def compute(responses: Responses, _: Sequence[Responses]) -> Score:
        return mean_score([-fmean(x["logp"]) for x in texts(rows_of(responses, probe), "answer")], name, "nats/token")

    return Metric(name, compute, goal, unit="nats/token")


def texts(rows: Mapping[str, Any], role: str) -> Iterable[Mapping[str, Any]]:
    """The scored texts of a role that have tokens, in the order of the example ids."""
    return (text for key in sorted(rows) for text in rows[key].get(role, ()) if text["logp"])


def mean_score(values: Sequence[float], name: str, unit: str = "share") -> Score:
    """The mean with its bootstrap interval; `Absent` without values."""
    if not values:
        raise Absent(f"no row of {name} has a scored token")
    low, high = bootstrap_mean(values)
    return Score(fmean(values), len(values), low, high, unit)
