"""The catalogue: which entry describes which score, and what is in it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

import bench.metrics
from bench.core import registry
from bench.core.contracts import Metric
from bench.core.record import Score
from bench.metrics.catalogue import CatalogueEntry, listed, metric_entries, metric_factories, plugged_metrics
from bench.metrics.probability import (
    probability,
)
from bench.metrics.restor import matched


def test_every_function_that_makes_a_metric_is_in_the_catalogue() -> None:
    helpers = {"mean_metric", "row_metric", "_judged", "about_people"}
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


@pytest.mark.parametrize(
    ("pattern", "fitting", "other"),
    [
        ("kl_forget", ["kl_forget"], ["kl_forget_floors", "x_kl_forget"]),
        ("*_Q_A_Prob", ["forget_Q_A_Prob"], ["forget_Q_A_PARA_Prob"]),
        ("a_corrupted, _clean (what kind)", ["a_corrupted", "a_clean", "b_clean"], ["a_corrupted_clean_x", "a"]),
        ("mia_*", ["mia_loss", "mia_min_k"], ["x_mia_loss"]),
    ],
)
def test_an_entry_fits_names_and_endings(pattern: str, fitting: list[str], other: list[str]) -> None:
    entry = CatalogueEntry(pattern, "", "up", "")
    assert all(map(entry.fits, fitting)) and not any(map(entry.fits, other))


def score(responses: object, oracles: object) -> Score:
    return Score(0.0, 1)


def test_a_factory_under_two_names_describes_each_of_its_metrics_by_its_own() -> None:
    """What is entered last stands first; a metric that no entry fits gets the outermost one's words."""

    @listed("*_a", "of a", "up", "source a")
    @listed("*_b", "of b", "down", "source b")
    def made(name: str) -> Metric:
        return Metric(name, score, "up")

    assert [entry.name for entry in vars(made)["entries"]] == ["*_a", "*_b"]
    found = [(made(name).description, made(name).source) for name in ("x_a", "x_b")]
    assert found == [("of a", "source a"), ("of b", "source b")]
    assert made.__name__ == "made"


def test_the_catalogue_has_every_entry_of_every_factory_family_by_family() -> None:
    families = [factory.__module__ for factory in metric_factories()]
    assert families == sorted(families) and len(set(families)) > 5
    names = [entry.name for entry in metric_entries()]
    assert len(names) == sum(len(vars(factory)["entries"]) for factory in metric_factories())


def test_plugged_metrics_bear_their_entry_points_name_and_leave_our_names_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    everywhere, here = Metric("inner", score, "up", 4), Metric("here", score, 0.0, tasks=("tofu",))
    plugged = {"outer": everywhere, "here": here}
    monkeypatch.setattr(registry, "components", lambda kind: plugged)
    monkeypatch.setattr(registry, "load_component", lambda kind, name: plugged[name])
    assert [metric.name for metric in plugged_metrics()] == ["outer", "here"]
    assert [metric.name for metric in plugged_metrics("tofu")] == ["outer", "here"]
    assert [metric.name for metric in plugged_metrics("qa")] == ["outer"]
    assert [metric.name for metric in plugged_metrics("tofu", ["outer"])] == ["here"]
    [*_, outer, last] = metric_entries()
    assert (outer.name, outer.version, last.goal) == ("outer", 4, "0.0")
