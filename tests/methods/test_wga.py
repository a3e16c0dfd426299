"""WGA: golden values, its limits, its gradient."""

from __future__ import annotations

import pytest
import torch

from bench.core.contracts import Batch
from bench.engines.coding import collate_texts
from bench.engines.templates import encode
from methods.wga import WGA, WGALoss
from tests.logits import LETTERS, gradient_of, token_gradient, two_answers
from tests.tiny import fixed, letters_tokenizer


def batch_of(*answers: str) -> Batch:
    return collate_texts(
        [encode(letters_tokenizer(), {"prompt": "d", "answer": text, "template": "continue"}) for text in answers]
    )


@pytest.mark.parametrize(("beta", "value"), [(1.0, -0.143315), (5.0, -0.072651), (0.0, -0.169846)])
def test_golden_values(beta: float, value: float) -> None:
    """.843795^beta * -.169846."""
    assert WGALoss(beta)(fixed(LETTERS), batch_of("a")).tolist() == pytest.approx([value], abs=1e-6)


def test_two_tokens_by_hand_and_padding_weighs_nothing() -> None:
    """ "a c": p = .843795, .042010; log p = -.169846, -3.169846: -(.143315 + .133165) / 2 = -.138240; "a" beside it: alone."""
    found = WGALoss(1.0)(fixed(LETTERS), batch_of("a c", "a"))
    assert found.tolist() == pytest.approx([-0.138240, -0.143315], abs=1e-6)


def test_its_gradient_is_that_of_ascent_with_constant_weights() -> None:
    logits, batch = two_answers()
    weights = batch.answer_log_probs(logits).values.exp() ** 2.5
    assert torch.allclose(gradient_of(WGALoss(2.5), logits, batch), token_gradient(logits, batch, weights), rtol=1e-10)


def test_beta_one_is_the_gradient_of_the_probability_itself() -> None:
    logits, batch = two_answers()

    def probability(z: torch.Tensor, rows: object) -> torch.Tensor:
        answers = batch.answer_log_probs(z)
        return (answers.values.exp() * answers.mask).sum(-1) / answers.mask.sum(-1)

    assert torch.allclose(gradient_of(WGALoss(1.0), logits, batch), gradient_of(probability, logits, batch), rtol=1e-10)


def test_beta_zero_is_gradient_ascent() -> None:
    logits, batch = two_answers()
    ones = torch.ones(2, 3, dtype=torch.float64)
    assert torch.allclose(gradient_of(WGALoss(0.0), logits, batch), token_gradient(logits, batch, ones), rtol=1e-10)


def test_a_token_forgotten_for_good_has_no_gradient_left() -> None:
    """log p = -400: p underflows to 0 in float32, and so does the weight; nothing is nan."""
    assert WGALoss(1.0)(fixed({"a": 0.0, "b": -400.0}), batch_of("b", "a")).tolist() == [0.0, 0.0]


def test_bad_settings_are_refused_in_a_sentence() -> None:
    assert WGA(beta=0.0).problems() == []
    assert WGA(beta=-1.0).problems() == ["wga.beta must be at least 0, not -1.0."]
