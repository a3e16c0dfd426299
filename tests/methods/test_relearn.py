"""Relearning: what is taught, at which steps it is looked at, and that the facts that are measured aren't taught."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.core.contracts import Recipe
from bench.core.errors import Unmet
from bench.core.types import Checkpoint, Request, Validation
from bench.runs.runner import half_of, on_other_facts
from methods.relearn import Relearn
from tests.lab_runs import Lab, spec, step
from tests.tiny import qa

FORGET = tuple(qa(i, f"w{i} ?", "w1") for i in range(6))
RETAIN = tuple(qa(i, f"w{i} ?", "w2") for i in range(10, 20))
ASKED = Request(Checkpoint("", "t"), FORGET, RETAIN, Validation(), half=FORGET[1::2])


class Watched:
    """A context that only notes what it is asked to train."""

    seed = 0

    def train(self, start: Checkpoint, streams: Any, recipe: Recipe, label: str, keep: Any = ()) -> Checkpoint:
        self.rows = {row.id for stream in streams for row in stream.examples}
        self.recipe, self.keep = recipe, keep
        return start


def taught(request: Request = ASKED, **params: Any) -> Watched:
    watched = Watched()
    Relearn(**params).unlearn(request, watched)  # type: ignore[arg-type]
    return watched


def test_half_all_or_retain_rows_are_taught_at_a_constant_rate() -> None:
    assert taught().rows == {row.id for row in FORGET[1::2]} and taught(teach="all").rows == {row.id for row in FORGET}
    control = taught(teach="retain")
    assert len(control.rows) == len(FORGET) and control.rows <= {row.id for row in RETAIN}
    assert (control.recipe.schedule, control.recipe.warmup) == ("constant", 0.0)
    assert taught().keep == [5, 13, 25, 50] and taught(steps=20, points="20 3 30 3").keep == [3]


@pytest.mark.parametrize(("teach", "lacks"), [("benign", "instructions"), ("half", "two facts")])
def test_rows_that_a_task_lacks_are_said(teach: str, lacks: str) -> None:
    with pytest.raises(Unmet, match=lacks):
        taught(replace(ASKED, half=()), teach=teach)


@pytest.mark.parametrize(
    ("params", "said"),
    [({"teach": "halb"}, "half"), ({"points": "5,13"}, "'5 13 25'"), ({"lr": 0.0}, "lr"), ({"steps": 0}, "steps")],
)
def test_mistakes_are_sentences(params: dict[str, Any], said: str) -> None:
    (sentence,) = Relearn(**params).problems()
    assert said in sentence


def test_every_second_fact_is_taught_and_the_others_are_measured(lab: Lab) -> None:
    scenario = lab.scenario()
    half = half_of(scenario)
    facts = {scenario.fact_of(row.id) for row in scenario.forget}
    known = {scenario.fact_of(row.id) for row in half}
    assert 0 < len(known) <= len(facts) - len(known) <= len(known) + 1
    assert all(not row.references for row in half)
    others = on_other_facts(scenario, [row.id for row in half])
    asked = {scenario.fact_of(row.id) for probe in others.probes for row in probe.examples}
    before = {scenario.fact_of(row.id) for probe in scenario.probes for row in probe.examples}
    assert asked == before - known
    assert (
        on_other_facts(scenario, ()) is scenario
        and on_other_facts(scenario, [row.id for row in scenario.forget]) is scenario
    )


def test_the_record_has_the_curve_from_before_the_attack_to_its_end(lab: Lab) -> None:
    found = lab.run(spec(step("npo", steps=2), step("relearn", teach="all", steps=3, points="1")))
    plain = lab.run(spec(step("npo", steps=2)))
    curve = found.facts["curve"]
    assert [point["step"] for point in curve] == [0, 1, 3]
    assert curve[0]["scores"] == {name: score.value for name, score in plain.scores.items()}
    assert curve[-1]["scores"] == {name: score.value for name, score in found.scores.items()}
    assert curve[1]["scores"] != curve[0]["scores"]
