"""The coder of texts: ids against the rows of the embedding, and batches that don't show their padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import processors

from bench.core.errors import UserError
from bench.engines.coding import Texts, answer_log_probs, check_ids, embedding_rows
from bench.engines.loaders import open_checkpoint
from tests.tiny import CHAT, saved, subword_llama, subword_tokenizer

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
