"""Metrics: pure functions of responses, computed on the CPU, and again at any time without a model.

A task names its metrics by calling the factories of this package with the probes to read::

    METRICS = (accuracy("forget_accuracy", probe="forget", goal="oracle"), privleak(member="forget", other="holdout"))

Each factory returns a `Metric`. A metric never falls back: what can't be had raises `Absent` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.errors import Absent
from bench.types import Responses, Score

Compute = Callable[[Responses, Sequence[Responses]], Score]
"""(responses of the measured checkpoint, responses of the oracles that are other checkpoints) -> Score."""
PerExample = Callable[[Responses, Sequence[Responses]], dict[str, Any]]
"""The same arguments -> example id -> the example's own value: a number, several, or several by name."""


@dataclass(frozen=True)
class Metric:
    """A named, versioned number with a direction."""

    name: str
    compute: Compute
    goal: str | float
    """``up``, ``down``, ``oracle`` (the nearer to the oracle's value the better) or a value to approach (PrivLeak: 0)."""
    version: int = 1
    needs_oracle: bool = False
    unit: str = ""
    examples: PerExample | None = None
    """The values behind the score, one for each example; None where the score has none (a harmonic mean, a p-value)."""

    def to_json(self) -> dict[str, Any]:
        """What a record says of the metric beside its score."""
        return {"version": self.version, "goal": self.goal, "unit": self.unit, "needs_oracle": self.needs_oracle}


@dataclass(frozen=True)
class Scored:
    """Scores and what is absent, by metric name."""

    scores: dict[str, Score]
    absent: dict[str, str]


def score_all(metrics: Sequence[Metric], responses: Responses, oracles: Sequence[Responses]) -> Scored:
    """Every metric on one checkpoint's responses.

    ``oracles`` are filtered here: the oracle's own row is compared with the *other* oracles, never with itself.
    """
    others = [oracle for oracle in oracles if oracle.checkpoint != responses.checkpoint]
    scores: dict[str, Score] = {}
    absent: dict[str, str] = {}
    for metric in metrics:
        try:
            if metric.needs_oracle and not others:
                raise Absent("it needs an oracle other than the measured model, and there is none")
            scores[metric.name] = metric.compute(responses, others)
        except Absent as reason:
            absent[metric.name] = str(reason)
    return Scored(scores, absent)


def rows_of(responses: Responses, probe: str) -> dict[str, Any]:
    """The rows of a probe by example id; `Absent` when the probe was not asked."""
    if probe not in responses.rows:
        raise Absent(f"the probe '{probe}' was not asked")
    return dict(responses.rows[probe])
