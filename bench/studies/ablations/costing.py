"""What a method cost in a run, rules fitted to a ladder of sizes, and what they say of another size.

The rules are few and plain, since the ladder spans one decade of parameters: time is an overhead and FLOPs at a rate,
memory and storage are bytes for each parameter and a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from bench.core.record import Record
from bench.runs.estimate import BYTES_PER_PARAMETER
from bench.studies.ablations.base import Study

METHODS = ("msa", "task-arithmetic", "ga", "graddiff", "npo")
COSTED = (*METHODS, "oracle")
"""Whose costs are shown: the methods, and retraining."""

HELD_OUT = "SmolLM2-135M"
"""The real model that the ladder has not seen."""
HELD_OUT_PARAMETERS = 134_515_008
"""Of SmolLM2-135M, its tied head once: 30 layers of width 576, 49,152 tokens."""
WEIGHT_BYTES = 4
"""Float32: what the harness trains in and stores."""


@dataclass(frozen=True)
class RunCost:
    """Seconds, bytes and operations that one run of a method took."""

    method: str
    seed: int
    parameters: int
    tokens: int
    """Trained on, padding not counted."""
    seconds: float
    flops: float | None
    """Training and arithmetic; None: an older record, in which nothing was counted."""
    peak_bytes: int
    bytes_stored: int
    checkpoints: int
    """Written by the method."""
    width: int = 0
    """On the ladder; 0: a model from outside."""


def cost_of(method: str, record: Record, parameters: int = 0) -> RunCost:
    """The cost that a record states, of a model of ``parameters`` unless the record says so itself."""
    cost = record.cost
    counted = cost.get("flops", {})
    return RunCost(
        method,
        record.spec.seed,
        counted.get("parameters", parameters),
        cost["tokens_trained"],
        cost["seconds"]["method"],
        counted["training"] + counted["arithmetic"] if counted else None,
        cost["peak_bytes"],
        cost["bytes_stored"],
        len(cost["nodes"]),
    )


def ladder_costs(study: Study) -> list[RunCost]:
    """The costs on the ladder; runs of older records, which name neither parameters nor FLOPs, are left out."""
    return [
        replace(cost_of(str(finding.at["series"]), finding.record), width=finding.at["width"])
        for finding in study.points
        if finding.at.get("series") in COSTED and "flops" in finding.record.cost
    ]


def held_out_costs(study: Study) -> list[RunCost]:
    """The held-out costs that the study keeps."""
    return [RunCost(**row["cost"]) for row in study.notes.get("held_out", [])]


# --- what is predicted from it


@dataclass(frozen=True)
class TimeFit:
    """``seconds = overhead + FLOPs / rate``: least squares of the relative error, the overhead not negative."""

    overhead: float
    """Seconds."""
    rate: float
    """FLOPs per second."""

    def seconds(self, flops: float) -> float:
        """The predicted seconds of a run."""
        return self.overhead + flops / self.rate


def fit_seconds(points: Sequence[tuple[float, float]]) -> TimeFit | None:
    """The fit to (FLOPs, seconds); None where the seconds don't grow with the FLOPs, or there is one size alone."""
    usable = [(flops, seconds) for flops, seconds in points if flops > 0 and seconds > 0]
    if len({flops for flops, _ in usable}) < 2:
        return None
    # Minimise the sum of (overhead a + slope b - 1)^2 with a = 1 / seconds and b = FLOPs / seconds.
    pairs = [(1 / seconds, flops / seconds) for flops, seconds in usable]
    aa, ab, bb = (sum(p[i] * p[j] for p in pairs) for i, j in ((0, 0), (0, 1), (1, 1)))
    a, b = sum(p[0] for p in pairs), sum(p[1] for p in pairs)
    determinant = aa * bb - ab * ab
    overhead, slope = (a * bb - b * ab) / determinant, (b * aa - a * ab) / determinant
    if overhead < 0:
        overhead, slope = 0.0, b / bb
    return TimeFit(overhead, 1 / slope) if slope > 0 else None


@dataclass(frozen=True)
class CostRules:
    """Rules fitted on the ladder of widths, which predict the cost at any size."""

    fits: dict[str, TimeFit | None]
    """Of each method."""
    per_parameter: float
    """Training FLOPs for each parameter and token, at the widest."""
    process: dict[str, float]
    """Of each method: peak bytes beside `BYTES_PER_PARAMETER`, mean."""
    companions: float
    """Bytes that a checkpoint takes beside its weights: tokenizer and config, mean."""


def fit_cost_rules(costs: Sequence[RunCost]) -> CostRules:
    """Fitted to the ladder."""
    by_method = {method: [cost for cost in costs if cost.method == method] for method in COSTED}
    widest = max(cost.width for cost in costs)
    return CostRules(
        {m: fit_seconds([(c.flops, c.seconds) for c in mine if c.flops is not None]) for m, mine in by_method.items()},
        fmean(
            c.flops / c.tokens / c.parameters for c in costs if c.width == widest and c.flops is not None and c.tokens
        ),
        {
            m: fmean(c.peak_bytes - BYTES_PER_PARAMETER * c.parameters for c in mine)
            for m, mine in by_method.items()
            if mine
        },
        fmean(c.bytes_stored / c.checkpoints - WEIGHT_BYTES * c.parameters for c in costs if c.checkpoints),
    )


@dataclass(frozen=True)
class PredictedCost:
    """For one run, of its parameters, tokens and checkpoints alone."""

    flops: float
    seconds: float | None
    peak_bytes: float | None
    bytes_stored: float


def predict_cost(cost: RunCost, rule: CostRules) -> PredictedCost:
    """Predict the cost of a run of any size by the ladder's rules."""
    flops = rule.per_parameter * cost.parameters * cost.tokens
    found, process = rule.fits.get(cost.method), rule.process.get(cost.method)
    return PredictedCost(
        flops,
        None if found is None else found.seconds(flops),
        None if process is None else process + BYTES_PER_PARAMETER * cost.parameters,
        cost.checkpoints * (rule.companions + WEIGHT_BYTES * cost.parameters),
    )
