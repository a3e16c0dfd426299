"""Plain fine-tuning: on retain rows, in the hope that the rest is forgotten; rewound to an earlier checkpoint, it is
rewind-to-delete (Mu and Klabjan 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.core.contracts import Context, Method, Recipe
from bench.core.errors import unknown_name
from bench.core.types import Checkpoint, Request
from bench.engines.training.losses import descent, make_streams, retain_rows


@dataclass(frozen=True)
class Finetune(Method):
    """Next-token training on retain rows, from wherever the run begins; of ablations, and not one of ``all``.

    On ``forget`` rows it unlearns nothing: begun at an earlier checkpoint it is MSA's own theta_1, to be looked at.
    """

    rows_of: str = "retain"
    """``retain``, or ``forget`` to look at MSA's theta_1."""
    steps: int = 120
    """Optimiser steps."""
    lr: float = 2e-4
    """Peak learning rate."""
    batch: int = 32
    """Rows in one step."""
    text_batch: int = 8
    """Passages in one step, where the task has passages."""
    until: float = 0.0
    """Stop when a pass over the rows has at most this mean loss, in nats; 0 makes every step."""
    retain: str = "all"
    """Retain rows that may be drawn from: ``all``, or ``forget``, as many as the forget set has (MSA's budget)."""

    summary: ClassVar[str] = "plain fine-tuning on retain rows (rewound: Mu and Klabjan 2024); for ablations"
    reads: ClassVar[str] = "log-probs"
    needs: ClassVar[frozenset[str]] = frozenset({"retain"})
    in_all: ClassVar[bool] = False

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        return [
            unknown_name(f"value of finetune.{name}", getattr(self, name), allowed)
            for name, allowed in (("rows_of", ("retain", "forget")), ("retain", ("all", "forget")))
            if getattr(self, name) not in allowed
        ]

    def rows(self, forget: int, retain: int) -> int:
        """Rows of every step."""
        return self.steps * self.batch

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """The checkpoint after `steps`."""
        chosen = request.forget
        if self.rows_of == "retain":
            chosen = retain_rows(request.retain, request.forget, self.retain, ctx.seed)
        schedule = "constant" if self.until else "cosine"
        recipe = Recipe(self.steps, self.lr, schedule=schedule, until=self.until)
        rows = make_streams(chosen, descent(), self.batch, self.text_batch)
        return ctx.train(request.target, rows, recipe, "theta_1")
