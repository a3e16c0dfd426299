"""The model as it was before: theta_0 itself in the target's place. A control, and what the model knew beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.core.contracts import Context, Method
from bench.core.types import Checkpoint, Request


@dataclass(frozen=True)
class Before(Method):
    """The last checkpoint before exposure: it forgot everything that the target has learnt, the retain rows too."""

    summary: ClassVar[str] = "the last checkpoint before exposure itself (a control: what the model knew beforehand)"
    needs: ClassVar[frozenset[str]] = frozenset({"history"})

    def checkpoints(self) -> int:
        """No checkpoint is made."""
        return 0

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """The checkpoint as it lies there."""
        assert request.history is not None
        return request.history.last.checkpoint
