"""Shapes and numbers of parameters, from a table, a config or the headers of files; no weight is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from bench.assets.known_models import KNOWN
from bench.assets.shapes import (
    SHAPES,
    Shape,
    count_weights,
    download_bytes,
    known_shape,
    parameters_in_folder,
    read_shape,
)
from bench.core.contracts import TaskInputs
from bench.core.types import Checkpoint
from bench.lab.model import small_llama
from bench.real.scenario import count_parameters
from tests.tiny import llama


@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_parameters_are_counted_in_the_headers(tied: bool, shards: bool, tmp_path: Path) -> None:
    model = small_llama(40, 16, layers=2, positions=32, seed=0)
    model.config.tie_word_embeddings = tied
    model = type(model)(model.config)
    model.save_pretrained(tmp_path, max_shard_size="4KB" if shards else "1GB")
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == shards
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert parameters_in_folder(tmp_path) == counted == count_weights(Checkpoint(str(tmp_path), "", dtype="bfloat16"))
    (tmp_path / "config.json").write_text(json.dumps({"tie_word_embeddings": tied}))
    assert read_shape(tmp_path) is None, "a config without sizes gives none, and no zero"


def test_a_tied_head_that_was_saved_as_well_counts_once(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "config.json").write_text('{"tie_word_embeddings": true}')
    words = torch.zeros(10, 4)
    save_file({"model.embed_tokens.weight": words, "lm_head.weight": words.clone()}, tmp_path / "model.safetensors")
    assert parameters_in_folder(tmp_path) == 40


def test_a_file_beside_the_shards_is_no_part_of_the_model(tmp_path: Path) -> None:
    model = llama()
    model.save_pretrained(tmp_path, max_shard_size="4KB")
    before = parameters_in_folder(tmp_path)
    (tmp_path / "consolidated.safetensors").write_bytes(next(tmp_path.glob("model-*.safetensors")).read_bytes())
    assert parameters_in_folder(tmp_path) == before


def test_a_settings_model_is_counted_or_known_by_name(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path)
    assert count_parameters(TaskInputs("real", str(tmp_path), model="olmo-2-1b")) == parameters_in_folder(tmp_path) > 0
    assert count_parameters(TaskInputs("real", model="olmo-2-1b")) == 1_484_916_736
    assert count_parameters(TaskInputs("real", model="owner/name")) == 0


def test_a_shape_is_read_from_config_and_headers(tmp_path: Path) -> None:
    model = llama()
    model.save_pretrained(tmp_path)
    config = model.config
    assert read_shape(tmp_path) == Shape(
        config.hidden_size,
        config.num_hidden_layers,
        config.intermediate_size,
        config.vocab_size,
        config.num_attention_heads,
        config.num_key_value_heads,
        sum(parameter.numel() for parameter in model.parameters()),
    )


TYPES = {"pythia": "gpt_neox", "olmo": "olmo2"}
UNTIED = ("olmo", "llama-2", "muse", "pythia", "llama-3.1", "meta-llama/Llama-3.1", "meta-llama/Meta")


@pytest.mark.parametrize("name", SHAPES)
def test_the_shapes_that_are_known_by_name_are_those_of_such_models(name: str) -> None:
    shape = SHAPES[name]
    config = AutoConfig.for_model(
        next((kind for start, kind in TYPES.items() if name.startswith(start)), "llama"),
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        intermediate_size=shape.inner,
        vocab_size=shape.vocabulary,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.groups,
        tie_word_embeddings=not name.startswith(UNTIED),
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == shape.parameters


def test_every_known_model_can_be_estimated_before_it_is_fetched() -> None:
    assert [name for name in KNOWN if known_shape(name) is None] == []
    assert known_shape("olmo-2-7b@stage1-step119000-tokens500B") == known_shape("allenai/OLMo-2-1124-7B")
    assert known_shape("owner/name") is None and download_bytes("owner/name") == 0
    assert download_bytes("olmo-2-7b") == 2 * 7_298_617_344
