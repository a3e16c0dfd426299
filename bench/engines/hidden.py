"""Hidden states of causal language models of any family: what their decoder blocks give out, read and written by hooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from bench.core.errors import Unmet
from bench.engines.parts import base_of


def decoder_blocks(model: Any) -> nn.ModuleList:
    """The decoder blocks of a model, first to last; `Unmet` where it has none, as a classifier."""
    config = getattr(model, "config", None)
    layers = getattr(config.get_text_config(), "num_hidden_layers", 0) if config else 0
    lists = [module for module in base_of(model).modules() if isinstance(module, nn.ModuleList)]
    found = [blocks for blocks in lists if len(blocks) == layers and type(blocks[0]).__name__ != "ModuleList"]
    if not layers or not found:
        raise Unmet("it reads the hidden states of decoder blocks, and this model has none")
    return found[0]


@contextmanager
def reading_states(model: Any, blocks: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Block -> its output (B, T, D) in the last forward pass within; numbers count from 0, from the end if negative."""
    found: dict[int, Tensor] = {}

    def keep(block: int, module: nn.Module, inputs: Any, output: Any) -> None:
        found[block] = output[0] if isinstance(output, tuple) else output

    layers = decoder_blocks(getattr(model, "held", model))
    hooks = [layers[block].register_forward_hook(partial(keep, block)) for block in blocks]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def writing_states(model: Any, block: int, places: Tensor, states: Tensor) -> Iterator[None]:
    """Within, the output of ``block`` at ``places`` is ``states`` (N, D), and the model goes on from there.

    ``places`` (N,) count through the whole batch, row by row: place t of row i is i * T + t.
    """

    def write(module: nn.Module, inputs: Any, output: Any) -> Any:
        own = output[0] if isinstance(output, tuple) else output
        mixed = own.flatten(0, 1).index_copy(0, places, states.to(own.dtype)).view_as(own)
        return (mixed, *output[1:]) if isinstance(output, tuple) else mixed

    hook = decoder_blocks(getattr(model, "held", model))[block].register_forward_hook(write)
    try:
        yield
    finally:
        hook.remove()
