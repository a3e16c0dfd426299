"""Gradient difference (GradDiff): ascent on the forget set, descent on the retain set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.core.contracts import Context, Method, Recipe
from bench.core.types import Checkpoint, Request
from bench.engines.training.losses import Ascent, descent, make_streams, retain_rows


@dataclass(frozen=True)
class GradDiff(Method):
    """Minimise ``mean log p(forget) - retain_weight * mean log p(retain)`` (Liu et al. 2022; TOFU section 3)."""

    steps: int = 60
    """Optimiser steps."""
    lr: float = 1e-4
    """Peak learning rate."""
    retain_weight: float = 5.0
    """Weight of the retain rows' loss (TOFU and OpenUnlearning: 1)."""
    batch: int = 32
    """Forget rows, and as many retain rows, in one step."""
    text_batch: int = 8
    """Forget passages, and as many retain passages, in one step, where the task has passages."""
    retain: str = "all"
    """Retain rows that may be drawn from: ``all``, or ``forget``, as many as the forget set has (MSA's budget)."""

    summary: ClassVar[str] = "gradient difference: ascent on forget, descent on retain (Liu et al. 2022)"
    needs: ClassVar[frozenset[str]] = frozenset({"retain"})
    together: ClassVar[int] = 2
    variants: ClassVar[tuple[str, ...]] = ("small-retain",)

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        return (
            [] if self.retain in ("all", "forget") else [f"graddiff.retain is 'all' or 'forget', not '{self.retain}'."]
        )

    def rows(self, forget: int, retain: int) -> int:
        """Forget and retain rows of every step."""
        return 2 * self.steps * min(self.batch, forget)

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """The target after `steps` of both."""
        kept = retain_rows(request.retain, request.forget, self.retain, ctx.seed)
        rows = make_streams(request.forget, Ascent(), self.batch, self.text_batch)
        rows += make_streams(kept, descent(), self.batch, self.text_batch, self.retain_weight)
        return ctx.train(request.target, rows, Recipe(self.steps, self.lr), "graddiff")
