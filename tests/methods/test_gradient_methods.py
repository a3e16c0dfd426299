"""GA, GradDiff and task arithmetic: what each hands to the engines, and the oracle's row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.conformance import TinyScenario, tiny_place
from bench.core.errors import Unmet
from bench.core.types import Checkpoint, Example
from bench.engines.coding import collate_texts
from bench.engines.templates import encode
from bench.engines.training.losses import NextToken
from bench.runs.method_context import Ledger, MethodContext
from methods.ga import GradientAscent
from methods.graddiff import GradDiff
from methods.retrain import Retrain
from methods.task_arithmetic import TaskArithmetic


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> TinyScenario:
    return tiny_place(tmp_path_factory.mktemp("gradient"))


def loss_curve(place: TinyScenario, method: Any, store: str) -> list[float]:
    """The first losses of the method's one training run."""
    work = place.work(store)
    method.unlearn(place.request, MethodContext(work, Ledger(set(), set())))
    (node,) = [node for node in work.nodes.values() if node.info["fields"]["kind"] == "train"]
    return [point["loss"] for point in node.info["meta"]["curve"]]


def mean_loss(checkpoint: Checkpoint, rows: tuple[Example, ...], template: str) -> float:
    """Mean next-token loss of the rows of a template, one at a time."""
    from bench.engines.loaders import open_checkpoint

    opened = open_checkpoint(checkpoint)
    chosen = [row for row in rows if row.payload["template"] == template]
    each = [NextToken()(opened.model, collate_texts([encode(opened.tokenizer, row.payload)])).item() for row in chosen]
    return sum(each) / len(each)


def test_graddiff_is_ascent_on_forget_plus_the_weighted_descent_on_retain(place: TinyScenario) -> None:
    """First step over all rows: -(forget passages) - (forget questions) + 5 (retain passages) + 5 (retain questions)."""
    target, forget, retain = place.request.target, place.request.forget, place.request.retain
    method = GradDiff(steps=1, retain_weight=5.0, batch=12, text_batch=2)
    expected = sum(
        sign * mean_loss(target, rows, template)
        for sign, rows in ((-1.0, forget), (5.0, retain))
        for template in ("text", "qa")
    )
    assert loss_curve(place, method, "graddiff")[0] == pytest.approx(expected, abs=1e-4)


def test_gradient_ascent_sees_nothing_but_the_forget_rows(place: TinyScenario) -> None:
    expected = -sum(mean_loss(place.request.target, place.request.forget, template) for template in ("text", "qa"))
    method = GradientAscent(steps=1, batch=12, text_batch=2)
    assert loss_curve(place, method, "ga")[0] == pytest.approx(expected, abs=1e-4)


def test_gradient_ascent_raises_the_forget_loss(place: TinyScenario) -> None:
    result = GradientAscent(steps=5, lr=3e-3).unlearn(
        place.request, MethodContext(place.work("raise"), Ledger(set(), set()))
    )
    for template in ("qa", "text"):
        rows = place.request.forget
        assert mean_loss(result, rows, template) > mean_loss(place.request.target, rows, template) + 0.1


def test_the_retain_budget_bounds_the_rows(place: TinyScenario) -> None:
    """12 questions and 2 passages to retain; MSA's budget allows as many as are forgotten: 6 and 2."""
    for budget, count in (("all", 14), ("forget", 8)):
        ledger = Ledger({row.id for row in place.request.retain}, set())
        GradDiff(steps=1, retain=budget).unlearn(place.request, MethodContext(place.work(f"budget-{budget}"), ledger))
        assert len(ledger.retain_seen) == count


def test_task_arithmetic_walks_away_from_the_forget_set(place: TinyScenario) -> None:
    """alpha -1 would be the fine-tuned model itself, alpha 0 the target; above 0 the forget rows get less likely."""
    ctx = MethodContext(place.work("walk"), Ledger(set(), set()))
    shared = {"steps": 6, "lr": 5e-3}
    tuned, still, away = (TaskArithmetic(alpha=a, **shared).unlearn(place.request, ctx) for a in (-1.0, 0.0, 0.5))
    losses = [mean_loss(each, place.request.forget, "qa") for each in (tuned, still, away)]
    assert losses[0] < losses[1] < losses[2]
    assert losses[1] == pytest.approx(mean_loss(place.request.target, place.request.forget, "qa"), abs=1e-5)


def test_the_oracles_row_is_the_oracle(place: TinyScenario) -> None:
    oracle = Checkpoint("somewhere", "hash", label="oracle-0")
    assert Retrain().unlearn(replace(place.request, oracle=oracle), None) == oracle
    with pytest.raises(Unmet, match="no oracle"):
        Retrain().unlearn(place.request, None)


def test_the_ledger_notes_what_was_used(place: TinyScenario) -> None:
    from methods.msa import MSA

    assert place.request.history is not None
    past = {moment.checkpoint.hash for moment in place.request.history.moments}
    ledger = Ledger({row.id for row in place.request.retain}, past)
    MSA(steps=1, beta=0.5).unlearn(place.request, MethodContext(place.work("ledger"), ledger))
    assert ledger.past_used == {place.request.history.last.checkpoint.hash}
    assert len(ledger.retain_seen) == 8
    nothing = Ledger({row.id for row in place.request.retain}, past)
    GradientAscent(steps=1).unlearn(place.request, MethodContext(place.work("nothing"), nothing))
    assert (nothing.past_used, nothing.retain_seen) == (set(), set())
