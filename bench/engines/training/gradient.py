"""What gradient methods share: a loss on the forget rows, and another one on retain rows that holds the rest in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from bench.core.contracts import Context, Limit, Loss, Method, Recipe
from bench.core.errors import unknown_name
from bench.core.types import Checkpoint, Example, Request
from bench.engines.training.losses import RETAIN_LOSSES, budget_problems, make_streams, retain_rows


@dataclass(frozen=True)
class GradientMethod(Method):
    """Minimise ``forget_weight * loss(forget) + retain_weight * retain_loss(retain)`` from the target.

    A method derives from it and writes `loss`; `forget_rows` where its rows are not the forget set's as they stand.
    """

    steps: int = 60
    """Optimiser steps."""
    lr: float = 1e-4
    """Peak learning rate."""
    batch: int = 32
    """Forget rows, and as many retain rows, in one step."""
    text_batch: int = 8
    """Forget passages, and as many retain passages, in one step, where the task has passages."""
    retain_weight: float = 1.0
    """Weight of the retain rows' loss."""
    retain: str = "all"
    """Retain rows that may be drawn from: ``all``, or ``forget``, as many as the forget set has (MSA's budget)."""
    forget_weight: float = field(default=1.0, metadata={"unsaid": True})
    """Weight of the forget rows' loss."""
    retain_loss: str = field(default="nll", metadata={"unsaid": True})
    """Loss on retain rows: ``nll``, the next-token loss, or ``kl``, the divergence from the target's own distribution."""
    sharpness: float = field(default=0.0, metadata={"unsaid": True})
    """Radius of sharpness-aware minimisation of the forget loss (Fan et al. 2025, arXiv 2502.05374); 0 leaves it out."""

    needs: ClassVar[frozenset[str]] = frozenset({"retain"})
    reads: ClassVar[str] = "log-probs"
    together: ClassVar[int] = 2
    variants: ClassVar[tuple[str, ...]] = ("small-retain",)
    retain_losses: ClassVar[tuple[str, ...]] = tuple(RETAIN_LOSSES)
    name: ClassVar[str]
    """The method's own, for its training's label."""

    def loss(self) -> Loss:
        """The loss on forget rows."""
        raise NotImplementedError

    def forget_rows(self, request: Request, ctx: Context) -> Sequence[Example]:
        """The rows that it is computed on."""
        return request.forget

    def recipe(self) -> Recipe:
        """How it is trained."""
        return Recipe(self.steps, self.lr)

    def limit(self) -> Limit | None:
        """A bound on the retain loss, of a method that keeps one."""
        return None

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        found = budget_problems(self.name, self.retain)
        if self.retain_loss not in self.retain_losses:
            found.append(unknown_name(f"{self.name}.retain_loss", self.retain_loss, self.retain_losses))
        negative = [key for key in ("forget_weight", "retain_weight", "sharpness") if getattr(self, key) < 0]
        return found + [f"{self.name}.{key} must not be below 0, but is {getattr(self, key)}." for key in negative]

    def named(self) -> str:
        """The variant that these parameters make."""
        return "+".join([*(["kl"] if self.retain_loss == "kl" else []), *(["sam"] if self.sharpness else [])])

    def holds_target(self) -> bool:
        """Whether the target lies in memory beside the model."""
        keeping = RETAIN_LOSSES[self.retain_loss]().reference if self.retain_weight else ""
        return "model" in {self.loss().reference, keeping}

    def holds_twice(self) -> bool:
        """Whether weights are kept while others stand in their place."""
        return bool(self.sharpness)

    def rows(self, forget: int, retain: int) -> int:
        """Forget and retain rows of every step, forget rows twice where they are sharpness-aware; a third of a pass for
        each row whose reference is read once.
        """
        once = forget // 3 if self.loss().reference in ("sums", "tokens") else 0
        return (3 if self.sharpness else 2) * self.steps * min(self.batch, forget) + once

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """The target after `steps` of both."""
        return self.train(request, ctx, self.loss(), RETAIN_LOSSES[self.retain_loss](), self.recipe())

    def train(self, request: Request, ctx: Context, forgetting: Loss, keeping: Loss, recipe: Recipe) -> Checkpoint:
        """The target trained with a loss on the forget rows and one on the retain rows."""
        sizes = self.batch, self.text_batch
        rows = make_streams(
            self.forget_rows(request, ctx), forgetting, *sizes, self.forget_weight, sharpness=self.sharpness
        )
        if self.retain_weight:
            kept = retain_rows(request.retain, request.forget, self.retain, ctx.seed)
            rows += make_streams(kept, keeping, *sizes, self.retain_weight, self.limit())
        return ctx.train(request.target, rows, recipe, self.name)
