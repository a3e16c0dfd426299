"""Interpolation towards an earlier checkpoint. A control: how much forgetting a mere mixture of two models gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.assets.history import choose_moment, rule_problems
from bench.core.contracts import Context, Method
from bench.core.errors import Unmet
from bench.core.types import Checkpoint, Request


@dataclass(frozen=True)
class Interpolate(Method):
    """``(1 - t) theta_D + t theta_0``: what the target has learnt since theta_0 is taken back in part, forget rows or not.

    It trains nothing and reads no row. Low divergence from the oracle on the forget rows alone says little, since this
    control reaches it too.
    """

    t: float = 0.5
    """Where between the target (0) and theta_0 (1)."""
    before: str = "last-before-exposure"
    """Which checkpoint is theta_0: ``last-before-exposure``, ``age=0.5``, ``tokens=500B``, ``step=300`` or a revision."""

    summary: ClassVar[str] = "a mixture of the target and an earlier checkpoint (a control)"
    needs: ClassVar[frozenset[str]] = frozenset({"history"})
    is_sum: ClassVar[bool] = True

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        found = [] if 0 <= self.t <= 1 else [f"interpolate.t is between 0 and 1, not {self.t}."]
        return found + [f"interpolate.before: {problem}" for problem in rule_problems(self.before)]

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """Two terms: (1 - t) target + t theta_0."""
        if request.history is None:
            raise Unmet("it needs a checkpoint from before the forget set was seen, and this task has none")
        before = choose_moment(request.history, self.before).checkpoint
        return ctx.combine([(1 - self.t, request.target), (self.t, before)], "interpolate")
