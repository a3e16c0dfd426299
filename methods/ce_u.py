"""CE-U: cross-entropy towards the model's own distribution without the true token."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, ClassVar

from bench.core.contracts import Batch, References, spread, too_small
from bench.engines.training.gradient import GradientMethod

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class CEULoss:
    """``CE(q, p)``, q = the model's own softmax with the true token's logit at minus infinity, detached (arXiv 2503.01224).

    The gradient by the logits is p_y at the true token and ``-p_v p_y / (1 - p_y)`` elsewhere: it vanishes as the token is
    forgotten. The mean over an answer's tokens, then over rows; OpenUnlearning's code takes the mean over all tokens of the
    batch, which weighs long answers more.
    """

    skip: int

    reference: ClassVar[References] = ""
    version: ClassVar[int] = 1

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The cross-entropy of each example, (B,), in nats per token; an answer of ``skip`` tokens or fewer counts whole."""
        ours = batch.answer_logits(model)
        others = ours.values.detach().scatter(1, ours.labels[:, None], -inf).softmax(-1)
        each = spread(-(others * ours.values.log_softmax(-1)).sum(-1), ours.mask)
        lengths = ours.mask.sum(-1, keepdim=True)
        counted = ours.mask & ((ours.mask.cumsum(-1) > self.skip) | (lengths <= self.skip))
        return (each * counted).sum(-1) / counted.sum(-1).clamp(min=1)


@dataclass(frozen=True)
class CEU(GradientMethod):
    """CE-U on the forget rows, plus ``retain_weight`` times the retain rows' loss (the paper: none)."""

    skip: int = 1
    """Tokens at the beginning of each answer that are left out; the paper's footnote and OpenUnlearning 1. Where one token is
    the whole secret, 0."""
    retain_weight: float = 0.0
    """Weight of the retain rows' loss; the paper has none."""

    summary: ClassVar[str] = "cross-entropy towards the model's own distribution without the true token (CE-U, 2025)"
    reads: ClassVar[str] = "logits"
    paper: ClassVar[str] = "arXiv 2503.01224"
    name: ClassVar[str] = "ce-u"
    optional: ClassVar[frozenset[str]] = frozenset({"retain"})

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        return super().problems() + too_small("ce-u", self, {"skip": 0})

    def loss(self) -> CEULoss:
        """The loss on forget rows."""
        return CEULoss(self.skip)
