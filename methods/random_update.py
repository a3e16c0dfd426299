"""A random update. A negative control: what a step as long as task arithmetic's does when it knows nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.core.contracts import Context, Method, Recipe, Term
from bench.core.errors import unknown_name
from bench.core.types import Checkpoint, Request
from bench.engines.training.losses import descent, make_streams

KINDS = ("random", "shuffled")


@dataclass(frozen=True)
class RandomUpdate(Method):
    """``theta_D + alpha r``, r of each tensor as long as its task vector ``theta_F - theta_D``, drawn from the run's seed.

    theta_F is task arithmetic's, trained on the forget set from the target, and gives lengths alone. r holds normal entries, or
    the task vector's own in random places (``shuffled``). The same of MSA's vector is ``msa@random`` and ``msa@shuffled``.
    """

    alpha: float = 1.5
    """Length of the step, in units of the task vector's."""
    kind: str = "random"
    """``random``, or ``shuffled``."""
    steps: int = 60
    """Optimiser steps for theta_F."""
    lr: float = 5e-4
    """Peak learning rate for theta_F."""
    batch: int = 32
    """Forget rows in one step."""
    text_batch: int = 8
    """Forget passages in one step, where the task has passages."""

    summary: ClassVar[str] = "a random step as long as task arithmetic's (a negative control)"
    in_all: ClassVar[bool] = False
    variants: ClassVar[tuple[str, ...]] = ("shuffled",)
    is_sum: ClassVar[bool] = True

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        found = [] if self.alpha >= 0 else ["random.alpha must not be negative."]
        return found + ([] if self.kind in KINDS else [unknown_name("value of random.kind", self.kind, KINDS)])

    def rows(self, forget: int, retain: int) -> int:
        """Forget rows of every step."""
        return self.steps * min(self.batch, forget)

    def checkpoints(self) -> int:
        """The tuned one, the target with r, and the sum."""
        return 3

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """Two terms: (1 - alpha) target + alpha (target + r)."""
        rows = make_streams(request.forget, descent(), self.batch, self.text_batch)
        tuned = ctx.train(request.target, rows, Recipe(self.steps, self.lr), "theta_F")
        moved = ctx.scrambled(request.target, tuned, self.kind)
        return ctx.combine([Term(1 - self.alpha, request.target), Term(self.alpha, moved)], "random")
