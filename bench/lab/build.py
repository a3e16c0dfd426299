"""Building a lab scenario's checkpoints: fresh weights, pretraining with history, a target and its oracles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.context import Work
from bench.contracts import Recipe, Stream
from bench.lab.model import small_llama, word_tokenizer
from bench.lab.world import World, questions, statements
from bench.loaders import checkpoint_at
from bench.losses import descent
from bench.types import Checkpoint, History, Json, Moment

HISTORY_POINTS = 10
"""Checkpoints kept of pretraining after the fresh weights, at equal distances; the last one is the start of stage two."""
ORACLES = 2
ORDER = 1_000_003
"""Between the seeds of two data orders: no seed that a user takes is another one's second oracle."""


@dataclass(frozen=True)
class Architecture:
    """The lab's Llama."""

    width: int
    layers: int
    positions: int
    version: int = 1

    def parameters(self, vocabulary: int) -> int:
        """How many: embeddings, and per block four attention and three feed-forward matrices and two norms."""
        block = 4 * self.width**2 + 9 * self.width**2 + 2 * self.width
        return vocabulary * self.width + self.layers * block + self.width


@dataclass(frozen=True)
class Pretraining:
    """How theta_0 and everything before it comes about."""

    architecture: Architecture
    vocabulary: tuple[str, ...]
    streams: tuple[Stream, ...]
    recipe: Recipe


def resident_pretraining(world: World, width: int, steps: int) -> Pretraining:
    """Pretraining on the world's residents: statements and all three questions, every token scored."""
    residents = world.groups["resident"]
    rows = statements(residents) + questions(residents, (0, 1, 2), world.values, template="qa-full")
    return Pretraining(
        Architecture(width, layers=2, positions=64),
        world.vocabulary,
        (Stream(rows, 64, descent()),),
        Recipe(steps, 2e-3),
    )


def fresh(work: Work, pretraining: Pretraining) -> Checkpoint:
    """The untrained weights and the tokenizer, a node."""
    from bench.training import save

    architecture = pretraining.architecture
    fields = {
        "kind": "fresh",
        "architecture": asdict(architecture),
        "vocabulary": list(pretraining.vocabulary),
        "seed": work.seed,
    }

    def make(folder: Path) -> Json:
        tokenizer = word_tokenizer(pretraining.vocabulary)
        model = small_llama(len(tokenizer), architecture.width, architecture.layers, architecture.positions, work.seed)
        save(model, tokenizer, folder)
        return {"checkpoint": checkpoint_at(folder, "fresh").hash}

    node = work.node(fields, make, "fresh weights")
    return Checkpoint(str(node.path), node.info["meta"]["checkpoint"], label="history-0")


def history(work: Work, pretraining: Pretraining) -> History:
    """Pretraining with checkpoints at 0, 10, ... 100% of its steps; one node."""
    start = fresh(work, pretraining)
    steps = pretraining.recipe.steps
    at = sorted({max(1, round(steps * k / HISTORY_POINTS)) for k in range(1, HISTORY_POINTS + 1)})
    node = work.train_node(start, pretraining.streams, pretraining.recipe, "history", snapshots=at)
    moments = [Moment(start, 0, 0, "pretraining")]
    for step in at:
        known = node.info["meta"]["snapshots"][str(step)]
        where = Checkpoint(str(node.path / f"step-{step:06d}"), known["checkpoint"], label=f"history-{step}")
        moments.append(Moment(where, step, known["tokens"], "pretraining"))
    return History(tuple(moments))


def stage_two(
    work: Work, start: Callable[[], Checkpoint], streams: Sequence[Stream], recipe: Recipe, label: str, order: int = 0
) -> Callable[[], Checkpoint]:
    """A checkpoint trained from ``start`` when it is first asked for; ``order`` varies the data order alone."""

    @cache
    def build() -> Checkpoint:
        node = work.train_node(start(), streams, recipe, label, seed=work.seed + ORDER * order)
        return Checkpoint(str(node.path), node.info["meta"]["checkpoint"], label=label)

    return build


def lasting(build: Callable[[], Any]) -> Callable[[], Any]:
    """``build``, called at most once."""
    return cache(build)
