"""Task arithmetic: the target minus the direction in which further training on the forget set moves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from bench.core.contracts import Context, Method, Preset, Recipe, Settings, product
from bench.core.types import Checkpoint, Request
from bench.engines.training.losses import descent, streams


@dataclass(frozen=True)
class TaskArithmetic(Method):
    """``theta_D - alpha (theta_F - theta_D)``, theta_F trained on the forget set from theta_D (Ilharco et al. 2023).

    It is MSA with the target itself in the place of theta_0, and so needs no history.
    """

    alpha: float = 1.5
    """Length of the step away from the forget set, in units of the task vector."""
    steps: int = 60
    """Optimiser steps for theta_F."""
    lr: float = 5e-4
    """Peak learning rate for theta_F."""
    batch: int = 32
    """Forget rows in one step."""
    text_batch: int = 8
    """Forget passages in one step, where the task has passages."""

    summary: ClassVar[str] = "task arithmetic: negate the forget set's task vector (Ilharco et al. 2023)"
    version: ClassVar[int] = 1
    presets: ClassVar[Mapping[str, Preset]] = {
        "lab-tofu": Preset({"alpha": 1.75}, "bench tune, results/tune/lab-tofu-task-arithmetic.json"),
        "lab-restor": Preset(
            {"alpha": 2.0, "steps": 30, "text_batch": 32},
            "bench tune, results/tune/lab-restor-task-arithmetic.json (edge of its grid)",
        ),
        "lab-muse-books": Preset(
            {"alpha": 4.0, "steps": 30},
            "bench tune, results/tune/lab-muse-books-task-arithmetic.json (edge of its grid)",
        ),
        "lab-graph": Preset(
            {"alpha": 2.0, "lr": 0.001}, "bench tune, results/tune/lab-graph-task-arithmetic.json (edge of its grid)"
        ),
        "lab-digits": Preset(
            {"steps": 60, "lr": 0.0002},
            "bench tune, results/tune/lab-digits-task-arithmetic.json (edge of its grid)",
        ),
        "real-books-public-domain": Preset(
            {"alpha": 1.0, "steps": 20, "lr": 1e-4, "text_batch": 2}, "stated for small real models, not searched"
        ),
        "real-muse-books": Preset(
            {"alpha": 1.0, "steps": 20, "lr": 1e-4, "text_batch": 2}, "stated for small real models, not searched"
        ),
        "real-restor": Preset(
            {"alpha": 1.0, "steps": 50, "lr": 1e-4, "text_batch": 8},
            "stated for small real models, not searched: two passes over 200 documents",
        ),
        "real-tofu": Preset(
            {"alpha": 1.5, "steps": 20, "lr": 5e-05, "batch": 8, "text_batch": 4},
            "bench tune, results/tune/real-tofu-task-arithmetic.json",
        ),
    }
    space: ClassVar[Mapping[str, Settings]] = {
        "lab-tofu": (
            *product(alpha=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)),
            *product(lr=(2e-4,), steps=(120,), alpha=(1.0, 1.25, 1.5, 1.75, 2.0)),
            *product(lr=(2e-4,), steps=(300,), alpha=(1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 3.0, 3.5)),
            *product(lr=(1e-4,), steps=(240,), alpha=(0.75, 1.0, 1.25, 1.5, 1.75, 2.0)),
        ),
        "lab-restor": (
            *product(text_batch=(32,), alpha=(0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 1.0, 1.25, 1.5, 2.0)),
            *product(text_batch=(32,), lr=(2e-4,), steps=(120,), alpha=(0.25, 0.5, 0.75, 1.0, 1.5, 2.0)),
            *product(text_batch=(32,), steps=(30,), alpha=(0.5, 1.0, 1.5, 2.0, 3.0, 4.0)),
            *product(text_batch=(32,), lr=(2e-4,), steps=(60,), alpha=(0.5, 1.0, 1.5, 2.0, 3.0, 4.0)),
        ),
        "lab-muse-books": (
            *product(steps=(60,), alpha=(1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0)),
            *product(steps=(120,), alpha=(1.5, 2.0, 2.5, 3.0, 3.5)),
            *product(steps=(30,), alpha=(3.0, 4.0, 5.0)),
        ),
        "lab-digits": product(lr=(2e-4, 5e-4), steps=(30, 60), alpha=(0.5, 0.75, 1.0, 1.5)),
        "lab-graph": (
            *product(lr=(1e-3,), steps=(30, 60), alpha=(2.0, 2.5, 3.0, 4.0)),
            *product(lr=(3e-3,), steps=(30,), alpha=(0.75, 1.0, 1.5, 2.0)),
            *product(lr=(5e-3,), steps=(30,), alpha=(0.5, 0.75, 1.0, 1.5)),
        ),
        "real": product(steps=(20,), batch=(8,), text_batch=(4,), lr=(5e-5,), alpha=(0.5, 1.0, 1.5, 2.0)),
    }

    def rows(self, forget: int, retain: int) -> int:
        """Forget rows of every step."""
        return self.steps * min(self.batch, forget)

    def checkpoints(self) -> int:
        """The tuned one and the sum."""
        return 2

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """Two terms: (1 + alpha) target - alpha theta_F."""
        rows = streams(request.forget, descent(), self.batch, self.text_batch)
        tuned = ctx.train(request.target, rows, Recipe(self.steps, self.lr), "theta_F")
        return ctx.combine([(1 + self.alpha, request.target), (-self.alpha, tuned)], "task-arithmetic")
