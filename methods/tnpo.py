"""Token-wise negative preference optimisation (TNPO): NPO's weight for each token instead of each answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.core.contracts import Batch, References, not_positive, too_small
from bench.engines.training.gradient import GradientMethod

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class TNPOLoss:
    """``mean over tokens of w log p``, ``w = 2 p^beta / (p^beta + p_ref^beta) p^power`` without a gradient.

    Wang et al. 2025, arXiv 2502.19301; a power above 0 makes it WTNPO. The gradient at power 0 is that of NPO's loss on
    every token by itself, ``(2 / beta) log(1 + (p / p_ref)^beta)``; at the target, and as beta -> 0, w = p^power. The
    reference is the target, whose log-probs of every token are computed once before training.

    Each row weighs the same. The authors' code (tmlr-group/G-effect) keeps an epsilon of 1e-5, which log-probs don't need.
    """

    beta: float
    power: float

    reference: ClassVar[References] = "tokens"
    version: ClassVar[int] = 1

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of each example, (B,), in nats per token."""
        assert batch.reference is not None, "training computes the reference of a loss that declares one"
        answers = batch.answer_log_probs(model)
        preferred = 2 * (self.beta * (answers.values - batch.reference)).sigmoid()
        return answers.weighted_means(preferred * (self.power * answers.values).exp())


@dataclass(frozen=True)
class TNPO(GradientMethod):
    """TNPO on the forget rows plus ``retain_weight`` times the loss on retain rows."""

    beta: float = 4.0
    """Inverse temperature; the authors' 4. Larger values stop pushing sooner."""
    power: float = 0.0
    """Exponent of a further weight, the token's probability: 0 is TNPO, the authors' 1.5 is WTNPO."""

    summary: ClassVar[str] = "NPO token by token, optionally weighted as WGA (Wang et al. 2025)"
    paper: ClassVar[str] = "arXiv 2502.19301"
    name: ClassVar[str] = "tnpo"

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        found = super().problems() + not_positive(self.name, self, "beta")
        return found + too_small(self.name, self, {"power": 0})

    def named(self) -> str:
        """The variant that these parameters are, whatever preset they came from."""
        return "+".join(filter(None, ["weighted" if self.power else "", super().named()]))

    def loss(self) -> TNPOLoss:
        """The loss on forget rows."""
        return TNPOLoss(self.beta, self.power)
