"""What lies between the forget set and the request: lines of target and oracle, and the clean run as a first point."""

from __future__ import annotations

from bench.core import registry
from bench.studies.ablations.base import Study, framing_as_series, with_framing_points
from bench.studies.ablations.conditions import (
    GAP_METHODS,
    GAPS,
    LATER,
    NOISE_METHODS,
    SHARES,
    clean_everywhere,
    gap_points,
    noise_points,
)
from tests.factories import finding, place


def test_every_method_runs_after_each_gap_in_a_world_with_the_same_people() -> None:
    for task, later in LATER.items():
        points = gap_points(place(task))
        target = registry.load_task(task, "lab")(**place(task).params).target_steps
        assert {(point.at["gap"], point.task["gap_steps"], point.task["later"]) for point in points} == {
            (gap, gap, later) for gap in (0, round(target / 4), target)
        }
        assert len(points) == len(GAP_METHODS) * len(GAPS)
        assert len([point for point in with_framing_points(points) if "row" in point.at]) == 2 * len(GAPS)


def test_target_and_oracle_are_lines_over_the_gap() -> None:
    found = framing_as_series("gap", "gap_steps")(
        Study(
            "gap",
            place(),
            (0,),
            (
                finding({"row": "target", "task.later": 30, "task.gap_steps": 300}),
                finding({"row": "oracle", "task.later": 30, "task.gap_steps": 0}),
                finding({"series": "msa", "gap": 300}),
            ),
        )
    )
    assert [f.at for f in found] == [
        {"series": "target", "gap": 300},
        {"series": "oracle", "gap": 0},
        {"series": "msa", "gap": 300},
    ]


def test_mistakes_are_made_in_one_way_at_a_time() -> None:
    """Each method clean, and with each share in each of two ways."""
    points = noise_points(place())
    tasks = [dict(point.task) for point in points]
    assert len(points) == len(NOISE_METHODS) * (1 + 2 * len(SHARES)) and len(SHARES) > 1
    for noise in ({}, *({name: share} for name in ("noise_inside", "noise_missing") for share in SHARES)):
        assert tasks.count(noise) == len(NOISE_METHODS)
    assert all(point.at["share"] == next(iter(point.task.values()), 0.0) for point in points)


def test_a_clean_run_is_the_first_point_of_both_of_its_methods_lines() -> None:
    """The scores are taken on the truth, so that noise moves neither target nor oracle: one of each is kept."""
    found = clean_everywhere(
        Study(
            "noise",
            place(),
            (0,),
            (
                finding({"row": "target"}),
                finding({"row": "oracle"}),
                finding({"row": "target", "task.noise_inside": 0.1}),
                finding({"series": "msa", "share": 0.0}, 0, {"forget_accuracy": 0.25}),
                finding({"series": "msa, retain rows inside", "share": 0.1}),
            ),
        )
    )
    assert [dict(f.at) for f in found] == [
        {"row": "target"},
        {"row": "oracle"},
        {"series": "msa, retain rows inside", "share": 0.0},
        {"series": "msa, forget rows missing", "share": 0.0},
        {"series": "msa, retain rows inside", "share": 0.1},
    ]
    assert [f.score("forget_accuracy") for f in found[2:4]] == [0.25, 0.25]
