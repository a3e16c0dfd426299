"""The ablation of size: fits and predictions by hand, and a page and a picture of made-up costs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from bench.records import files
from bench.records.markdown import format_duration, format_scaled
from bench.studies.ablations import catalogue, cost, study
from bench.studies.ablations.base import AblationPlace, Finding, Study
from bench.studies.ablations.cost_page import Trend, report, slope, trend_cell, trend_of_gap
from bench.studies.ablations.costing import (
    HELD_OUT_PARAMETERS,
    METHODS,
    RunCost,
    TimeFit,
    fit_cost_rules,
    fit_seconds,
    held_out_costs,
    ladder_costs,
    predict_cost,
)
from bench.studies.ablations.extrapolation import WORKLOAD
from tests.factories import record

PARAMETERS = {96: 290_400, 128: 493_696, 192: 1_060_032, 256: 1_839_360}
TOKENS = 100_000
RATE = 20e9
OVERHEAD = 0.5


def costs(parameters: int, counted: bool = True) -> dict[str, Any]:
    """A record's: six operations a parameter and token, a stated rate and overhead, 600 MB of process, 1 MB of tokenizer."""
    training = 6 * parameters * TOKENS
    found: dict[str, Any] = {
        "seconds": {"method": OVERHEAD + training / RATE, "measure": 1.0},
        "tokens_trained": TOKENS,
        "peak_bytes": 600_000_000 + 16 * parameters,
        "bytes_stored": 2 * (4 * parameters + 1_000_000),
        "nodes": ["a", "b"],
    }
    if counted:
        found["flops"] = {"training": training, "arithmetic": 0, "parameters": parameters}
    return found


def made_up(seeds: tuple[int, ...] = (0, 1), counted: bool = True) -> Study:
    """A study as the command leaves it: target, oracle and every method at every width."""
    findings = []
    for width, parameters in PARAMETERS.items():
        for name in ("target", "oracle", *METHODS):
            at = (
                {"row": name, "task.width": width} if name in ("target", "oracle") else {"series": name, "width": width}
            )
            for seed in seeds:
                made = record({"oracle": "retrain"}.get(name, name), seed, cost=costs(parameters, counted))
                findings.append(Finding(at, seed, made))
    return Study("cost", AblationPlace("tofu"), seeds, tuple(findings), command="python -m bench ablate cost")


def real(method: str = "msa", **changed: Any) -> Any:
    """A record of the held-out model: ten thousand tokens, twice as long as the ladder's rate says."""
    seconds = {"method": 2 * (OVERHEAD + 6 * HELD_OUT_PARAMETERS * 10_000 / RATE), "measure": 1.0}
    spent = costs(HELD_OUT_PARAMETERS, counted=False) | {"seconds": seconds, "tokens_trained": 10_000}
    return record(method, 0, tier="real", model="smollm2-135m-instruct-q4", cost=spent | changed)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of ``results``."""
    monkeypatch.setattr(cost, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def derived(made: Study) -> Study:
    return study.with_derived_findings(made, catalogue.load_ablation_of_runs("cost"))


def test_the_ladder_has_every_method_at_every_width() -> None:
    points = cost.cost_points(AblationPlace("tofu"))
    assert [(p.at["width"], p.at["series"]) for p in points] == [(w, m) for w in (64, 128, 192) for m in METHODS]
    assert all(p.task == {"width": p.at["width"]} for p in points)


def test_the_oracles_and_the_methods_costs_are_read() -> None:
    found = ladder_costs(derived(made_up()))
    assert len(found) == 4 * 2 * (len(METHODS) + 1) and {c.method for c in found} == {*METHODS, "oracle"}
    assert found[0] == RunCost(
        "oracle", 0, 290_400, TOKENS, found[0].seconds, 6 * 290_400 * TOKENS, 604_646_400, 4_323_200, 2, 96
    )


def test_a_fit_by_hand() -> None:
    """Two points lie on it: 1 s at 10 operations and 3 s at 50 are half a second and 20 a second."""
    found = fit_seconds([(10, 1.0), (50, 3.0)])
    assert found is not None
    assert (found.overhead, found.rate) == (pytest.approx(0.5), pytest.approx(20)) and found.seconds(
        90
    ) == pytest.approx(5)


def test_an_overhead_is_never_negative() -> None:
    """1 s at 10 and 4 s at 20 would begin at -2 s. Without overhead the slope b minimises (10b - 1)^2 + (5b - 1)^2,
    which is at b = 15 / 125."""
    assert fit_seconds([(10, 1.0), (20, 4.0)]) == TimeFit(0.0, pytest.approx(125 / 15))


@pytest.mark.parametrize("points", [[], [(10, 1.0)], [(10, 1.0), (10, 2.0)], [(10, 3.0), (50, 1.0)]])
def test_nothing_is_fitted_where_seconds_dont_grow(points: list[tuple[float, float]]) -> None:
    assert fit_seconds(points) is None


def test_what_the_ladder_predicts_by_hand() -> None:
    """Of the made-up rules, at a hundred times the size and a tenth of the tokens, three checkpoints."""
    rule = fit_cost_rules(ladder_costs(derived(made_up())))
    found = predict_cost(RunCost("npo", 0, 100_000_000, 10_000, 0.0, None, 0, 0, 3), rule)
    assert found.flops == pytest.approx(6e12)
    assert found.seconds == pytest.approx(0.5 + 6e12 / 20e9)
    assert found.peak_bytes == pytest.approx(0.6e9 + 1.6e9)
    assert found.bytes_stored == pytest.approx(3 * (0.4e9 + 1e6))


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
    assert held_out_costs(study.study_from_json(study.study_to_json(kept))) == held_out_costs(kept) != []


def test_a_study_from_before_notes_is_read() -> None:
    data = study.study_to_json(made_up())
    assert "notes" not in data and study.study_from_json(data).notes == {}


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


def test_the_extrapolation_by_hand() -> None:
    """MSA at a billion: two vectors of 10 passes over 400 rows of 80 tokens are 640,000 tokens, at 6e9 each 3.84e15, and
    8 more for each parameter; at .4 of 990e12 a second 9.7 s. The merge reads four and writes one of 2e9 bytes."""
    work, loads = WORKLOAD, WORKLOAD.loads
    msa = loads["msa"]
    assert work.tokens(msa) == 640_000 and work.flops(msa, 1e9, 6) == pytest.approx(3.84e15 + 8e9)
    assert work.gpu_seconds(3.84e15) == pytest.approx(9.697, abs=1e-3)
    assert work.disk_seconds(msa, 1e9) == 5 and work.disk_seconds(loads["npo"], 1e9) == 0
    assert work.tokens(loads["oracle"]) == 2_880_000 and work.tokens(loads["target"]) == 3_200_000


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


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "—"), (0, "0 B"), (999, "999 B"), (1234, "1.23 kB"), (5.4e8, "540 MB"), (9.996e8, "1 GB")],
)
def test_quantities_have_prefixes(value: float | None, said: str) -> None:
    assert format_scaled(value, "B") == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(None, "—"), (9.7, "9.7 s"), (150, "2.5 min"), (9000, "2.5 h"), (2e6, "23.1 days")]
)
def test_durations_are_in_the_unit_that_reads_best(seconds: float | None, said: str) -> None:
    assert format_duration(seconds) == said


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
