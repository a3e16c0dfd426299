"""Model State Arithmetic (MSA): subtract what the forget set does to a checkpoint from before it was seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.contracts import Context, Preset, Recipe, Settings, product
from bench.errors import Unmet
from bench.losses import descent, sample_like, streams
from bench.types import Checkpoint, History, Request


@dataclass(frozen=True)
class MSA:
    """``theta_D - alpha (theta_1 - theta_0) + beta (theta_2 - theta_0)`` (arXiv 2506.20941, section 3).

    theta_0 is a checkpoint from before the forget set, theta_1 is theta_0 fine-tuned on the forget set, theta_2 on a
    retain sample with at most as many rows (on the full retain set it would be the oracle). Differences and sums are
    float32, where the authors' script works in bfloat16.
    """

    alpha: float = 0.9
    """Weight of the forget vector."""
    beta: float = 0.0
    """Weight of the retain vector; 0 trains none."""
    steps: int = 120
    """Optimiser steps for each vector."""
    lr: float = 2e-4
    """Peak learning rate for each vector; gentler than the target's own training."""
    batch: int = 32
    """Rows in one step."""
    text_batch: int = 8
    """Passages in one step, where the task has passages."""
    age: float = 1.0
    """Which checkpoint is theta_0: share of the history before exposure; 1 is the last one."""

    summary: ClassVar[str] = "model state arithmetic on an earlier checkpoint (arXiv 2506.20941)"
    needs: ClassVar[frozenset[str]] = frozenset({"history", "retain"})
    version: ClassVar[int] = 1
    presets: ClassVar[Mapping[str, Preset]] = {
        "lab-tofu": Preset(
            {"alpha": 1.15, "beta": 0.25, "steps": 300}, "bench tune, results/tune/lab-tofu-msa.json (edge of its grid)"
        ),
        "lab-restor": Preset(
            {"alpha": 0.5, "beta": 0.25, "steps": 400, "text_batch": 32},
            "bench tune, results/tune/lab-restor-msa.json (edge of its grid)",
        ),
        "lab-muse-books": Preset(
            {"alpha": 1.0, "steps": 240, "lr": 0.0005},
            "bench tune, results/tune/lab-muse-books-msa.json (edge of its grid)",
        ),
        "real-tofu": Preset(
            {"alpha": 1.0, "steps": 20, "lr": 5e-5, "batch": 8},
            "stated for small real models, ten passes over the forget rows; not tuned",
        ),
    }
    space: ClassVar[Mapping[str, Settings]] = {
        "lab-tofu": (
            *product(lr=(2e-4,), steps=(120,), beta=(0.0,), alpha=(0.75, 0.9, 1.0, 1.15, 1.3)),
            *product(lr=(2e-4,), steps=(120,), beta=(0.25,), alpha=(0.75, 0.9, 1.0, 1.15)),
            *product(lr=(2e-4,), steps=(300,), beta=(0.0,), alpha=(0.6, 0.75, 0.9, 1.0, 1.15, 1.3)),
            *product(lr=(2e-4,), steps=(300,), beta=(0.25,), alpha=(0.9, 1.0, 1.15, 1.3)),
            *product(lr=(2e-4,), steps=(600,), beta=(0.0,), alpha=(0.75, 0.9, 1.0, 1.15)),
            *product(lr=(5e-4,), steps=(300,), beta=(0.0,), alpha=(0.6, 0.75, 0.9, 1.0, 1.15)),
        ),
        "lab-restor": (
            *product(
                lr=(2e-4,), steps=(200,), beta=(0.0,), text_batch=(32,), alpha=(0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0)
            ),
            *product(lr=(2e-4,), steps=(200,), beta=(0.25,), text_batch=(32,), alpha=(0.3, 0.5, 0.75, 1.0)),
            *product(lr=(2e-4,), steps=(400,), beta=(0.0,), text_batch=(32,), alpha=(0.2, 0.3, 0.4, 0.5, 0.6, 0.75)),
            *product(lr=(2e-4,), steps=(400,), beta=(0.25,), text_batch=(32,), alpha=(0.4, 0.5, 0.6, 0.75)),
            *product(lr=(2e-4,), steps=(400,), beta=(0.5,), text_batch=(32,), alpha=(0.5,)),
            *product(lr=(2e-4,), steps=(800,), beta=(0.0,), text_batch=(32,), alpha=(0.3, 0.4, 0.5, 0.6, 0.75)),
        ),
        "lab-muse-books": (
            *product(lr=(5e-4,), steps=(120,), beta=(0.0, 0.25), alpha=(0.75, 0.9, 1.0, 1.25)),
            *product(lr=(5e-4,), steps=(240,), beta=(0.0,), alpha=(0.6, 0.75, 0.9, 1.0, 1.25, 1.5)),
            *product(lr=(3e-4,), steps=(240,), beta=(0.0,), alpha=(1.0, 1.25)),
        ),
        "real": product(alpha=(0.5, 0.75, 1.0, 1.25)),
    }
    variants: ClassVar[tuple[str, ...]] = ()

    def problems(self) -> list[str]:
        """What is wrong with the parameters."""
        found = [f"msa.{name} must not be negative." for name in ("alpha", "beta") if getattr(self, name) < 0]
        return found + ([] if 0 <= self.age <= 1 else [f"msa.age is a share between 0 and 1, not {self.age}."])

    def rows(self, forget: int, retain: int) -> int:
        """Rows of every step, of one vector or two."""
        return self.steps * min(self.batch, forget) * (2 if self.beta else 1)

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """Four terms: target, - alpha theta_1, + beta theta_2, + (alpha - beta) theta_0."""
        if request.history is None:
            raise Unmet("it needs a checkpoint from before the forget set was seen, and this task has none")
        before, recipe = pick(request.history, self.age), Recipe(self.steps, self.lr)

        def tuned(rows: Sequence[Any], label: str) -> Checkpoint:
            return ctx.train(before, streams(rows, descent(), self.batch, self.text_batch), recipe, label)

        terms = [(1.0, request.target), (-self.alpha, tuned(request.forget, "theta_1"))]
        if self.beta:
            terms.append((self.beta, tuned(sample_like(request.retain, request.forget, ctx.seed), "theta_2")))
        return ctx.combine([*terms, (self.alpha - self.beta, before)], "msa")


def pick(history: History, age: float) -> Checkpoint:
    """The history's checkpoint whose share of the steps before exposure is nearest to ``age``."""
    last = max(1, history.last.step)
    return min(history.moments, key=lambda moment: abs(moment.step / last - age)).checkpoint
