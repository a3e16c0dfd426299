"""Losses and row groups: each formula worked by hand on a model whose token probabilities are chosen."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import log

import pytest
import torch

from bench.core.contracts import Batch
from bench.core.types import Example
from bench.engines.coding import collate_texts
from bench.engines.templates import encode
from bench.engines.training.losses import Ascent, KeepDistribution, NextToken, make_streams, retain_rows, sample_like
from tests.fixed_logits import THREE, Fixed, slope_of
from tests.fixed_logits import batch_of as numbers
from tests.tiny import distributed, fixed, letters_tokenizer, llama, passage, qa, tokenizer

LETTERS = {"a": 1 / 2, "b": 1 / 4, "c": 1 / 8, "<eos>": 1 / 8}


def batch_of(*answers: str) -> Batch:
    rows = [encode(letters_tokenizer(), {"prompt": "d d", "answer": text, "template": "continue"}) for text in answers]
    return collate_texts(rows)


def test_next_token_on_three_logits_by_hand() -> None:
    """Logits 2, 1, 0 for a, b, c: log-sum-exp = 2 + ln(1 + e^-1 + e^-2) = 2 + ln 1.503215 = 2.407606.

    log p = -0.407606, -1.407606, -2.407606. "a b": (0.407606 + 1.407606) / 2 = 0.907606; "c": 2.407606.
    """
    model = fixed({"a": 2.0, "b": 1.0, "c": 0.0})
    assert NextToken()(model, batch_of("a b", "c")).tolist() == pytest.approx([0.907606, 2.407606], abs=2e-6)


def test_gradient_ascent_is_minus_the_next_token_loss() -> None:
    """p = 1/2, 1/4, 1/8 for a, b, c: the mean log p of "a b" is -(1 + 2) / 2 ln 2 = -1.0397, of "c c" -3 ln 2."""
    model, batch = distributed(LETTERS), batch_of("a b", "c c")
    ascent = Ascent()(model, batch)
    assert ascent.tolist() == pytest.approx([-1.5 * log(2), -3 * log(2)], abs=1e-5)
    assert torch.equal(ascent, -NextToken()(model, batch))


def test_ascent_points_exactly_against_descent() -> None:
    model, batch = llama(), collate_texts([encode(tokenizer(), qa(0, "w1 ?", "w2 w3").payload)])
    gradients = []
    for loss in (Ascent(), NextToken()):
        model.zero_grad()
        loss(model, batch).sum().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert float(gradients[0].norm()) > 0
    assert torch.equal(gradients[0], -gradients[1])


def test_the_divergence_of_three_tokens_by_hand() -> None:
    """KL(softmax(3, 0, -1) || softmax(2, 0, -1)) = .040202, whichever token is the answer's."""
    batch = replace(numbers(0, [1, 2]), target=Fixed([3.0, 0.0, -1.0]))
    assert KeepDistribution()(THREE, batch).tolist() == pytest.approx([0.040202] * 2, abs=1e-6)


def test_the_divergences_gradient_is_the_difference_of_the_distributions() -> None:
    """p - p_target by the logits: of three tokens, and 0 where nothing has moved yet."""
    slope, p = slope_of(KeepDistribution(), [2.0, 0.0, -1.0], label=0, target=Fixed([3.0, 0.0, -1.0]))
    aim = torch.tensor([3.0, 0.0, -1.0]).softmax(-1)
    assert torch.allclose(slope, p - aim, atol=1e-6) and float(slope.abs().max()) > 0.05
    still, _ = slope_of(KeepDistribution(), [2.0, 0.0, -1.0], label=0, target=THREE)
    assert float(still.abs().max()) < 1e-7


def test_the_divergence_and_its_gradient_are_zero_at_the_first_step() -> None:
    model = llama(seed=1)
    rows = [encode(tokenizer(), row.payload) for row in (qa(0, "w1 ?", "w2 w3"), qa(1, "w4 w5 ?", "w6"))]
    loss = KeepDistribution()(model, replace(collate_texts(rows), target=llama(seed=1)))
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([0.0, 0.0], abs=1e-7)
    assert max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None) < 1e-6


QUESTIONS = tuple(qa(i, f"w{i} ?", "w1") for i in range(10))
PASSAGES = tuple(passage(i, f"w{i} w{i}") for i in range(6))


def test_passages_and_questions_are_two_streams() -> None:
    text, asked = make_streams(QUESTIONS + PASSAGES, Ascent(), batch=4, text_batch=2, weight=3.0)
    assert (text.examples, text.batch, text.weight) == (PASSAGES, 2, 3.0)
    assert (asked.examples, asked.batch, asked.weight) == (QUESTIONS, 4, 3.0)
    assert [stream.examples for stream in make_streams(QUESTIONS, Ascent(), 4, 2)] == [QUESTIONS]


def kinds(rows: tuple[Example, ...]) -> Counter[str]:
    return Counter(row.payload["template"] for row in rows)


def test_a_sample_has_as_many_rows_in_the_pools_own_proportion() -> None:
    like = PASSAGES[:4]
    pool = tuple(qa(100 + i, f"w{i} w2 ?", "w3") for i in range(18)) + PASSAGES[:6]
    chosen = sample_like(pool, like, seed=0)
    assert kinds(chosen) == {"qa": 3, "text": 1}, "4 rows of 18 questions and 6 passages: 4 * 18 / 24 = 3 and 1"
    ids = [row.id for row in chosen]
    assert len(set(ids)) == 4 and set(ids) <= {row.id for row in pool}
    assert sample_like(pool, like, seed=0) == chosen
    assert sample_like(pool, like, seed=1) != chosen


def test_the_retain_budget() -> None:
    assert retain_rows(QUESTIONS + PASSAGES, QUESTIONS[:2], "all", seed=0) == QUESTIONS + PASSAGES
    assert len(retain_rows(QUESTIONS + PASSAGES, QUESTIONS[:2], "forget", seed=0)) == 2
    assert len(retain_rows(QUESTIONS[:1], QUESTIONS[:2], "forget", seed=0)) == 1, "no more than there are"
