"""Answers whose logits are free variables, so that a loss can be differentiated by them in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.core.contracts import AnswerLogProbs, Batch

LETTERS = {"a": 2.0, "b": 0.0, "c": -1.0}
"""The logits of the case that is worked by hand: p = (.843795, .114195, .042010), and "a" is the true token."""


@dataclass
class FreeLogits:
    """A batch whose model is a tensor of logits (B, K, V); every row's answer is ``labels`` where ``mask`` says so."""

    labels: Tensor
    mask: Tensor
    reference: Tensor | None = None
    target: Callable[..., Any] | None = None
    alternate: Batch | None = None

    def answer_log_probs(self, logits: Tensor) -> AnswerLogProbs:
        """Log-probs of the labels, in the dtype of the logits."""
        values = logits.log_softmax(-1).gather(-1, self.labels[..., None])[..., 0]
        return AnswerLogProbs(values * self.mask, self.mask)


def two_answers(reference: Tensor | None = None) -> tuple[Tensor, FreeLogits]:
    """Logits (2, 3, 5) in float64 and their batch: answers of three tokens and of two."""
    logits = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(5)).requires_grad_()
    labels = torch.tensor([[0, 3, 4], [2, 1, 0]])
    return logits, FreeLogits(labels, torch.tensor([[True, True, True], [True, True, False]]), reference)


def token_gradient(logits: Tensor, batch: FreeLogits, weights: Tensor) -> Tensor:
    """Worked out: the gradient by the logits of each row's mean of weight times log p is weight / T (onehot - p)."""
    onehot = torch.nn.functional.one_hot(batch.labels, logits.shape[-1])
    share = weights * batch.mask / batch.mask.sum(-1, keepdim=True)
    return (share[..., None] * (onehot - logits.softmax(-1))).detach()


def gradient_of(loss: Any, logits: Tensor, batch: FreeLogits) -> Tensor:
    """The gradient by the logits of the rows' losses, added up."""
    (found,) = torch.autograd.grad(loss(logits, batch).sum(), logits)
    return found  # type: ignore[no-any-return]
