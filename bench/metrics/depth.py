"""How deep an answer is forgotten: scores of what the decoder blocks hold of it (`bench.engines.measuring.depth`).

The oracle's side is the oracle's own responses to the same probe: measured once, and shared by all rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bench.core.contracts import Metric
from bench.core.errors import Absent
from bench.core.record import Score
from bench.core.types import Responses
from bench.metrics import rounded_score, rows_of
from bench.metrics.catalogue import listed
from bench.metrics.scores import finite_values, mean_metric
from bench.metrics.tokens import mean

LEAST_LOSS = 0.05
"""Nats that a block's states of the oracle must cost the target, for the block to count (arXiv 2605.24614)."""
UNTOLD = "no block's states of the oracle cost the target more than 0.05 nats of any answer"


@listed(
    "uds", "share of the answer gone from the blocks' states, by patching: 1 as in the oracle", "1", "arXiv 2605.24614"
)
@listed("lens_depth", "the same, read off each block's state by the target's head", "1", "arXiv 2605.24614")
def erasure(name: str, probe: str, by: str) -> Metric:
    """Mean over rows of the share of what the oracle's states cost the target that the model's cost too, goal 1.

    With D_k the nats that a model's states after block k cost the target, and the sums over the blocks where the oracle's
    are above .05: sum of D_k(oracle) clip(D_k / D_k(oracle), 0, 1) over sum of D_k(oracle). 1: erased as in the oracle;
    0: intact, which the target is by definition. Rows without such a block are left out; of several oracles the mean.
    Costing more than the oracle's isn't told from costing as much.
    """

    def rows(responses: Responses, oracles: Sequence[Responses]) -> dict[str, float]:
        ours = lists_of(responses, probe, by)
        each = [erased_rows(ours, lists_of(oracle, probe, by)) for oracle in oracles]
        found = {key: mean(shares) for key in ours if (shares := [told[key] for told in each if key in told])}
        if not found:
            raise Absent(UNTOLD)
        return found

    return mean_metric(name, rows, 1.0, needs_oracle=True)


@listed(
    "linear_probe_accuracy",
    "accuracy of a linear probe of the answer's first token at the prompt's end, in the best block",
    "oracle",
    "Alain and Bengio 2016; trained on the model's states of retain questions",
)
def linear_probe_accuracy(name: str, probe: str) -> Metric:
    """The largest of the blocks' accuracies of a linear probe for the answer's first token, goal oracle.

    The maximum is above what each block has, on the oracle too, whose value is what it is to be compared with; the interval
    is of the maximum.
    """

    def compute(responses: Responses, oracles: object) -> Score:
        import numpy as np

        from bench.metrics.bootstrap import interval, person_of

        rows = lists_of(responses, probe, "linear")
        finite_values({key: math.fsum(row) for key, row in rows.items()})
        hits = np.array(list(rows.values()))  # (N, blocks)
        ends = interval(lambda counts: (counts @ hits).max(1) / counts.sum(1), [person_of(key) for key in rows])
        return Score(rounded_score(hits.mean(0).max()), len(hits), *ends)

    return Metric(name, compute, "oracle")


def block_means(responses: Responses, probe: str, by: str) -> list[float]:
    """The mean over rows of each block's number, first block to last: nats lost, or the accuracy of a linear probe."""
    return [rounded_score(mean(block)) for block in zip(*lists_of(responses, probe, by).values(), strict=True)]


def lists_of(responses: Responses, probe: str, by: str) -> dict[str, Sequence[float]]:
    """The blocks' numbers by example id, in the order of the ids; `Absent` where no row has any."""
    found = {key: row[by] for key, row in sorted(rows_of(responses, probe).items()) if by in row}
    if not found:
        raise Absent(LACKING[by])
    return found


LACKING = {
    "patching": "there is no target to patch",
    "lens": "there is no target to read states off with",
    "linear": "the first tokens of no two answers are those of enough retain questions to train a probe on",
}
"""Way of looking -> why no row has a number."""


def erased_rows(ours: Mapping[str, Sequence[float]], theirs: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The share that is erased in each row that some block of the oracle tells; `Absent` where the models aren't alike."""
    found: dict[str, float] = {}
    for key in [key for key in ours if key in theirs]:
        if len(ours[key]) != len(theirs[key]):
            raise Absent("the oracle has another number of decoder blocks")
        if not all(map(math.isfinite, (*ours[key], *theirs[key]))):
            raise Absent(
                "a block's states cost no finite number of nats: the model's or the oracle's outputs are broken"
            )
        pairs = [(d, full) for d, full in zip(ours[key], theirs[key], strict=True) if full > LEAST_LOSS]
        if pairs:
            found[key] = sum(min(max(d, 0.0), full) for d, full in pairs) / sum(full for _, full in pairs)
    return found
