"""FLAT: its four divergences by hand, their gradients, and a run."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.conformance import tiny_place
from bench.core.contracts import AnswerLogProbs
from bench.core.types import Probe
from bench.engines.coding import Texts
from bench.engines.measuring.measure import measure
from bench.runs.method_context import Ledger, MethodContext
from methods.flat import DIVERGENCES, FLAT, FLATLoss, mean_probability
from tests.conftest import SMALL
from tests.tiny import distributed, letters_tokenizer

GOLDEN = {"tv": 0.245219, "kl": 0.655384, "js": 0.413366, "pearson": 0.821792}
"""At P_f = .843795 and P_g = .2."""


@pytest.mark.parametrize("name", GOLDEN)
def test_the_golden_values(name: str) -> None:
    good, forget = (torch.tensor([p], dtype=torch.float64) for p in (0.2, 0.843795))
    assert DIVERGENCES[name](good, forget).tolist() == pytest.approx([GOLDEN[name]], abs=1e-6)


def test_the_probability_is_the_mean_over_answer_tokens_alone() -> None:
    """Of "a b" (1/2 + 1/4) / 2 = 3/8, of "c" 1/8, beside each other in one batch."""
    model = distributed({"a": 1 / 2, "b": 1 / 4, "c": 1 / 8, "<eos>": 1 / 8})
    coder = Texts(letters_tokenizer())
    payloads = ({"prompt": "d", "answer": text, "alternate": "b", "template": "continue"} for text in ("a b", "c"))
    batch = coder.collate([coder.encode(payload) for payload in payloads])
    assert mean_probability(batch.answer_log_probs(model)).tolist() == pytest.approx([3 / 8, 1 / 8])
    for name, divergence in DIVERGENCES.items():
        wanted = divergence(torch.tensor([1 / 4, 1 / 4]), torch.tensor([3 / 8, 1 / 8]))
        assert FLATLoss(name)(model, batch).tolist() == pytest.approx(wanted.tolist(), abs=1e-6)


@dataclass
class Free:
    """Answers of several tokens whose log-probs come from the given logits."""

    which: int
    alternate: Any = None

    def answer_log_probs(self, model: torch.Tensor) -> AnswerLogProbs:
        mask = torch.tensor([[True, True, self.which == 0]])
        return AnswerLogProbs(model[self.which].log_softmax(-1)[..., 0] * mask, mask)


@pytest.mark.parametrize("name", GOLDEN)
def test_its_gradient_is_that_of_finite_differences(name: str) -> None:
    logits = torch.randn(
        2, 1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    pairs: Any = Free(0, Free(1))
    assert torch.autograd.gradcheck(lambda z: FLATLoss(name)(z, pairs), (logits,))


def test_the_derivatives_by_hand() -> None:
    """By P_f at 0: tv 1/2, kl 1/e, js 1 - 1/2, pearson 1; by P_g at 0: tv -1/2, kl -1, js -1/2, pearson -1."""
    for name, slopes in {"tv": (-0.5, 0.5), "kl": (-1, exp(-1)), "js": (-0.5, 0.5), "pearson": (-1, 1)}.items():
        both = [torch.zeros(1, dtype=torch.float64, requires_grad=True) for _ in range(2)]
        found = torch.autograd.grad(DIVERGENCES[name](*both).sum(), both)
        assert [each.item() for each in found] == pytest.approx(slopes)


def test_it_lowers_the_forget_answers_without_any_retain_row(tmp_path: Path) -> None:
    place = tiny_place(tmp_path)
    ledger = Ledger({row.id for row in place.request.retain}, set())
    method = FLAT(steps=10, lr=5e-3, batch=6, file=SMALL["file"])
    made = method.unlearn(place.request, MethodContext(place.work("flat"), ledger))
    questions = tuple(row for row in place.request.forget if row.payload["template"] == "qa")

    def likely(checkpoint: Any) -> float:
        rows = measure(checkpoint, [Probe("forget", "logprob", questions)]).rows["forget"].values()
        return sum(exp(row["answer"][0]["logp"][0]) for row in rows) / len(rows)

    assert likely(made) < likely(place.request.target) and ledger.retain_seen == set()


def test_names_and_refused_settings() -> None:
    assert [FLAT().named(), FLAT(divergence="kl", retain_weight=1.0).named()] == ["", "kl-divergence+retain"]
    assert FLAT(divergence="wasserstein").problems() == [
        "Unknown flat.divergence 'wasserstein'. Known: js, kl, pearson, tv."
    ]
