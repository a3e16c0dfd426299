"""Building a lab scenario's checkpoints: fresh weights, pretraining with history, a target and its oracles."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import ClassVar

from bench.core.contracts import (
    MislabelledRows,
    Recipe,
    Retraining,
    Schedule,
    Stages,
    Stream,
    Task,
    TaskContext,
    steps_kept,
    too_small,
)
from bench.core.types import Checkpoint, Example, History, Json, Moment
from bench.engines.training.losses import descent
from bench.lab.model import small_llama, word_tokenizer
from bench.lab.world import World, fact_questions, fact_statements
from bench.runs.context import checkpoint_in
from bench.runs.stages import stage_two

HISTORY_POINTS = 10
"""Checkpoints kept of pretraining after the fresh weights, unless told otherwise; the last one starts stage two."""
ORACLES = 2
BATCH = 64
"""Rows of one optimiser step of the world's people, of images, and of the later training."""


@dataclass(frozen=True, kw_only=True)
class LabOptions(Task):
    """Parameters that every lab task has, for what users and ablations vary beside the task's own."""

    width: int = 192
    """Hidden size of the two-layer Llama."""
    history_steps: int = 640
    """Optimiser steps of pretraining."""
    target_steps: int = 400
    """Optimiser steps of the target; the oracle's are scaled by its rows."""
    history_points: int = HISTORY_POINTS
    """Checkpoints kept of pretraining after the fresh weights, at equal distances."""
    exposed: int = 0
    """Checkpoints kept of the target's training, which the history then holds as taken after exposure."""
    later: int = 0
    """People (books, images) that training goes on to after the target, with the retain rows; see ``gap_steps``."""
    gap_steps: int = 0
    """Optimiser steps of that later training, of target and oracles alike."""
    noise_inside: float = 0.0
    """Retain rows wrongly among the forget rows that methods are given, as a share of the forget set."""
    noise_missing: float = 0.0
    """Share of the forget rows that methods are given as retain rows."""

    name: ClassVar[str]
    """The task's name, for labels and messages."""
    sizes: ClassVar[tuple[str, ...]] = ()
    """Parameters beside the shared ones that must be at least 1."""

    def problems(self) -> list[str]:
        """Sentences about sizes, counts and shares that are out of bounds."""
        whole = (*self.sizes, "width", "history_steps", "target_steps")
        found = super().problems() + too_small(self.name, self, dict.fromkeys(whole, 1))
        found += [] if self.history_points >= 1 else [f"{self.name}.history_points must be at least 1."]
        for name in ("exposed", "later", "gap_steps"):
            if (count := getattr(self, name)) < 0:
                found.append(f"{self.name}.{name} must not be negative, as {count} is.")
        for name in ("noise_inside", "noise_missing"):
            if not 0 <= (share := getattr(self, name)) < 1:
                found.append(f"{self.name}.{name} is a share from 0 to below 1, not {share}.")
        if self.gap_steps > 0 and self.later < 1:
            found.append(f"{self.name}.gap_steps needs something to train on: set {self.name}.later to at least 1.")
        return found

    def told(self, forget: Sequence[Example], retain: Sequence[Example], seed: int) -> MislabelledRows | None:
        """The mislabelled rows that methods get; None where nothing is mislabelled."""
        if not self.noise_inside and not self.noise_missing:
            return None
        rng = random.Random(f"mislabelled/{seed}")
        stray = set(rng.sample(range(len(retain)), min(len(retain) - 1, round(self.noise_inside * len(forget)))))
        lost = set(rng.sample(range(len(forget)), min(len(forget) - 1, round(self.noise_missing * len(forget)))))
        return MislabelledRows(
            (*(row for i, row in enumerate(forget) if i not in lost), *(retain[i] for i in sorted(stray))),
            (*(row for i, row in enumerate(retain) if i not in stray), *(forget[i] for i in sorted(lost))),
        )

    def stages(self, history: int, target: int, share: float, oracles: int = ORACLES) -> dict[str, int]:
        """Rows that each stage trains on, with so many rows a step; ``share`` of the target's steps are an oracle's."""
        gap = self.gap_steps * BATCH
        oracle = round(self.target_steps * share) * target + gap
        return {
            "history": self.history_steps * history,
            "target": self.target_steps * target + gap,
            **{f"oracle-{i}": oracle for i in range(oracles)},
        }

    def train_stages(
        self,
        work: TaskContext,
        start: Callable[[], Checkpoint],
        pretraining: Schedule,
        schedule: Callable[[Sequence[Example]], Schedule],
        target: TaughtRows,
        oracle: TaughtRows,
        gap_lr: float,
        oracles: int = ORACLES,
    ) -> Stages:
        """History, target and oracles of a seed, from the untrained weights ``start``.

        ``schedule`` says how so many rows are taught from the history's last checkpoint; ``gap_lr`` is the peak learning
        rate of the later training.
        """

        @cache
        def past() -> History:
            rows = schedule(target.rows)
            return build_history_from(work, start(), pretraining, self.history_points, self.exposed, rows)

        def last() -> Checkpoint:
            return past().last.checkpoint

        def train(taught: TaughtRows, label: str, order: int = 0) -> Callable[[], Checkpoint]:
            stage = schedule(taught.rows)
            first = stage_two(work, last, stage.streams, stage.recipe, label, order)
            if not self.gap_steps:
                return first
            gap = steps_on(taught.later, self.gap_steps, gap_lr)
            return stage_two(work, first, gap.streams, gap.recipe, label)

        return Stages(
            target=train(target, "target"),
            oracles=tuple(train(oracle, f"oracle-{i}", order=i) for i in range(oracles)),
            history=past,
            reference=last,
            retraining=count_retraining(schedule(oracle.rows), self.gap_steps),
        )


