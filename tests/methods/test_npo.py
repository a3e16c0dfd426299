"""NPO: the loss worked by hand, and its limit."""

from __future__ import annotations

from dataclasses import replace
from math import log
from pathlib import Path

import pytest
import torch

from bench.conformance import tiny_place
from bench.core.contracts import Batch
from bench.core.types import Checkpoint, Probe
from bench.engines.coding import answer_log_probs, collate_texts
from bench.engines.measuring.measure import measure
from bench.engines.templates import encode
from bench.engines.training.losses import Ascent
from bench.runs.method_context import Ledger, MethodContext
from methods.npo import NPO, NPOLoss
from tests import fixed_logits
from tests.tiny import distributed, letters_tokenizer, llama, passage, qa, tokenizer

MODEL = distributed({"a": 1 / 2, "b": 1 / 4, "c": 1 / 8, "<eos>": 1 / 8})


def batch_of(*answers: str, reference: list[float]) -> Batch:
    rows = [encode(letters_tokenizer(), {"prompt": "d", "answer": text, "template": "continue"}) for text in answers]
    return replace(collate_texts(rows), reference=torch.tensor(reference))


def test_the_first_step_is_two_over_beta_ln_two() -> None:
    """At the reference the ratio is 0: -(2 / .1) ln sigmoid(0) = 20 ln 2 = 13.8629, for one token as for three."""
    batch = batch_of("a", "a b c", reference=[-log(2), -6 * log(2)])
    for per_token in (False, True):
        assert NPOLoss(0.1, per_token)(MODEL, batch).tolist() == pytest.approx([13.8629, 13.8629], abs=1e-4)


def test_a_ratio_elsewhere_by_hand() -> None:
    """ "a b": log p = -3 ln 2, reference -1 ln 2, ratio -2 ln 2 = -1.386294; beta .1.

    Summed: 20 ln(1 + e^-.1386294) = 20 ln(1 + .870551) = 20 * .626233 = 12.52466.
    Per token: the ratio is halved, 20 ln(1 + e^-.0693147) = 20 ln(1 + .933033) = 20 * .659090 = 13.18180.
    """
    batch = batch_of("a b", reference=[-log(2)])
    assert NPOLoss(0.1, False)(MODEL, batch).tolist() == pytest.approx([12.52466], abs=1e-4)
    assert NPOLoss(0.1, True)(MODEL, batch).tolist() == pytest.approx([13.18180], abs=1e-4)


def test_the_worked_case_of_three_logits() -> None:
    """Logits (2, 0, -1) under a reference of (3, 0, -1): ratio -.169846 + .065884 = -.103962; 20 ln(1 + e^-.0103962)."""
    batch = fixed_logits.batch_of(0)
    batch.reference = torch.tensor([-0.065884])
    assert NPOLoss(0.1, False)(fixed_logits.THREE, batch).item() == pytest.approx(13.759252, abs=1e-5)


def test_beta_one_by_hand() -> None:
    """ "c": log p = -3 ln 2, reference -2 ln 2; ratio -ln 2: 2 ln(1 + 1/2) = .810930. The other way: 2 ln 3 = 2.197225."""
    assert NPOLoss(1.0, False)(MODEL, batch_of("c", reference=[-2 * log(2)])).tolist() == pytest.approx(
        [0.810930], abs=1e-5
    )
    assert NPOLoss(1.0, False)(MODEL, batch_of("b", reference=[-3 * log(2)])).tolist() == pytest.approx(
        [2.197225], abs=1e-5
    )


def test_it_vanishes_as_the_answer_is_forgotten_and_does_not_overflow() -> None:
    """ratio -> -inf: the loss goes to 0; ratio -> +inf: it grows like 2 * ratio (beta 1: 2 * 200 = 400)."""
    far = [NPOLoss(1.0, False)(MODEL, batch_of("a", reference=[shift - log(2)])).item() for shift in (200, -200)]
    assert far == pytest.approx([0.0, 400.0], abs=1e-3)


ROWS = [
    encode(tokenizer(), row.payload)
    for row in (qa(0, "w1 ?", "w2"), qa(1, "w3 w4 ?", "w5 w6 w7"), passage(0, "w9 w8 w1 w2 w3 w4"))
]


def gradient(loss: object, batch: Batch) -> torch.Tensor:
    model = llama(seed=2)
    loss(model, batch).mean().backward()  # type: ignore[operator]
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).double()


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(one @ other / (one.norm() * other.norm()))


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_as_beta_goes_to_zero_it_is_gradient_ascent(shift: float) -> None:
    """d/dx (2/beta) softplus(beta x) = 2 sigmoid(beta x) -> 1: also in length, and away from the reference too."""
    model = llama(seed=2)
    with torch.no_grad():
        reference = answer_log_probs(model, collate_texts(ROWS)).sums + shift
    batch = replace(collate_texts(ROWS), reference=reference)
    small, ascent = gradient(NPOLoss(1e-4, True), batch), gradient(Ascent(), batch)
    assert cosine(small, ascent) > 0.9999
    assert float(small.norm() / ascent.norm()) == pytest.approx(1, abs=1e-3)


def test_a_large_beta_weighs_the_rows_apart() -> None:
    """Rows forgotten already (ratio -3) hardly pull at beta 2: 2 sigmoid(-6) = .005; so the direction is another."""
    with torch.no_grad():
        sums = answer_log_probs(llama(seed=2), collate_texts(ROWS)).sums
    batch = replace(collate_texts(ROWS), reference=sums + torch.tensor([9.0, 0.0, -9.0]))
    assert cosine(gradient(NPOLoss(2.0, True), batch), gradient(Ascent(), batch)) < 0.99


def test_the_reference_has_no_gradient_and_is_needed() -> None:
    assert NPOLoss.reference
    with pytest.raises(AssertionError, match="reference"):
        NPOLoss(0.1, False)(MODEL, replace(batch_of("a", reference=[0.0]), reference=None))


def test_it_lowers_the_forget_answers_and_the_retain_rows_hold_the_others(tmp_path: Path) -> None:
    place = tiny_place(tmp_path)
    probes = [Probe("forget", "logprob", place.request.forget), Probe("retain", "logprob", place.request.retain)]

    def means(checkpoint: Checkpoint) -> tuple[float, float]:
        rows = measure(checkpoint, probes).rows.values()
        forget, retain = (sum(sum(row["answer"][0]["logp"]) for row in by_id.values()) / len(by_id) for by_id in rows)
        return forget, retain

    def unlearnt(weight: float) -> Checkpoint:
        method = NPO(steps=6, lr=5e-3, batch=6, text_batch=2, retain_weight=weight)
        return method.unlearn(place.request, MethodContext(place.work(f"weight-{weight}"), Ledger(set(), set())))

    target, held, free = means(place.request.target), means(unlearnt(3.0)), means(unlearnt(0.0))
    assert held[0] < target[0] - 0.1 and free[0] < target[0] - 0.1
    assert held[1] > free[1] + 0.1


def test_bad_settings_are_refused_in_a_sentence() -> None:
    assert NPO().problems() == []
    assert NPO(retain="some", beta=0.0).problems() == [
        "npo.retain is 'all' or 'forget', not 'some'.",
        "npo.beta must be above 0, not 0.0.",
    ]
