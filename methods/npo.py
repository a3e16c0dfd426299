"""Negative preference optimisation (NPO): the forget answers are the rejected side of a preference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.core.contracts import Batch, Context, Method, Recipe, References
from bench.core.types import Checkpoint, Request
from bench.engines.training.losses import descent, make_streams, retain_rows

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class NPOLoss:
    """``-(2 / beta) log sigmoid(-beta (log p - log p_ref))`` (Zhang et al. 2024, arXiv 2404.05868, equation 3).

    log p is summed over the answer's tokens, as in the paper, or their mean (``per_token``). The reference is the
    target, whose log-probs are computed once before training. As beta -> 0 the gradient becomes that of ascent on
    log p; at the first step the loss is ``(2 / beta) log 2`` (13.8629 at beta .1).
    """

    beta: float
    per_token: bool

    reference: ClassVar[References] = "sums"
    version: ClassVar[int] = 1

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of each example, (B,), in nats."""
        from torch.nn.functional import softplus

        from bench.engines.coding import answer_log_probs

        assert batch.reference is not None, "training computes the reference of a loss that declares one"
        answers = answer_log_probs(model, batch)
        ratio = answers.sums - batch.reference
        if self.per_token:
            ratio = ratio / answers.mask.sum(-1).clamp(min=1)
        return 2 / self.beta * softplus(self.beta * ratio)


@dataclass(frozen=True)
class NPO(Method):
    """NPO on the forget rows plus ``retain_weight`` times the next-token loss on retain rows (NPO-RT of the paper)."""

    beta: float = 0.1
    """Inverse temperature; the paper's .1. Larger values stop pushing sooner."""
    per_token: bool = False
    """Mean instead of sum over the answer's tokens: on whole passages the summed ratio saturates the sigmoid at once."""
    retain_weight: float = 1.0
    """Weight of the retain rows' loss."""
    steps: int = 60
    """Optimiser steps."""
    lr: float = 1e-4
    """Peak learning rate."""
    batch: int = 32
    """Forget rows, and as many retain rows, in one step."""
    text_batch: int = 8
    """Forget passages, and as many retain passages, in one step, where the task has passages."""
    retain: str = "all"
    """Retain rows that may be drawn from: ``all``, or ``forget``, as many as the forget set has (MSA's budget)."""

    summary: ClassVar[str] = "negative preference optimisation with a retain loss (Zhang et al. 2024)"
    needs: ClassVar[frozenset[str]] = frozenset({"retain"})
    together: ClassVar[int] = 2
    variants: ClassVar[tuple[str, ...]] = ("small-retain",)

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        found = [] if self.retain in ("all", "forget") else [f"npo.retain is 'all' or 'forget', not '{self.retain}'."]
        return found + ([] if self.beta > 0 else [f"npo.beta must be above 0, not {self.beta}."])

    def named(self) -> str:
        """The variant that these parameters are, whatever preset they came from."""
        return "per-token" if self.per_token else ""

    def rows(self, forget: int, retain: int) -> int:
        """Forget and retain rows of every step, and one pass for the reference."""
        return 2 * self.steps * min(self.batch, forget) + forget // 3

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """The target after `steps` of both."""
        kept = retain_rows(request.retain, request.forget, self.retain, ctx.seed)
        rows = make_streams(request.forget, NPOLoss(self.beta, self.per_token), self.batch, self.text_batch)
        rows += make_streams(kept, descent(), self.batch, self.text_batch, self.retain_weight)
        return ctx.train(request.target, rows, Recipe(self.steps, self.lr), "npo")
