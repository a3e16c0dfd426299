"""Coders: which tokens are the answer's, that padding changes nothing, and ids against the rows of the embedding."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import processors
from transformers import AutoTokenizer

from bench.core.contracts import Batch
from bench.core.errors import UserError
from bench.engines.coding import Texts, answer_log_probs, check_ids, collate_texts, embedding_rows
from bench.engines.loaders import open_checkpoint
from bench.engines.templates import encode
from tests.tiny import (
    CHAT,
    distributed,
    letters_tokenizer,
    llama,
    qa,
    saved,
    subword_llama,
    subword_tokenizer,
    tokenizer,
)

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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_answer_logits_are_those_of_a_plain_pass_at_the_answers_places(dtype: torch.dtype) -> None:
    """Row by row, in float32 whatever the model computes in, with the tokens that they predict."""
    model = llama().to(dtype)
    asked = (("w1", "w2"), ("w3 w4 ?", "w5 w6 w7"), ("w8 w9", "w1 w2"))
    rows = [encode(tokenizer(), qa(0, prompt, answer).payload) for prompt, answer in asked]
    with torch.no_grad():
        found = collate_texts(rows).answer_logits(model)
        plain = [
            model(input_ids=torch.tensor([[*row.prompt, *row.answer]])).logits[0, len(row.prompt) - 1 : -1].float()
            for row in rows
        ]
    assert found.labels.tolist() == [token for row in rows for token in row.answer]
    assert found.mask.sum(-1).tolist() == [len(row.answer) for row in rows]
    assert found.values.dtype == torch.float32
    torch.testing.assert_close(found.values, torch.cat(plain), atol=1e-5 if dtype == torch.float32 else 0.05, rtol=0)


def test_log_probs_copy_no_other_place_than_the_answers_to_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two rows whose answers begin at other places the head computes more than the answers' own."""
    taken, plain = [], torch.nn.functional.cross_entropy

    def note(logits: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        taken.append((len(logits), logits.dtype))
        return plain(logits, *rest, **more)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", note)
    rows = [
        encode(letters_tokenizer(), {"prompt": "d" + more, "answer": "a b", "template": "continue"})
        for more in ("", 3 * " d")
    ]
    batch = collate_texts(rows)
    found = answer_log_probs(distributed(LETTERS), batch)
    answers = sum(len(row.answer) for row in rows)
    assert taken == [(answers, torch.float32)] and answers < found.mask.numel()
    assert not found.values[~found.mask].any()


def test_gradients_are_to_the_bit_those_of_all_places_with_the_others_masked() -> None:
    asked = (("w1", "w2"), ("w3 w4 ?", "w5 w6 w7"), ("w8 w9", "w1 w2"))
    batch = collate_texts([encode(tokenizer(), qa(0, *each).payload) for each in asked])

    def gradient(log_probs: Callable[[Any], torch.Tensor]) -> torch.Tensor:
        model = llama(seed=3)
        log_probs(model).sum().backward()
        return torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None])

    def masked(model: Any) -> torch.Tensor:
        keep, labels, mask = batch.answer_places()
        logits = model(input_ids=batch.input_ids, logits_to_keep=keep, use_cache=False).logits
        nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        return -nll.view_as(labels) * mask

    assert torch.equal(gradient(lambda model: answer_log_probs(model, batch).values), gradient(masked))


def test_the_log_probs_of_answers_follow_from_their_logits() -> None:
    model = llama()
    batch = collate_texts([encode(tokenizer(), qa(0, *each).payload) for each in (("w1", "w2"), ("w3 ?", "w4 w5"))])
    with torch.no_grad():
        logits, expected = batch.answer_logits(model), answer_log_probs(model, batch)
    chosen = logits.values.log_softmax(-1).gather(1, logits.labels[:, None])[:, 0]
    torch.testing.assert_close(logits.row_means(chosen), expected.means, atol=1e-5, rtol=0)


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


ASKED = {"template": "chat", "prompt": "Who sits?", "answer": "Black cats."}


@pytest.fixture
def words() -> Any:
    return subword_tokenizer(["Black cats sit on the mat."])


def grown(words: Any, token: str) -> int:
    """Add a token behind the vocabulary; its id."""
    words.add_special_tokens({"additional_special_tokens": [token]})
    return int(words.convert_tokens_to_ids(token))


def test_a_token_without_a_row_is_named_when_it_is_used(words: Any, tmp_path: Path) -> None:
    """In a prompt, in an answer, in what ends it; unused it does no harm."""
    model = subword_llama(words)
    coder = Texts(words, embedding_rows(model))
    before = coder.encode(ASKED)
    number = grown(words, "<|extra|>")
    assert number == coder.rows and coder.encode(ASKED) == before
    opened = open_checkpoint(saved(model, words, tmp_path / "model"))
    assert opened.coder.encode(ASKED) == before
    said = rf"'<\|extra\|>' of the tokenizer .* has the number {number}, and the model's embedding has {number} rows"
    for row in (ASKED | {"prompt": "Who <|extra|>?"}, ASKED | {"answer": "<|extra|>"}):
        with pytest.raises(UserError, match=said):
            opened.coder.encode(row)
    again = open_checkpoint(saved(model, words, tmp_path / "again"))
    again.tokenizer.chat_template = CHAT.replace("eos_token", "'<|extra|>'")
    with pytest.raises(UserError, match=said):
        again.coder.encode(ASKED)
    with pytest.raises(UserError, match=said):
        coder.encode({"template": "plain", "prompt": "", "answer": "<|extra|> cats"})


def test_ids_are_checked_up_to_the_last_row(words: Any) -> None:
    check_ids(words, [], 1)
    check_ids(words, [0, 4], 5)
    with pytest.raises(UserError, match="number 5, and the model's embedding has 5 rows"):
        check_ids(words, [0, 5], 5)


@pytest.mark.parametrize("lacks", ["bos_token", "eos_token"])
@pytest.mark.parametrize("template", ["text", "plain", "qa", "chat", "base"])
def test_rows_to_train_on_are_those_of_plain_passes(words: Any, lacks: str, template: str) -> None:
    """Without a bos a passage is trained on from its second token: not from the last place of its row."""
    setattr(words, lacks, None)
    if lacks == "bos_token":
        words.backend_tokenizer.post_processor = processors.ByteLevel()
    words.chat_template = CHAT.replace("bos_token", "''").replace("eos_token", "'<|eos|>'")
    model, coder = subword_llama(words), Texts(words)
    prompted = template not in ("text", "plain")
    rows = [
        coder.encode({"template": template, "prompt": "Who sits?" if prompted else "", "answer": text})
        for text in ("Black cats sit on the mat.", "Cats.", "on")
    ]
    with torch.no_grad():
        found = answer_log_probs(model, coder.collate(rows))
        for row, logp, mask in zip(rows, found.values, found.mask, strict=True):
            ids = torch.tensor([*row.prompt, *row.answer])
            plain = model(ids[None]).logits[0].log_softmax(-1)
            right = [float(plain[k - 1, ids[k]]) for k in range(len(row.prompt), row.length)]
            assert logp[mask].tolist() == pytest.approx(right, abs=1e-5)