def count_retraining(schedule: Schedule, gap_steps: int) -> Retraining:
    """An oracle's recipe without its rows; the steps of its later training count as its own."""
    *texts, others = schedule.streams
    recipe = replace(schedule.recipe, steps=schedule.recipe.steps + gap_steps)
    return Retraining(recipe, others.batch, sum(stream.batch for stream in texts))


@dataclass(frozen=True)
class TaughtRows:
    """Rows that a model of stage two is trained on, and those of the later training between them and the request."""

    rows: tuple[Example, ...]
    later: tuple[Example, ...]


@dataclass(frozen=True)
class Architecture:
    """The sizes of the lab's Llama."""

    width: int
    layers: int
    positions: int
    version: int = 1

    def parameters(self, vocabulary: int) -> int:
        """The number of parameters: embeddings, and per block four attention and three feed-forward matrices and two norms."""
        block = 4 * self.width**2 + 9 * self.width**2 + 2 * self.width
        return vocabulary * self.width + self.layers * block + self.width


@dataclass(frozen=True)
class Pretraining:
    """The model, words, rows and recipe that theta_0 and the history before it are trained with."""

    architecture: Architecture
    vocabulary: tuple[str, ...]
    schedule: Schedule


def pretraining_on_residents(world: World, width: int, steps: int) -> Pretraining:
    """Pretraining on the world's residents: statements and all three questions, every token scored."""
    residents = world.groups["resident"]
    rows = fact_statements(residents) + fact_questions(residents, (0, 1, 2), world.values, template="qa-full")
    return Pretraining(Architecture(width, layers=2, positions=64), world.vocabulary, steps_on(rows, steps, 2e-3))


def make_fresh_llama(work: TaskContext, pretraining: Pretraining) -> Checkpoint:
    """The untrained weights and the tokenizer, a node."""
    architecture = pretraining.architecture
    fields: Json = {"architecture": asdict(architecture), "vocabulary": list(pretraining.vocabulary)}

    def write(folder: Path) -> None:
        from bench.engines.training.trainer import save_model

        tokenizer = word_tokenizer(pretraining.vocabulary)
        model = small_llama(len(tokenizer), architecture.width, architecture.layers, architecture.positions, work.seed)
        save_model(model, tokenizer, folder)

    return make_fresh(work, fields, write)


def make_fresh(work: TaskContext, fields: Json, write: Callable[[Path], None], loader: str = "causal-lm") -> Checkpoint:
    """Untrained weights that ``write`` puts into a folder, a node of ``fields`` and the seed."""
    node = work.checkpoint_node({"kind": "fresh", **fields, "seed": work.seed}, write, "fresh weights", [])
    return checkpoint_in(node, Checkpoint("", "", loader), "history-0")


def steps_on(rows: Sequence[Example], steps: int, lr: float) -> Schedule:
    """So many optimiser steps on the rows, at least one, `BATCH` of them in each."""
    return Schedule((Stream(tuple(rows), BATCH, descent()),), Recipe(max(1, steps), lr))


def build_history_from(
    work: TaskContext,
    start: Checkpoint,
    pretraining: Schedule,
    points: int = HISTORY_POINTS,
    exposed: int = 0,
    exposure: Schedule | None = None,
) -> History:
    """Pretraining from the untrained weights with ``points`` checkpoints at equal distances, and ``exposed`` more of the
    target's training.
    """
    first = Moment(start, 0, 0, "pretraining")
    moments = [first, *train_with_snapshots(work, first, pretraining, points, "history")]
    if exposed and exposure:
        moments += train_with_snapshots(work, moments[-1], exposure, exposed, "exposure")
    return History(tuple(moments))


def train_with_snapshots(work: TaskContext, start: Moment, schedule: Schedule, points: int, label: str) -> list[Moment]:
    """Training from ``start`` with checkpoints at equal distances, the last one at its end; one node."""
    at = steps_kept(schedule.recipe.steps, points)
    node = work.train_node(start.checkpoint, schedule.streams, schedule.recipe, label, snapshots=at)
    moments = []
    for step in at:
        known = node.info["meta"]["snapshots"][str(step)]
        made, folder = known["checkpoint"], str(node.path / f"step-{step:06d}")
        where = replace(start.checkpoint, path=folder, hash=made, label=f"{label}-{step}")
        stage, tokens = ("exposure" if label == "exposure" else "pretraining"), (start.tokens or 0) + known["tokens"]
        moments.append(Moment(where, start.step + step, tokens, stage, exposed=label == "exposure"))
    return moments
