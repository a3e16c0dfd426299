"""UNDIAL: the loss worked by hand, its gradient, its limits, and what it does to a tiny model."""

from __future__ import annotations

from dataclasses import replace
from math import exp
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bench.conformance import tiny_place
from bench.engines.coding import answer_log_probs, collate_texts
from bench.engines.loaders import open_checkpoint
from bench.engines.templates import encode
from bench.runs.method_context import Ledger, MethodContext
from methods.undial import Undial, UndialLoss
from tests.fixed_logits import THREE, Fixed, batch_of, slope_of
from tests.tiny import tokenizer

REFERENCE = Fixed([3.0, 0.0, -1.0])


@pytest.mark.parametrize(("beta", "golden"), [(10.0, 2.437276), (3.0, 1.480571)])
def test_three_tokens_by_hand(beta: float, golden: float) -> None:
    """p = (.843795, .114195, .042010); beta 10 aims at (.000666, .730572, .268762), beta 3 at (.422319, .422319, .155362)."""
    batch = replace(batch_of(0), target=REFERENCE)
    assert UndialLoss(beta)(THREE, batch).tolist() == pytest.approx([golden], abs=1e-6)


@pytest.mark.parametrize("beta", [3.0, 10.0])
def test_the_odds_of_the_true_token_are_multiplied_by_e_to_minus_beta(beta: float) -> None:
    """The gradient by the logits is p - q, so q can be read off it: q(y) = p e^-beta / (1 - p + p e^-beta)."""
    slope, p = slope_of(UndialLoss(beta), [3.0, 0.0, -1.0], label=0, target=REFERENCE)
    aim = p - slope
    expected = p[0] * exp(-beta) / (1 - p[0] + p[0] * exp(-beta))
    assert float(aim[0]) == pytest.approx(float(expected), rel=1e-5)
    assert float(aim[1] / aim[2]) == pytest.approx(exp(1), rel=1e-5), "the other tokens keep their proportion"


def test_as_beta_goes_to_zero_the_target_is_a_fixed_point() -> None:
    slope, _ = slope_of(UndialLoss(1e-6), [3.0, 0.0, -1.0], label=0, target=REFERENCE)
    assert slope.abs().max() < 1e-6
    moved, _ = slope_of(UndialLoss(10.0), [3.0, 0.0, -1.0], label=0, target=REFERENCE)
    assert moved[0] > 0.9, "while a real beta pushes the true token down"


def test_it_is_bounded_below_by_the_entropy_of_what_it_aims_at() -> None:
    """Reached where the model is the aim: logits (3 - 10, 0, -1)."""
    batch = replace(batch_of(0), target=REFERENCE)
    least = UndialLoss(10.0)(Fixed([-7.0, 0.0, -1.0]), batch).item()
    aims = torch.tensor([-7.0, 0.0, -1.0]).softmax(0)
    assert least == pytest.approx(float(-(aims * aims.log()).sum()), abs=1e-6)
    for logits in ([-30.0, 0.0, -1.0], [3.0, 0.0, -1.0], [-7.0, 2.0, -1.0]):
        assert UndialLoss(10.0)(Fixed(logits), batch).item() > least


def test_the_target_gets_no_gradient() -> None:
    target = Fixed([3.0, 0.0, -1.0])
    UndialLoss(3.0)(Fixed([2.0, 0.0, -1.0]), replace(batch_of(0), target=target)).sum().backward()
    assert target.logits.grad is None


def test_bad_settings_are_refused_in_a_sentence() -> None:
    assert Undial().problems() == []
    assert Undial(beta=0.0, lora=-1).problems() == [
        "undial.lora must be at least 0, not -1.",
        "undial.beta must be above 0, not 0.0.",
    ]
    assert Undial().holds_target()


def test_with_the_papers_adapters_it_forgets_and_changes_the_linear_layers_alone(tmp_path: Path) -> None:
    place = tiny_place(tmp_path)
    ctx = MethodContext(place.work("lora"), Ledger(set(), set()))
    result = Undial(lora=4, steps=30, lr=3e-2, batch=6, text_batch=2).unlearn(place.request, ctx)
    before, after = (load_file(Path(each.path) / "model.safetensors") for each in (place.request.target, result))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all("proj" in name for name in moved)
    rows = [encode(tokenizer(), row.payload) for row in place.request.forget]
    with torch.no_grad():
        likely = [
            answer_log_probs(open_checkpoint(each).model, collate_texts(rows)).means.mean().item()
            for each in (place.request.target, result)
        ]
    assert likely[1] < likely[0] - 0.1
