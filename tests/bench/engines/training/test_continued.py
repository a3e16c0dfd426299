"""A short history by continuing a tiny model's training, and its use as a model's past."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.assets.history import choose_moment
from bench.assets.history_file import load_history
from bench.core.errors import UserError
from bench.core.hashing import hash_checkpoint
from bench.engines.training.continued import Continuation, continue_model, passages
from tests.tiny import saved, subword_llama, subword_tokenizer

TEXT = "the old sailor went down to the harbour and looked at the grey sea for a long time " * 12


@pytest.fixture
def model(tmp_path: Path) -> Path:
    words = subword_tokenizer([TEXT])
    saved(subword_llama(words, 0), words, tmp_path / "model")
    return tmp_path / "model"


def asked(model: Path, text: Path, **changed: object) -> Continuation:
    values = {"steps": 6, "keep": 3, "words": 10, "batch": 2, "lr": 1e-3, "seed": 0, "autocast": False}
    return Continuation(str(model), str(text), **{**values, **changed})  # type: ignore[arg-type]


def test_the_folder_is_a_history_that_ends_in_the_model(model: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    out = tmp_path / "longer"
    found = continue_model(asked(model, text), tmp_path, out, lambda line: None)
    assert [path.name for path in found] == ["checkpoint-0", "checkpoint-2", "checkpoint-4", "checkpoint-6"]
    assert hash_checkpoint(found[0]) == hash_checkpoint(model)
    hashes = [hash_checkpoint(path) for path in (*found[:3], out)]
    assert len(set(hashes)) == 4, "each checkpoint has moved"
    assert hash_checkpoint(found[3]) == hash_checkpoint(out)
    past = load_history(out)
    assert [moment.step for moment in past.moments][:4] == [0, 2, 4, 6]
    tokens = [moment.tokens or 0 for moment in past.moments]
    assert tokens == sorted(tokens) and tokens[1] > 0
    assert choose_moment(past, "step=2").checkpoint.hash == hashes[1]
    again = continue_model(asked(model, text), tmp_path, out, lambda line: None)
    assert again == found
    with pytest.raises(UserError, match="something else already"):
        continue_model(asked(model, text, lr=2e-3), tmp_path, out, lambda line: None)


def test_passages_are_whole_and_in_order(tmp_path: Path) -> None:
    text = tmp_path / "text.jsonl"
    text.write_text("".join(json.dumps({"text": t}) + "\n" for t in ("a b c d e f g", "h i j", "k")))
    rows = passages(text, 3)
    assert [row.payload["answer"] for row in rows] == ["a b c", "d e f", "h i j"]
    with pytest.raises(UserError, match="no passage of 20 words"):
        passages(text, 20)


def test_mistakes_are_told_together(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        continue_model(asked(model, tmp_path / "none.txt", keep=9), tmp_path, tmp_path / "out", lambda line: None)
    assert len(error.value.problems) == 2 and not (tmp_path / "out").exists()
    text = tmp_path / "text.jsonl"
    text.write_text('{"words": "a"}\n')
    with pytest.raises(UserError, match="JSON lines with 'text'"):
        continue_model(asked(model, text), tmp_path, tmp_path / "out", lambda line: None)


def test_a_training_that_diverges_is_said(model: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    said: list[str] = []
    continue_model(asked(model, tmp_path / "text.txt", lr=1e30), tmp_path, tmp_path / "out", said.append)
    assert any(line.startswith("warning: the training has diverged") for line in said)
