"""Checkpoint activation transfer: on the forget rows the model's states become those of its own past, mapped to its present."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bench.assets.history import choose_moment, rule_problems
from bench.core.contracts import Batch, Context, References, not_positive, too_small
from bench.core.errors import Unmet
from bench.core.types import Checkpoint, Example, Json, Request
from bench.engines.loaders import checkpoint_at
from bench.engines.training.gradient import GradientMethod
from bench.engines.training.losses import RETAIN_LOSSES, make_streams, retain_rows

if TYPE_CHECKING:
    from torch import Tensor, nn

FOUND = "left.json"
"""Beside the maps: of each block the share of variance that its map leaves."""


@dataclass(frozen=True)
class MatchPast:
    """``mean over blocks of mean (A h_past + b - h)^2``, over the answer's places and the dimensions.

    h are a block's states of the model and h_past those of the checkpoint beside it; A and b come from `maps`.
    """

    maps: Checkpoint
    """The folder of `bench.engines.training.readings.fit_maps`."""
    blocks: tuple[int, ...]

    reference: ClassVar[References] = ""
    version: ClassVar[int] = 1

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The squared distance of each example, (B,)."""
        import torch

        assert batch.beside is not None, "training lays the checkpoint of a stream beside its batch"
        states = batch.answer_states(model, self.blocks)
        with torch.no_grad():
            past = batch.answer_states(batch.beside, self.blocks).values
        maps = load_maps(self.maps.path, str(past[0].device))
        each = [
            (apply_map(maps, block, h) - ours).square().mean(-1)
            for block, h, ours in zip(self.blocks, past, states.values, strict=True)
        ]
        return states.row_means(torch.stack(each).mean(0))


@functools.lru_cache(maxsize=1)
def load_maps(folder: str, device: str) -> dict[str, Tensor]:
    """The maps' tensors on a device."""
    from safetensors.torch import load_file

    from bench.engines.training.readings import MAPS

    return load_file(Path(folder) / MAPS, device)


def apply_map(maps: dict[str, Tensor], block: int, h: Tensor) -> Tensor:
    """``A h + b`` of a block."""
    return h @ maps[f"{block}.weight"].T + maps[f"{block}.bias"]


@dataclass(frozen=True)
class Transfer(GradientMethod):
    """Minimise ``forget_weight * mean over blocks of MSE(A h_past(x_f) + b, h(x_f)) + retain_weight * KL(target || model)`` on
    retain rows: checkpoint activation transfer, after ``EleutherAI/unlearn`` (no paper seen).

    h_past are the states of theta_0, a checkpoint from before the forget set; A and b, one affine map a block, are fitted
    beforehand by ridge regression from theta_0's states to the target's on the retain rows (theirs: on 100,000 general
    texts). Over training the forget weight falls by a quarter and the retain weight rises from 0, on straight lines.
    States are read where the answers' tokens are predicted.
    """

    forget_weight: float = 5.0
    """Weight of the forget rows' loss at the start (theirs 5)."""
    retain_weight: float = 5.0
    """Weight of the retain rows' loss at the end (theirs 5)."""
    retain_loss: str = "kl"
    """Loss on retain rows: ``kl``, the divergence from the target's own distribution (theirs), or ``nll``."""
    blocks: int = 6
    """Blocks whose states are matched, at equal distances (theirs 6 of 32)."""
    penalty: float = 0.01
    """Of the ridge regression, on |A|^2 beside the mean squared error (theirs .01)."""
    before: str = "last-before-exposure"
    """Which checkpoint is theta_0, as MSA's: ``last-before-exposure``, ``age=0.5``, ``step=300`` or a revision."""

    summary: ClassVar[str] = (
        "hidden states of forget rows drawn to the model's own past (checkpoint activation transfer)"
    )
    reads: ClassVar[str] = "hidden states"
    needs: ClassVar[frozenset[str]] = frozenset({"history", "retain"})
    name: ClassVar[str] = "transfer"

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        found = super().problems() + too_small(self.name, self, {"blocks": 1})
        found += not_positive(self.name, self, "penalty")
        return found + [f"transfer.before: {problem}" for problem in rule_problems(self.before)]

    def named(self) -> str:
        """The variant that these parameters make."""
        return "sam" if self.sharpness else ""

    def holds_target(self) -> bool:
        """Whether the target lies in memory beside the model."""
        return bool(self.retain_weight) and self.retain_loss == "kl"

    def holds_beside(self) -> int:
        """The earlier checkpoint."""
        return 1

    def holds_twice(self) -> bool:
        """Whether weights are kept while others stand in their place."""
        return bool(self.sharpness)

    def checkpoints(self) -> int:
        """The result, and the maps, which are no larger than a checkpoint."""
        return 2

    def rows(self, forget: int, retain: int) -> int:
        """Forget and retain rows of every step, and a third of two passes over the rows that the maps are fitted on."""
        fitted = retain if self.retain == "all" else min(forget, retain)
        return 2 * self.steps * min(self.batch, forget) + 2 * fitted // 3

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """The target after `steps` of both."""
        if request.history is None:
            raise Unmet("it needs a checkpoint from before the forget set was seen, and this task has none")
        past = choose_moment(request.history, self.before).checkpoint
        kept = retain_rows(request.retain, request.forget, self.retain, ctx.seed)
        loss = self.fitted(past, request.target, kept, ctx)
        sizes = self.batch, self.text_batch
        forget = make_streams(request.forget, loss, *sizes, self.forget_weight, sharpness=self.sharpness)
        rows = [replace(each, beside=past, last_weight=0.75 * each.weight) for each in forget]
        if self.retain_weight:
            held = make_streams(kept, RETAIN_LOSSES[self.retain_loss](), *sizes, 0.0)
            rows += [replace(each, last_weight=self.retain_weight) for each in held]
        return ctx.train(request.target, rows, self.recipe(), self.name)

    def fitted(self, past: Checkpoint, target: Checkpoint, rows: Sequence[Example], ctx: Context) -> MatchPast:
        """The forget rows' loss, its maps fitted once."""

        def write(out: Path) -> None:
            from bench.engines.training.readings import fit_maps

            left = fit_maps(ctx.open(past), ctx.open(target), rows, self.blocks, self.penalty, out)
            (out / FOUND).write_text(json.dumps(left))

        fields: Json = {"kind": "maps between states", "from": past.hash, "to": target.hash}
        fields |= {"blocks": self.blocks, "penalty": self.penalty}
        folder = ctx.cached(fields, write, "maps between states", rows)
        left = json.loads((folder / FOUND).read_text())
        ctx.note(variance_left_by_maps=left)
        return MatchPast(checkpoint_at(folder, "maps"), tuple(map(int, left)))
