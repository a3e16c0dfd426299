"""The lab's tokenizer and model: word-level, and a small Llama with tied embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")


def word_tokenizer(words: Sequence[str]) -> Any:
    """A `PreTrainedTokenizerFast` with one token per word; pad, bos, eos and unk are tokens of their own."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


def small_llama(vocabulary: int, width: int, layers: int, positions: int, seed: int, spread: float = 0.02) -> Any:
    """A Llama of ``layers`` blocks of ``width``, with fresh weights of standard deviation ``spread`` drawn by ``seed`` alone."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            tie_word_embeddings=True,
            max_position_embeddings=positions,
            initializer_range=spread,
            pad_token_id=SPECIAL.index("<pad>"),
            bos_token_id=SPECIAL.index("<bos>"),
            eos_token_id=SPECIAL.index("<eos>"),
        )
    )
