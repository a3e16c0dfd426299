"""Coders: which tokens are the answer's, and that padding changes nothing."""

from __future__ import annotations

from math import log

import pytest
import torch

from bench.core.contracts import Batch
from bench.engines.coding import answer_log_probs, collate_texts
from bench.engines.templates import encode
from tests.tiny import distributed, letters_tokenizer, llama, qa, tokenizer

LETTERS = {"a": 1 / 2, "b": 1 / 4, "c": 1 / 8, "<eos>": 1 / 8}


def batch_of(*answers: str) -> Batch:
    rows = [encode(letters_tokenizer(), {"prompt": "d d", "answer": text, "template": "continue"}) for text in answers]
    return collate_texts(rows)


def test_sums_and_means_run_over_the_answer_alone() -> None:
    """p = 1/2, 1/4, 1/8 for a, b, c: "a b c" has log(1/64), "c" has log(1/8), whatever the padding behind it."""
    found = answer_log_probs(distributed(LETTERS), batch_of("a b c", "c"))
    assert found.sums.tolist() == pytest.approx([-6 * log(2), -3 * log(2)], abs=1e-5)
    assert found.means.tolist() == pytest.approx([-2 * log(2), -3 * log(2)], abs=1e-5)
    assert found.mask.tolist() == [[True, True, True], [True, False, False]]


def test_padding_and_company_change_no_log_prob() -> None:
    model = llama()
    rows = [
        encode(tokenizer(), qa(0, prompt, answer).payload) for prompt, answer in (("w1", "w2"), ("w3 w4 ?", "w5 w6"))
    ]
    with torch.no_grad():
        together = answer_log_probs(model, collate_texts(rows)).sums
        alone = torch.cat([answer_log_probs(model, collate_texts([row])).sums for row in rows])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
