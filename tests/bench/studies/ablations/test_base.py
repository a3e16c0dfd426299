"""What a command makes of an ablation's points: framing rows, settings laid over settings, specs like any other run's."""

from __future__ import annotations

import json

import pytest

from bench.core import registry
from bench.core.errors import UserError, collecting
from bench.core.record import Step
from bench.runs.asked import build_steps, parse_methods
from bench.studies.ablations import catalogue
from bench.studies.ablations.base import (
    Ablation,
    AblationPlace,
    Point,
    spec_of,
    with_framing_points,
    without_repetitions,
)
from tests.factories import place

RUNS = [name for name in catalogue.ABLATIONS if isinstance(catalogue.load_ablation(name), Ablation)]
PLACES = [(name, task) for name in RUNS for task in catalogue.load_ablation_of_runs(name).tasks]


def test_target_and_oracle_frame_every_set_of_task_parameters() -> None:
    step = Step("msa", {})
    points = [
        Point({"x": 1}, (step,), {"gap": 0}),
        Point({"x": 2}, (step,), {"gap": 0}),
        Point({"x": 3}, (step,), {"gap": 5}),
    ]
    found = with_framing_points(points)
    assert [(dict(point.at), point.steps, dict(point.task)) for point in found[:4]] == [
        ({"row": "target", "task.gap": 0}, (), {"gap": 0}),
        ({"row": "oracle", "task.gap": 0}, (Step("retrain", {}),), {"gap": 0}),
        ({"row": "target", "task.gap": 5}, (), {"gap": 5}),
        ({"row": "oracle", "task.gap": 5}, (Step("retrain", {}),), {"gap": 5}),
    ]
    assert found[4:] == points
    assert [dict(point.at) for point in with_framing_points([Point({"x": 1})])[:2]] == [
        {"row": "target"},
        {"row": "oracle"},
    ]


def test_repetitions_are_left_out_in_order() -> None:
    assert without_repetitions([{"b": 1}, {"a": 2}, {"b": 1}, {"a": 3}]) == [{"b": 1}, {"a": 2}, {"a": 3}]


def test_a_places_step_is_what_bench_run_would_take() -> None:
    """Defaults, the preset of the place, the variant's of this place before the variant's own; then what is changed."""
    with collecting() as problems:
        wanted = parse_methods(["msa", "msa@official", "msa@fisher", "npo"])
        taken = {step.name: step for step in build_steps(wanted, {}, "lab-tofu")}
    where = place()
    assert where.name == "lab-tofu" and problems == []
    for name in ("msa", "msa@official", "msa@fisher"):
        assert where.step(*name.split("@")) == taken[name]
    assert where.step("npo").params == taken["npo"].params
    assert where.step("msa", "official").params["lr"] == 2e-4, "the lab's preset, not the script's 1e-5"
    assert where.step("msa", alpha=0.1).params == {**taken["msa"].params, "alpha": 0.1}
    assert where.step("msa", "fisher", weights="gradient").params["weights"] == "gradient"


def test_a_spec_is_a_lean_run_with_the_choice_laid_over_the_last_step() -> None:
    where = AblationPlace("tofu", params={"authors": 20, "width": 16})
    steps = (Step("npo", {"beta": 0.1, "steps": 3}), Step("msa", {"alpha": 1.0, "beta": 0.5}, "lora"))
    point = Point({"x": 1}, steps, {"width": 32}, start="age=0.5", choices=({"alpha": 2.0},))
    spec = spec_of(where, point, 7, "ablate-x")
    assert (spec.task, spec.tier, spec.model, spec.seed) == ("tofu", "lab", "lab", 7)
    assert spec.task_params == {"authors": 20, "width": 32}
    assert spec.steps == steps and spec.start == "age=0.5" and spec.lean and spec.study == "ablate-x"
    assert {"tofu", "npo", "msa", "training", "measure", "kl_forget"} <= set(spec.versions)
    chosen = spec_of(where, point, 7, "ablate-x", {"alpha": 2.0})
    assert chosen.steps == (steps[0], Step("msa", {"alpha": 2.0, "beta": 0.5}, "lora"))
    assert chosen.key != spec.key
    assert spec_of(where, point, 7, "ablate-y").key == spec.key, "two ablations share a run"
    assert spec_of(where, point, 7, "ablate-x", {}).key == spec.key


def test_a_run_is_the_one_of_bench_run_but_lean() -> None:
    """Whatever else stands in the key is the same."""
    spec = spec_of(place(), Point({}, (place().step("msa"),)), 0, "x").to_json()
    assert spec["lean"] is True and spec["start"] == "" and spec["limit"] is None and spec["hashes"] == {}
    metrics = registry.load_task("tofu", "lab")().metrics()
    assert spec["versions"].keys() >= {metric.name for metric in metrics if not metric.late}
    assert not spec["versions"].keys() & {metric.name for metric in metrics if metric.late}


@pytest.mark.parametrize(("name", "task"), PLACES)
def test_an_ablations_points_can_be_run(name: str, task: str) -> None:
    """Their parameters are no mistakes, their coordinates plain, and no two runs stand at the same coordinates."""
    where, found = place(task), catalogue.load_ablation_of_runs(name)
    points = with_framing_points(found.points(where))
    assert found.name == name and len(points) > 4
    kind = registry.load_task(task, "lab")
    for point in points:
        assert set(point.task) <= set(where.params)
        params = {**where.params, **point.task}
        assert registry.check_bounds(kind, params, task) == []
        assert kind(**params).problems() == []
        for choice in point.choices or ({},):
            for step in point.steps:
                method = registry.load_component("methods", step.method)
                assert registry.check_bounds(method, {**step.params, **choice}, step.method) == []
        assert json.loads(json.dumps(dict(point.at))) == dict(point.at)
    at = [json.dumps(dict(point.at), sort_keys=True) for point in points]
    assert len(set(at)) == len(points)
    runs = {
        json.dumps([dict(point.task), point.start, [[s.method, dict(s.params)] for s in point.steps], dict(choice)])
        for point in points
        for choice in point.choices or ({},)
    }
    assert len(runs) == sum(len(point.choices) or 1 for point in points), "no run stands at two coordinates"
    shown = [point for point in points if point.at.get("row") is None]
    assert all(found.x in point.at or found.derive for point in shown)


def test_unknown_ablations_are_told_with_the_nearest() -> None:
    with pytest.raises(UserError, match="Unknown ablation 'distanse'. Did you mean 'distance'?"):
        catalogue.load_ablation("distanse")
    with pytest.raises(UserError, match="sgd-influence is an experiment of its own"):
        catalogue.load_ablation_of_runs("sgd-influence")
