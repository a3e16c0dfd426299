"""Classifiers: how far from a retrained model's classes, and whether one class has swallowed the rest.

Rows of ``classes`` probes hold the log-prob of every class. Accuracy, probability and membership by loss need the
label's alone, and read it as a one-token answer (`bench.metrics.probability`, `bench.metrics.membership`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.core.contracts import Metric
from bench.core.errors import Absent
from bench.core.record import Score
from bench.core.types import Responses
from bench.metrics import rows_of
from bench.metrics.catalogue import listed
from bench.metrics.divergence import check_floor
from bench.metrics.scores import mean_metric
from bench.metrics.tokens import mean
from bench.metrics.truth import score_part

SWALLOWED = 0.5
"""Share of the rows that one class gets, from which a model has collapsed."""


@listed(
    "kl_* (classes)", "of a classifier: KL(oracle || model) over the classes, in nats, mean over oracles", "down", "own"
)
def class_kl(name: str, probe: str) -> Metric:
    """Mean over examples of KL(oracle || model) over the classes, in nats, goal down; inside an example over the oracles."""

    def rows(responses: Responses, oracles: Sequence[Responses]) -> dict[str, float]:
        return class_divergences(responses, oracles, probe)

    return mean_metric(name, rows, "down", unit="nats", needs_oracle=True)


@listed("kl_*_floors (classes)", "the same divided by the mean KL between oracles: 1 is their own noise", "down", "own")
def class_kl_floors(name: str, probe: str) -> Metric:
    """`class_kl` divided by the mean KL between the given oracles, both ways, goal down: 1 is their noise.

    `Absent` with fewer than two oracles beside the measured model, or where they are one and the same.
    """

    def rows(responses: Responses, oracles: Sequence[Responses]) -> dict[str, float]:
        ours = class_divergences(responses, oracles, probe)
        pairs = [(a, b) for a in oracles for b in oracles if a.checkpoint != b.checkpoint]
        if not pairs:
            raise Absent("it needs two oracles beside the measured model, and they are not there")
        floor = check_floor(mean(mean(class_divergences(a, [b], probe).values()) for a, b in pairs))
        return {key: value / floor for key, value in ours.items()}

    return mean_metric(name, rows, "down", unit="floors", needs_oracle=True)


def class_divergences(responses: Responses, oracles: Sequence[Responses], probe: str) -> dict[str, float]:
    """KL(oracle || responses) by example id, nats, mean over the oracles."""
    ours, theirs = rows_of(responses, probe), [rows_of(oracle, probe) for oracle in oracles]
    return {
        key: mean(kl_of_classes(rows[key]["classes"], row["classes"]) for rows in theirs) for key, row in ours.items()
    }


def kl_of_classes(p: Sequence[float], q: Sequence[float]) -> float:
    """``sum p (log p - log q)`` of two distributions given as log-probs; rounding may not make it negative."""
    total = math.fsum(math.exp(a) * (a - b) for a, b in zip(p, q, strict=True))
    return 0.0 if total < 0 else total  # not a maximum, which would make a broken model's NaN a 0


@listed(
    "collapsed (classes)",
    "of a classifier: 1 where one class gets half of the rows, or utility is below a floor",
    "down",
    "own",
)
def swallowed(name: str, probe: str, utility: Metric, floor: float) -> Metric:
    """1 when one class gets half or more of the rows, or ``utility`` < ``floor``, or the outputs are broken; else 0.

    Goal down. For a probe whose classes are about equally frequent, and none of them half of it.
    """

    def compute(responses: Responses, oracles: Sequence[Responses]) -> Score:
        if responses.wrecked:
            return Score(1.0, 1)
        said = [row["classes"] for row in rows_of(responses, probe).values()]
        if not said:
            raise Absent(f"the probe '{probe}' has no rows")
        if not all(math.isfinite(value) for row in said for value in row):
            return Score(1.0, len(said))
        chosen = [row.index(max(row)) for row in said]
        most = max(chosen.count(label) for label in set(chosen))
        useless = score_part(utility, responses, oracles).value < floor
        return Score(float(most >= SWALLOWED * len(said) or useless), len(said))

    return Metric(name, compute, "down", needs_oracle=utility.needs_oracle)
