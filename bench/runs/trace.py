"""`--trace N`: what a model knows on the way from the target to what a method makes of it.

The way of a training that begins at the target are N snapshots of that same training, the last one its result; that of a sum
of weights the same sum with N growing shares of its coefficients, and as densely on beyond the chosen ones, to `BEYOND`
times them. A method that ends elsewhere (`before`) has no way.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.contracts import Scenario
from bench.core.types import Checkpoint, Json, Responses
from bench.metrics import score_all
from bench.runs.context import Work
from bench.runs.estimate import shares_of_sum
from bench.runs.method_context import Ledger
from bench.runs.responses import measure_node

Way = list[tuple[float, Checkpoint]]
"""Shares of the way from the target, above 1 beyond the result, and the checkpoints there."""


def find_way(result: Checkpoint, target: Checkpoint, ledger: Ledger, work: Work) -> Way:
    """The way to a method's result without its end; empty where it has none."""
    if result.hash in ledger.snapshots:
        return ledger.snapshots[result.hash]
    if result.hash not in ledger.combined:
        return []
    own = work.on_behalf_of("method")
    shares = shares_of_sum(work.trace)
    return [
        (share, own.combine([(1 - share, target), (share, result)], f"{share:.0%} of {result.label}"))
        for share in shares
    ]


def trace_run(
    result: Checkpoint,
    target: Checkpoint,
    scenario: Scenario,
    oracles: Sequence[Checkpoint],
    known: Sequence[Responses],
    limit: int | None,
    ledger: Ledger,
    work: Work,
) -> list[Json]:
    """Scores of the target and along the way, each with its share, without the end, which the record has.

    ``scenario`` has the probes that are asked; a score that needs others is left out. Empty where the method has no way.
    """
    way = find_way(result, target, ledger, work)
    found: list[Json] = []
    for share, checkpoint in [(0.0, target), *way] if way else []:
        scores = score_at(checkpoint, scenario, oracles, known, limit, work)
        work.show(f"trace at {share:.0%}", "trace", {"share": share, **scores})
        found.append({"share": share, "scores": scores})
    return found


def score_at(
    checkpoint: Checkpoint,
    scenario: Scenario,
    oracles: Sequence[Checkpoint],
    known: Sequence[Responses],
    limit: int | None,
    work: Work,
) -> dict[str, float]:
    """The scores of one checkpoint; those that need what wasn't asked are left out."""
    responses = measure_node(checkpoint, scenario, oracles, limit, work).responses
    scored = score_all(scenario.metrics, responses, known)
    return {name: score.value for name, score in sorted(scored.scores.items())}
