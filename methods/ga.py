"""Gradient ascent (GA): the forget set's loss is raised, and nothing holds the rest in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.core.contracts import Context, Method, Recipe
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

    summary: ClassVar[str] = "gradient ascent on the forget set (Jang et al. 2022)"
    reads: ClassVar[str] = "log-probs"
    paper: ClassVar[str] = "arXiv 2210.01504"

    def rows(self, forget: int, retain: int) -> int:
        """Forget rows of every step."""
        return self.steps * min(self.batch, forget)

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """The target after `steps` of ascent."""
        rows = make_streams(request.forget, Ascent(), self.batch, self.text_batch)
        return ctx.train(request.target, rows, Recipe(self.steps, self.lr), "ga")
