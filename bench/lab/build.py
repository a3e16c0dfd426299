"""Building a lab scenario's checkpoints: fresh weights, pretraining with history, a target and its oracles."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from bench.core.contracts import (
    MislabelledRows,
    Recipe,
    Retraining,
    Schedule,
    Stages,
    Stream,
    Task,
    TaskContext,
    not_positive,
    steps_kept,
    too_small,
)
from bench.core.types import Checkpoint, Example, History, Json, Moment
from bench.engines.training.losses import descent
from bench.lab.model import small_llama, word_tokenizer
from bench.runs.context import checkpoint_in
from bench.runs.stages import stage_two

HISTORY_POINTS = 10
"""Checkpoints kept of pretraining after the fresh weights, unless told otherwise; the last one starts stage two."""
ORACLES = 3
"""Retrained models of a seed: the oracle's own row is compared with two others, whose distances are the noise."""
BATCH = 64
"""Rows of one optimiser step of the world's people, of images, and of the later training."""
SPREAD = 0.06
"""Standard deviation of a Llama's first weights: what later training adds is then a small part of them."""
FALL = 0.2
"""Last share of pretraining, in which the learning rate falls; before it the rate is constant, as in real suites."""


@dataclass(frozen=True, kw_only=True)
class LabOptions(Task):
    """Parameters that every lab task has, for what users and ablations vary beside the task's own."""

    width: int = 192
    """Hidden size of the two-layer Llama."""
    history_passes: float = 6.0
    """Passes of pretraining over its rows."""
    target_passes: float = 10.0
    """Passes of the target over its rows; the oracle makes as many over its own."""
    history_points: int = HISTORY_POINTS
    """Checkpoints kept of pretraining after the fresh weights: at equal distances while the rate is constant, and the last."""
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
    fall: ClassVar[float] = 0.0
    """Last share of pretraining in which the learning rate falls from a constant one, and no checkpoint is kept but the last."""
    shares: ClassVar[tuple[str, ...]] = ("noise_inside", "noise_missing")
    """Parameters that are a share from 0 to below 1."""
    step_rows: ClassVar[tuple[int, int]] = (BATCH, BATCH)
    """Rows of one step of pretraining, and of the target's training."""

    @property
    def pass_rows(self) -> tuple[int, int]:
        """Rows of one pass of pretraining, and of the target's training."""
        raise NotImplementedError

    @property
    def history_steps(self) -> int:
        """Optimiser steps of pretraining."""
        return steps_in(self.history_passes, self.pass_rows[0], self.step_rows[0])

    @property
    def history_kept(self) -> list[int]:
        """The steps of the checkpoints kept of pretraining."""
        return points_kept(Recipe(self.history_steps, 0.0, schedule="wsd", decay=self.fall), self.history_points)

    @property
    def target_steps(self) -> int:
        """Optimiser steps of the target's training."""
        return steps_in(self.target_passes, self.pass_rows[1], self.step_rows[1])

    def problems(self) -> list[str]:
        """Sentences about sizes, counts and shares that are out of bounds."""
        found = super().problems() + too_small(self.name, self, dict.fromkeys((*self.sizes, "width"), 1))
        found += not_positive(self.name, self, "history_passes", "target_passes")
        found += [] if self.history_points >= 1 else [f"{self.name}.history_points must be at least 1."]
        for name in ("exposed", "later", "gap_steps"):
            if (count := getattr(self, name)) < 0:
                found.append(f"{self.name}.{name} must not be negative, as {count} is.")
        for name in self.shares:
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

    def stages(self, forget: int) -> dict[str, int]:
        """Rows that each stage trains on, where ``forget`` of the target's rows are to be forgotten."""
        gap = self.gap_steps * BATCH
        oracle = round(self.target_passes * (self.pass_rows[1] - forget)) + gap
        return {
            "history": self.history_steps * self.step_rows[0],
            "target": self.target_steps * self.step_rows[1] + gap,
            **{f"oracle-{i}": oracle for i in range(ORACLES)},
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
            rows = Stream(taught.later, BATCH, descent())
            gap = Schedule((rows,), Recipe(self.gap_steps, gap_lr))
            return stage_two(work, first, gap.streams, gap.recipe, label)

        return Stages(
            target=train(target, "target"),
            oracles=tuple(train(oracle, f"oracle-{i}", order=i) for i in range(ORACLES)),
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
    spread: float = SPREAD
    """Standard deviation of the first weights."""
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


def make_fresh_llama(work: TaskContext, pretraining: Pretraining) -> Checkpoint:
    """The untrained weights and the tokenizer, a node."""
    a = pretraining.architecture
    fields: Json = {"architecture": asdict(a), "vocabulary": list(pretraining.vocabulary)}

    def write(folder: Path) -> None:
        from bench.engines.training.trainer import save_model

        tokenizer = word_tokenizer(pretraining.vocabulary)
        model = small_llama(len(tokenizer), a.width, a.layers, a.positions, work.seed, a.spread)
        save_model(model, tokenizer, folder)

    return make_fresh(work, fields, write)


def make_fresh(work: TaskContext, fields: Json, write: Callable[[Path], None], loader: str = "causal-lm") -> Checkpoint:
    """Untrained weights that ``write`` puts into a folder, a node of ``fields`` and the seed."""
    node = work.checkpoint_node({"kind": "fresh", **fields, "seed": work.seed}, write, "fresh weights", [])
    return checkpoint_in(node, Checkpoint("", "", loader), "history-0")


def steps_in(passes: float, rows: int, batch: int) -> int:
    """Optimiser steps of so many passes over the rows, at least one."""
    return max(1, round(passes * rows / batch))


def in_passes(rows: Sequence[Example], passes: float, lr: float, **recipe: Any) -> Schedule:
    """So many passes over the rows, `BATCH` of them in each step; ``recipe``: what else its recipe says."""
    return Schedule((Stream(tuple(rows), BATCH, descent()),), Recipe(steps_in(passes, len(rows), BATCH), lr, **recipe))


def pretraining_recipe(steps: int, lr: float) -> Recipe:
    """How a language model of the lab is pretrained: a constant rate with a short fall at the end."""
    return Recipe(steps, lr, warmup=0.05, schedule="wsd", beta2=0.95, decay=FALL)


def build_history_from(
    work: TaskContext,
    start: Checkpoint,
    pretraining: Schedule,
    points: int = HISTORY_POINTS,
    exposed: int = 0,
    exposure: Schedule | None = None,
) -> History:
    """Pretraining from the untrained weights with ``points`` checkpoints, and ``exposed`` more of the target's training."""
    first = Moment(start, 0, 0, "pretraining")
    moments = [
        first,
        *train_with_snapshots(work, first, pretraining, points_kept(pretraining.recipe, points), "history"),
    ]
    if exposed and exposure:
        at = steps_kept(exposure.recipe.steps, exposed)
        moments += train_with_snapshots(work, moments[-1], exposure, at, "exposure")
    return History(tuple(moments))


def points_kept(recipe: Recipe, points: int) -> list[int]:
    """The steps of so many checkpoints: at equal distances before the rate's final fall, if it has one, and the last."""
    if recipe.stable_steps == recipe.steps or points < 2:
        return steps_kept(recipe.steps, points)
    return [*steps_kept(recipe.stable_steps, points - 1), recipe.steps]


def train_with_snapshots(
    work: TaskContext, start: Moment, schedule: Schedule, at: Sequence[int], label: str
) -> list[Moment]:
    """Training from ``start`` with checkpoints at the steps ``at``, the last one at its end; one node."""
    node = work.train_node(start.checkpoint, schedule.streams, schedule.recipe, label, snapshots=at)
    moments = []
    for step in at:
        known = node.info["meta"]["snapshots"][str(step)]
        made, folder = known["checkpoint"], str(node.path / f"step-{step:06d}")
        where = replace(start.checkpoint, path=folder, hash=made, label=f"{label}-{step}")
        stage, tokens = ("exposure" if label == "exposure" else "pretraining"), (start.tokens or 0) + known["tokens"]
        moments.append(Moment(where, start.step + step, tokens, stage, exposed=label == "exposure"))
    return moments
