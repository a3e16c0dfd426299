"""What is written of a model in parts or with adapters, and what several processes read of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from bench.core.contracts import Opened
from bench.engines.training import gathering
from bench.engines.training.gathering import write_whole
from bench.runs.context import add_adapters
from tests import ranks
from tests.families import random_model
from tests.tiny import llama

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def each(two_processes: Path) -> Any:
    """The facts that each of two processes saw."""
    return json.loads((two_processes / "facts.json").read_text())


def test_a_model_in_parts_is_the_whole_one_to_the_bit_and_so_are_its_files(each: Any) -> None:
    """Values, dtypes, tied weights and buffers, in several files with an index; written in one file."""
    for facts in each:
        assert len(facts["opened"]) == 2 * len(ranks.OPENED)
        assert not any(facts["opened"].values()), facts["opened"]


def test_a_broken_model_is_refused_in_the_words_of_one_process(each: Any) -> None:
    for facts in each:
        assert sorted(facts["broken"]) == sorted(ranks.SPOILT)
        for name, (alone, together) in facts["broken"].items():
            assert alone.startswith("UserError: ") and together.startswith("UserError: ")
            assert alone == together or name == "cut", "of a file that is cut the header says how much is missing"


@pytest.mark.parametrize("family", ["Llama 3", "GPT-2", "Mixtral"])
def test_files_are_those_of_the_library(family: str, tmp_path: Path) -> None:
    model = random_model(family)
    model.save_pretrained(tmp_path / "theirs")
    write_whole(model, tmp_path / "ours")
    assert contents(tmp_path / "ours") == contents(tmp_path / "theirs")


def test_a_large_model_is_written_in_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, save = llama(seed=1), PreTrainedModel.save_pretrained
    save(model, tmp_path / "theirs", max_shard_size="10KB")

    def saved(self: Any, folder: Path, state_dict: Any, max_shard_size: str = "10KB") -> None:
        save(self, folder, state_dict=state_dict)

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", saved)
    write_whole(model, tmp_path / "ours")
    assert len(list((tmp_path / "ours").glob("*.safetensors"))) > 2
    assert contents(tmp_path / "ours") == contents(tmp_path / "theirs")


def test_adapters_are_merged_in_what_is_written_and_stay_in_the_model(tmp_path: Path) -> None:
    model = add_adapters(Opened(llama(seed=1), None, None), 4, seed=0)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "lora_B" in name:
                tensor.fill_(0.1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    write_whole(model, tmp_path / "ours")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model.merge_and_unload().save_pretrained(tmp_path / "theirs")
    assert contents(tmp_path / "ours") == contents(tmp_path / "theirs")


def test_a_full_disk_is_said_when_everything_is_gathered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the first process would leave the others alone in the middle of a tensor."""
    gathered: list[str] = []

    def full(files: Any, tensors: Any) -> None:
        gathered.extend(tensors)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gathering, "put", full)
    looked = gathering.Source.gather
    monkeypatch.setattr(gathering.Source, "gather", lambda self: seen.append(1) or looked(self))
    seen: list[int] = []
    with pytest.raises(OSError, match="No space left"):
        write_whole(llama(), tmp_path)
    assert len(gathered) == 1 and len(seen) > 10


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}
