"""Task arithmetic: the target minus the direction in which further training on the forget set moves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.core.contracts import Context, Method, Recipe
from bench.core.types import Checkpoint, Request
from bench.engines.training.losses import descent, make_streams


@dataclass(frozen=True)
class TaskArithmetic(Method):
    """``theta_D - alpha (theta_F - theta_D)``, theta_F trained on the forget set from theta_D (Ilharco et al. 2023).

    It is MSA with the target itself in the place of theta_0, and so needs no history.
    """

    alpha: float = 1.5
    """Length of the step away from the forget set, in units of the task vector."""
    steps: int = 60
    """Optimiser steps for theta_F."""
    lr: float = 5e-4
    """Peak learning rate for theta_F."""
    batch: int = 32
    """Forget rows in one step."""
    text_batch: int = 8
    """Forget passages in one step, where the task has passages."""

    summary: ClassVar[str] = "task arithmetic: negate the forget set's task vector (Ilharco et al. 2023)"
    paper: ClassVar[str] = "arXiv 2212.04089"

    def rows(self, forget: int, retain: int) -> int:
        """Forget rows of every step."""
        return self.steps * min(self.batch, forget)

    def checkpoints(self) -> int:
        """The tuned one and the sum."""
        return 2

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """Two terms: (1 + alpha) target - alpha theta_F."""
        rows = make_streams(request.forget, descent(), self.batch, self.text_batch)
        tuned = ctx.train(request.target, rows, Recipe(self.steps, self.lr), "theta_F")
        return ctx.combine([(1 + self.alpha, request.target), (-self.alpha, tuned)], "task-arithmetic")
