"""Hidden states by hooks: the same as a model's own output of them, in every family, and none of a classifier."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from bench.core.errors import Unmet
from bench.engines.coding import collate_texts
from bench.engines.hidden import decoder_blocks, reading_states
from bench.engines.templates import encode
from bench.engines.training.references import Target
from bench.lab.networks import ConvNet, GraphNet
from tests.families import FAMILIES, random_model
from tests.tiny import llama, qa, tokenizer

IDS = torch.tensor([[3, 7, 11, 5, 9], [4, 6, 8, 10, 12]])
SHOWN = ["Llama 3", "Gemma 2", "Mixtral", "GPT-2", "GPT-Neo", "GPT-J", "GPT-NeoX, Pythia", "OPT", "BLOOM", "MPT"]
"""Families that give their hidden states out, before the last norm but for the last one."""


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_familys_blocks_are_found(family: str) -> None:
    model = random_model(family)
    blocks = decoder_blocks(model)
    assert len(blocks) == model.config.get_text_config().num_hidden_layers == 2
    assert "Vision" not in type(blocks[0]).__name__ and "Siglip" not in type(blocks[0]).__name__


@pytest.mark.parametrize("family", SHOWN)
def test_the_states_are_those_that_the_model_gives_out(family: str) -> None:
    model = random_model(family)
    with torch.no_grad(), reading_states(model, [0]) as states:
        given = model(input_ids=IDS, output_hidden_states=True, use_cache=False).hidden_states
    assert torch.equal(states[0], given[1])


def test_numbers_from_the_end_and_several_at_once() -> None:
    model = llama()
    with torch.no_grad(), reading_states(model, [0, -1]) as states:
        model(input_ids=IDS)
    with torch.no_grad(), reading_states(model, [1]) as last:
        model(input_ids=IDS)
    assert torch.equal(states[-1], last[1]) and not torch.equal(states[0], states[-1])


def test_the_hooks_are_gone_afterwards() -> None:
    model = llama()
    with reading_states(model, [0]) as states:
        model(input_ids=IDS)
    before = states[0]
    model(input_ids=IDS + 1)
    assert states[0] is before and not any(module._forward_hooks for module in model.modules())


def adapted(model: Any) -> Any:
    """The model with adapters that do something."""
    made = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    return made.eval()


def test_a_model_with_adapters_gives_its_own_states_and_its_target_the_bases() -> None:
    plain = llama(seed=1)
    model = adapted(llama(seed=1))
    batch = collate_texts([encode(tokenizer(), qa(0, "w1 w2 ?", "w3 w4").payload)])
    with torch.no_grad():
        base, ours = (batch.answer_states(each, [0, 1]).values for each in (plain, model))
    theirs = batch.answer_states(Target(model), [0, 1]).values
    for block in (0, 1):
        assert torch.equal(theirs[block], base[block])
        assert not torch.allclose(ours[block], base[block], atol=1e-3)


@pytest.mark.parametrize("network", [ConvNet(4), GraphNet(4, 10)])
def test_a_classifier_has_none(network: Any) -> None:
    with pytest.raises(Unmet, match="it reads the hidden states of decoder blocks, and this model has none"):
        decoder_blocks(network)
