"""SimNPO: golden values, its limit, its gradient, its settings."""

from __future__ import annotations

from dataclasses import replace
from math import log

import pytest
import torch

from bench.core.contracts import Batch
from bench.engines.coding import collate_texts
from bench.engines.templates import encode
from methods.simnpo import SimNPO, SimNPOLoss
from tests.logits import LETTERS, gradient_of, two_answers
from tests.tiny import distributed, fixed, letters_tokenizer


def batch_of(*answers: str) -> Batch:
    return collate_texts(
        [encode(letters_tokenizer(), {"prompt": "d", "answer": text, "template": "continue"}) for text in answers]
    )


@pytest.mark.parametrize(("beta", "delta", "value"), [(4.5, 0.0, 0.169913), (2.5, 0.0, 0.402568), (4.5, 1.0, 1.670786)])
def test_golden_values(beta: float, delta: float, value: float) -> None:
    """l = .169846: (2 / 4.5) ln(1 + e^(-4.5 (.169846 - delta)))."""
    assert SimNPOLoss(beta, delta)(fixed(LETTERS), batch_of("a")).tolist() == pytest.approx([value], abs=1e-6)


def test_length_does_not_count_and_the_margin_is_where_the_slope_is_one() -> None:
    """ "b" and "b b b": l = ln 4 for both; at delta = l the loss is (2 / 4.5) ln 2 = .308065."""
    model = distributed({"a": 3 / 4, "b": 1 / 4})
    assert SimNPOLoss(4.5, log(4))(model, batch_of("b", "b b b")).tolist() == pytest.approx([0.308065] * 2, abs=1e-6)


def test_the_papers_margin_is_beta_times_this_one() -> None:
    """Outside beta: -(2 / beta) ln sigmoid(beta l - gamma) with gamma 4.5 at beta 4.5 is delta 1; "b": l = ln 4."""
    model = distributed({"a": 3 / 4, "b": 1 / 4})
    outside = -2 / 4.5 * torch.nn.functional.logsigmoid(torch.tensor(4.5 * log(4) - 4.5)).item()
    assert SimNPOLoss(4.5, 1.0)(model, batch_of("b")).item() == pytest.approx(outside, abs=1e-6)


def test_its_gradient_in_float64() -> None:
    logits, batch = two_answers()
    assert torch.autograd.gradcheck(lambda z: SimNPOLoss(2.5, 0.3)(z, batch), logits)


def test_as_beta_goes_to_zero_it_is_gradient_ascent() -> None:
    logits, batch = two_answers()
    ascent = gradient_of(lambda z, rows: rows.answer_log_probs(z).means, logits, batch)
    assert torch.allclose(gradient_of(SimNPOLoss(1e-9, 0.5), logits, batch), ascent, rtol=1e-7, atol=0)


def test_a_row_weighs_two_sigmoids_of_ascent() -> None:
    logits, batch = two_answers()
    ascent = gradient_of(lambda z, rows: rows.answer_log_probs(z).means, logits, batch)
    weights = 2 * torch.sigmoid(-4.5 * (-batch.answer_log_probs(logits).means - 1.0)).detach()
    found = gradient_of(SimNPOLoss(4.5, 1.0), logits, batch)
    assert float(weights[0] / weights[1]) != pytest.approx(1, abs=0.1)
    assert torch.allclose(found, weights[:, None, None] * ascent, rtol=1e-10)


def test_what_is_forgotten_stops_and_nothing_overflows() -> None:
    model = fixed({"a": 0.0, "b": -400.0})
    loss = SimNPOLoss(4.5, 0.0)(model, batch_of("a", "b"))
    assert loss.tolist() == pytest.approx([2 / 4.5 * log(2), 0.0], abs=1e-6)


def test_it_reads_nothing_of_the_target() -> None:
    batch = batch_of("a b")
    assert SimNPOLoss.reference == "" and SimNPO().holds_target() is False
    with_one = replace(batch, reference=torch.tensor([-99.0]))
    assert torch.equal(SimNPOLoss(4.5, 0.0)(fixed(LETTERS), with_one), SimNPOLoss(4.5, 0.0)(fixed(LETTERS), batch))


def test_bad_settings_are_refused_in_a_sentence() -> None:
    assert SimNPO(delta=-1.0).problems() == []
    assert SimNPO(beta=0.0).problems() == ["simnpo.beta must be above 0, not 0.0."]


def test_open_unlearnings_coefficient_stands_at_the_forget_loss() -> None:
    preset = SimNPO(**SimNPO.presets["real-tofu"].params)
    assert (preset.forget_weight, preset.retain_weight, preset.beta, preset.delta) == (0.125, 1.0, 4.5, 0.0)
