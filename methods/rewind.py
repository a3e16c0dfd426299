"""Rewind: an earlier checkpoint trained on retain rows for a share of the retraining (Mu and Klabjan 2024)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from bench.assets.history import choose_moment, rule_problems
from bench.core.contracts import Context, Method, Stream
from bench.core.errors import Unmet
from bench.core.types import Checkpoint, Request
from bench.engines.training.losses import budget_problems, descent, make_streams, retain_rows

NOMINAL_PASSES = 5
"""Passes of a retraining over the retain rows, for the estimate of time: the usual ones on TOFU."""


@dataclass(frozen=True)
class Rewind(Method):
    """theta_0 trained on retain rows by the oracle's own recipe, its schedule shortened to ``share`` of its steps.

    The recipe alone is known: the oracle is neither opened nor needed. At a share of 1, from the last checkpoint before
    exposure and on the oracle's rows, it is the retraining itself. Rewind-to-delete (Mu and Klabjan 2024) goes back to a
    checkpoint of the training on forget rows too; here theta_0 has seen none of them.
    """

    share: float = 0.25
    """Optimiser steps, as a share of the retraining's."""
    before: str = "last-before-exposure"
    """Which checkpoint is theta_0: ``last-before-exposure``, ``age=0.5``, ``tokens=500B``, ``step=300`` or a revision."""
    retain: str = "all"
    """Retain rows that may be drawn from: ``all``, or ``forget``, as many as the forget set has (MSA's budget)."""

    summary: ClassVar[str] = "an earlier checkpoint retrained in part on retain rows (Mu and Klabjan 2024)"
    reads: ClassVar[str] = "log-probs"
    paper: ClassVar[str] = "arXiv 2409.09778"
    needs: ClassVar[frozenset[str]] = frozenset({"history", "retain"})
    variants: ClassVar[tuple[str, ...]] = ("10", "50")

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        found = [] if 0 < self.share <= 1 else [f"rewind.share is above 0 and at most 1, not {self.share}."]
        found += budget_problems("rewind", self.retain)
        return found + [f"rewind.before: {problem}" for problem in rule_problems(self.before)]

    def named(self) -> str:
        """The share in percent."""
        return f"{100 * self.share:g}"

    def rows(self, forget: int, retain: int) -> int:
        """The share of `NOMINAL_PASSES` over the retain rows."""
        return round(self.share * NOMINAL_PASSES * retain)

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """theta_0 after the share of the steps."""
        if request.history is None:
            raise Unmet("it needs a checkpoint from before the forget set was seen, and this task has none")
        if (whole := request.retraining) is None:
            raise Unmet("it does a share of the oracle's retraining, and nothing is retrained here")
        before = choose_moment(request.history, self.before).checkpoint
        rows = retain_rows(request.retain, request.forget, self.retain, ctx.seed)
        streams = [Stream(rows, whole.batch, descent())]
        if whole.text_batch:
            streams = make_streams(rows, descent(), whole.batch, whole.text_batch)
        recipe = replace(whole.recipe, steps=max(1, round(self.share * whole.recipe.steps)))
        ctx.note(retraining={"steps": recipe.steps, "of": whole.recipe.steps})
        return ctx.train(before, streams, recipe, "rewind")
