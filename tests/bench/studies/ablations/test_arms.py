"""Ablations that compare arms: where each begins, and what their pages say of notes in the records."""

from __future__ import annotations

import pytest

from bench.studies.ablations.arms import (
    WEIGHTS,
    ages_of,
    control_points,
    correlations,
    influence_points,
    influence_table,
    recipe_points,
    rewind_points,
    rounding,
)
from bench.studies.ablations.base import Study
from bench.studies.ablations.past import checkpoints_of
from tests.factories import ablation_study, finding, place


def test_every_baseline_runs_from_the_target_and_from_theta_0() -> None:
    where = place()
    points = rewind_points(where)
    assert points[0].steps == (where.step("msa"),) and points[0].start == ""
    msa, alike = points[0].steps[0].params, points[2].steps[0]
    assert alike.method == "task-arithmetic" and all(alike.params[k] == msa[k] for k in ("steps", "lr", "batch"))
    names = ["ga", "graddiff", "npo", "task-arithmetic"]
    begun = {start: [p.steps[0] for p in points[3:11] if p.start == start] for start in ("", "last-before-exposure")}
    assert begun[""] == begun["last-before-exposure"] == [where.step(name) for name in names], "the same arms"


def test_theta_0_is_rewound_for_shares_of_the_retraining() -> None:
    """10, 25 and 50% of the oracle's steps on all retain rows, 25% on MSA's budget; from the target a quarter of its rows."""
    points = rewind_points(place())
    rewound = [
        (p.steps[0].params["share"], p.steps[0].params["retain"]) for p in points if p.steps[0].method == "rewind"
    ]
    assert rewound == [(0.1, "all"), (0.25, "all"), (0.5, "all"), (0.25, "forget")]
    tuned = [p for p in points if p.steps[0].method == "finetune"]
    assert [p.steps[0].params["retain"] for p in tuned] == ["all", "forget"]
    for point in tuned:
        params = point.steps[0].params
        assert point.start == "" and params["steps"] * params["batch"] == 208 * 64 / 4
        assert len(point.choices) == 3 and all(set(choice) == {"lr"} for choice in point.choices)


def test_controls_differ_from_msa_in_the_vector_alone() -> None:
    where = place()
    points = control_points(where)
    assert [point.at["vector"] for point in points] == ["forget", "others", "shuffled", "random"]
    for point in points:
        assert point.steps[0].params == {**where.step("msa").params, "beta": 0.0, "vector": point.at["vector"]}


def test_recipes_are_the_variants() -> None:
    where = place()
    found = {point.at["recipe"]: point.steps[0].params for point in recipe_points(where)}
    assert found["gentle"] == where.step("msa").params
    assert found["official"]["recipe"] == "official" and found["official"]["lr"] == 2e-4
    assert found["LoRA"]["lora"] == 8 and found["LoRA"]["recipe"] == "gentle"


def test_weights_are_compared_at_several_ages_without_a_retain_vector() -> None:
    where = place()
    points = influence_points(where)
    kept = {one.age: one.rule for one in checkpoints_of(where)}
    ages = {p.at["age"] for p in points}
    assert len(ages) == 4 and max(ages) == 1 and ages < kept.keys()
    assert {(p.at["series"], p.at["age"]) for p in points} == {(kind, age) for kind in WEIGHTS for age in ages}
    for point in points:
        params = point.steps[0].params
        assert (params["weights"], params["before"], params["beta"]) == (point.at["series"], kept[point.at["age"]], 0.0)


def test_what_rounding_did_is_the_mean_over_seeds() -> None:
    """Unchanged .5 and .7: 60.0%; in float32 .01 and .03: 2.0%; error .4 and .6: .50; cosine .8 and .9: .85."""
    notes = [
        {"unchanged": 0.5, "unchanged_in_float32": 0.01, "relative_error": 0.4, "cosine": 0.8},
        {"unchanged": 0.7, "unchanged_in_float32": 0.03, "relative_error": 0.6, "cosine": 0.9},
    ]
    found = [
        finding({"recipe": "official"}, seed, facts={"headline": [], "notes": {"rounding": note}})
        for seed, note in enumerate(notes)
    ]
    said = rounding(Study("recipe", place(), (0, 1), (*found, finding({"recipe": "gentle"}))))
    assert "60.0% of its entries are exactly 0 (2.0% in float32)" in said
    assert "error is 0.50 and its cosine with the exact vector 0.85" in said
    assert rounding(Study("recipe", place(), (0, 1), (finding({"recipe": "gentle"}),))) == ""


def test_the_weights_table_has_a_row_for_each_kind_and_age() -> None:
    study = ablation_study("influence")
    rows = [line for line in influence_table(study).splitlines() if line.startswith(("| fisher", "| gradient"))]
    assert [row.split(" | ")[:2] for row in rows] == [
        [f"| {kind}", f"{age:g}"] for kind in ("fisher", "gradient") for age in ages_of(study)
    ]
    cells = [cell.strip() for cell in rows[0].strip("|").split("|")]
    assert cells[2:6] == ["1.000", "0.200", "1.000", "1.800"], "mean and quantiles"
    assert cells[8:] == ["2.0", "4.0"], "seconds of the stages named influence, and megabytes"
    values = correlations(study, "fisher", ages_of(study)[0], "rank_correlation_with_target")
    assert len(values) == 2 and float(cells[6]) == pytest.approx(sum(values) / 2, abs=5e-4)
