"""Relearning: fine-tuning on forget rows, or on rows near them, to see what comes back and how fast.

The attack teaches by itself (arXiv 2506.00688), so that what counts is the difference to the oracle under the same attack.
Protocols of the field: TOFU, one pass over all of forget10 at 2e-5, 13 steps of 32 (open-unlearning's meta-evaluation,
arXiv 2506.12618); MUSE, 50 to 125 steps of 4 at 1e-5 (arXiv 2407.06460's follow-ups). Here one run is looked at on its way,
at a constant rate, so that no step hangs on how many follow it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.core.contracts import Context, Method, Recipe, not_positive, too_small
from bench.core.errors import Unmet, unknown_name
from bench.core.types import Checkpoint, Example, Request
from bench.engines.training.losses import descent, make_streams, sample_like

KINDS = ("half", "all", "retain", "benign")
"""Rows that are taught: the forget rows of every second fact, measured on the others; all forget rows; as many retain rows
as these, a control; or the task's general instructions."""


@dataclass(frozen=True)
class Relearn(Method):
    """Next-token training at a constant rate from wherever the run stands, measured at `points` on its way."""

    teach: str = "half"
    """``half`` of the forget rows, by facts, measured on the other half; ``all``; ``retain`` rows; ``benign`` texts."""
    steps: int = 100
    """Optimiser steps."""
    points: str = "5 13 25 50"
    """Steps that are measured on the way, beside the first and the last."""
    lr: float = 2e-5
    """Learning rate, constant (open-unlearning's peak); ``relearn@slow`` takes a lower one."""
    batch: int = 32
    """Rows in one step."""
    text_batch: int = 4
    """Passages in one step, where the task has passages."""

    summary: ClassVar[str] = (
        "attack: fine-tuning on forget rows or near them, measured on its way; for --then and attack"
    )
    reads: ClassVar[str] = "log-probs"
    paper: ClassVar[str] = "arXiv 2506.12618, 2406.13356"
    needs: ClassVar[frozenset[str]] = frozenset({"retain"})
    in_all: ClassVar[bool] = False
    attack: ClassVar[bool] = True

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        found = too_small("relearn", self, {"steps": 1, "batch": 1, "text_batch": 1}) + not_positive(
            "relearn", self, "lr"
        )
        if self.teach not in KINDS:
            found.append(unknown_name("value of relearn.teach", self.teach, KINDS))
        if not all(word.isdigit() and int(word) > 0 for word in self.points.split()):
            found.append(
                f"relearn.points are whole numbers of steps with blanks between, such as '5 13 25', not {self.points!r}."
            )
        return found

    def rows(self, forget: int, retain: int) -> int:
        """Rows of every step."""
        return self.steps * self.batch

    def checkpoints(self) -> int:
        """The last one, and those on the way."""
        return 1 + len(self.kept())

    def kept(self) -> list[int]:
        """The steps before the last that are measured."""
        return sorted({int(word) for word in self.points.split() if int(word) < self.steps})

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """The checkpoint after `steps`."""
        streams = make_streams(self.taught(request, ctx.seed), descent(), self.batch, self.text_batch)
        recipe = Recipe(self.steps, self.lr, warmup=0.0, schedule="constant")
        return ctx.train(request.target, streams, recipe, "relearn", keep=self.kept())

    def taught(self, request: Request, seed: int) -> tuple[Example, ...]:
        """The rows that it trains on; `Unmet` where the task has none of the kind."""
        rows = {
            "half": request.half,
            "all": request.forget,
            "retain": sample_like(request.retain, request.forget, seed),
            "benign": request.instructions,
        }[self.teach]
        if not rows:
            lacks = "rows of instructions" if self.teach == "benign" else "two facts that are to be forgotten"
            raise Unmet(f"relearning with teach={self.teach} needs {lacks}, and this task has none")
        return rows
