"""Gradient ascent (GA): the forget set's loss is raised, and nothing holds the rest in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from bench.core.contracts import Context, Method, Preset, Recipe, Settings, product
from bench.core.types import Checkpoint, Request
from bench.engines.training.losses import Ascent, streams


@dataclass(frozen=True)
class GradientAscent(Method):
    """Minimise ``mean log p(forget answer)`` from the target (Jang et al. 2022; TOFU, arXiv 2401.06121, section 3)."""

    steps: int = 20
    """Optimiser steps."""
    lr: float = 1e-4
    """Peak learning rate."""
    batch: int = 32
    """Forget rows in one step."""
    text_batch: int = 8
    """Forget passages in one step, where the task has passages."""

    summary: ClassVar[str] = "gradient ascent on the forget set (Jang et al. 2022)"
    version: ClassVar[int] = 1
    presets: ClassVar[Mapping[str, Preset]] = {
        "lab-tofu": Preset({"steps": 120, "lr": 5e-05}, "bench tune, results/tune/lab-tofu-ga.json (edge of its grid)"),
        "lab-restor": Preset({"steps": 60, "text_batch": 32}, "bench tune, results/tune/lab-restor-ga.json"),
        "lab-muse-books": Preset(
            {"steps": 40, "lr": 0.0004}, "bench tune, results/tune/lab-muse-books-ga.json (edge of its grid)"
        ),
        "lab-graph": Preset({"lr": 0.003}, "bench tune, results/tune/lab-graph-ga.json"),
        "lab-digits": Preset(
            {"steps": 20, "lr": 0.0003}, "bench tune, results/tune/lab-digits-ga.json (edge of its grid)"
        ),
        "real-books-public-domain": Preset(
            {"steps": 10, "lr": 2e-5, "text_batch": 2}, "stated for small real models, not searched"
        ),
        "real-muse-books": Preset(
            {"steps": 10, "lr": 2e-5, "text_batch": 2}, "stated for small real models, not searched"
        ),
        "real-restor": Preset({"steps": 12, "lr": 2e-5, "text_batch": 8}, "stated for small real models, not searched"),
        "real-tofu": Preset(
            {"steps": 12, "lr": 2e-05, "batch": 8, "text_batch": 4},
            "bench tune, results/tune/real-tofu-ga.json (edge of its grid)",
        ),
    }
    space: ClassVar[Mapping[str, Settings]] = {
        "lab-tofu": (
            *product(lr=(5e-5, 1e-4, 2e-4), steps=(10, 20, 30, 40, 60, 80)),
            *product(lr=(4e-4, 8e-4), steps=(10, 20, 40, 80)),
            *product(lr=(5e-5, 2e-4), steps=(120,)),
        ),
        "lab-restor": (
            *product(text_batch=(32,), lr=(3e-5, 1e-4), steps=(10, 20, 40, 60, 80, 120)),
            *product(text_batch=(32,), lr=(2e-4,), steps=(10, 20, 40, 60, 80, 120)),
            *product(text_batch=(32,), lr=(4e-4,), steps=(10, 20, 40, 60, 120)),
            *product(text_batch=(32,), lr=(1e-5,), steps=(40, 80, 120, 160, 240)),
        ),
        "lab-muse-books": product(lr=(5e-5, 1e-4, 2e-4, 4e-4), steps=(10, 20, 40, 80)),
        "lab-digits": (
            *product(lr=(3e-5, 1e-4), steps=(20, 40, 50, 60, 80)),
            *product(lr=(3e-4,), steps=(5, 10, 15, 20, 25, 30)),
        ),
        "lab-graph": (
            *product(lr=(1e-3,), steps=(20, 40, 60, 80, 120)),
            *product(lr=(3e-3,), steps=(10, 15, 20, 30, 40, 60)),
            *product(lr=(1e-2,), steps=(3, 5, 10, 15, 20)),
        ),
        "real": product(batch=(8,), text_batch=(4,), lr=(2e-5,), steps=(3, 6, 9, 12)),
    }

    def rows(self, forget: int, retain: int) -> int:
        """Forget rows of every step."""
        return self.steps * min(self.batch, forget)

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """The target after `steps` of ascent."""
        rows = streams(request.forget, Ascent(), self.batch, self.text_batch)
        return ctx.train(request.target, rows, Recipe(self.steps, self.lr), "ga")
