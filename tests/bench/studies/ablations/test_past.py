"""Ablations of the model's past: which checkpoints they take, and what is computed of their findings by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from bench.core import registry
from bench.core.contracts import TaskInputs
from bench.studies.ablations import catalogue
from bench.studies.ablations.base import Finding, Study
from bench.studies.ablations.past import (
    checkpoints_of,
    distance_points,
    exposure_points,
    frequency_findings,
    grid,
    keep_point,
    with_places,
)
from tests.factories import finding, place


def study(*findings: Finding, name: str = "distance") -> Study:
    return Study(name, place(), (0, 1), findings)


def test_the_grid_is_the_history_without_a_retain_vector() -> None:
    """The fresh weights and ten checkpoints: nine at equal distances while the rate is constant, and the last."""
    where = place()
    points, kept = grid(where), checkpoints_of(where)
    lab = registry.load_task("tofu", "lab")(**where.params)
    assert [one.step for one in kept] == [0, *lab.history_kept] and len(kept) == 11
    assert [point.at["age"] for point in points] == [one.age for one in kept]
    assert kept[0].age == 0 and kept[-1].age == 1 and kept[-2].age == pytest.approx(0.8, abs=0.01)
    apart = [later.step - sooner.step for sooner, later in pairwise(kept[:-1])]
    assert max(apart) - min(apart) <= 1, "equally far apart, to a rounded step"
    for point, one in zip(points, kept, strict=True):
        (step,) = point.steps
        assert step.params["before"] == f"step={one.step}" and step.params["beta"] == 0.0
        assert not point.task, "the history that every other run has"


def test_each_theta_1_is_looked_at_by_itself() -> None:
    """The same training from the same checkpoint as MSA's, and no choice to make."""
    points = distance_points(place())
    alone = [point for point in points if point.at.get("row") == "theta_1"]
    msa = [point for point in points if "row" not in point.at]
    assert len(alone) == len(msa) == 11 + 6
    for one, other in zip(msa, alone, strict=True):
        assert other == keep_point(one) and dict(other.at) == {**one.at, "row": "theta_1"}
        theirs, own = one.steps[0].params, other.steps[0].params
        assert other.start == theirs["before"] and own["rows_of"] == "forget" and not other.choices
        assert {key: own[key] for key in ("steps", "lr", "batch", "text_batch", "until")} == {
            key: theirs[key] for key in ("steps", "lr", "batch", "text_batch", "until")
        }
        assert registry.load_component("methods", "finetune")(**own).problems() == []


def test_findings_get_their_place_and_theta_1s_own_score() -> None:
    """Seeds at distances 3 and 4: 3.5. theta_1's own accuracies .8 and .6: .7."""

    def at(age: float, seed: int, distance: float, tokens: int) -> dict[str, Any]:
        place = {"step": 150, "tokens": tokens, "distance_to_target": distance, "distance_to_last": distance / 2}
        return {"facts": facts(headline()) | {"theta_0": place}}

    coordinates = {"series": "s", "age": 0.5}
    found = with_places(
        study(
            finding({"row": "target"}, 0, {"forget_accuracy": 1.0}),
            finding(coordinates, 0, {"forget_accuracy": 0.1}, **at(0.5, 0, 3.0, 1000)),
            finding(coordinates, 1, {"forget_accuracy": 0.3}, **at(0.5, 1, 4.0, 2000)),
            finding({**coordinates, "row": "theta_1"}, 0, {"forget_accuracy": 0.8}),
            finding({**coordinates, "row": "theta_1"}, 1, {"forget_accuracy": 0.6}),
        )
    )
    assert [(dict(f.at), f.seed) for f in found] == [
        ({"row": "target"}, 0),
        *(
            (
                {
                    **coordinates,
                    "step": 150,
                    "tokens": 1500,
                    "distance": 3.5,
                    "from the last": 1.75,
                    "theta_1's own": 0.7,
                },
                seed,
            )
            for seed in (0, 1)
        ),
    ]
    assert [f.score("forget_accuracy") for f in found[1:]] == [0.1, 0.3], "their own scores stay"


def headline() -> list[str]:
    return ["forget_accuracy"]


def facts(names_: list[str]) -> dict[str, Any]:
    return {"headline": names_}


def test_of_every_nth_checkpoint_the_newest_that_was_stored() -> None:
    """With every 5th of ten stored, exposure begins 0 to 4 intervals after one: the newest five, scored 10 to 6 tenths,
    mean .8.

    Stored are 10 / n + 1 checkpoints; with 11 of them, of the lab's P parameters, 11 * 4 P bytes.
    """
    measured = [
        finding({"series": "MSA", "age": one.age}, seed, {"forget_accuracy": k / 10})
        for k, one in enumerate(checkpoints_of(place()))
        for seed in (0, 1)
    ]
    made = frequency_findings(study(finding({"row": "oracle"}, method="retrain"), *measured, name="frequency"))
    assert made[0].at == {"row": "oracle"}
    groups: dict[int, list[Finding]] = {}
    for one in made[1:]:
        groups.setdefault(one.at["every"], []).append(one)
    assert list(groups) == [1, 2, 5, 10]
    means = {every: sum(f.score("forget_accuracy") or 0 for f in group) / len(group) for every, group in groups.items()}
    assert means == pytest.approx({1: 1.0, 2: 0.95, 5: 0.8, 10: 0.55})
    assert {every: len(group) for every, group in groups.items()} == {n: 2 * n for n in groups}
    parameters = registry.load_task("tofu", "lab")(**place().params).outline(TaskInputs("lab")).parameters
    for every, stored in {1: 11, 2: 6, 5: 3, 10: 2}.items():
        assert {f.at["stored"] for f in groups[every]} == {stored}
        assert {f.at["megabytes"] for f in groups[every]} == {round(stored * 4 * parameters / 1e6, 2)}


def test_exposure_takes_checkpoints_before_at_and_during_the_targets_training() -> None:
    """The lab's tofu: H steps of pretraining, T of the target's; its last checkpoint is the target itself."""
    where = place()
    lab = registry.load_task("tofu", "lab")(**where.params)
    pretraining, target = lab.history_steps, lab.target_steps
    points = exposure_points(where)
    assert all(point.task == {"exposed": 6} for point in points)
    rules = [(point.at["steps after"], point.steps[0].params["before"]) for point in points]
    middle, stable = lab.history_kept[4], lab.history_kept[-2]
    assert rules[:3] == [(step - pretraining, f"step={step}") for step in (middle, stable, pretraining)]
    assert rules[3:] == [
        (after, f"step={pretraining + after}") for after in (round(target * k / 6) for k in range(1, 7))
    ]
    assert rules[-1] == (target, f"step={pretraining + target}")


@pytest.mark.parametrize("task", ["tofu", "restor", "muse-books"])
def test_exposures_checkpoints_are_those_that_the_task_keeps(task: str) -> None:
    """A rule by step finds a checkpoint at exactly this step, or the run fails."""
    from bench.core.contracts import steps_kept

    where = place(task)
    lab = registry.load_task(task, "lab")(**where.params)
    kept = {lab.history_steps + step for step in steps_kept(lab.target_steps, 6)}
    asked = {point.steps[0].params["before"] for point in exposure_points(where)}
    assert {f"step={step}" for step in kept} <= asked
    assert all(
        catalogue.load_ablation_of_runs("exposure").tasks.count(name) == 1 for name in ("tofu", "restor", "muse-books")
    )
