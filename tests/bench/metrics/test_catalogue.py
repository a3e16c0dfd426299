"""The catalogue: which entry describes which score, and what is in it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import bench.metrics
from bench.metrics.probability import (
    probability,
)
from bench.metrics.restor import matched


def test_every_function_that_makes_a_metric_is_in_the_catalogue() -> None:
    helpers = {"mean_metric", "row_metric", "_judged"}
    for module in pkgutil.iter_modules(bench.metrics.__path__, "bench.metrics."):
        for name, function in inspect.getmembers(importlib.import_module(module.name), inspect.isfunction):
            own = function.__module__ == module.name and name not in helpers
            if own and function.__annotations__.get("return") == "Metric":
                assert hasattr(function, "entries"), f"{module.name}.{name} needs @listed"


def test_a_score_is_described_by_the_entry_that_fits_its_name() -> None:
    assert "paraphrased" in probability("ra_Q_A_PARA_Prob", "asked", "paraphrase", goal="up").description
    assert "geometric mean" in probability("forget_Q_A_Prob", "asked", goal="up").description
    assert "people whom" in matched("restor_accuracy_clean", ["sampled"], "exact", goal="up").description
    assert "nothing else" in matched("restor_accuracy", ["sampled"], "exact", goal="up").description
