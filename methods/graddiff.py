"""Gradient difference (GradDiff): ascent on the forget set, descent on the retain set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.engines.training.gradient import GradientMethod
from bench.engines.training.losses import Ascent


@dataclass(frozen=True)
class GradDiff(GradientMethod):
    """Minimise ``mean log p(forget) - retain_weight * mean log p(retain)`` (Liu et al. 2022; TOFU section 3)."""

    retain_weight: float = 5.0
    """Weight of the retain rows' loss (TOFU and OpenUnlearning: 1)."""

    summary: ClassVar[str] = "gradient difference: ascent on forget, descent on retain (Liu et al. 2022)"
    paper: ClassVar[str] = "arXiv 2401.06121"
    name: ClassVar[str] = "graddiff"

    def loss(self) -> Ascent:
        """The loss on forget rows."""
        return Ascent()
