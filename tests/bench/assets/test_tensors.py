"""Reading checkpoint folders: which files count, what is damaged, and which terms match."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bench.assets.tensors import TensorFiles
from bench.core.errors import UserError
from bench.core.types import Checkpoint
from bench.engines.arithmetic.sums import (
    combine,
)
from tests.weights import folder, summed, vector


def test_a_head_stored_beside_the_embedding_it_is_tied_to_is_dropped(tmp_path: Path) -> None:
    embedding, other = torch.randn(8, 2), torch.randn(8, 2)
    once = folder(tmp_path / "once", {"model.embed_tokens.weight": other})
    twice = folder(tmp_path / "twice", {"model.embed_tokens.weight": embedding, "lm_head.weight": embedding.clone()})
    for name in ("once", "twice"):
        (tmp_path / name / "config.json").write_text(json.dumps({"tie_word_embeddings": True}))
    assert set(summed([(1, twice), (1, once)], tmp_path / "both")) == {"model.embed_tokens.weight"}
    assert set(summed([(1, once), (1, twice)], tmp_path / "turned")) == {"model.embed_tokens.weight"}
    untied = folder(tmp_path / "untied", {"model.embed_tokens.weight": embedding, "lm_head.weight": other})
    assert set(summed([(1, untied)], tmp_path / "all")) == {"model.embed_tokens.weight", "lm_head.weight"}
    with pytest.raises(UserError, match="the first is 'lm_head.weight' .'lm_head.weight' is there when a model's head"):
        combine([(1, untied), (1, once)], tmp_path / "out")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda data: data[:-1], "bad/model.safetensors is truncated: 91 bytes, and its header speaks of 92"),
        (lambda data: data + b"x", "bad/model.safetensors is damaged: 93 bytes"),
        (lambda data: data[:5], "is no whole safetensors file .5 bytes.: it is truncated.: copy or fetch"),
        (lambda data: b"\xff" * 8 + data[8:], "is no whole safetensors file"),
        (lambda data: data[:8] + b"x" + data[9:], "has a damaged safetensors header.: copy or fetch"),
        (lambda data: data.replace(b"[3]", b"[4]"), "has a damaged safetensors header"),
        (
            lambda data: data.replace(b'"F32"', b'"F4"\x20'),
            "The tensor 'w' of .* has the type F4, which can't be summed",
        ),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, damage: object, sentence: str) -> None:
    (tmp_path / "bad").mkdir()
    file = tmp_path / "bad" / "model.safetensors"
    save_file({"w": vector(1, 2, 3)}, file, metadata={"format": "pt"})
    whole = file.read_bytes()
    sentence = (
        sentence.replace("91", str(len(whole) - 1)).replace("92", str(len(whole))).replace("93", str(len(whole) + 1))
    )
    file.write_bytes(damage(whole))  # type: ignore[operator]
    with pytest.raises(UserError, match=sentence) as caught:
        combine([(1, Checkpoint(str(tmp_path / "bad"), "bad"))], tmp_path / "out")
    assert len(caught.value.problems) == 1


def test_folders_that_cannot_be_summed_are_told_together(tmp_path: Path) -> None:
    for name in ("empty", "pickled", "adapter", "indexed", "quantised"):
        (tmp_path / name).mkdir()
    torch.save({}, tmp_path / "pickled" / "pytorch_model.bin")
    save_file({"lora": vector(1)}, tmp_path / "adapter" / "adapter_model.safetensors")
    index = {"weight_map": {"w": "model-00001-of-00002.safetensors"}}
    (tmp_path / "indexed" / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file({"w": vector(1)}, tmp_path / "quantised" / "model.safetensors")
    (tmp_path / "quantised" / "config.json").write_text(json.dumps({"quantization_config": {}}))
    names = ("nowhere", "empty", "pickled", "adapter", "indexed", "quantised")
    with pytest.raises(UserError) as caught:
        combine([(1, Checkpoint(str(tmp_path / name), name)) for name in names], tmp_path / "out")
    for problem, word in zip(
        caught.value.problems,
        (
            "There is no folder",
            "holds no *.safetensors",
            "pickled weights only",
            "merge it into",
            "lacks model-00001-of-00002.safetensors",
            "quantised",
        ),
        strict=True,
    ):
        assert word in problem


def test_only_the_files_that_transformers_would_load_count(tmp_path: Path) -> None:
    """A second copy of the weights (``consolidated.safetensors``) is left alone; in nameless files it is a mistake."""
    (tmp_path / "model").mkdir()
    save_file({"w": vector(1)}, tmp_path / "model" / "model.safetensors")
    save_file({"w": vector(5)}, tmp_path / "model" / "consolidated.safetensors")
    assert summed([(2, Checkpoint(str(tmp_path / "model"), ""))], tmp_path / "out")["w"].tolist() == [2]
    twice = folder(tmp_path / "twice", {"w": vector(1)}, {"w": vector(1)})
    with pytest.raises(UserError, match="twice' holds the tensor 'w' in two files, part-0.safetensors and part-1"):
        combine([(1, twice)], tmp_path / "out2")


def test_tensors_are_read_by_name(tmp_path: Path) -> None:
    tensors = {"w": torch.randn(3, 4).half(), "ids": torch.tensor([[1, 2]]), "on": torch.tensor(True)}
    files = TensorFiles(Path(replace(folder(tmp_path / "one", tensors), label="").path))
    for name, tensor in tensors.items():
        assert torch.equal(files.get(name), tensor) and files.shape(name) == tuple(tensor.shape)
        assert files.get(name).dtype == tensor.dtype


def test_a_folder_without_safetensors_is_a_users_mistake(tmp_path: Path) -> None:
    good = folder(tmp_path / "good", {"w": vector(1)})
    (tmp_path / "pickled").mkdir()
    torch.save({"w": vector(1)}, tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickled' has pickled weights only, and those can run code"):
        combine([(1, good), (1, Checkpoint(str(tmp_path / "pickled"), "x"))], tmp_path / "out")


def test_one_token_with_two_numbers_is_refused(tmp_path: Path) -> None:
    """The embeddings have one size, and row 1 of the one is another word than row 1 of the other."""
    words = {"one": {"a": 0, "b": 1}, "other": {"a": 0, "c": 1, "b": 2}, "longer": {"a": 0, "b": 1, "c": 2}}
    made = {name: folder(tmp_path / name, {"embed": torch.zeros(3, 2)}) for name in words}
    for name, vocabulary in words.items():
        (tmp_path / name / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    with pytest.raises(UserError, match="Token 'b' is number 1 in 'one' and 2 in 'other'"):
        combine([(1, made["one"]), (1, made["other"])], tmp_path / "out")
    combine([(1, made["one"]), (1, made["longer"])], tmp_path / "out")


def test_a_resized_embedding_is_named_with_both_sizes(tmp_path: Path) -> None:
    plain = folder(tmp_path / "plain", {"model.embed_tokens.weight": torch.zeros(4, 2)})
    padded = folder(tmp_path / "padded", {"model.embed_tokens.weight": torch.zeros(8, 2)})
    with pytest.raises(UserError, match=r"'model.embed_tokens.weight' has shape \(4, 2\) in 'plain' and \(8, 2\) in"):
        combine([(1, plain), (1, padded)], tmp_path / "out")


def test_other_names_or_shapes_are_one_sentence_each(tmp_path: Path) -> None:
    target = folder(tmp_path / "target", {"embed": torch.zeros(4, 2), "w": vector(1)})
    renamed = folder(tmp_path / "renamed", {"embed": torch.zeros(4, 2), "v": vector(1)})
    resized = folder(tmp_path / "resized", {"embed": torch.zeros(5, 2), "w": vector(1, 2)})
    with pytest.raises(UserError) as caught:
        combine([(1, target), (1, renamed), (1, resized)], tmp_path / "out")
    names, shapes = caught.value.problems
    assert names == "'target' and 'renamed' don't hold the same tensors: 2 differ, the first is 'v'."
    assert shapes.startswith("Tensor 'embed' has shape (4, 2) in 'target' and (5, 2) in 'resized'.")
    assert not (tmp_path / "out").exists(), "nothing is written before all is known to match"
