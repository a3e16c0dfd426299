"""Gradient ascent (GA): the forget set's loss is raised, and nothing holds the rest in place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from bench.core.contracts import Context, Method, Recipe, too_small
from bench.core.types import Checkpoint, Request
from bench.engines.training.losses import Ascent, make_streams


@dataclass(frozen=True)
class GradientAscent(Method):
    """Minimise ``mean log p(forget answer)`` from the target (Jang et al. 2022; TOFU, arXiv 2401.06121, section 3)."""

    steps: int = 20
    """Optimiser steps."""
    lr: float = 1e-4
    """Peak learning rate."""
    batch: int = 32
    """Forget rows in one step."""
    text_batch: int = 8
    """Forget passages in one step, where the task has passages."""
    sharpness: float = field(default=0.0, metadata={"unsaid": True})
    """Radius of sharpness-aware minimisation (Fan et al. 2025, arXiv 2502.05374); 0 leaves it out."""

    summary: ClassVar[str] = "gradient ascent on the forget set (Jang et al. 2022)"
    reads: ClassVar[str] = "log-probs"
    paper: ClassVar[str] = "arXiv 2210.01504"

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        return too_small("ga", self, {"sharpness": 0})

    def named(self) -> str:
        """The variant that these parameters make."""
        return "sam" if self.sharpness else ""

    def holds_twice(self) -> bool:
        """Whether weights are kept while others stand in their place."""
        return bool(self.sharpness)

    def rows(self, forget: int, retain: int) -> int:
        """Forget rows of every step, twice where they are sharpness-aware."""
        return (2 if self.sharpness else 1) * self.steps * min(self.batch, forget)

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """The target after `steps` of ascent."""
        rows = make_streams(request.forget, Ascent(), self.batch, self.text_batch, sharpness=self.sharpness)
        return ctx.train(request.target, rows, Recipe(self.steps, self.lr), "ga")
