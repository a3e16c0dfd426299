"""UNDIAL: self-distillation towards the target's own distribution with the true token's logit lowered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.core.contracts import Batch, Recipe, References, not_positive, too_small
from bench.engines.training.gradient import GradientMethod

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class UndialLoss:
    """``CE(q, p)``, q = softmax(target's logits - beta * onehot(y)) (Dong et al. 2024, arXiv 2402.10052).

    The mean over the answer's tokens, then over rows. Its gradient by the logits is ``p - q``, so the odds of the true token
    are multiplied by ``e^-beta`` and no more: the loss is bounded below by the entropy of q. Authors' and OpenUnlearning's
    code average over every position, prompt and padding included; the latter takes the label -100 of those as an index and so
    pushes down the token V - 100 there.
    """

    beta: float

    reference: ClassVar[References] = "model"
    version: ClassVar[int] = 1

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The cross-entropy of each example, (B,), in nats per token."""
        assert batch.target is not None, "training lays the target beside the batch of a loss that declares it"
        ours = batch.answer_logits(model)
        theirs = batch.answer_logits(batch.target).values.detach()
        taken = theirs.new_full((len(theirs), 1), -self.beta)
        aims = theirs.scatter_add(1, ours.labels[:, None], taken).softmax(-1)
        return ours.row_means(-(aims * ours.values.log_softmax(-1)).sum(-1))


@dataclass(frozen=True)
class Undial(GradientMethod):
    """UNDIAL on the forget rows, plus ``retain_weight`` times the retain rows' loss (the paper: 0)."""

    beta: float = 10.0
    """What is taken off the true token's logit, in nats; the authors' first code 3, OpenUnlearning 10."""
    retain_weight: float = 0.0
    """Weight of the retain rows' loss; OpenUnlearning's grid tries 1, 2 and 5."""

    lora: int = 0
    """Rank of low-rank adapters (the paper: 8); the target is then the model without them. 0 trains as the run does."""

    summary: ClassVar[str] = "self-distillation with the true token's logit lowered (UNDIAL, Dong et al. 2024)"
    reads: ClassVar[str] = "logits"
    paper: ClassVar[str] = "arXiv 2402.10052"
    name: ClassVar[str] = "undial"
    optional: ClassVar[frozenset[str]] = frozenset({"retain"})

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        found = super().problems() + too_small(self.name, self, {"lora": 0})
        return found + not_positive(self.name, self, "beta")

    def loss(self) -> UndialLoss:
        """The loss on forget rows."""
        return UndialLoss(self.beta)

    def recipe(self) -> Recipe:
        """How it is trained."""
        return Recipe(self.steps, self.lr, lora=self.lora)

    def adapters(self) -> int:
        """Rank of its adapters."""
        return self.lora
