"""Norms of gradients from one pass are those of plain backward passes, whatever the model's layers."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

from bench.engines.measuring import gradients
from bench.engines.measuring.gradients import gradient_norms, norms_together
from bench.engines.templates import Encoded

VOCABULARY = 90
SIZES: Mapping[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {**SIZES, "num_key_value_heads": 1, "head_dim": 12}
MADE: Mapping[str, Callable[[], Any]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "llama, tied": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "neox, with biases": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES)),
    "gemma 2": lambda: Gemma2ForCausalLM(Gemma2Config(**GROUPED)),
    "gpt 2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=24, n_layer=2, n_head=2)),
    "mixtral": lambda: MixtralForCausalLM(MixtralConfig(**GROUPED, num_local_experts=2)),
}
TOGETHER = ("llama", "llama, tied", "neox, with biases")
"""Models whose every layer is known; the others' texts go one by one."""


def make(name: str) -> Any:
    torch.manual_seed(3)
    model = MADE[name]().eval()
    for parameter in model.parameters():  # far from where the models begin, where many gradients are alike
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def texts(count: int = 12) -> list[Encoded]:
    """Texts of different lengths, with tokens that come again and the padding token among them."""
    rng = random.Random(5)

    def some(least: int, most: int) -> tuple[int, ...]:
        return tuple(rng.choices(range(VOCABULARY // 3), k=rng.randint(least, most)))

    return [Encoded(some(1, 9), some(1, 30), eos=False) for _ in range(count)]


def plain_norm(model: Any, text: Encoded) -> float:
    """By the definition: loss over the answer, backward, the mean of the tensors' norms."""
    model.zero_grad()
    ids = torch.tensor([[*text.prompt, *text.answer]])
    logits = model(input_ids=ids).logits[0, len(text.prompt) - 1 : -1]
    torch.nn.functional.cross_entropy(logits, torch.tensor(text.answer)).backward()
    norms = [float(parameter.grad.norm()) for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    return sum(norms) / len(norms)


@pytest.mark.parametrize("name", MADE)
def test_norms_are_those_of_plain_backward_passes(name: str) -> None:
    model = make(name)
    found = gradient_norms(model, texts(), "cpu")
    assert {text: pytest.approx(plain_norm(model, text), rel=1e-5) for text in texts()} == found
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", TOGETHER)
def test_several_texts_share_a_pass(name: str) -> None:
    model, asked, passes = make(name), texts(), []
    model.register_forward_hook(lambda *_: passes.append(1))
    found = norms_together(model, asked, "cpu").tolist()
    assert found == pytest.approx([plain_norm(model, text) for text in asked], rel=1e-5)
    passes.clear()
    gradient_norms(model, asked, "cpu")
    assert len(passes) == 3, "one for all, and the trial of the first and the last"


def test_wide_and_long_texts_take_the_other_way_to_the_same_norm() -> None:
    """A matrix smaller than the products of all pairs of positions is made itself."""
    model, text = make("llama"), texts(1)[0]
    long = Encoded(text.prompt, text.answer * 12, eos=False)
    found = norms_together(model, [long, text], "cpu").tolist()
    assert found == pytest.approx([plain_norm(model, long), plain_norm(model, text)], rel=1e-5)


def test_a_layer_that_mixes_texts_is_found_out() -> None:
    """Its norms would be wrong in silence; the trial sends the texts one by one."""
    model = make("llama")

    class Mixing(torch.nn.Linear):
        def forward(self, given: torch.Tensor) -> torch.Tensor:
            return super().forward(given - 0.5 * given.mean(0, keepdim=True))

    before = model.model.layers[0].mlp.up_proj
    mixing = Mixing(before.in_features, before.out_features, bias=False)
    mixing.weight = before.weight
    model.model.layers[0].mlp.up_proj = mixing
    asked = texts(6)
    assert gradient_norms(model, asked, "cpu") == {
        text: pytest.approx(float(gradients.norm_alone(model, text, "cpu")), rel=1e-12) for text in asked
    }
