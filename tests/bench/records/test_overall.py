"""The field's overall score from records, worked by hand, and its place on the page."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from bench.core.record import Record
from bench.records.overall import field_score, field_scores
from bench.records.tables import build_sections
from tests.factories import GOALS, record
from tests.pages import page_of

PARTS = {"field_memorisation": "up", "field_privacy": "up", "model_utility": "up"}


def made(method: str, seed: int = 0, task: str = "tofu", **scores: float) -> Record:
    goals: Mapping[str, str | float] = {**GOALS, **PARTS}
    known = {name: goals[name] for name in scores}
    return record(method, seed, scores, goals=known, floors={}, task=task)


TARGET = made("target", field_memorisation=0.1, field_privacy=0.2, model_utility=0.6)
ORACLE = made("retrain", field_memorisation=0.8, field_privacy=1.0, model_utility=0.6)
NPO = made("npo", field_memorisation=0.5, field_privacy=0.4, model_utility=0.3)


def test_by_hand() -> None:
    """NPO: 3 / (1/.5 + 1/.4 + .6/.3) = 3 / 6.5; the oracle: 3 / (1.25 + 1 + 1) = 12/13, not 1."""
    npo, oracle = field_score(NPO, TARGET), field_score(ORACLE, TARGET)
    assert npo and oracle
    assert npo.utility == 0.5 and npo.overall == pytest.approx(3 / 6.5)
    assert oracle.overall == pytest.approx(12 / 13)


def test_without_model_utility_it_is_the_tasks_own() -> None:
    """.4 and .6 have the harmonic mean .48, the target's .8 and .8: .48 / .8 = .6."""
    rows = [
        made(name, field_memorisation=0.5, field_privacy=0.5, retain_accuracy=retain, world_accuracy=world)
        for name, retain, world in (("npo", 0.4, 0.6), ("target", 0.8, 0.8))
    ]
    assert all(row.facts["utility"] == ["retain_accuracy", "world_accuracy"] for row in rows)
    score = field_score(*rows)
    assert score and score.utility == pytest.approx(0.6)


def test_a_better_utility_than_the_targets_is_no_gain() -> None:
    score = field_score(made("npo", field_memorisation=0.5, field_privacy=0.5, model_utility=0.9), TARGET)
    assert score and score.utility == 1.0


def test_what_lacks_a_part_has_no_score() -> None:
    assert field_score(made("npo", field_memorisation=0.5, model_utility=0.5), TARGET) is None
    assert field_score(made("npo", field_privacy=0.5, model_utility=0.5), TARGET) is None
    assert field_score(NPO, made("target", model_utility=0.0)) is None, "nothing is relative to 0"
    assert field_score(NPO, made("target", retain_accuracy=0.5)) is None, "one utility of two"
    wreck = field_score(made("ga", field_memorisation=1.0, field_privacy=1.0, model_utility=0.0), TARGET)
    assert wreck and wreck.overall == 0.0


def test_the_page_shows_it_as_theirs_and_only_where_it_is() -> None:
    page = page_of([TARGET, ORACLE, NPO])
    assert "<details><summary>The field's overall score</summary>" in page and "the oracle itself doesn't get 1" in page
    line = next(line for line in page.split("overall without fluency")[1].splitlines() if line.startswith("| npo"))
    assert line.split(" | ")[1:] == ["0.462", "0.500", "0.400", "0.500 |"]
    assert "field's overall" not in page_of([made("target", forget_accuracy=0.5)])
    (section,) = build_sections([ORACLE, NPO])
    assert field_scores(section) == [], "there is no target"
    (section,) = build_sections([NPO, TARGET, ORACLE])
    assert [row.name for row, _ in field_scores(section)] == ["target", "retrain", "npo"]
