"""Tiny real models: two-layer Llamas of width 16, and a Llama whose next-token distribution is chosen by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from bench.conformance import WORDS
from bench.core.types import Checkpoint, Example
from bench.engines.loaders import checkpoint_at
from bench.engines.training.trainer import save_model
from bench.lab.model import SPECIAL, small_llama, word_tokenizer

LETTERS = ("a", "b", "c", "d")
"""Words of the models with a distribution made by hand; with the special tokens a vocabulary of 8."""


def tokenizer() -> Any:
    """Word-level over the tiny world's words."""
    return word_tokenizer(WORDS)


def llama(seed: int = 0, width: int = 16) -> Any:
    """Random weights over the tiny world's words."""
    return small_llama(len(SPECIAL) + len(WORDS), width, layers=2, positions=64, seed=seed).eval()


def qa(number: int, prompt: str, answer: str, template: str = "qa") -> Example:
    return Example(f"row-{number}", {"prompt": prompt, "answer": answer, "template": template})


def passage(number: int, text: str) -> Example:
    return Example(f"text-{number}", {"prompt": "", "answer": text, "template": "text"})


def fixed(logits: Mapping[str, float], rest: float = -1e4) -> Any:
    """A real Llama over `LETTERS` that gives these next-token logits after whatever it has read.

    Embeddings are all equal and both residual branches add nothing, so that the head always sees the same unit vector;
    its first column is the logits.
    """
    words = (*SPECIAL, *LETTERS)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=4,
        tie_word_embeddings=False,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.fill_(1000.0)  # large, so that the norm's epsilon doesn't show
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        model.lm_head.weight[:, 0] = torch.tensor([logits.get(word, rest) for word in words])
    return model.eval()


def distributed(probabilities: Mapping[str, float]) -> Any:
    """`fixed` from probabilities; what isn't named has none."""
    assert math.isclose(sum(probabilities.values()), 1)
    return fixed({word: math.log(value) for word, value in probabilities.items()})


def letters_tokenizer() -> Any:
    return word_tokenizer(LETTERS)


CHAT = (
    "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
"""A chat template with the real eos at the end of every turn, as Llama-3's has it: what an id-made mask would hide."""


def subword_tokenizer(texts: Sequence[str], pad: str = "<|pad|>") -> Any:
    """Byte-level BPE of some 300 tokens that puts its bos first, with `CHAT` as its template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|bos|>", "<|eos|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    made.post_processor = processors.TemplateProcessing(single="<|bos|> $A", special_tokens=[("<|bos|>", 1)])
    words = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<|bos|>", eos_token="<|eos|>", pad_token=pad)
    words.chat_template = CHAT
    return words


def subword_llama(tokenizer: Any, seed: int = 0) -> Any:
    """Random weights over a `subword_tokenizer`'s vocabulary, large enough that no two tokens are alike."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config).eval()


def saved(model: Any, tokenizer: Any, folder: Path, label: str = "") -> Checkpoint:
    save_model(model, tokenizer, folder)
    return checkpoint_at(folder, label)


def wrecked(model: Any, number: float = math.nan) -> Any:
    """The model with a number in its last norm that no logit survives: what a diverged training leaves."""
    with torch.no_grad():
        model.get_decoder().norm.weight.fill_(number)
    return model


def bits(model: Any) -> dict[str, bytes]:
    """The weights as bytes, to compare to the bit."""
    return {name: tensor.detach().numpy().tobytes() for name, tensor in model.state_dict().items()}
