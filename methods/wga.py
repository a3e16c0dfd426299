"""Weighted gradient ascent (WGA): ascent on every forget token, weighted by how well it is still known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.core.contracts import Batch, References, too_small
from bench.engines.training.gradient import GradientMethod

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class WGALoss:
    """``mean over tokens of p^beta log p``, the weight p^beta without a gradient (Wang et al. 2025, arXiv 2502.19301).

    At beta 0 it is gradient ascent, whose 1/p explodes as p -> 0; beta 1 cancels it: the gradient is that of p itself.

    Each row weighs the same. OpenUnlearning takes the mean over all answer tokens of the batch, so that long answers weigh
    more there, and copies the model as a reference that it never reads.
    """

    beta: float

    reference: ClassVar[References] = ""
    version: ClassVar[int] = 1

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of each example, (B,), in nats per token."""
        answers = batch.answer_log_probs(model)
        return answers.weighted_means((self.beta * answers.values).exp())


@dataclass(frozen=True)
class WGA(GradientMethod):
    """WGA on the forget rows plus ``retain_weight`` times the loss on retain rows."""

    beta: float = 1.0
    """Exponent of a token's probability in its weight: OpenUnlearning's 1; the authors' code has 5, 0 is ascent."""

    summary: ClassVar[str] = "gradient ascent weighted by each token's probability (Wang et al. 2025)"
    paper: ClassVar[str] = "arXiv 2502.19301"
    name: ClassVar[str] = "wga"

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        return super().problems() + too_small("wga", self, {"beta": 0})

    def loss(self) -> WGALoss:
        """The loss on forget rows."""
        return WGALoss(self.beta)
