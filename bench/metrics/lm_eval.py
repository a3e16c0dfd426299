"""Scores of tasks that lm-evaluation-harness ran on the model."""

from __future__ import annotations

from bench.core.contracts import Metric
from bench.core.errors import Absent
from bench.core.types import Responses
from bench.metrics import rows_of
from bench.metrics.bootstrap import mean_metric
from bench.metrics.catalogue import listed


@listed("lm_eval_*", "accuracy of an lm-eval task", "up", "lm-evaluation-harness (EleutherAI)")
def lm_eval_accuracy(name: str, probe: str) -> Metric:
    """Mean of lm-eval's own ``acc`` over the documents of the task, goal up; `Absent` where the task has no ``acc``."""

    def rows(responses: Responses, oracles: object) -> dict[str, float]:
        found = {key: float(row["acc"]) for key, row in rows_of(responses, probe).items() if "acc" in row}
        if not found:
            raise Absent(f"no row of the probe '{probe}' has lm-eval's 'acc'")
        return found

    return mean_metric(name, rows, "up")
