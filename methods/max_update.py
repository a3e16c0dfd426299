"""Max update: walk as far from the target as the retain rows let it. A negative control that sees no forget row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.core.contracts import Batch, Context, Method, Recipe, References, Stream, too_small
from bench.core.types import Checkpoint, Request
from bench.engines.training.losses import budget_problems, descent, make_streams, retain_rows

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class FarFromTarget:
    """``-|theta - theta_D|^2``, summed over all weights: the same for every row, whatever it says."""

    reference: ClassVar[References] = "model"
    version: ClassVar[int] = 1

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Minus the squared distance, once for each example, (B,)."""
        assert batch.target is not None, "training lays the target beside the batch of a loss that declares it"
        return -batch.target.squared_distance(model).expand(len(batch.answer_mask()))


@dataclass(frozen=True)
class MaxUpdate(Method):
    """Minimise ``retain_weight * CE(retain) - update_weight * |theta - theta_D|^2`` from the target (EleutherAI/unlearn).

    The distance has no upper bound, and so the loss no lower one: what bounds it is the optimiser, as AdamW moves no weight
    by much more than the learning rate in a step (the gradient is clipped to a norm of 1, which it divides out again). At the
    first step the distance and its gradient are 0, and the retain rows alone give the direction.
    """

    steps: int = 60
    """Optimiser steps."""
    lr: float = 1e-4
    """Peak learning rate: with the steps, how far it gets."""
    batch: int = 32
    """Retain rows in one step."""
    text_batch: int = 8
    """Retain passages in one step, where the task has passages."""
    retain_weight: float = 1.0
    """Weight of the retain rows' next-token loss."""
    update_weight: float = 1.0
    """Weight of the squared distance."""
    retain: str = "all"
    """Retain rows that may be drawn from: ``all``, or ``forget``, as many as the forget set has (MSA's budget)."""

    summary: ClassVar[str] = "far from the target without a forget row (a negative control; EleutherAI/unlearn)"
    reads: ClassVar[str] = "weights"
    needs: ClassVar[frozenset[str]] = frozenset({"retain"})
    in_all: ClassVar[bool] = False
    together: ClassVar[int] = 2

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        found = too_small("max-update", self, {"retain_weight": 0, "update_weight": 0})
        return found + budget_problems("max-update", self.retain)

    def holds_target(self) -> bool:
        """The target's weights lie beside the model's."""
        return True

    def against_adapters(self) -> str:
        """The distance is that of all weights."""
        return "it reads how far the weights have moved, and with --lora adapters move in their place"

    def rows(self, forget: int, retain: int) -> int:
        """Retain rows of every step."""
        return self.steps * self.batch

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """The target after `steps` of both."""
        kept = retain_rows(request.retain, request.forget, self.retain, ctx.seed)
        rows = make_streams(kept, descent(), self.batch, self.text_batch, self.retain_weight)
        distance = Stream(kept[:1], 1, FarFromTarget(), self.update_weight)  # of the weights: any row is as good
        return ctx.train(request.target, [*rows, distance], Recipe(self.steps, self.lr), "max-update")
