"""The page of the ablation of size: predicted beside measured, assumptions, trends."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bench.records import files
from bench.studies.ablations import catalogue, cost, study
from bench.studies.ablations.base import AblationPlace, Finding, Study
from bench.studies.ablations.cost_page import Trend, report, slope, trend_cell, trend_of_gap
from bench.studies.ablations.extrapolation import WORKLOAD
from tests.costs import derived, made_up, real
from tests.factories import record


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of ``results``."""
    monkeypatch.setattr(cost, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def test_the_page_shows_predicted_beside_measured(results: Path) -> None:
    files.write_record(real(), results)
    made = dataclasses.replace(made_up(), notes=cost.gather(made_up()))
    page = study.render_study(made, catalogue.load_ablation_of_runs("cost"))
    (row,) = [line for line in page.splitlines() if line.startswith("| msa | 0 |")]
    assert row == (
        "| msa | 0 | 10 k | 8.07 TFLOP / — | 6.73 min / 13.5 min (×2.00) | 2.75 GB / 2.75 GB (×1.00) | "
        "1.08 GB / 1.08 GB (×1.00) |"
    )


def test_the_page_says_what_is_missing(results: Path) -> None:
    made = dataclasses.replace(made_up(), notes=cost.gather(made_up()))
    assert "There were no real records of SmolLM2-135M" in study.render_study(
        made, catalogue.load_ablation_of_runs("cost")
    )
    assert "No record of this study counts FLOPs" in report(derived(made_up(counted=False)))


def test_every_assumption_is_on_the_page() -> None:
    page = report(derived(made_up()))
    for said in (
        "6 FLOPs for each parameter and token",
        "400 forget and 3,600 retain rows of 80 tokens, 10 passes",
        "40% of 990 TFLOP/s",
        "16 bytes a parameter",
        "4 bytes a parameter in float32, 2 in bfloat16",
        "2 GB/s",
    ):
        assert said in page
    assert all(f"| {size} | {method} |" in page for size in ("1B", "8B", "70B", "400B") for method in WORKLOAD.loads)


def test_a_slope_is_for_each_doubling() -> None:
    assert slope({64.0: 0.5, 128.0: 0.4, 256.0: 0.3}) == pytest.approx(-0.1)


def test_a_trend_is_of_gaps_to_the_oracle_of_the_same_width_and_seed() -> None:
    """MSA is .3 below its oracle at width 96 and .1 at 192; the oracle itself moves."""
    values = {("oracle", 96): 0.8, ("msa", 96): 0.5, ("oracle", 192): 0.9, ("msa", 192): 0.8}
    findings = [
        Finding({"series": name, "width": width}, 0, record("msa", 0, {"retain_accuracy": value}))
        for (name, width), value in values.items()
    ]
    found = trend_of_gap(Study("cost", AblationPlace("tofu"), (0,), tuple(findings)), "msa", "retain_accuracy")
    assert found == Trend(pytest.approx(0.3), pytest.approx(0.1), (pytest.approx(-0.2),))
    assert (
        trend_of_gap(Study("cost", AblationPlace("tofu"), (0,), tuple(findings[:2])), "msa", "retain_accuracy") is None
    )


def test_a_trend_that_every_seed_has_is_bold() -> None:
    assert trend_cell(Trend(0.3, 0.1, (-0.2, -0.1))).endswith("(**-0.150 [-0.200, -0.100]**)")
    assert "**" not in trend_cell(Trend(0.3, 0.1, (-0.2, 0.1))) + trend_cell(Trend(0.3, 0.1, (-0.2,)))
