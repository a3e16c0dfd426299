"""Model State Arithmetic (MSA): subtract what the forget set does to a checkpoint from before it was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from bench.assets.history import choose_moment, rule_problems
from bench.core.contracts import Context, Method, Recipe, Term
from bench.core.errors import Unmet, unknown_name
from bench.core.types import Checkpoint, Example, Request
from bench.engines.loaders import checkpoint_at
from bench.engines.training.influence import compare_rounding, describe_weights, rank_correlation, write_shuffled
from bench.engines.training.losses import descent, make_streams, sample_like

OFFICIAL_BATCH, OFFICIAL_PASSES = 4, 10
"""The authors' script: its gradient accumulation never reaches the Trainer, so that four rows make a step."""
CHOICES = {
    "recipe": ("gentle", "official"),
    "weights": ("uniform", "fisher", "gradient", "shuffled-fisher"),
    "vector": ("forget", "difference", "random", "shuffled", "others"),
}


@dataclass(frozen=True)
class MSA(Method):
    """``theta_D - alpha (theta_1 - theta_0) + beta (theta_2 - theta_0)`` (arXiv 2506.20941, section 3).

    theta_0 is a checkpoint from before the forget set, theta_1 is theta_0 fine-tuned on the forget set, theta_2 on a
    retain sample with at most as many rows (on the full retain set it would be the oracle). Differences and sums are
    float32, where the authors' script works in bfloat16. With influence ``weights`` w the forget vector is taken
    parameter by parameter: ``theta_D - alpha w (theta_1 - theta_0) + ...``; weights that are all 1 change no bit.

    With the ``difference`` vector it is ``theta_D - alpha (theta_1 - theta_2)``, a variant of our own: theta_1 is trained on
    the forget set and the retain sample, theta_2 on the sample alone, both from theta_0, for the same steps and with the same
    rows of the sample in each, so that what any training does to theta_0 cancels.
    """

    alpha: float = 0.9
    """Weight of the forget vector."""
    beta: float = 0.0
    """Weight of the retain vector; 0 trains none."""
    steps: int = 120
    """Optimiser steps for each vector; at most so many where ``until`` is given."""
    lr: float = 2e-4
    """Peak learning rate for each vector; gentler than the target's own training."""
    batch: int = 32
    """Rows in one step."""
    text_batch: int = 8
    """Passages in one step, where the task has passages."""
    before: str = "last-before-exposure"
    """Which checkpoint is theta_0: ``last-before-exposure``, ``age=0.5``, ``tokens=500B``, ``step=300`` or a revision."""
    until: float = 0.0
    """Train each vector until its loss over the last pass's worth of steps is at most this, in nats (passages alone, where
    the task has them); 0 makes every step."""
    recipe: str = "gentle"
    """``gentle`` (float32, cosine), or ``official``: ten passes in bfloat16, batch 4, linear, weight decay .01, whatever
    ``steps``, ``batch`` and ``until`` say."""
    lora: int = 0
    """Rank of the vectors' low-rank adapters; 0 trains every weight, as the paper does."""
    weights: str = "uniform"
    """Weight of each parameter's forget vector: ``uniform`` (the paper), ``fisher``, ``gradient`` or ``shuffled-fisher``."""
    vector: str = "forget"
    """``forget``; ``difference``, of forget set and retain sample to the sample alone; or a control: ``random``,
    ``shuffled``, or ``others`` (learnt from retain rows)."""

    summary: ClassVar[str] = "model state arithmetic on an earlier checkpoint (arXiv 2506.20941)"
    paper: ClassVar[str] = "arXiv 2506.20941"
    needs: ClassVar[frozenset[str]] = frozenset({"history", "retain"})
    version: ClassVar[int] = 2
    is_sum: ClassVar[bool] = True
    variants: ClassVar[tuple[str, ...]] = ("difference",)

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        found = [
            f"msa.{name} must not be negative."
            for name in ("alpha", "beta", "until", "lora")
            if getattr(self, name) < 0
        ]
        if self.vector == "difference":
            found += [
                f"msa.vector=difference {why}: leave msa.{name} at 0."
                for name, why in (
                    ("beta", "has one coefficient, alpha"),
                    ("until", "trains both models for equal steps"),
                )
                if getattr(self, name)
            ]
        found += [f"msa.before: {problem}" for problem in rule_problems(self.before)]
        return found + [
            unknown_name(f"value of msa.{name}", getattr(self, name), allowed)
            for name, allowed in CHOICES.items()
            if getattr(self, name) not in allowed
        ]

    def rows(self, forget: int, retain: int) -> int:
        """Rows of every step of one vector or two, and one pass a checkpoint for the influence weights."""
        weighing = 0 if self.weights == "uniform" else 4 * forget
        official = self.recipe == "official"  # which trains theta_1 in float32 as well, to say what rounding did
        per_step = min(OFFICIAL_BATCH if official else self.batch, forget)
        vectors = 3 + 2 * official if self.vector == "difference" else 1 + official + bool(self.beta)
        return self.schedule(forget).steps * per_step * vectors + weighing

    def adapters(self) -> int:
        """Rank of its adapters."""
        return self.lora

    def checkpoints(self) -> int:
        """The sum, each vector and what takes its place, the official recipe's two beside them, influence weights."""
        official, another = self.recipe == "official", self.vector in ("random", "shuffled", "difference")
        return 2 + bool(self.beta) + another + 2 * official + 4 * (self.weights != "uniform")

    def schedule(self, rows: int) -> Recipe:
        """How each vector is trained, on so many rows."""
        if self.recipe == "official":
            steps = OFFICIAL_PASSES * -(-rows // OFFICIAL_BATCH)
            return Recipe(steps, self.lr, 1 / OFFICIAL_PASSES, "linear", 0.01, 0.999, "bfloat16", self.lora)
        if self.until:
            return Recipe(self.steps, self.lr, schedule="constant", lora=self.lora, until=self.until)
        return Recipe(self.steps, self.lr, lora=self.lora)

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """Four terms: target, - alpha theta_1, + beta theta_2, + (alpha - beta) theta_0; for ``difference`` three."""
        if request.history is None:
            raise Unmet("it needs a checkpoint from before the forget set was seen, and this task has none")
        before = choose_moment(request.history, self.before).checkpoint
        sample = sample_like(request.retain, request.forget, ctx.seed)
        recipe = self.schedule(len(request.forget))
        batch, text_batch = (OFFICIAL_BATCH,) * 2 if self.recipe == "official" else (self.batch, self.text_batch)

        def tuned(groups: Sequence[Sequence[Example]], label: str, recipe: Recipe = recipe) -> Checkpoint:
            streams = [stream for rows in groups for stream in make_streams(rows, descent(), batch, text_batch)]
            return ctx.train(before, streams, recipe, label)

        # The order of a stream's rows follows from its place: the sample first, as it stands when it is alone.
        groups = {"others": [sample], "difference": [sample, request.forget]}
        learnt = groups.get(self.vector, [request.forget])
        forget_tuned = tuned(learnt, "theta_1")
        if self.recipe == "official":
            exact = tuned(learnt, "theta_1 in float32", replace(recipe, dtype="float32"))
            rounded = ctx.cast(before, "bfloat16")
            ctx.note(rounding=compare_rounding(forget_tuned, rounded, exact, before))
            before = rounded  # what the vectors were trained from: its own rounding must cancel
        if self.vector in ("random", "shuffled"):
            forget_tuned = ctx.scrambled(before, forget_tuned, self.vector)
        start = tuned([sample], "theta_2") if self.vector == "difference" else before
        retain_tuned = [Term(self.beta, tuned([sample], "theta_2"))] if self.beta else []
        if self.weights == "uniform":
            terms = [Term(1.0, request.target), Term(-self.alpha, forget_tuned), *retain_tuned]
            return ctx.combine([*terms, Term(self.alpha - self.beta, start)], "msa")
        weights = self.influence_weights(request, before, sample, ctx)
        terms = [Term(1.0, request.target), Term(0.0, forget_tuned, weighted=-self.alpha), *retain_tuned]
        return ctx.combine([*terms, Term(-self.beta, start, weighted=self.alpha)], "msa", weights)

    def influence_weights(
        self, request: Request, before: Checkpoint, sample: Sequence[Example], ctx: Context
    ) -> Checkpoint:
        """Each parameter's weight (`bench.engines.training.influence`): the mean of the estimates at theta_0 and at theta_D."""
        assert request.history is not None
        kind = self.weights.removeprefix("shuffled-")

        def at(checkpoint: Checkpoint) -> Checkpoint:
            return ctx.influence(checkpoint, request.forget, sample, kind)

        first, last = at(before), at(request.target)
        weights = ctx.combine([Term(0.5, first), Term(0.5, last)], "influence weights")
        ctx.note(
            influence=describe_weights(weights)
            | {
                "rank_correlation_with_target": rank_correlation(first, last),
                "rank_correlation_with_last": rank_correlation(first, at(request.history.last.checkpoint)),
            }
        )
        if kind == self.weights:
            return weights
        fields = {"kind": "shuffled weights", "of": weights.hash, "seed": ctx.seed}
        folder = ctx.cached(fields, lambda out: write_shuffled(weights, ctx.seed, out), "shuffled weights")
        return checkpoint_at(folder, "shuffled weights")
