"""Scores of tasks that lm-evaluation-harness ran on the model."""

from __future__ import annotations

from bench.core.contracts import Metric
from bench.metrics import numbers_of
from bench.metrics.catalogue import listed
from bench.metrics.scores import mean_metric


@listed("lm_eval_*", "accuracy of an lm-eval task", "up", "lm-evaluation-harness (EleutherAI)")
def lm_eval_accuracy(name: str, probe: str) -> Metric:
    """Mean of lm-eval's own ``acc`` over the documents of the task, goal up; `Absent` where the task has no ``acc``."""
    lacking = f"no row of the probe '{probe}' has lm-eval's 'acc'"
    return mean_metric(name, lambda responses, _: numbers_of(responses, probe, "acc", lacking), "up")
