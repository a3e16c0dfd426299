"""SatImp: golden values, WGA as its limit, its gradient."""

from __future__ import annotations

import pytest
import torch

from bench.core.contracts import Batch
from bench.engines.coding import collate_texts
from bench.engines.templates import encode
from methods.satimp import SatImp, SatImpLoss
from methods.wga import WGALoss
from tests.logits import LETTERS, gradient_of, token_gradient, two_answers
from tests.tiny import fixed, letters_tokenizer


def batch_of(*answers: str) -> Batch:
    return collate_texts(
        [encode(letters_tokenizer(), {"prompt": "d", "answer": text, "template": "continue"}) for text in answers]
    )


def test_the_golden_value() -> None:
    """.843795^5 * .156205 * -.169846 = .427748 * .156205 * -.169846."""
    assert SatImpLoss(5.0, 1.0)(fixed(LETTERS), batch_of("a")).tolist() == pytest.approx([-0.011348], abs=1e-6)


def test_its_gradient_is_that_of_ascent_with_constant_weights() -> None:
    logits, batch = two_answers()
    p = batch.answer_log_probs(logits).values.exp()
    found = gradient_of(SatImpLoss(5.0, 1.5), logits, batch)
    assert torch.allclose(found, token_gradient(logits, batch, p**5 * (1 - p) ** 1.5), rtol=1e-9)


def test_without_importance_it_is_wga() -> None:
    logits, batch = two_answers()
    assert torch.allclose(SatImpLoss(2.5, 0.0)(logits, batch), WGALoss(2.5)(logits, batch), rtol=1e-12)
    found = gradient_of(SatImpLoss(2.5, 0.0), logits, batch)
    assert torch.allclose(found, gradient_of(WGALoss(2.5), logits, batch), rtol=1e-12)


def test_the_weight_is_largest_at_five_sixths() -> None:
    """beta1 / (beta1 + beta2) = 5 / 6; the weight is loss over log p, of an answer whose p is set by one logit."""
    at = torch.linspace(0.02, 0.98, 481, dtype=torch.float64)
    logits = torch.stack([at.logit(), torch.zeros_like(at)], -1)[:, None]
    _, batch = two_answers()
    batch.labels, batch.mask = torch.zeros(481, 1, dtype=torch.long), torch.ones(481, 1, dtype=torch.bool)
    weights = SatImpLoss(5.0, 1.0)(logits, batch) / at.log()
    assert float(at[weights.argmax()]) == pytest.approx(5 / 6, abs=0.002)


def test_what_is_known_by_heart_or_forgotten_weighs_nothing() -> None:
    """p = 1 and p = e^-400 in float32: importance 0, then saturation 0; nothing is nan."""
    assert SatImpLoss(5.0, 1.0)(fixed({"a": 0.0, "b": -400.0}), batch_of("a", "b")).tolist() == [0.0, 0.0]


def test_bad_settings_are_refused_in_a_sentence() -> None:
    assert SatImp(beta1=0.0, beta2=0.0).problems() == []
    assert SatImp(beta1=-1.0, beta2=-0.5).problems() == [
        "satimp.beta1 must be at least 0, not -1.0.",
        "satimp.beta2 must be at least 0, not -0.5.",
    ]
