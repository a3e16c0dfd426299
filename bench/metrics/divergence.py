"""Distance of the model's answers from a retrained model's, token by token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from bench.core.contracts import Metric
from bench.core.errors import Absent
from bench.core.types import Responses
from bench.metrics import rows_of
from bench.metrics.catalogue import listed
from bench.metrics.scores import mean_metric
from bench.metrics.tokens import mean


@listed("kl_*", "KL(oracle || model) on the answer tokens, in nats per token, mean over oracles", "down", "own")
def kl(name: str, probe: str) -> Metric:
    """Mean over examples of KL(oracle || model) at the answer positions, in nats per token, goal down.

    The eos counts as one, but not behind a single token, where half of the mean would be about it. Inside an example
    the mean over its answer tokens, then over the oracles. 0 only for a model that predicts
    what the oracle predicts; both under- and over-unlearning move away from it.
    """
    metric = mean_metric(
        name, lambda responses, _: divergences(responses, probe), "down", unit="nats/token", needs_oracle=True
    )
    return replace(metric, version=2)


@listed("kl_*_floors", "the same divided by the mean KL between oracles: 1 is their own noise", "down", "own")
def kl_floors(name: str, probe: str) -> Metric:
    """`kl` divided by the mean KL between oracles, which differ in data order alone, goal down: 1 is their noise.

    The divisor is the mean over the given oracles of their own KL to the other oracles, read from their responses;
    the interval holds it fixed. `Absent` when no oracle was compared with another, or when they are one and the same.
    """

    def rows(responses: Responses, oracles: Sequence[Responses]) -> dict[str, float]:
        ours = divergences(responses, probe)
        floor = noise(oracles, probe)
        return {key: value / floor for key, value in ours.items()}

    return replace(mean_metric(name, rows, "down", unit="floors", needs_oracle=True), version=2)


def distances(*sides: str) -> tuple[Metric, ...]:
    """For each side the divergence on its probe ``kl_<side>`` in nats per token, then for each in noise floors."""
    nats = [kl(f"kl_{side}", f"kl_{side}") for side in sides]
    return (*nats, *(kl_floors(f"kl_{side}_floors", f"kl_{side}") for side in sides))


def divergences(responses: Responses, probe: str) -> dict[str, float]:
    """KL by example id: nats per answer token, mean over the oracles; examples without answer tokens are left out."""
    found: dict[str, float] = {}
    for key, row in rows_of(responses, probe).items():
        by_oracle = [mean(row[label]) for label in sorted(row) if row[label]]
        if by_oracle:
            found[key] = mean(by_oracle)
    if not found:
        raise Absent(f"no row of the probe '{probe}' holds a divergence from an oracle")
    return found


def noise(oracles: Sequence[Responses], probe: str) -> float:
    """Mean KL between oracles, in nats per token."""
    means = []
    for oracle in oracles:
        try:
            means.append(mean(divergences(oracle, probe).values()))
        except Absent:
            continue
    if not means:
        raise Absent("it needs two oracles, and none was compared with another")
    return check_floor(mean(means))


def check_floor(floor: float) -> float:
    """The mean divergence between oracles; `Absent` where nothing can be counted in it."""
    if not math.isfinite(floor):
        raise Absent("the oracles' divergence from each other is no finite number: the outputs of one are broken")
    if not floor > 0:
        raise Absent("the oracles do not differ, so there is no noise to measure by")
    return floor
