"""A model's past as a table, and what there is of it without a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.assets.history_sources import history_of_revisions
from bench.cli.histories import describe, list_history
from bench.core.errors import UserError
from tests.histories import history
from tests.shell import Shell


def test_the_table_marks_the_first_exposure() -> None:
    lines = describe(history(0, 320, 640, 700)).splitlines()
    assert lines[0].split() == ["checkpoint", "stage", "step", "tokens", "share", "exposed", "on", "disk"]
    assert lines[2].split() == ["history-320", "pretraining", "320", "32K", "0.500", "no", "no"]
    assert "first exposure to the forget set" in lines[4] and lines[5].startswith("history-700")
    assert len(lines) == 6
    assert "is not in this history" in describe(history(0, 64)).splitlines()[-1]


def test_the_table_says_that_ambers_numbers_are_no_steps(tmp_path: Path) -> None:
    assert "number the checkpoints" in describe(
        history_of_revisions("LLM360/Amber", ["ckpt_000", "ckpt_358"], tmp_path)
    )


def test_without_a_network_a_listing_says_what_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="ls history --model olmo-2-7b` needs no hub"):
        list_history("allenai/OLMo-2-1124-7B", "", "", tmp_path)
    assert "step143000" in list_history("EleutherAI/pythia-70m", "", "", tmp_path), "its names are a published rule"


def test_ls_history_prints_the_labs_checkpoints_and_builds_nothing(shell: Shell) -> None:
    said = shell("ls", "history", "--task", "muse-books", "--store", "store")
    lines = said.out.splitlines()
    assert said.code == 0 and [line.split()[0] for line in lines[1:3]] == ["history-0", "history-20"]
    assert lines[11].split()[4] == "1.000" and "begins at history-221" in said.out
    assert shell.written() == []


def test_ls_history_of_a_known_model_a_folder_and_a_file(shell: Shell) -> None:
    said = shell("ls", "history", "--model", "olmo-2-1b")
    assert "stage1-step1900000-tokens3985B" in said.out and "3985B" in said.out
    assert "seen in no listing: stage1-step1500000-tokens3146B" in said.out
    entries = [{"model": "some/model", "revision": "step1000-tokens4B", "exposed": True}]
    (shell.folder / "history.json").write_text(json.dumps({"checkpoints": entries}))
    said = shell("ls", "history", "--history", "history.json")
    assert "first exposure to the forget set" in said.out and "4B" in said.out
    (shell.folder / "empty").mkdir()
    assert "holds no whole checkpoint" in shell("ls", "history", "--model", "empty").errors[0]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("methods", "--model", "lab"), "ls methods takes no --model: that goes with `ls history`."),
        (("models", "--task", "tofu"), "ls models takes no --task"),
        (("history", "--model", "olmo-2-1c"), "Unknown model 'olmo-2-1c'. Did you mean 'olmo-2-1b'?"),
        (("history", "--task", "tofoo"), "Unknown task 'tofoo'. Did you mean 'tofu'?"),
        (("history", "--task", "tofu", "--model", "olmo-2-1b"), "--task goes with the lab's history"),
        (("history", "--model", "olmo-2-1b", "--history", "x"), "--model or --history, not both"),
        (("history", "--model", "smollm2-135m-instruct"), "No past of 'smollm2-135m-instruct' is known here"),
        (("histroy",), "Unknown listing 'histroy'. Did you mean 'history'?"),
    ],
)
def test_a_mistake_in_ls_is_a_sentence(shell: Shell, words: Sequence[str], sentence: str) -> None:
    said = shell("ls", *words)
    assert said.code == 2 and sentence in said.errors[0]
