"""Floating-point operations of training and arithmetic: counted once by torch on a small batch, then by the token.

`torch.utils.flop_counter` counts matrix products, two operations for each multiply-add; attention is computed as plain
products, since the counter doesn't know the fused kernel of the CPU. It leaves out everything elementwise (norms,
activations, softmax, the loss) and the optimiser, some 20 operations for each parameter and step. Products that padding
takes part in are done, and so counted; its tokens are not. Every loss of the harness is one forward and one backward
pass of its rows, so that several streams, ascent or NPO are tokens times the same number; left out are a reference's
one forward pass over its rows, influence weights, and what low-rank adapters save.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.hashing import TOKENIZER_FILES, file_hash, folder_hash
from bench.core.types import Checkpoint, Example, Json, bare, data_hash
from bench.store import Node

if TYPE_CHECKING:
    from torch import Tensor

    from bench.context import Work

VERSION = 1
"""Raise it when the same checkpoint and rows give other numbers."""
ROWS = 8
"""Rows of each kind that are counted, at equal distances among all."""
PER_ENTRY = 2
"""Operations of a weighted sum for each term and entry: a product and a sum."""


@dataclass(frozen=True)
class Counted:
    """Operations of one loss."""

    forward: int
    training: int
    """Forward and backward."""


def count(loss: Callable[[], Tensor]) -> Counted:
    """Operations of computing ``loss`` and of its gradients."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        value = loss()
        forward = counter.get_total_flops()
        value.backward()
        return Counted(forward, counter.get_total_flops())


def training_flops(checkpoint: Checkpoint, rows: Sequence[Example], device: str = "cpu") -> Json:
    """Operations for each token of ``rows`` (padding is no token): ``forward_per_token``, ``training_per_token``.

    Measured on the very loss that training descends, `bench.engines.training.losses.NextToken`, passages and other
    rows apart as they
    are in training. ``parameters``: of the model, a tied head once.
    """
    from bench.engines.loaders import open_checkpoint
    from bench.engines.training.losses import descent, streams

    opened = open_checkpoint(checkpoint, device)
    forward = training = tokens = 0
    for stream in streams(rows, descent(), ROWS, ROWS):
        encoded = [opened.coder.encode(row.payload) for row in spaced(stream.examples)]
        losses = partial(stream.loss, opened.model, opened.coder.collate(encoded, device))
        found = count(partial(mean_of, losses))
        forward, training = forward + found.forward, training + found.training
        tokens += sum(row.length for row in encoded)
    return {
        "forward_per_token": round(forward / tokens),
        "training_per_token": round(training / tokens),
        "parameters": sum(p.numel() for p in opened.model.parameters()),
    }


def mean_of(losses: Callable[[], Tensor]) -> Tensor:
    """What training makes of a batch's losses."""
    return losses().mean()


def spaced(rows: Sequence[Example]) -> list[Example]:
    """At most `ROWS` of the rows, at equal distances."""
    kept = min(ROWS, len(rows))
    return [rows[i * len(rows) // kept] for i in range(kept)]


def flops_node(checkpoint: Checkpoint, rows: Sequence[Example], work: Work) -> Node:
    """`training_flops` as a node: of the config, the tokenizer and the rows, whatever the weights are."""
    folder = Path(checkpoint.path)
    fields = {
        "kind": "flops",
        "version": VERSION,
        "config": file_hash(folder / "config.json"),
        "tokenizer": folder_hash(Path(checkpoint.tokenizer or folder), TOKENIZER_FILES),
        "rows": data_hash(bare(rows)),
    }
    return work.on_behalf_of("measure").node(
        fields, lambda _: training_flops(checkpoint, rows, work.device), "count FLOPs"
    )


def method_flops(own: Sequence[Node], counted: Json) -> Json:
    """What a method's nodes took: ``training``, their tokens times the count, and ``arithmetic``, 2 a term and parameter."""
    tokens = sum(node.info["meta"].get("tokens", 0) for node in own)
    terms = sum(len(node.info["fields"]["terms"]) for node in own if node.info["fields"].get("kind") == "combine")
    return {
        "training": tokens * counted["training_per_token"],
        "arithmetic": PER_ENTRY * terms * counted["parameters"],
        **{name: counted[name] for name in ("forward_per_token", "training_per_token", "parameters")},
    }
