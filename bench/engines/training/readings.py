"""What a method reads of checkpoints before it trains: a loss, the size of hidden states, maps between those of two models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from bench.core.contracts import Batch, Opened
from bench.core.types import Example, Json
from bench.engines.hidden import decoder_blocks
from bench.engines.training.losses import NextToken
from bench.engines.training.references import REFERENCE_ROWS, batch_consecutive

MAPS = "model.safetensors"
"""The file of `fit_maps`: by block ``N.weight`` (D, D) and ``N.bias`` (D,), float32."""


def batches_of(opened: Opened, examples: Sequence[Example]) -> Iterator[Batch]:
    """The rows in their order as batches on the model's device."""
    device = next(opened.model.parameters()).device
    rows = [opened.coder.encode(example.payload) for example in examples]
    for batch in batch_consecutive(rows, REFERENCE_ROWS):
        yield opened.coder.collate(batch, device)


@torch.no_grad()
def mean_loss(opened: Opened, examples: Sequence[Example]) -> float:
    """The next-token loss on some rows, mean of each answer, then over rows, in nats per token."""
    each = [NextToken()(opened.model, batch) for batch in batches_of(opened, examples)]
    return float(torch.cat(each).double().mean())


def block_at(model: Any, depth: float) -> int:
    """Number of the decoder block at a share of a model's depth: 0.25 of 32 is 7, the eighth; `Unmet` where it has none."""
    return max(0, round(depth * len(decoder_blocks(model))) - 1)


def spaced_blocks(model: Any, count: int) -> list[int]:
    """So many blocks at equal distances, the last one among them; all of a model that hasn't more."""
    blocks = len(decoder_blocks(model))
    return sorted({max(0, blocks * (k + 1) // count - 1) for k in range(count)})


@torch.no_grad()
def describe_states(opened: Opened, examples: Sequence[Example], depth: float) -> Json:
    """Of the block at a share of the depth: its number, ``dimensions``, and ``mean_norm`` where answers are predicted."""
    block = block_at(opened.model, depth)
    norms, width = [], 0
    for batch in batches_of(opened, examples):
        (states,) = batch.answer_states(opened.model, [block]).values
        norms.append(states.norm(dim=-1))
        width = states.shape[-1]
    return {"block": block, "dimensions": width, "mean_norm": float(torch.cat(norms).double().mean())}


@torch.no_grad()
def fit_maps(
    start: Opened, end: Opened, examples: Sequence[Example], count: int, penalty: float, out: Path
) -> dict[str, float]:
    """Write, of each of so many blocks, the affine map from one model's states to another's, where the answers'
    tokens are predicted.

    ``A, b = argmin mean |A h + b - g|^2 + penalty |A|^2`` in float64. By block it gives back the share of g's variance
    that the map leaves, on the same rows.
    """
    blocks = spaced_blocks(end.model, count)
    gathered: dict[int, list[Tensor]] = {}
    for batch in batches_of(start, examples):
        ours, theirs = (batch.answer_states(opened.model, blocks).values for opened in (start, end))
        for block, h, g in zip(blocks, ours, theirs, strict=True):
            found = sum_moments(h.double(), g.double())
            gathered[block] = (
                [a + b for a, b in zip(gathered[block], found, strict=True)] if block in gathered else found
            )
    tensors: dict[str, Tensor] = {}
    left: dict[str, float] = {}
    for block, found in gathered.items():
        weight, bias, left[str(block)] = solve_ridge(found, penalty)
        tensors |= {f"{block}.weight": weight.float().cpu(), f"{block}.bias": bias.float().cpu()}
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / MAPS)
    return left


def sum_moments(h: Tensor, g: Tensor) -> list[Tensor]:
    """Sums over the rows of h (N, D) and g (N, D): their number, h, g, h h', h g' and |g|^2."""
    return [h.new_tensor(len(h)), h.sum(0), g.sum(0), h.T @ h, h.T @ g, g.square().sum()]


def solve_ridge(sums: Sequence[Tensor], penalty: float) -> tuple[Tensor, Tensor, float]:
    """Weight (D, D), bias (D,) and the share of variance left of the ridge regression with these `sum_moments`."""
    _, h, g, hh, hg, gg = (each / sums[0] for each in sums)
    h_spread = hh - torch.outer(h, h)
    across = hg - torch.outer(h, g)
    solved = torch.linalg.solve(h_spread + penalty * torch.eye(len(h), dtype=h.dtype, device=h.device), across)
    variance = gg - g.square().sum()
    left = variance - 2 * (solved * across).sum() + (solved * (h_spread @ solved)).sum()
    return solved.T.contiguous(), g - h @ solved, float(left / variance)
