"""Tokenizers compared by the ids that they give."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.assets.tokens import TOKENIZER, tokenizer_difference
from tests.tiny import subword_tokenizer

NAMES = ("the one", "the other")
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders with one tokenizer."""
    words = subword_tokenizer(["some text to cut", "and some more of it to cut"])
    for name in ("one", "other"):
        words.save_pretrained(tmp_path / name)
    return tmp_path / "one", tmp_path / "other"


def edit(file: Path, change: Change) -> None:
    read = json.loads(file.read_text())
    change(read)
    file.write_text(json.dumps(read))


def swap(first: dict[str, Any], last: dict[str, Any]) -> None:
    first["content"], last["content"] = last["content"], first["content"]


def test_the_same_written_otherwise_is_the_same(pair: tuple[Path, Path]) -> None:
    other = pair[1] / TOKENIZER
    read = json.loads(other.read_text())
    read["model"]["merges"] = [pair if isinstance(pair, str) else " ".join(pair) for pair in read["model"]["merges"]]
    read |= {
        "padding": None,
        "truncation": {"max_length": 9, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
    }
    other.write_text(json.dumps(dict(sorted(read.items())), indent=3))
    assert tokenizer_difference(*pair, NAMES) == ""


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        (
            lambda t: t["added_tokens"].append(t["added_tokens"][-1] | {"id": 9999, "content": "<new>"}),
            "'<new>' is in the other",
        ),
        (lambda t: t["added_tokens"][0].update(lstrip=True), "lstrip=False in the one and True in the other"),
        (lambda t: t["model"]["merges"].pop(), "their merges differ"),
        (lambda t: t.update(normalizer={"type": "Lowercase"}), "their normalisers differ"),
        (lambda t: t.update(pre_tokenizer={"type": "Whitespace"}), "their pre-tokenisers differ"),
        (lambda t: t["model"].update(byte_fallback=True), "'byte_fallback' of their models differs"),
    ],
)
def test_what_changes_ids_is_named(pair: tuple[Path, Path], change: Change, clause: str) -> None:
    edit(pair[1] / TOKENIZER, change)
    assert clause in tokenizer_difference(*pair, NAMES)


def test_words_and_added_tokens_with_each_others_ids_are_named(pair: tuple[Path, Path]) -> None:
    words = list(json.loads((pair[0] / TOKENIZER).read_text())["model"]["vocab"].items())[-2:]
    edit(
        pair[1] / TOKENIZER, lambda t: t["model"]["vocab"].update({words[0][0]: words[1][1], words[1][0]: words[0][1]})
    )
    for only in (False, True):
        assert f"token {words[0][0]!r} is number {words[0][1]} in the one" in tokenizer_difference(*pair, NAMES, only)


def test_a_token_that_only_the_settings_add_counts(pair: tuple[Path, Path]) -> None:
    settings = pair[1] / "tokenizer_config.json"
    edit(settings, lambda c: c.setdefault("added_tokens_decoder", {}).update({"9999": {"content": "<new>"}}))
    assert "'<new>' is in the other and not in the one" in tokenizer_difference(*pair, NAMES)
    assert tokenizer_difference(*pair, NAMES, only_tokens=True) == "", "a sum may have a term with more tokens"
    edit(
        pair[0] / "tokenizer_config.json",
        lambda c: c.setdefault("added_tokens_decoder", {}).update({"9999": {"content": "<x>"}}),
    )
    assert "number 9999 is the token '<x>' in the one and '<new>'" in tokenizer_difference(
        *pair, NAMES, only_tokens=True
    )


def test_settings_that_number_an_added_token_otherwise_count(pair: tuple[Path, Path]) -> None:
    """GPT2Tokenizer takes these, and not those of tokenizer.json."""
    for folder, number in zip(pair, ("0", "1"), strict=True):
        edit(
            folder / "tokenizer_config.json",
            lambda c, n=number: c.update(added_tokens_decoder={n: {"content": "<unk>"}}),
        )
    assert "token '<unk>' is number 0 in the one and 1 in the other" in tokenizer_difference(*pair, NAMES, True)


def test_another_end_counts_for_answers_and_not_for_a_sum(pair: tuple[Path, Path]) -> None:
    edit(pair[1] / "tokenizer_config.json", lambda c: c.update(eos_token="a"))
    assert "'eos_token' is" in tokenizer_difference(*pair, NAMES)
    assert tokenizer_difference(*pair, NAMES, only_tokens=True) == ""


def test_vocabulary_and_merges_in_files_of_their_own(pair: tuple[Path, Path]) -> None:
    for folder in pair:
        model = json.loads((folder / TOKENIZER).read_text())["model"]
        (folder / TOKENIZER).unlink()
        (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
        lines = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines, ""]))
    assert tokenizer_difference(*pair, NAMES) == ""
    (pair[1] / "merges.txt").write_text("#version: 0.2\n")
    assert "their merges differ" in tokenizer_difference(*pair, NAMES)


def test_sentencepiece_models_are_compared_where_both_are_there(pair: tuple[Path, Path]) -> None:
    (pair[0] / TOKENIZER).unlink()
    (pair[0] / "tokenizer.model").write_bytes(b"a")
    assert "can't be compared" in tokenizer_difference(*pair, NAMES)
    (pair[1] / "tokenizer.model").write_bytes(b"b")
    assert "their tokenizer.model differ" in tokenizer_difference(*pair, NAMES)
    (pair[1] / "tokenizer.model").write_bytes(b"a")
    assert tokenizer_difference(*pair, NAMES) == ""
