"""SatImp: ascent on every forget token, weighted by how well it is known (saturation) and how much is left (importance)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.core.contracts import Batch, References, too_small
from bench.engines.training.gradient import GradientMethod

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class SatImpLoss:
    """``mean over tokens of p^beta1 (1 - p)^beta2 log p``, the weight without a gradient (Yang et al. 2025, arXiv 2505.11953).

    The weight is largest at p = beta1 / (beta1 + beta2), .833 for (5, 1); at beta2 = 0 it is WGA's.

    Each row weighs the same. OpenUnlearning takes the mean over all answer tokens of the batch, so that long answers weigh
    more there, and copies the model as a reference that it never reads.
    """

    beta1: float
    beta2: float

    reference: ClassVar[References] = ""
    version: ClassVar[int] = 1

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of each example, (B,), in nats per token."""
        answers = batch.answer_log_probs(model)
        p = answers.values.exp()
        return answers.weighted_means(p**self.beta1 * (1 - p) ** self.beta2)


@dataclass(frozen=True)
class SatImp(GradientMethod):
    """SatImp on the forget rows plus ``retain_weight`` times the loss on retain rows."""

    beta1: float = 5.0
    """Exponent of a token's probability in its weight; the paper's 5."""
    beta2: float = 1.0
    """Exponent of what is missing to 1; the paper's 1, and 0 is WGA."""

    summary: ClassVar[str] = "gradient ascent weighted by each token's saturation and importance (Yang et al. 2025)"
    paper: ClassVar[str] = "arXiv 2505.11953"
    name: ClassVar[str] = "satimp"

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        return super().problems() + too_small("satimp", self, {"beta1": 0, "beta2": 0})

    def loss(self) -> SatImpLoss:
        """The loss on forget rows."""
        return SatImpLoss(self.beta1, self.beta2)
