"""One reader for `bench eval` and `bench msa`: each odd folder is one sentence, the same from both."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.assets.folders import INDEX, WHOLE
from bench.assets.models import check_model_folder
from bench.assets.tensors import TensorFiles
from bench.core.errors import UserError
from tests.tiny import llama, saved, tokenizer

LORA = {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(2, 2)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny Llama with its tokenizer."""
    saved(llama(), tokenizer(), tmp_path / "model")
    return tmp_path / "model"


def sentence(folder: Path) -> str:
    """What both ways of reading say."""
    said: list[str] = []
    for read in (lambda: check_model_folder(folder, str(folder)), lambda: TensorFiles(folder)):
        with pytest.raises(UserError) as caught:
            read()
        assert len(caught.value.problems) == 1
        said.append(str(caught.value))
    assert said[0] == said[1]
    return said[0]


def rename(folder: Path, change: Callable[[str], str]) -> None:
    save_file({change(name): tensor for name, tensor in load_file(folder / WHOLE).items()}, folder / WHOLE)


def edit_config(folder: Path, **settings: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))


def shard(folder: Path, index: object = None) -> dict[str, str]:
    """The weights in two files; what the index says of them."""
    tensors = load_file(folder / WHOLE)
    names = sorted(tensors)
    places: dict[str, str] = {}
    for i, part in enumerate((names[:3], names[3:])):
        file = f"model-{i + 1:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        places |= dict.fromkeys(part, file)
    (folder / WHOLE).unlink()
    (folder / INDEX).write_text(json.dumps({"weight_map": places} if index is None else index))
    return places


@pytest.mark.parametrize(
    ("prefix", "cause"),
    [
        ("_orig_mod.", "torch.compile"),
        ("module.", "DDP"),
        ("base_model.model.", "peft"),
        ("_forward_module.", "DeepSpeed"),
    ],
)
def test_a_wrappers_names_are_refused_with_their_cause(model: Path, prefix: str, cause: str) -> None:
    rename(model, lambda name: prefix + name)
    said = sentence(model)
    assert prefix in said and cause in said and "save_pretrained" in said


def test_a_wrapper_inside_the_names_is_seen_as_well(model: Path) -> None:
    rename(model, lambda name: name.replace("mlp.", "_checkpoint_wrapped_module.mlp."))
    assert "activation checkpointing" in sentence(model)


def test_an_adapter_instead_of_weights_beside_them_or_in_them(model: Path) -> None:
    save_file(LORA, model / "adapter_model.safetensors")
    (model / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "x/y"}))
    assert "a peft adapter of 'x/y'" in sentence(model) and "beside a model's weights" in sentence(model)
    (model / WHOLE).rename(model / "kept")
    assert "adapter of 'x/y' only" in sentence(model) and "merge_and_unload" in sentence(model)
    (model / "kept").rename(model / WHOLE)
    (model / "adapter_config.json").unlink()
    assert "remove the adapter's files" in sentence(model)
    (model / "adapter_model.safetensors").unlink()
    rename(model, lambda name: name.replace("q_proj.weight", "q_proj.base_layer.weight"))
    assert "a model with a peft adapter in it" in sentence(model)


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq", "compressed-tensors", "fp8"])
def test_a_quantised_config_is_named(model: Path, method: str) -> None:
    edit_config(model, quantization_config={"quant_method": method})
    assert f"is quantised ({method})" in sentence(model)
    edit_config(model, quantization_config=None)
    check_model_folder(model, "sound")
    edit_config(model, text_config={"quantization_config": {"quant_method": method}})
    assert f"is quantised ({method})" in sentence(model)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("a.qweight", torch.zeros(2, 2, dtype=torch.int32)),
        ("a.weight", torch.zeros(2, 2, dtype=torch.int8)),
        ("a.weight", torch.zeros(2, 2).to(torch.float8_e4m3fn)),
        ("a.weight_scale_inv", torch.zeros(2)),
        ("a.weight.absmax", torch.zeros(2)),
    ],
)
def test_quantised_tensors_are_seen_without_a_config_that_says_so(model: Path, name: str, tensor: torch.Tensor) -> None:
    save_file({**load_file(model / WHOLE), name: tensor}, model / WHOLE)
    assert "is quantised" in sentence(model) and name in sentence(model)


def test_shards_whose_index_has_no_metadata_are_the_whole_model(model: Path) -> None:
    whole = load_file(model / WHOLE)
    shard(model)
    check_model_folder(model, "model")
    files = TensorFiles(model)
    assert files.names == sorted(whole) and all(torch.equal(files.get(name), whole[name]) for name in whole)


@pytest.mark.parametrize(
    "index", [[], {}, {"weight_map": []}, {"weight_map": {}}, {"weight_map": {"a": 1}}, {"weight_map": None}, "x"]
)
def test_an_index_that_is_none_is_a_sentence(model: Path, index: object) -> None:
    shard(model, index)
    assert "can't be read as an index" in sentence(model)


def test_what_an_index_says_must_be_there(model: Path) -> None:
    places = shard(model)
    first = sorted(places)[0]

    def say(**changed: str) -> str:
        (model / INDEX).write_text(json.dumps({"weight_map": places | changed}))
        return sentence(model)

    assert "lacks model-00009-of-00002.safetensors" in say(**{first: "model-00009-of-00002.safetensors"})
    assert "'../x.safetensors', which is no safetensors file of that folder" in say(**{first: "../x.safetensors"})
    assert f"'{first}' is in model-00002" in say(**{first: "model-00002-of-00002.safetensors"})
    assert "'another' is in model-00001" in say(another="model-00001-of-00002.safetensors")
    (model / INDEX).unlink()
    (model / "model-00002-of-00002.safetensors").unlink()
    assert "lacks model-00002-of-00002.safetensors" in sentence(model)


def test_two_sets_of_weights_are_one_too_many(model: Path) -> None:
    (model / "copy").write_bytes((model / WHOLE).read_bytes())
    shard(model)
    (model / "copy").rename(model / WHOLE)
    assert "holds two sets of weights" in sentence(model)


@pytest.mark.parametrize("text", ["[]", "null", "{", "3", "\xff"])
def test_a_config_that_is_no_object_is_a_sentence(model: Path, text: str) -> None:
    (model / "config.json").write_bytes(text.encode("latin-1"))
    assert "config.json" in sentence(model) and "not readable JSON" in sentence(model)


@pytest.mark.parametrize("file", [WHOLE, "config.json", "tokenizer.json", INDEX])
def test_a_git_lfs_pointer_is_named(model: Path, file: str) -> None:
    (model / file).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert f"'{file}' of" in sentence(model) and "`git lfs pull`" in sentence(model)


def test_a_file_without_tensors_is_no_model(model: Path) -> None:
    save_file({}, model / WHOLE)
    assert "hold no tensor" in sentence(model)


def test_weights_under_another_name_are_summed_and_not_evaluated(model: Path) -> None:
    (model / WHOLE).rename(model / "weights.safetensors")
    assert TensorFiles(model).names
    with pytest.raises(UserError, match=f"lacks {INDEX}"):
        check_model_folder(model, "model")
