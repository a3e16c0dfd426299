"""Another answer for the same prompt: which rows can have one, and the preference for it by hand and in its limits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.conformance import tiny_place
from bench.core.contracts import AnswerLogProbs, Batch, Recipe, Stream
from bench.core.errors import Unmet
from bench.core.types import Example
from bench.engines.coding import Texts, answer_log_probs
from bench.engines.training.alternates import Preference, answered_otherwise, question_rows
from tests.tiny import fixed, letters_tokenizer, llama, passage, qa, tokenizer

MODEL = fixed({"a": 2.0, "b": 0.0, "c": -1.0})
"""The golden values' logits; l of "a" is .169846."""


def pair(own: float, other: float, model: Any = MODEL) -> Batch:
    """The answer "a" beside "b", with these log-ratios to the reference."""
    row = Texts(letters_tokenizer()).encode({"prompt": "d", "answer": "a", "alternate": "b", "template": "continue"})
    batch = Texts(letters_tokenizer()).collate([row])
    assert batch.alternate is not None
    with torch.no_grad():
        batch.reference = answer_log_probs(model, batch).sums - own
        batch.alternate.reference = answer_log_probs(model, batch.alternate).sums - other
    return batch


@dataclass
class Free:
    """Answers whose token log-probs are the given ones, (B, K): the model is their logits."""

    which: int
    reference: torch.Tensor | None
    alternate: Any = None

    def answer_log_probs(self, model: torch.Tensor) -> AnswerLogProbs:
        values = model[self.which].log_softmax(-1)[..., 0]
        return AnswerLogProbs(values, torch.ones_like(values, dtype=torch.bool))


def free_pair(own: float, other: float) -> Any:
    references = (torch.tensor([each], dtype=torch.float64) for each in (own, other))
    return Free(0, next(references), Free(1, next(references)))


def test_the_golden_value() -> None:
    """Own: l .169846, l_ref .065884; other: L 4, L_ref 5. m = 1 + .103962; 20 ln(1 + e^-.1103962) = 12.789434."""
    loss = Preference(0.1)(MODEL, pair(own=0.065884 - 0.169846, other=1.0))
    assert loss.tolist() == pytest.approx([12.789434], abs=2e-5)
    assert (0.1 / 2 * loss).tolist() == pytest.approx([0.639472], abs=2e-6), "without the factor, as TOFU's code has it"


def test_the_first_step_is_two_over_beta_ln_two_and_large_margins_do_not_overflow() -> None:
    """20 ln 2 = 13.862944; m = 300 at beta 1: 2 ln(1 + e^-300) = 0, and m = -300: 600."""
    assert Preference(0.1)(MODEL, pair(0.0, 0.0)).tolist() == pytest.approx([13.862944], abs=1e-5)
    far = [Preference(1.0)(MODEL, pair(-other, other)).item() for other in (150.0, -150.0)]
    assert far == pytest.approx([0.0, 600.0], abs=1e-3)


@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_its_gradient_is_that_of_finite_differences(beta: float) -> None:
    logits = torch.randn(
        2, 1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    pairs = free_pair(-4.0, -3.0)
    assert torch.autograd.gradcheck(lambda z: Preference(beta)(z, pairs), (logits,))


def test_as_beta_goes_to_zero_it_is_ascent_on_the_own_answer_and_descent_on_the_other() -> None:
    """d/dm (2/beta) softplus(-beta m) = -2 sigmoid(-beta m) -> -1."""
    logits = torch.randn(
        2, 1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True
    )
    pairs = free_pair(-4.0, -3.0)
    (small,) = torch.autograd.grad(Preference(1e-7)(logits, pairs).sum(), logits)
    plain = pairs.answer_log_probs(logits).sums - pairs.alternate.answer_log_probs(logits).sums
    (wanted,) = torch.autograd.grad(plain.sum(), logits)
    assert torch.allclose(small, wanted, atol=1e-6)


def test_its_weight_is_two_sigmoid_of_minus_beta_m() -> None:
    """Own ratio 0, other ratio 3, beta 1: -2 / (1 + e^3) times the gradient of the margin."""
    logits = torch.zeros(2, 1, 1, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(Preference(1.0)(logits, free_pair(log(0.5), log(0.5) - 3)).sum(), logits)
    weight = 2 / (1 + exp(3))
    assert gradient[0, 0, 0].tolist() == pytest.approx([weight / 2, -weight / 2])
    assert gradient[1, 0, 0].tolist() == pytest.approx([-weight / 2, weight / 2])


def test_it_is_refused_without_another_answer_or_a_reference() -> None:
    batch = pair(0.0, 0.0)
    with pytest.raises(AssertionError, match="another answer"):
        Preference(0.1)(MODEL, replace(batch, alternate=None))  # type: ignore[type-var]
    with pytest.raises(AssertionError, match="references"):
        Preference(0.1)(MODEL, replace(batch, reference=None))  # type: ignore[type-var]


def test_references_belong_to_their_rows_whatever_the_order(tmp_path: Path) -> None:
    """Rows of many lengths, several in a step: before anything has moved every pair's loss is 20 ln 2."""
    rows = [
        *answered_otherwise(qa(0, "w1 ?", "w2"), ["w3 w4 w5", "w6"]),
        *answered_otherwise(qa(1, "w1 w2 w3 ?", "w7 w8 w9 w1"), ["w2 w2"]),
        *answered_otherwise(qa(2, "w9 w9 ?", "w4 w4"), ["w1 w2 w3 w4 w5", "w8", "w9"]),
    ]
    place = tiny_place(tmp_path)
    node = place.work("order").train_node(
        place.request.target, [Stream(tuple(rows), 3, Preference(0.1))], Recipe(4, 1e-12), "pairs"
    )
    assert [point["loss"] for point in node.info["meta"]["curve"]] == pytest.approx([20 * log(2)] * 4, abs=1e-4)


def test_an_answered_row_keeps_its_own_answer_and_gets_an_id_for_each_other() -> None:
    row = qa(7, "w1 ?", "w2")
    made = answered_otherwise(row, ["w3", "w4"])
    assert [each.payload for each in made] == [{**row.payload, "alternate": text} for text in ("w3", "w4")]
    assert len({row.id, *(each.id for each in made)}) == 3
    encoded = Texts(tokenizer()).encode(made[0].payload)
    plain = Texts(tokenizer()).encode({**row.payload, "answer": "w3"})
    assert encoded.alternate == plain and encoded.prompt == plain.prompt
    assert bool(llama()(input_ids=torch.tensor([[*plain.prompt, *plain.answer]])).logits.isfinite().all())


def test_passages_ask_nothing_and_classes_are_no_texts() -> None:
    assert question_rows([passage(0, "w1 w2"), qa(1, "w1 ?", "w2")]) == (qa(1, "w1 ?", "w2"),)
    with pytest.raises(Unmet, match="passages without one"):
        question_rows([passage(0, "w1 w2")])
    with pytest.raises(Unmet, match="are no texts"):
        question_rows([Example("image", {"pixels": [0], "answer": "3", "template": "image"})])
