"""PDU: flat logits on the forget rows, under a bound on the retain loss that a dual variable keeps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bench.core.contracts import Batch, Context, Limit, References, too_small
from bench.core.types import Checkpoint, Request
from bench.engines.training.gradient import GradientMethod
from bench.engines.training.losses import retain_rows

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class FlatLogits:
    """``(max_v z - mean_v z)^2`` where the answer's tokens are predicted (arXiv 2506.05314).

    0 where all logits are equal, at maximal entropy. The mean over an answer's tokens, then over rows. OpenUnlearning's code
    takes the logits at the answer's own positions, one late.
    """

    reference: ClassVar[References] = ""
    version: ClassVar[int] = 1

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The squared height of the largest logit, mean of each example, (B,)."""
        ours = batch.answer_logits(model)
        return ours.row_means((ours.values.amax(-1) - ours.values.mean(-1)).square())


@dataclass(frozen=True)
class PDU(GradientMethod):
    """Minimise ``forget_weight * F + lambda (R - most)``, F flat logits on forget rows and R the retain loss.

    After each step, once warm, ``lambda = max(0, lambda + rate (R - most))`` from ``retain_weight``, R being that step's
    (arXiv 2506.05314). Passages and questions, where a task has both, have a bound and a dual variable each. The
    target's own retain loss stands in the record as ``target_retain_loss``: a ``most`` below it asks for more than it has.
    """

    most: float = 0.3
    """Bound on the retain loss, in nats per token (the paper: .3 on TOFU; MUSE-News 1.5, Books .1 with 7B)."""
    rate: float = 5.0
    """Step size of the dual variable (the paper: 5 on TOFU, 1 on MUSE)."""
    after: int = 30
    """Steps before the dual variable moves (the paper: 5 of 10 epochs on TOFU, 3 on MUSE)."""
    retain_weight: float = 100.0
    """The dual variable at the start (the paper: 100 on TOFU, 50 on MUSE)."""

    summary: ClassVar[str] = "flat logits under a bound on the retain loss, by a dual variable (PDU, 2025)"
    reads: ClassVar[str] = "logits"
    paper: ClassVar[str] = "arXiv 2506.05314"
    name: ClassVar[str] = "pdu"

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        found = super().problems() + too_small(self.name, self, {"most": 0, "rate": 0, "after": 0})
        if self.retain_weight == 0:
            found.append("pdu.retain_weight must be above 0: without retain rows there is nothing to bound.")
        return found

    def loss(self) -> FlatLogits:
        """The loss on forget rows."""
        return FlatLogits()

    def limit(self) -> Limit:
        """The bound on the retain loss."""
        return Limit(self.most, self.rate, self.after)

    def rows(self, forget: int, retain: int) -> int:
        """Forget and retain rows of every step, and a third of a pass over those that the target's loss is read on."""
        return super().rows(forget, retain) + min(forget, retain) // 3

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """The target after `steps` of both, its own retain loss noted."""
        ctx.note(target_retain_loss=self.retain_loss_of_target(request, ctx))
        return super().unlearn(request, ctx)

    def retain_loss_of_target(self, request: Request, ctx: Context) -> float:
        """The target's next-token loss on as many retain rows as the forget set has; computed once."""
        rows = retain_rows(request.retain, request.forget, "forget", ctx.seed)

        def write(out: Path) -> None:
            from bench.engines.training.readings import mean_loss

            loss = mean_loss(ctx.open(request.target), rows)
            (out / "loss.json").write_text(json.dumps(loss))

        fields = {"kind": "retain loss", "of": request.target.hash}
        folder = ctx.cached(fields, write, "the target's retain loss", rows)
        return float(json.loads((folder / "loss.json").read_text()))
