"""Metrics: pure functions of responses, computed on the CPU, and again at any time without a model.

A task names its metrics by calling the factories of this package with the probes to read::

    METRICS = (accuracy("forget_accuracy", probe="forget", goal="oracle"), privleak(member="forget", other="holdout"))

Each factory returns a `Metric`. A metric never falls back: what can't be had raises `Absent` with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.core.contracts import Metric
from bench.core.errors import Absent
from bench.core.record import Score
from bench.core.types import Responses

DIGITS = 12
"""Significant digits of a score: the rest is the processor's, and published scores are computed again and compared."""


@dataclass(frozen=True)
class Scored:
    """Scores and what is absent, by metric name."""

    scores: dict[str, Score]
    absent: dict[str, str]


def score_all(metrics: Sequence[Metric], responses: Responses, oracles: Sequence[Responses]) -> Scored:
    """Every metric on one checkpoint's responses.

    ``oracles`` are filtered here: the oracle's own row is compared with the *other* oracles, never with itself.
    """
    others = [oracle.named("the oracle") for oracle in oracles if oracle.checkpoint != responses.checkpoint]
    scores: dict[str, Score] = {}
    absent: dict[str, str] = {}
    for metric in metrics:
        try:
            if metric.needs_oracle and not others:
                raise Absent("it needs an oracle other than the measured model, and there is none")
            scores[metric.name] = check_finite(metric.compute(responses, others))
        except Absent as reason:
            absent[metric.name] = str(reason)
    return Scored(scores, absent)


def check_finite(score: Score) -> Score:
    """The score; `Absent` where its value or its interval is no finite number, whatever metric it comes from."""
    if not all(math.isfinite(value) for value in (score.value, score.low, score.high) if value is not None):
        raise Absent(f"it comes to no finite number ({score.value})")
    return score


def rows_of(responses: Responses, probe: str) -> dict[str, Any]:
    """The rows of a probe by example id; `Absent` when it was not asked, or the model gave no finite numbers there."""
    if reason := responses.broken.get(probe):
        raise Absent(reason)
    if probe not in responses.rows:
        raise Absent(f"the probe '{probe}' was not asked")
    return dict(responses.rows[probe])


def numbers_of(responses: Responses, probe: str, field: str, lacking: str) -> dict[str, float]:
    """The number ``field`` of a probe's rows by example id; `Absent`, saying what is ``lacking``, when no row has it."""
    found = {key: float(row[field]) for key, row in rows_of(responses, probe).items() if field in row}
    if not found:
        raise Absent(lacking)
    return found


def absent_where(metric: Metric, probe: str, lacks: Callable[[Sequence[Any]], bool], reason: str) -> Metric:
    """The metric, absent for ``reason`` where the rows of ``probe`` lack what it reads; a broken model's have their own."""

    def compute(responses: Responses, oracles: Sequence[Responses]) -> Score:
        if probe not in responses.broken and lacks(list(responses.rows.get(probe, {}).values())):
            raise Absent(reason)
        return metric.compute(responses, oracles)

    return replace(metric, compute=compute)


def is_unasked(rows: Sequence[Any]) -> bool:
    """Whether the probe wasn't asked."""
    return not rows


def rounded_score(value: float) -> float:
    """``value`` to `DIGITS` significant digits."""
    return float(f"{value:.{DIGITS}g}")
