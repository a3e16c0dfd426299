"""Which tensors are linear layers of decoder blocks: of every family that the harness opens, and by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from bench.assets.tensors import TensorFiles
from bench.core.errors import Unmet
from bench.engines.arithmetic.layers import LinearLayer, linear_layers
from bench.engines.hidden import decoder_blocks
from tests.families import FAMILIES, random_model
from tests.weights import folder


@pytest.mark.parametrize("family", FAMILIES)
def test_the_linear_layers_of_every_family(family: str, tmp_path: Path) -> None:
    """Every ``Linear`` and ``Conv1D`` in the decoder blocks, and the experts that are one tensor in memory: no entry more."""
    model = random_model(family)
    model.save_pretrained(tmp_path)
    reader = TensorFiles(tmp_path)
    found = linear_layers(reader)
    wanted: dict[int, int] = {}
    for number, block in enumerate(decoder_blocks(model)):
        modules = [module for module in block.modules() if isinstance(module, nn.Linear | Conv1D)]
        fused = [p for name, p in block.named_parameters() if "experts." in name and p.dim() == 3]
        wanted[number] = sum(p.numel() for p in [*(module.weight for module in modules), *fused])
    entries = dict.fromkeys(wanted, 0)
    for name, layer in found.items():
        entries[layer.block] += reader.entries[name].count
    assert entries == wanted and all(wanted.values())


@pytest.mark.parametrize("family", ["GPT-2", "StarCoder 2", "GPT-OSS", "Llama 3"])
def test_where_the_outputs_of_a_weight_lie(family: str, tmp_path: Path) -> None:
    """By what the layer makes of its inputs: 32 is the hidden size, and no other number of a projection."""
    model = random_model(family)
    model.save_pretrained(tmp_path)
    reader = TensorFiles(tmp_path)
    for name, layer in linear_layers(reader).items():
        if "fc" in name or "up_proj" in name:
            assert reader.shape(name)[-2 if layer.inputs_first else -1] == 32, name
        if "down_proj" in name:
            assert reader.shape(name)[-1 if layer.inputs_first else -2] == 32, name
    firsts = {layer.inputs_first for layer in linear_layers(reader).values()}
    assert firsts == {"GPT-2": {True}, "GPT-OSS": {True, False}}.get(family, {False})


def test_what_is_no_linear_layer(tmp_path: Path) -> None:
    """Norms with a row for each head, routers, masks, state-space tensors, biases of experts, other towers."""
    names = [
        "model.embed_tokens.weight",
        "lm_head.weight",
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.0.self_attn.q_layernorm.norms.0.weight",
        "model.layers.0.ln_1.weight",
        "model.layers.0.mlp.gate.weight",
        "model.layers.0.mlp.router.weight",
        "model.layers.0.mixer.A_log",
        "model.layers.0.mlp.experts.up_proj_bias",
        "vision_tower.encoder.layers.0.mlp.fc1.weight",
    ]
    tensors = {name: torch.ones(2, 2) for name in (*names, "model.layers.3.fc1.weight")}
    tensors["model.layers.0.attn.mask"] = torch.ones(2, 2, dtype=torch.bool)
    tensors["model.layers.0.conv1d.weight"] = torch.ones(2, 1, 2)
    made = folder(tmp_path / "made", tensors)
    assert linear_layers(TensorFiles(Path(made.path))) == {"model.layers.3.fc1.weight": LinearLayer(3, False)}


def test_a_model_without_decoder_blocks_has_none(tmp_path: Path) -> None:
    made = folder(tmp_path / "made", {"w": torch.ones(2, 2)})
    with pytest.raises(Unmet, match="this model has none"):
        linear_layers(TensorFiles(Path(made.path)))
    net = folder(tmp_path / "net", {"body.0.weight": torch.ones(2, 2)})
    with pytest.raises(Unmet, match="this model has none"):
        linear_layers(TensorFiles(Path(net.path)), "classifier")
    assert linear_layers(TensorFiles(Path(net.path)))


def test_the_models_type_decides_about_names_that_two_kinds_share(tmp_path: Path) -> None:
    made = folder(tmp_path / "made", {"h.1.mlp.c_fc.weight": torch.ones(2, 2)})
    for kind, first in (("gpt2", True), ("starcoder2", False)):
        (Path(made.path) / "config.json").write_text(json.dumps({"model_type": kind}))
        assert linear_layers(TensorFiles(Path(made.path))) == {"h.1.mlp.c_fc.weight": LinearLayer(1, first)}
