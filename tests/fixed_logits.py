"""A model whose next-token logits over three tokens are given by hand, for losses that read logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from bench.engines.coding import TextBatch, collate_texts
from bench.engines.templates import Encoded


class Fixed(nn.Module):
    """The same logits (V,) at every place, in their own precision."""

    def __init__(self, logits: Sequence[float] | Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.as_tensor(logits))

    def forward(self, input_ids: Tensor, logits_to_keep: Tensor, **_: Any) -> Any:
        return SimpleNamespace(logits=self.logits.expand(len(input_ids), len(logits_to_keep), -1))


THREE = Fixed([2.0, 0.0, -1.0])
"""The current logits of the worked cases: p = (.843795, .114195, .042010)."""


def batch_of(*answers: int | Sequence[int]) -> TextBatch:
    """A batch of answers, each one token or several, after a prompt of one token."""
    rows = [(each,) if isinstance(each, int) else tuple(each) for each in answers]
    return collate_texts([Encoded((0,), row, eos=False) for row in rows])


def slope_of(
    loss: Callable[..., Tensor], logits: Sequence[float], label: int, target: Any = None
) -> tuple[Tensor, Tensor]:
    """The gradient of a loss by the logits of one answer token, (V,), and their softmax."""
    model, batch = Fixed(list(logits)), batch_of(label)
    batch.target = target
    loss(model, batch).sum().backward()
    assert model.logits.grad is not None
    return model.logits.grad, model.logits.detach().softmax(-1)
