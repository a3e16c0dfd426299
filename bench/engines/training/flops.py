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
from typing import TYPE_CHECKING

from bench.core.sampling import evenly_spread
from bench.core.types import Checkpoint, Example, Json

if TYPE_CHECKING:
    from torch import Tensor


FLOPS_VERSION = 1
"""Raise it when the same checkpoint and rows give other numbers."""
ROWS = 8
"""Rows of each kind that are counted, at equal distances among all."""
PER_ENTRY = 2
"""Operations of a weighted sum for each term and entry: a product and a sum."""


@dataclass(frozen=True)
class Counted:
    """Floating-point operations of one loss."""

    forward: int
    training: int
    """Forward and backward."""


def count_flops(losses: Callable[[], Tensor]) -> Counted:
    """Count the operations of computing ``losses``, and of their sum and its gradients."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        total = losses().sum()
        forward = counter.get_total_flops()
        total.backward()
        return Counted(forward, counter.get_total_flops())


def training_flops(checkpoint: Checkpoint, rows: Sequence[Example], device: str = "cpu") -> Json:
    """Operations for each token of ``rows`` (padding is no token): ``forward_per_token``, ``training_per_token``.

    Measured on the very loss that training descends, `bench.engines.training.losses.NextToken`, passages and other
    rows apart as they are in training. ``parameters``: of the model, a tied head once.
    """
    from bench.engines.loaders import open_checkpoint
    from bench.engines.training.losses import descent, make_streams

    opened = open_checkpoint(checkpoint, device)
    forward = training = tokens = 0
    for stream in make_streams(rows, descent(), ROWS, ROWS):
        encoded = [opened.coder.encode(row.payload) for row in evenly_spread(stream.examples, ROWS)]
        batch = opened.coder.collate(encoded, device)
        found = count_flops(partial(stream.loss, opened.model, batch))
        forward, training = forward + found.forward, training + found.training
        tokens += sum(row.length for row in encoded)
    return {
        "forward_per_token": round(forward / tokens),
        "training_per_token": round(training / tokens),
        "parameters": sum(p.numel() for p in opened.model.parameters()),
    }
