"""TNPO: a case by hand, NPO token by token as its gradient, its limits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.conformance import tiny_place
from bench.core.contracts import Batch
from bench.core.registry import name_variant, preset_params
from bench.engines.coding import collate_texts
from bench.engines.templates import encode
from bench.runs.method_context import Ledger, MethodContext
from methods.npo import NPOLoss
from methods.tnpo import TNPO, TNPOLoss
from methods.wga import WGALoss
from tests.logits import LETTERS, gradient_of, token_gradient, two_answers
from tests.tiny import fixed, letters_tokenizer


def batch_of(*answers: str) -> Batch:
    return collate_texts(
        [encode(letters_tokenizer(), {"prompt": "d", "answer": text, "template": "continue"}) for text in answers]
    )


def reference(shift: float) -> torch.Tensor:
    """What two answers' tokens are under the target: the model's own log-probs plus ``shift`` times 1, 2, 3."""
    logits, batch = two_answers()
    steps = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    return ((batch.answer_log_probs(logits).values + shift * steps) * batch.mask).detach()


def test_a_token_by_hand() -> None:
    """l = .169846, l_ref = .065884: (p / p_ref)^4 = e^(-4 * .103962) = .659783; w = 2 * .659783 / 1.659783 = .795023.

    w log p = -.795023 * .169846 = -.135032; with p^1.5 = .775090 -.104662.
    """
    batch = replace(batch_of("a"), reference=torch.tensor([[-0.065884]]))
    assert TNPOLoss(4.0, 0.0)(fixed(LETTERS), batch).tolist() == pytest.approx([-0.135032], abs=2e-6)
    assert TNPOLoss(4.0, 1.5)(fixed(LETTERS), batch).tolist() == pytest.approx([-0.104662], abs=2e-6)


def test_its_gradient_is_npo_on_every_token_by_itself() -> None:
    """(2 / beta) log(1 + (p / p_ref)^beta), the mean over each answer's tokens."""
    logits, batch = two_answers(reference(-0.4))

    def by_token(z: torch.Tensor, rows: object) -> torch.Tensor:
        answers = batch.answer_log_probs(z)
        each = 2 / 4.0 * torch.nn.functional.softplus(4.0 * (answers.values - batch.reference))
        return (each * answers.mask).sum(-1) / answers.mask.sum(-1)

    found = gradient_of(TNPOLoss(4.0, 0.0), logits, batch)
    assert torch.allclose(found, gradient_of(by_token, logits, batch), rtol=1e-10)


def test_on_answers_of_one_token_it_has_npos_gradient() -> None:
    logits, batch = two_answers(reference(0.7)[:, :1])
    logits, batch.labels, batch.mask = logits[:, :1].detach().requires_grad_(), batch.labels[:, :1], batch.mask[:, :1]
    found = gradient_of(TNPOLoss(0.5, 0.0), logits, batch)
    assert batch.reference is not None
    batch.reference = batch.reference[:, 0]
    assert torch.allclose(found, gradient_of(NPOLoss(0.5, False), logits, batch), rtol=1e-10)


@pytest.mark.parametrize(("beta", "shift"), [(4.0, 0.0), (1e-12, 3.0)])
def test_at_the_target_and_as_beta_goes_to_zero_it_is_ascent_or_wga(beta: float, shift: float) -> None:
    logits, batch = two_answers(reference(shift))
    ones = torch.ones(2, 3, dtype=torch.float64)
    ascent = token_gradient(logits, batch, ones)
    assert torch.allclose(gradient_of(TNPOLoss(beta, 0.0), logits, batch), ascent, rtol=1e-9)
    assert torch.allclose(TNPOLoss(beta, 1.5)(logits, batch), WGALoss(1.5)(logits, batch), rtol=1e-9)


def test_a_token_far_from_the_target_does_not_overflow() -> None:
    """log p - log p_ref = +-400: w goes to 2 and to 0."""
    model = fixed({"a": 0.0, "b": -400.0})
    batch = replace(batch_of("b", "b"), reference=torch.tensor([[-800.0], [0.0]]))
    assert TNPOLoss(4.0, 0.0)(model, batch).tolist() == pytest.approx([-800.0, 0.0], abs=1e-3)


def test_training_hands_it_the_targets_log_probs_of_every_token(tmp_path: Path) -> None:
    """At the first step w = 1: the loss is ascent's, for any beta; without a retain loss it is the whole step's."""
    place = tiny_place(tmp_path)
    curves = []
    for beta in (0.5, 8.0):
        work = place.work(f"beta-{beta}")
        method = TNPO(steps=2, lr=5e-3, batch=6, text_batch=2, beta=beta, retain_weight=0.0)
        method.unlearn(place.request, MethodContext(work, Ledger(set(), set())))
        (node,) = [node for node in work.nodes.values() if node.info["fields"]["kind"] == "train"]
        curves.append([point["loss"] for point in node.info["meta"]["curve"]])
    assert curves[0][0] == pytest.approx(curves[1][0], abs=1e-6)
    assert curves[0][1] != pytest.approx(curves[1][1], abs=1e-4)


def test_the_reference_is_needed() -> None:
    assert TNPOLoss.reference == "tokens" and not TNPO().holds_target()
    with pytest.raises(AssertionError, match="reference"):
        TNPOLoss(4.0, 0.0)(fixed(LETTERS), batch_of("a"))


def test_wtnpo_is_a_variant_by_its_parameters() -> None:
    params = preset_params(TNPO, "lab-tofu", "weighted")
    assert params is not None and params["power"] == 1.5
    assert name_variant(TNPO, params, "weighted") == "weighted"
    assert TNPO().named() == "" and TNPO(power=1.0).named() == "weighted"


def test_bad_settings_are_refused_in_a_sentence() -> None:
    assert TNPO().problems() == []
    assert TNPO(beta=0.0, power=-1.0).problems() == [
        "tnpo.beta must be above 0, not 0.0.",
        "tnpo.power must be at least 0, not -1.0.",
    ]
