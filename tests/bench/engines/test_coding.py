"""Coders: which tokens are the answer's, and that padding changes nothing."""

from __future__ import annotations

from math import log
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from bench.core.contracts import Batch
from bench.engines.coding import Texts, answer_log_probs, collate_texts
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


def test_rows_are_padded_on_the_right_and_know_where_answers_begin() -> None:
    """`<bos> d d` are 3 tokens of prompt; the answers have 3 and 1 (ids 4 to 7 are a to d, 1 is bos)."""
    batch = batch_of("a b c", "c")
    assert batch.input_ids.tolist() == [[1, 7, 7, 4, 5, 6], [1, 7, 7, 6, 0, 0]]
    assert (batch.starts.tolist(), batch.lengths.tolist()) == ([3, 3], [6, 4])
    assert batch.reference is None


def test_answers_that_begin_at_different_places_are_told_apart() -> None:
    """The columns run from the earliest answer: of the second row only the last two are its answer."""
    rows = [
        encode(letters_tokenizer(), {"prompt": prompt, "answer": answer, "template": "continue"})
        for prompt, answer in (("d", "a"), ("d d d", "b c"))
    ]
    found = answer_log_probs(distributed(LETTERS), collate_texts(rows))
    assert found.mask.tolist() == [[True, False, False, False], [False, False, True, True]]
    assert found.values.flatten().tolist() == pytest.approx(
        [-log(2), 0, 0, 0, 0, 0, -2 * log(2), -3 * log(2)], abs=1e-5
    )


def test_a_rows_coder_writes_its_tokenizer_beside_the_weights(tmp_path: Path) -> None:
    coder = Texts(letters_tokenizer())
    row = coder.encode({"prompt": "d", "answer": "a b", "template": "continue"})
    assert (row.length, coder.collate([row]).input_ids.tolist()) == (4, [[1, 7, 4, 5]])
    coder.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).encode("a b", add_special_tokens=False) == [4, 5]
