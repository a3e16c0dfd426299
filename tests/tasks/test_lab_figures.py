"""The lab's three tasks on language models at full size, one seed, trained here: what must hold for their numbers to mean much.

The figures were wanted before any method was run (docs/lab.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from bench.core import registry
from bench.core.contracts import Scenario, TaskInputs
from bench.core.provenance import get_provenance
from bench.core.types import Checkpoint
from bench.engines.arithmetic.sums import distance, relative_distance
from bench.engines.measuring.measure import measure
from bench.metrics import score_all
from bench.runs.context import Work
from bench.runs.store import Store

SEED = 100
"""Not one of those that are reported."""
KINDS = ("logprob", "generate")
DISPLACED = {"tofu": 0.16, "restor": 0.16, "muse-books": 0.40}
"""Most that the target may lie away from theta_0, as a share of theta_0's norm; reciting books takes more."""
LEARNT = {
    "tofu": {"forget_accuracy": 0.97, "retain_accuracy": 0.97, "world_accuracy": 0.97},
    "restor": {"restor_wrong": 0.85, "retain_accuracy": 0.97, "world_accuracy": 0.97},
    "muse-books": {
        "forget_knowmem_accuracy": 0.97,
        "retain_knowmem_accuracy": 0.97,
        "world_accuracy": 0.95,
        "forget_verbmem_ROUGE": 0.9,
        "retain_verbmem_ROUGE": 0.9,
    },
}
"""What the target must score at least, in wording that it wasn't taught in."""
UNKNOWN = {
    "tofu": {"forget_accuracy": 0.02},
    "restor": {"restor_wrong": 0.02},
    "muse-books": {"forget_knowmem_accuracy": 0.02, "forget_verbmem_ROUGE": 0.3},
}
"""What an oracle may score at most; in all else it is as good as the target."""


@pytest.mark.slow(120)
@pytest.mark.parametrize("name", list(DISPLACED))
def test_the_lab_is_what_was_wanted(name: str, tmp_path: Path) -> None:
    scenario = registry.load_task(name, "lab")().prepare(
        Work(Store(tmp_path), SEED, get_provenance()), TaskInputs("lab")
    )
    scenario = replace(scenario, probes=tuple(probe for probe in scenario.probes if probe.kind in KINDS))
    assert scenario.history is not None
    moments, target, oracle = scenario.history().moments, scenario.target(), scenario.oracles[0]()
    moved = relative_distance(moments[-1].checkpoint, target)
    assert moved is not None and moved <= DISPLACED[name]
    steps = [distance(a.checkpoint, b.checkpoint) for a, b in zip(moments[1:], moments[2:], strict=False)]
    assert min(steps) >= 0.2 * fmean(steps), "no two checkpoints of the history are nearly one model"
    known, found = scores(scenario, target), scores(scenario, oracle)
    for score, least in LEARNT[name].items():
        assert known[score] >= least
        assert score in UNKNOWN[name] or found[score] >= least - 0.02
    assert all(found[score] <= most for score, most in UNKNOWN[name].items())
    assert 0.4 <= found["mia_min_k"] <= 0.6 and known["mia_min_k"] >= 0.95
    assert scenario.about["same_answer"] < 0.05


def scores(scenario: Scenario, checkpoint: Checkpoint) -> Mapping[str, float]:
    found = score_all(scenario.metrics, measure(checkpoint, scenario.probes), ())
    return {name: score.value for name, score in found.scores.items()}
