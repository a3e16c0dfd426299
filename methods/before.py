"""The model as it was before: theta_0 itself in the target's place. A control, and what the model knew beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.core.contracts import Preset, Settings
from bench.core.types import Checkpoint, Request


@dataclass(frozen=True)
class Before:
    """The last checkpoint before exposure: it forgot everything that the target has learnt, the retain rows too."""

    summary: ClassVar[str] = "the last checkpoint before exposure itself (a control: what the model knew beforehand)"
    needs: ClassVar[frozenset[str]] = frozenset({"history"})
    version: ClassVar[int] = 1
    presets: ClassVar[Mapping[str, Preset]] = {}
    space: ClassVar[Mapping[str, Settings]] = {}
    variants: ClassVar[tuple[str, ...]] = ()
    in_all: ClassVar[bool] = False

    def rows(self, forget: int, retain: int) -> int:
        """None: nothing is trained."""
        return 0

    def checkpoints(self) -> int:
        """None is made."""
        return 0

    def unlearn(self, request: Request, ctx: Any) -> Checkpoint:
        """The checkpoint as it lies there."""
        assert request.history is not None
        return request.history.last.checkpoint
