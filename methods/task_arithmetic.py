"""Task arithmetic: the target minus the direction in which further training on the forget set moves it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from bench.core.contracts import Context, Method, Recipe, Term
from bench.core.errors import unknown_name
from bench.core.types import Checkpoint, Request
from bench.engines.training.influence import KINDS, describe_weights
from bench.engines.training.losses import descent, make_streams, sample_like


@dataclass(frozen=True)
class TaskArithmetic(Method):
    """``theta_D - alpha (theta_F - theta_D)``, theta_F trained on the forget set from theta_D (Ilharco et al. 2023).

    It is MSA with the target itself in the place of theta_0, and so needs no history.

    With ``weights`` it is a neighbour of PerTA (arXiv 2601.22030), which scales the vector parameter by parameter:
    ``theta_D - alpha w (theta_F - theta_D)``, ``w = 2 F_f / (F_f + F_r)`` in [0, 2], from the squared gradients (``fisher``)
    or the mean gradients (``gradient``) at theta_D of the forget rows and of at most as many retain rows. PerTA's exact formulas
    are not known here. A public re-implementation takes ``theta_D - lambda w' (theta_D - theta_base)``, ``w' = F_f / (F_f + a
    F_r + 1e-8)``: another vector, all that fine-tuning did, and for a = 1 the same weights at ``lambda = 2 alpha``.
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
    weights: str = field(default="uniform", metadata={"unsaid": True})
    """Weight of each parameter's step: ``uniform``, ``fisher`` or ``gradient``."""

    summary: ClassVar[str] = "task arithmetic: negate the forget set's task vector (Ilharco et al. 2023)"
    paper: ClassVar[str] = "arXiv 2212.04089"
    needs: ClassVar[frozenset[str]] = frozenset({"retain"})
    optional: ClassVar[frozenset[str]] = frozenset({"retain"})
    is_sum: ClassVar[bool] = True

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        known = ("uniform", *KINDS)
        return [] if self.weights in known else [unknown_name("value of task-arithmetic.weights", self.weights, known)]

    def rows(self, forget: int, retain: int) -> int:
        """Forget rows of every step; for weights one pass over them and as many retain rows."""
        weighing = 0 if self.weights == "uniform" else 2 * forget
        return self.steps * min(self.batch, forget) + weighing

    def checkpoints(self) -> int:
        """The tuned one, the sum, and the weights."""
        return 2 + (self.weights != "uniform")

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """Two terms: (1 + alpha w) target - alpha w theta_F."""
        rows = make_streams(request.forget, descent(), self.batch, self.text_batch)
        tuned = ctx.train(request.target, rows, Recipe(self.steps, self.lr), "theta_F")
        if self.weights != "uniform":
            sample = sample_like(request.retain, request.forget, ctx.seed)
            weights = ctx.influence(request.target, request.forget, sample, self.weights)
            ctx.note(influence=describe_weights(weights))
            terms = [Term(1.0, request.target, weighted=self.alpha), Term(0.0, tuned, weighted=-self.alpha)]
            return ctx.combine(terms, "task-arithmetic", weights)
        return ctx.combine([(1 + self.alpha, request.target), (-self.alpha, tuned)], "task-arithmetic")
