"""Repair: a light fine-tuning on general instructions after unlearning, to bring ability back.

RESTOR (Rezaei et al. 2025, arXiv 2411.00204) does so on LIMA before every evaluation. It unlearns nothing itself; as
``--then repair`` it follows every method, and the untouched target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.core.contracts import Context, Method, Recipe, Stream, too_small
from bench.core.types import Checkpoint, Request
from bench.engines.training.losses import descent

LIMA = 1030
"""Rows of LIMA, for estimates; the steps are those of the rows that there are."""


@dataclass(frozen=True)
class Repair(Method):
    """Supervised fine-tuning on the task's instructions, from wherever the run stands; RESTOR's LIMA recipe.

    Its rank isn't published: 8, the default of the authors' training library. They train in bfloat16; here the run's
    own dtype does.
    """

    lr: float = 2e-5
    """Peak learning rate; cosine after a tenth of warm-up."""
    epochs: int = 2
    """Passes over the instructions."""
    batch: int = 16
    """Rows in one step."""
    lora: int = 8
    """Rank of the adapters on every linear layer; 0 trains all weights."""

    summary: ClassVar[str] = "fine-tuning on instructions after unlearning (RESTOR's repair on LIMA); for --then"
    reads: ClassVar[str] = "log-probs"
    paper: ClassVar[str] = "arXiv 2411.00204"
    needs: ClassVar[frozenset[str]] = frozenset({"instructions"})
    in_all: ClassVar[bool] = False

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        return too_small("repair", self, {"epochs": 1, "lora": 0})

    def rows(self, forget: int, retain: int) -> int:
        """Every pass over LIMA."""
        return self.epochs * LIMA

    def adapters(self) -> int:
        """Rank of its adapters."""
        return self.lora

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """The checkpoint after `epochs`."""
        rows = request.instructions
        recipe = Recipe(self.epochs * -(-len(rows) // self.batch), self.lr, lora=self.lora)
        ctx.note(repaired_on=len(rows))
        return ctx.train(request.target, [Stream(rows, self.batch, descent())], recipe, "repair")
