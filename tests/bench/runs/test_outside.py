"""Looking at what a command needs from outside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.core.contracts import ALL_KINDS
from bench.core.errors import UserError, collecting
from bench.runs.asked import Asked
from bench.runs.outside import Outside, check_lm_eval, data_name, look_outside
from tests.tiny import llama, saved, tokenizer

ASKED = Asked("tofu", ("ga",))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    saved(llama(), tokenizer(), tmp_path / "model")
    return tmp_path / "model"


def test_the_lab_needs_nothing(tmp_path: Path) -> None:
    assert look_outside(ASKED, tmp_path / "models") == Outside()


def test_what_is_there_is_named_by_content_and_by_place(model: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    asked = replace(ASKED, model=str(model), data=str(rows), target=str(model), oracles=(str(model), str(model)))
    found = look_outside(asked, tmp_path / "models")
    assert found.model == "model" and found.paths.model == str(model) and found.is_complete
    assert found.hashes["target"] == found.hashes["oracle-1"] == found.hashes["model"]
    assert found.paths.oracles == (str(model), str(model)) and found.paths.data == str(rows)


def test_what_is_not_fetched_is_a_mistake_or_a_command(tmp_path: Path) -> None:
    asked = replace(ASKED, model="olmo-2-7b", target="olmo-2-1b")
    with pytest.raises(UserError) as told, collecting():
        look_outside(asked, tmp_path / "models")
    assert [text[:10] for text in told.value.problems][:2] == ["The model ", "--target: "]
    found = look_outside(asked, tmp_path / "models", only=True)
    assert [command.split(" (")[0].removeprefix("python -m bench fetch ") for command in found.fetch] == [
        "olmo-2-7b",
        "olmo-2-1b",
        "tofu",
    ]
    assert not found.is_complete and found.hashes == {}


def test_lm_eval_is_for_language_models_and_its_folder_must_be_there() -> None:
    for asked, answers, sentence in (
        (replace(ASKED, lm_eval_data="/nowhere"), ALL_KINDS, "there is no such folder"),
        (replace(ASKED, lm_eval=("piqa",)), frozenset({"classes"}), "--lm-eval asks language models"),
    ):
        with pytest.raises(UserError, match=sentence):
            check_lm_eval(asked, answers)
    check_lm_eval(ASKED, frozenset())


def test_data_are_called_by_their_own_name() -> None:
    assert [data_name(text) for text in ("", "hub", "/a/tofu", "/a/x.jsonl, b/y.jsonl")] == [
        "hub",
        "hub",
        "tofu",
        "x.jsonl,y.jsonl",
    ]
