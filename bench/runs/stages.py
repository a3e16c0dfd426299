"""Stages that lab and real scenarios share: training from the end of a stage in another order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from bench.core.contracts import Recipe, Stream, TaskContext
from bench.core.types import Checkpoint
from bench.runs.context import ORDER, checkpoint_in


def stage_two(
    work: TaskContext,
    start: Callable[[], Checkpoint],
    streams: Sequence[Stream],
    recipe: Recipe,
    label: str,
    order: int = 0,
) -> Callable[[], Checkpoint]:
    """A checkpoint trained from ``start`` when it is first asked for; ``order`` varies the data order alone."""

    @cache
    def build() -> Checkpoint:
        first = start()
        node = work.train_node(first, streams, recipe, label, seed=work.seed + ORDER * order)
        return checkpoint_in(node, first, label, work.fitted(recipe).dtype)

    return build
