"""Negative preference optimisation (NPO): the forget answers are the rejected side of a preference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.core.contracts import Batch, References, not_positive
from bench.engines.training.gradient import GradientMethod

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class NPOLoss:
    """``-(2 / beta) log sigmoid(-beta (log p - log p_ref))`` (Zhang et al. 2024, arXiv 2404.05868, equation 3).

    log p is summed over the answer's tokens, as in the paper, or their mean (``per_token``). The reference is the
    target, whose log-probs are computed once before training. As beta -> 0 the gradient becomes that of ascent on
    log p; at the first step the loss is ``(2 / beta) log 2`` (13.8629 at beta .1).
    """

    beta: float
    per_token: bool

    reference: ClassVar[References] = "sums"
    version: ClassVar[int] = 1

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of each example, (B,), in nats."""
        from torch.nn.functional import softplus

        from bench.engines.coding import answer_log_probs

        assert batch.reference is not None, "training computes the reference of a loss that declares one"
        answers = answer_log_probs(model, batch)
        ratio = answers.sums - batch.reference
        if self.per_token:
            ratio = ratio / answers.mask.sum(-1).clamp(min=1)
        return 2 / self.beta * softplus(self.beta * ratio)


@dataclass(frozen=True)
class NPO(GradientMethod):
    """NPO on the forget rows plus ``retain_weight`` times the next-token loss on retain rows (NPO-RT of the paper)."""

    beta: float = 0.1
    """Inverse temperature; the paper's .1. Larger values stop pushing sooner."""
    per_token: bool = False
    """Mean instead of sum over the answer's tokens: on whole passages the summed ratio saturates the sigmoid at once."""

    summary: ClassVar[str] = "negative preference optimisation with a retain loss (Zhang et al. 2024)"
    paper: ClassVar[str] = "arXiv 2404.05868"
    name: ClassVar[str] = "npo"

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        return super().problems() + not_positive(self.name, self, "beta")

    def named(self) -> str:
        """The variant that these parameters are, whatever preset they came from."""
        return "+".join(filter(None, ["per-token" if self.per_token else "", super().named()]))

    def loss(self) -> NPOLoss:
        """The loss on forget rows."""
        return NPOLoss(self.beta, self.per_token)
