"""The books lab at its full size, one seed, trained here: what must hold for its numbers to mean anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core.contracts import Metric, TaskInputs
from bench.core.provenance import get_provenance
from bench.core.types import Checkpoint
from bench.engines.measuring.measure import measure
from bench.runs.context import Work
from bench.runs.store import Store
from tasks.muse_books import LabMuseBooks

ASKED = {"forget_verbatim", "forget_passages", "retain_passages", "holdout_passages", "retain_questions"}


@pytest.mark.slow(60)
def test_target_recites_and_oracle_does_not(tmp_path: Path) -> None:
    scenario = LabMuseBooks().prepare(Work(Store(tmp_path), 3, get_provenance()), TaskInputs("lab"))
    probes = [probe for probe in scenario.probes if probe.name in ASKED]
    metrics: dict[str, Metric] = {metric.name: metric for metric in scenario.metrics}

    def scores(checkpoint: Checkpoint, *names: str) -> list[float]:
        responses = measure(checkpoint, probes)
        return [metrics[name].compute(responses, ()).value for name in names]

    recited, forget, retain, holdout, known = scores(
        scenario.target(),
        "forget_verbmem_ROUGE",
        "forget_passage_loss",
        "retain_passage_loss",
        "holdout_passage_loss",
        "retain_knowmem_accuracy",
    )
    assert recited >= 0.9
    assert known >= 0.95
    assert holdout >= max(forget, retain) + 1.0, "held-out books cost at least a nat per token more than learnt ones"
    oracle_recited, oracle_known = scores(scenario.oracles[0](), "forget_verbmem_ROUGE", "retain_knowmem_accuracy")
    assert oracle_recited <= 0.3
    assert oracle_known >= 0.95
