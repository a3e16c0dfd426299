"""The ablation of size: fits and predictions by hand, and a page and a picture of made-up costs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bench.records import files
from bench.studies.ablations import catalogue, cost, study
from bench.studies.ablations.base import AblationPlace
from bench.studies.ablations.costing import (
    HELD_OUT_PARAMETERS,
    METHODS,
    held_out_costs,
)
from tests.costs import derived, made_up, real
from tests.factories import record


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of ``results``."""
    monkeypatch.setattr(cost, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def test_the_ladder_has_every_method_at_every_width() -> None:
    """Each with the same settings to choose from at every width, on a seed that isn't shown."""
    points = cost.cost_points(AblationPlace("tofu"))
    assert [(p.at["width"], p.at["series"]) for p in points] == [(w, m) for w in (64, 128, 192) for m in METHODS]
    assert all(p.task == {"width": p.at["width"]} and p.tuned_on == 100 and len(p.choices) == 8 for p in points)
    for method in METHODS:
        assert len({str(p.choices) for p in points if p.at["series"] == method}) == 1


def test_the_held_out_costs_come_from_clean_records_of_that_model(results: Path) -> None:
    for made in (
        real(),
        real("retrain"),
        record("npo", 0, tier="real", model="pythia-160m"),
        record("npo", 0, model="smollm2-135m-instruct-q4"),
        dataclasses.replace(real("ga"), status="failed", reason="it broke"),
        real("target"),
    ):
        files.write_record(made, results)
    found = cost.gather(made_up())["held_out"]
    assert sorted(row["cost"]["method"] for row in found) == ["msa", "oracle"]
    assert {row["cost"]["parameters"] for row in found} == {HELD_OUT_PARAMETERS} and found[0]["cost"]["flops"] is None
    kept = dataclasses.replace(made_up(), notes={"held_out": found})
    records = [finding.record for finding in kept.findings]
    assert held_out_costs(study.study_from_json(study.study_to_json(kept), records)) == held_out_costs(kept) != []


def test_a_study_from_before_notes_is_read() -> None:
    data = study.study_to_json(made_up())
    assert "notes" not in data and study.study_from_json(data, [f.record for f in made_up().findings]).notes == {}


@pytest.mark.parametrize("counted", [True, False])
def test_the_picture_has_a_panel_for_each_score_and_each_cost(results: Path, counted: bool) -> None:
    files.write_record(real(), results)
    made = dataclasses.replace(made_up(counted=counted), notes=cost.gather(made_up()))
    shown = derived(made)
    figure = cost.draw(shown, catalogue.load_ablation_of_runs("cost"))
    panels = [axes for axes in figure.axes if axes.axison]
    assert len(panels) == len(shown.scores) + 4 * counted
    assert all(axes.get_xlabel() for axes in panels)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"target", "oracle", *METHODS} <= set(names)
    assert ("SmolLM2-135M, predicted" in names) == counted
