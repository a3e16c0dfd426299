"""The oracle's row: the model retrained without the forget set, on the target's own schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from bench.core.errors import Unmet
from bench.core.types import Checkpoint, Request


@dataclass(frozen=True)
class Retrain:
    """Exact unlearning, and what every other row is compared with."""

    summary: ClassVar[str] = "the oracle: retrained without the forget set; the definition of unlearning"
    needs: ClassVar[frozenset[str]] = frozenset({"retain"})
    version: ClassVar[int] = 1
    presets: ClassVar[dict[str, Any]] = {}
    space: ClassVar[dict[str, Any]] = {}
    variants: ClassVar[tuple[str, ...]] = ()

    def rows(self, forget: int, retain: int) -> int:
        """None beyond the oracle, which is a stage of the task."""
        return 0

    def checkpoints(self) -> int:
        """None, for the same reason."""
        return 0

    def unlearn(self, request: Request, ctx: Any) -> Checkpoint:
        """The first oracle, which the harness trained for every row's comparison."""
        if request.oracle is None:
            raise Unmet("this task has no oracle")
        return request.oracle
