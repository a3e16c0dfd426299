"""The ladder of worlds: one change at a time, settings chosen on each rung, targets that didn't learn named."""

from __future__ import annotations

from typing import Any

import pytest

from bench.core import registry
from bench.studies.ablations import catalogue
from bench.studies.ablations.base import Finding, Study
from bench.studies.ablations.ladder import (
    LADDER_METHODS,
    RUNGS,
    TAKEN_BACK,
    framing_over_rungs,
    gaps,
    ladder_points,
    ladder_table,
    rungs,
    target_cells,
)
from bench.studies.ablations.study import render_study, with_derived_findings
from tests.factories import ablation_study, finding, place


def test_one_change_at_a_time_ends_at_the_lab_of_now() -> None:
    found = [rungs()[name] for name in RUNGS]
    assert found[0] == {"collisions": True, "spread": 0.02, "rate": 1e-3, "replay": 0.0}
    for sooner, later in zip(found, found[1:], strict=False):
        assert sum(sooner[name] != later[name] for name in later) == 1
    lab = registry.default_params(registry.load_task("tofu", "lab"))
    assert found[-1] == {name: lab[name] for name in found[-1]}


def test_each_change_but_the_last_is_taken_back_alone() -> None:
    old, now = rungs()["old world"], [rungs()[name] for name in RUNGS][-1]
    undone = [{key: rungs()[name][key] for key in now if rungs()[name][key] != now[key]} for name in TAKEN_BACK]
    assert [*undone, {"replay": 0.0}] == [{key: old[key]} for key in ("collisions", "spread", "rate", "replay")]
    assert rungs()["rate 8e-4"] == now | {"replay": 0.0}


def test_both_methods_choose_on_every_rung_among_the_same_settings() -> None:
    points = ladder_points(place())
    assert [(p.at["rung"], p.at["series"]) for p in points] == [(name, m) for name in rungs() for m in LADDER_METHODS]
    for method in LADDER_METHODS:
        mine = [p for p in points if p.at["series"] == method]
        assert all(p.choices == mine[0].choices and len(p.choices) == 8 and p.tuned_on == 100 for p in mine)
    assert [dict(p.task) for p in points[::2]] == list(rungs().values())


def test_target_and_oracle_are_lines_over_the_rungs() -> None:
    about = {f"task.{key}": value for key, value in rungs()["rate 8e-4"].items()}
    found = framing_over_rungs(Study("lab", place(), (0,), (finding({"row": "oracle", **about}),)))
    assert [dict(f.at) for f in found] == [{"series": "oracle", "rung": "rate 8e-4"}]


def of(series: str, seed: int, forget: float, retain: float) -> Finding:
    facts: dict[str, Any] = {"headline": [], "displacement": 0.2, "about": {"same_answer": 0.3, "same_word": 0.4}}
    scores = {"forget_accuracy": forget, "retain_accuracy": retain}
    return finding({"series": series, "rung": "old world"}, seed, scores, facts=facts)


def test_a_gap_is_to_the_oracle_of_the_same_rung_and_seed() -> None:
    """Forgetting without its sign: .1 and .05 below and above. Kept with it: -.3 and .1."""
    rows = [of("oracle", 0, 0.2, 0.9), of("oracle", 1, 0.1, 0.8), of("msa", 0, 0.1, 0.6), of("msa", 1, 0.15, 0.9)]
    study = Study("lab", place(), (0, 1), tuple(rows))
    assert gaps(study, "old world", "msa", "forget_accuracy") == pytest.approx([0.1, 0.05])
    assert gaps(study, "old world", "msa", "retain_accuracy") == pytest.approx([-0.3, 0.1])
    assert gaps(study, "spread .06", "msa", "retain_accuracy") == []


def test_a_target_that_has_not_learnt_is_named() -> None:
    assert target_cells([of("target", 0, 0.97, 0.95), of("target", 1, 0.95, 0.91)])[-1] == "yes"
    cells = target_cells([of("target", 0, 0.97, 0.95), of("target", 1, 0.95, 0.85)])
    assert cells[:-1] == ["0.960 (0.950–0.970)", "0.900 (0.850–0.950)", "0.200", "0.300", "0.400"]
    assert cells[-1].startswith("no: below 0.9 on some seed")


def test_the_page_has_every_rung_and_says_on_which_seed_settings_were_chosen() -> None:
    ablation = catalogue.load_ablation_of_runs("lab")
    made = ablation_study("lab")
    page = render_study(made, ablation)
    assert "on validation rows of seed 100," in page and "(edge)" not in page
    table = ladder_table(with_derived_findings(made, ablation))
    assert all(table.count(f"| {name} |") == 3 for name in rungs()), "its target, and two methods"
