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


@pytest.mark.parametrize(
    ("embedding", "head"),
    [
        ("model.embed_tokens", "lm_head"),
        ("gpt_neox.embed_in", "embed_out"),
        ("transformer.wte", "lm_head"),
        ("backbone.embeddings", "lm_head"),
        ("tok_embeddings", "output"),
    ],
)
def test_a_tied_head_is_dropped_whatever_its_name_and_type(tmp_path: Path, embedding: str, head: str) -> None:
    """A head of another type is a copy if it is the embedding rounded to the narrower of both; one ulp off it is none."""
    wide = torch.randn(8, 2)
    other = wide.clone()
    other[3, 1] += 0.1
    names = f"{embedding}.weight", f"{head}.weight"
    for i, (one, two, left) in enumerate(
        [
            (wide, wide.clone(), 1),
            (wide.bfloat16(), wide.bfloat16().float(), 1),
            (wide, wide.bfloat16(), 1),
            (wide, wide.half(), 1),
            (wide.half(), wide.double(), 1),
            (wide, other, 2),
            (wide, other.bfloat16(), 2),
        ]
    ):
        made = folder(tmp_path / str(i), dict(zip(names, (one, two), strict=True)) | {"h.0.weight": one.clone()})
        (tmp_path / str(i) / "config.json").write_text(json.dumps({"tie_word_embeddings": True}))
        assert TensorFiles(Path(made.path)).names == sorted([*names[:left], "h.0.weight"])
        (tmp_path / str(i) / "config.json").write_text(json.dumps({"tie_word_embeddings": False}))
        assert TensorFiles(Path(made.path)).names == sorted([*names, "h.0.weight"])


def test_a_head_that_the_class_ties_is_summed_once(tmp_path: Path) -> None:
    """Gemma ties by default, Llama doesn't; neither config says so."""
    embedding = torch.randn(8, 2)
    both = {"model.embed_tokens.weight": embedding, "lm_head.weight": embedding.clone()}
    for kind, left in (("gemma", ["model.embed_tokens.weight"]), ("llama", sorted(both))):
        made = folder(tmp_path / kind, both)
        (tmp_path / kind / "config.json").write_text(json.dumps({"model_type": kind}))
        assert sorted(summed([(1, made)], tmp_path / f"{kind}-out")) == left
