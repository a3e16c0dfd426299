"""Simple negative preference optimisation (SimNPO): NPO without a reference, on the answer's mean token loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.core.contracts import Batch, References, not_positive
from bench.engines.training.gradient import GradientMethod

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class SimNPOLoss:
    """``-(2 / beta) log sigmoid(beta (l - delta))``, l the mean token loss of the answer (Fan et al. 2024, arXiv 2410.07163).

    The margin delta stands inside beta, as OpenUnlearning has it; the paper's gamma stands outside, ``beta l - gamma``, so
    gamma = beta * delta. A row's gradient is ``2 sigmoid(-beta (l - delta))`` times that of ascent on l: what is forgotten
    stops, and as beta -> 0 it is ascent. At l = delta the loss is ``(2 / beta) log 2``.

    l is over the predicted tokens. The public code (OPTML-Group/Unlearn-Simple, OpenUnlearning) divides by one token more
    on running text, whose first token nothing predicts; on MUSE Unlearn-Simple puts raw logits in the place of log-probs,
    which is another loss (its issue 5), so its betas for MUSE (.7 and .75) mean nothing here.
    """

    beta: float
    delta: float

    reference: ClassVar[References] = ""
    version: ClassVar[int] = 1

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of each example, (B,), in nats."""
        from torch.nn.functional import softplus

        excess = -batch.answer_log_probs(model).means - self.delta
        return 2 / self.beta * softplus(-self.beta * excess)


@dataclass(frozen=True)
class SimNPO(GradientMethod):
    """SimNPO on the forget rows plus ``retain_weight`` times the loss on retain rows.

    The paper writes a coefficient lambda at the retain loss; its code, and OpenUnlearning's, multiply the forget loss by
    the same number. That is `forget_weight` here, with a retain weight of 1.
    """

    beta: float = 4.5
    """Inverse temperature; the paper's on TOFU forget10. Larger values stop pushing sooner."""
    delta: float = 0.0
    """Margin in nats per token, inside beta: a row is pushed until its loss is well above it. The paper's gamma over beta."""

    summary: ClassVar[str] = "NPO without a reference, on the mean token loss (Fan et al. 2024)"
    paper: ClassVar[str] = "arXiv 2410.07163"
    name: ClassVar[str] = "simnpo"

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        return super().problems() + not_positive(self.name, self, "beta")

    def loss(self) -> SimNPOLoss:
        """The loss on forget rows."""
        return SimNPOLoss(self.beta, self.delta)
