"""Gradient difference (GradDiff): ascent on the forget set, descent on the retain set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from bench.core.contracts import Context, Method, Preset, Recipe, Settings, product
from bench.core.types import Checkpoint, Request
from bench.engines.training.losses import Ascent, descent, retain_rows, streams


@dataclass(frozen=True)
class GradDiff(Method):
    """Minimise ``mean log p(forget) - retain_weight * mean log p(retain)`` (Liu et al. 2022; TOFU section 3)."""

    steps: int = 60
    """Optimiser steps."""
    lr: float = 1e-4
    """Peak learning rate."""
    retain_weight: float = 5.0
    """Weight of the retain rows' loss (TOFU and OpenUnlearning: 1)."""
    batch: int = 32
    """Forget rows, and as many retain rows, in one step."""
    text_batch: int = 8
    """Forget passages, and as many retain passages, in one step, where the task has passages."""
    retain: str = "all"
    """Retain rows that may be drawn from: ``all``, or ``forget``, as many as the forget set has (MSA's budget)."""

    summary: ClassVar[str] = "gradient difference: ascent on forget, descent on retain (Liu et al. 2022)"
    needs: ClassVar[frozenset[str]] = frozenset({"retain"})
    version: ClassVar[int] = 1
    together: ClassVar[int] = 2
    presets: ClassVar[Mapping[str, Preset]] = {
        "lab-tofu": Preset(
            {"steps": 240, "lr": 0.0003, "retain_weight": 20.0},
            "bench tune, results/tune/lab-tofu-graddiff.json (edge of its grid)",
        ),
        "lab-restor": Preset(
            {"steps": 240, "lr": 0.0003, "retain_weight": 20.0, "text_batch": 32},
            "bench tune, results/tune/lab-restor-graddiff.json (edge of its grid)",
        ),
        "lab-muse-books": Preset(
            {"steps": 240, "lr": 0.0003, "retain_weight": 20.0},
            "bench tune, results/tune/lab-muse-books-graddiff.json (edge of its grid)",
        ),
        "lab-graph": Preset(
            {"steps": 60, "lr": 0.003, "retain_weight": 100.0},
            "bench tune, results/tune/lab-graph-graddiff.json (edge of its grid)",
        ),
        "lab-digits": Preset(
            {"steps": 60, "lr": 0.0003, "retain_weight": 100.0},
            "bench tune, results/tune/lab-digits-graddiff.json (edge of its grid)",
        ),
        "real-books-public-domain": Preset(
            {"steps": 10, "lr": 5e-5, "retain_weight": 1.0, "text_batch": 2},
            "stated for small real models, not searched",
        ),
        "real-muse-books": Preset(
            {"steps": 10, "lr": 5e-5, "retain_weight": 1.0, "text_batch": 2},
            "stated for small real models, not searched",
        ),
        "real-restor": Preset(
            {"steps": 40, "lr": 2e-5, "retain_weight": 1.0, "text_batch": 8},
            "stated for small real models, not searched",
        ),
        "real-tofu": Preset(
            {"steps": 20, "lr": 5e-05, "batch": 8, "text_batch": 4},
            "bench tune, results/tune/real-tofu-graddiff.json (edge of its grid)",
        ),
        "small-retain": Preset({"retain": "forget"}, "MSA's retain budget (docs/design.md, honesty rule 5)"),
    }
    space: ClassVar[Mapping[str, Settings]] = {
        "lab-tofu": (
            *product(retain_weight=(5.0,), lr=(1e-4, 3e-4), steps=(30, 60, 120, 240, 360)),
            *product(retain_weight=(1.0,), lr=(1e-4, 3e-4), steps=(60, 120, 240, 360)),
            *product(retain_weight=(1.0, 5.0), lr=(1e-3,), steps=(60, 120)),
            *product(retain_weight=(20.0,), lr=(3e-4,), steps=(60, 120, 240)),
            *product(retain_weight=(1.0,), lr=(3e-5,), steps=(120, 240)),
            *product(retain_weight=(5.0,), lr=(3e-5,), steps=(240,)),
        ),
        "lab-restor": (
            *product(text_batch=(32,), retain_weight=(5.0,), lr=(1e-4, 3e-4), steps=(30, 60, 120, 180, 240)),
            *product(text_batch=(32,), retain_weight=(1.0,), lr=(1e-4, 3e-4), steps=(60, 120, 180, 240)),
            *product(text_batch=(32,), retain_weight=(5.0,), lr=(1e-3,), steps=(30, 60, 120)),
            *product(text_batch=(32,), retain_weight=(5.0,), lr=(3e-5,), steps=(60, 120, 240)),
            *product(text_batch=(32,), retain_weight=(20.0,), lr=(1e-4, 3e-4), steps=(120, 240)),
        ),
        "lab-muse-books": (
            *product(retain_weight=(5.0,), lr=(1e-4, 3e-4, 1e-3), steps=(60, 120, 240)),
            *product(retain_weight=(1.0,), lr=(1e-4, 3e-4), steps=(60, 120, 240)),
            *product(retain_weight=(20.0,), lr=(3e-4,), steps=(240,)),
        ),
        "lab-digits": (
            *product(retain_weight=(20.0, 100.0), lr=(1e-4, 3e-4), steps=(60, 120, 240)),
            *product(retain_weight=(5.0,), lr=(1e-4,), steps=(15, 30, 60, 120)),
        ),
        "lab-graph": (
            *product(retain_weight=(20.0, 100.0, 300.0), lr=(3e-3,), steps=(60, 120, 240)),
            *product(retain_weight=(100.0,), lr=(1e-2,), steps=(60, 120, 240)),
            *product(retain_weight=(5.0,), lr=(3e-3,), steps=(15, 30, 60, 120)),
        ),
        "real": product(batch=(8,), text_batch=(4,), lr=(2e-5, 5e-5), steps=(10, 20)),
    }
    variants: ClassVar[tuple[str, ...]] = ("small-retain",)

    def problems(self) -> list[str]:
        """What is wrong with the parameters."""
        return (
            [] if self.retain in ("all", "forget") else [f"graddiff.retain is 'all' or 'forget', not '{self.retain}'."]
        )

    def rows(self, forget: int, retain: int) -> int:
        """Forget and retain rows of every step."""
        return 2 * self.steps * min(self.batch, forget)

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """The target after `steps` of both."""
        kept = retain_rows(request.retain, request.forget, self.retain, ctx.seed)
        rows = streams(request.forget, Ascent(), self.batch, self.text_batch)
        rows += streams(kept, descent(), self.batch, self.text_batch, self.retain_weight)
        return ctx.train(request.target, rows, Recipe(self.steps, self.lr), "graddiff")
