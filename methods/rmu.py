"""RMU: hidden states on the forget rows are drawn to a random vector, those on retain rows held where they were."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bench.core.contracts import Batch, Context, Loss, Recipe, References, not_positive
from bench.core.errors import unknown_name
from bench.core.types import Checkpoint, Json, Request
from bench.engines.training.gradient import GradientMethod
from bench.engines.training.losses import RETAIN_LOSSES

if TYPE_CHECKING:
    from torch import Tensor, nn

MLP_OUT = "down_proj|c_proj|fc_out|fc2|dense_4h_to_h|w2"
"""What families call the last matrix of a block's MLP."""
UNITS = ("norm", "absolute")
TRAINED = ("mlp", "all")


@dataclass(frozen=True)
class Misdirect:
    """``mean (h - v)^2`` over the answer's places and the dimensions, h a block's states and v the control vector
    (Li et al. 2024, arXiv 2403.03218).

    v is ``size`` times a vector drawn uniformly from [0, 1)^D by ``seed`` and divided by its norm.
    """

    block: int
    size: float
    seed: int

    reference: ClassVar[References] = ""
    version: ClassVar[int] = 1

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The squared distance of each example, (B,)."""
        states = batch.answer_states(model, [self.block])
        (ours,) = states.values
        aim = self.size * draw_direction(ours.shape[-1], self.seed).to(ours.device)
        return states.row_means((ours - aim).square().mean(-1))


@dataclass(frozen=True)
class KeepStates:
    """``mean (h - h_target)^2`` over the answer's places and the dimensions, h a block's states; 0 at the first step."""

    block: int

    reference: ClassVar[References] = "model"
    version: ClassVar[int] = 1

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The squared distance of each example, (B,)."""
        assert batch.target is not None, "training lays the target beside the batch of a loss that declares it"
        states = batch.answer_states(model, [self.block])
        theirs = batch.answer_states(batch.target, [self.block]).values[0].detach()
        return states.row_means((states.values[0] - theirs).square().mean(-1))


@functools.lru_cache(maxsize=2)
def draw_direction(dimensions: int, seed: int) -> Tensor:
    """A vector of norm 1, uniform in [0, 1)^D before it is normalised."""
    import torch

    drawn = torch.rand(dimensions, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm()


@dataclass(frozen=True)
class RMU(GradientMethod):
    """Minimise ``mean (h(x_f) - v)^2 + retain_weight * mean (h(x_r) - h_target(x_r))^2``, h the states of one block
    (Li et al. 2024, arXiv 2403.03218, equations 2 and 3).

    States are read where the answers' tokens are predicted, and each row weighs the same. The authors' code reads every
    position, padding included; OpenUnlearning's the answers' own positions, one late, with a mean that mixes the rows'
    lengths, and draws v from the global generator; G-effect's reads as we do, and doesn't normalise the drawn vector: its c
    is some 37 times as much at 4096 dimensions. Here v comes from the run's seed and its hash stands in the record.
    """

    depth: float = 0.4
    """Which block is read, as a share of the model's depth: .25 of 32 blocks is number 7 from 0, the authors'."""
    c: float = 2.0
    """Norm of the control vector, in `units` (authors 20 and 6.5, OpenUnlearning 2, absolute)."""
    units: str = "norm"
    """Of `c`: ``norm``, the mean norm of that block's states on forget rows under the target; or ``absolute``."""
    trained: str = "mlp"
    """Weights that are trained: ``mlp``, the last matrix of the MLPs of that block and of the two before it (the authors), or
    ``all`` (OpenUnlearning on TOFU and MUSE)."""
    retain_loss: str = "states"
    """Loss on retain rows: ``states``, the same block's distance from the target's, ``nll`` or ``kl``."""

    summary: ClassVar[str] = "hidden states of forget rows drawn to a random vector (RMU, Li et al. 2024)"
    reads: ClassVar[str] = "hidden states"
    paper: ClassVar[str] = "arXiv 2403.03218"
    name: ClassVar[str] = "rmu"
    retain_losses: ClassVar[tuple[str, ...]] = ("states", *RETAIN_LOSSES)

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        found = super().problems()
        if not 0 < self.depth <= 1:
            found.append(f"rmu.depth must be above 0 and at most 1, not {self.depth}.")
        found += not_positive(self.name, self, "c")
        if self.units not in UNITS:
            found.append(unknown_name("rmu.units", self.units, UNITS))
        if self.trained not in TRAINED:
            found.append(unknown_name("rmu.trained", self.trained, TRAINED))
        return found

    def loss(self) -> Misdirect:
        """The loss on forget rows, as far as it can be told without the model."""
        return Misdirect(0, self.c, 0)

    def recipe(self, block: int = 0) -> Recipe:
        """How it is trained where that block is read."""
        return Recipe(self.steps, self.lr, only=mlp_weights(block) if self.trained == "mlp" else "")

    def against_adapters(self) -> str:
        """The last matrices of some MLPs can't be trained alone."""
        if self.trained == "all":
            return ""
        return "it trains some of the weights alone, and --lora trains adapters in their place: rmu.trained=all takes these"

    def rows(self, forget: int, retain: int) -> int:
        """Forget and retain rows of every step, and a third of a pass over the forget rows whose norms are read."""
        return super().rows(forget, retain) + forget // 3

    def holds_target(self) -> bool:
        """Whether the target lies in memory beside the model."""
        return bool(self.retain_weight) and self.retain_loss != "nll"

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """The target after `steps` of both."""
        found = self.look(request, ctx)
        size = self.c * found["mean_norm"] if self.units == "norm" else self.c
        kept: Loss = KeepStates(found["block"]) if self.retain_loss == "states" else RETAIN_LOSSES[self.retain_loss]()
        drawn = (size * draw_direction(found["dimensions"], ctx.seed)).numpy().tobytes()
        ctx.note(control_vector={**found, "norm": size, "sha256": hashlib.sha256(drawn).hexdigest()})
        return self.train(request, ctx, Misdirect(found["block"], size, ctx.seed), kept, self.recipe(found["block"]))

    def look(self, request: Request, ctx: Context) -> Json:
        """The block's number, its dimensions and the mean norm of its states on forget rows; `Unmet` without blocks."""
        fields = {"kind": "state norms", "of": request.target.hash, "depth": self.depth}

        def write(out: Path) -> None:
            from bench.engines.training.readings import describe_states

            (out / "states.json").write_text(json.dumps(describe_states(ctx.open(request.target), rows, self.depth)))

        rows = request.forget
        folder = ctx.cached(fields, write, "norms of hidden states", rows)
        found: Json = json.loads((folder / "states.json").read_text())
        return found


def mlp_weights(block: int) -> str:
    """A regular expression for the last matrices of the MLPs, experts among them, of a block and of the two before it."""
    numbers = "|".join(str(each) for each in range(max(0, block - 2), block + 1))
    inside = rf"(?:mlp|ffn|feed_forward)\.(?:.*\.)?(?:{MLP_OUT})(?:\.weight)?"
    return rf"(?!.*vision).*\b(?:layers|h|blocks)\.(?:{numbers})\.(?:{inside}|fc2\.weight)"
