"""The oracle's row: the model retrained without the forget set, on the target's own schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.core.contracts import Context, Method
from bench.core.errors import Unmet
from bench.core.types import Checkpoint, Request


@dataclass(frozen=True)
class Retrain(Method):
    """Exact unlearning, and what every other row is compared with."""

    summary: ClassVar[str] = "the oracle: retrained without the forget set; the definition of unlearning"
    reads: ClassVar[str] = "log-probs"
    needs: ClassVar[frozenset[str]] = frozenset({"retain"})

    def checkpoints(self) -> int:
        """No checkpoint is made: the harness has trained it."""
        return 0

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """The first oracle, which the harness trained for every row's comparison."""
        if request.oracle is None:
            raise Unmet("this task has no oracle")
        return request.oracle
