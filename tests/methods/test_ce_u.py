"""CE-U: the loss and its gradient worked by hand, and which tokens count."""

from __future__ import annotations

import pytest
import torch

from methods.ce_u import CEU, CEULoss
from tests.fixed_logits import THREE, Fixed, batch_of, slope_of


def test_three_tokens_by_hand() -> None:
    """q = (0, .731059, .268941): -(.731059 ln .114195 + .268941 ln .042010) = 2.438787; an answer of one token counts."""
    for skip in (0, 1):
        assert CEULoss(skip)(THREE, batch_of(0)).tolist() == pytest.approx([2.438787], abs=1e-6)


def test_the_gradient_by_hand() -> None:
    """p_y at the true token, -p_v p_y / (1 - p_y) elsewhere: the aim itself has none."""
    slope, p = slope_of(CEULoss(0), [2.0, 0.0, -1.0], label=0)
    assert slope.tolist() == pytest.approx([0.843795, -0.616863, -0.226931], abs=1e-6)
    assert slope[1:].tolist() == pytest.approx((-p[1:] * p[0] / (1 - p[0])).tolist(), abs=1e-6)


def test_it_vanishes_as_the_token_is_forgotten() -> None:
    slopes = [slope_of(CEULoss(0), [logit, 0.0, -1.0], label=0)[0].abs().max() for logit in (2.0, -5.0, -30.0)]
    assert slopes[0] > 0.8 > 0.01 > slopes[1] > 1e-9 > slopes[2]


def test_the_first_tokens_of_an_answer_are_left_out() -> None:
    """Answers 0 1 and 1, whose tokens cost 2.438787 and: q = (.952574, 0, .047426), CE .952574 * .169846 + .047426 * 3.169846."""
    second = 0.952574 * 0.169846 + 0.047426 * 3.169846
    batch = batch_of([0, 1], [1])
    assert CEULoss(0)(THREE, batch).tolist() == pytest.approx([(2.438787 + second) / 2, second], abs=1e-5)
    assert CEULoss(1)(THREE, batch).tolist() == pytest.approx([second, second], abs=1e-5)


def test_certainty_makes_no_number_that_is_none() -> None:
    model = Fixed([300.0, 0.0, -300.0])
    loss = CEULoss(0)(model, batch_of(0))
    loss.sum().backward()
    assert torch.isfinite(loss).all() and model.logits.grad is not None and torch.isfinite(model.logits.grad).all()


def test_bad_settings_are_refused_in_a_sentence() -> None:
    assert CEU().problems() == []
    assert CEU(skip=-1).problems() == ["ce-u.skip must be at least 0, not -1."]
