"""Building a lab scenario's checkpoints: fresh weights, pretraining with history, a target and its oracles."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bench.core.contracts import Recipe, Schedule, Stream, Told, steps_kept
from bench.core.types import Checkpoint, Example, History, Json, Moment
from bench.engines.loaders import checkpoint_at
from bench.engines.training.losses import descent
from bench.lab.model import small_llama, word_tokenizer
from bench.lab.world import World, questions, statements
from bench.runs.context import Work
from bench.runs.stages import stage_two

HISTORY_POINTS = 10
"""Checkpoints kept of pretraining after the fresh weights, unless told otherwise; the last one starts stage two."""
ORACLES = 2


@dataclass(frozen=True, kw_only=True)
class Options:
    """Parameters that every lab task has, for what users and ablations vary beside the task's own."""

    history_points: int = HISTORY_POINTS
    """Lab: checkpoints kept of pretraining after the fresh weights, at equal distances."""
    exposed: int = 0
    """Lab: checkpoints kept of the target's training, which the history then holds as taken after exposure."""
    later: int = 0
    """Lab: people (books, images) that training goes on to after the target, with the retain rows; see ``gap_steps``."""
    gap_steps: int = 0
    """Lab: optimiser steps of that later training, of target and oracles alike."""
    noise_inside: float = 0.0
    """Lab: retain rows wrongly among the forget rows that methods are given, as a share of the forget set."""
    noise_missing: float = 0.0
    """Lab: share of the forget rows that methods are given as retain rows."""

    def lab_problems(self, task: str) -> list[str]:
        """What is wrong with these parameters."""
        found = [] if self.history_points >= 1 else [f"{task}.history_points must be at least 1."]
        found += [
            f"{task}.{name} must not be negative, as {getattr(self, name)} is."
            for name in ("exposed", "later", "gap_steps")
            if getattr(self, name) < 0
        ]
        found += [
            f"{task}.{name} is a share from 0 to below 1, not {getattr(self, name)}."
            for name in ("noise_inside", "noise_missing")
            if not 0 <= getattr(self, name) < 1
        ]
        if self.gap_steps > 0 and self.later < 1:
            found.append(f"{task}.gap_steps needs something to train on: set {task}.later to at least 1.")
        return found

    def told(self, forget: Sequence[Example], retain: Sequence[Example], seed: int) -> Told | None:
        """The mislabelled rows that methods get; None where nothing is mislabelled."""
        if not self.noise_inside and not self.noise_missing:
            return None
        rng = random.Random(f"mislabelled/{seed}")
        stray = set(rng.sample(range(len(retain)), min(len(retain) - 1, round(self.noise_inside * len(forget)))))
        lost = set(rng.sample(range(len(forget)), min(len(forget) - 1, round(self.noise_missing * len(forget)))))
        return Told(
            (*(row for i, row in enumerate(forget) if i not in lost), *(retain[i] for i in sorted(stray))),
            (*(row for i, row in enumerate(retain) if i not in stray), *(forget[i] for i in sorted(lost))),
        )


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
    from bench.engines.training.trainer import save

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


def history(
    work: Work,
    pretraining: Pretraining,
    points: int = HISTORY_POINTS,
    exposed: int = 0,
    exposure: Schedule | None = None,
) -> History:
    """Pretraining with checkpoints at 0, 10, ... 100% of its steps, and ``exposed`` more of the target's training."""
    schedule = Schedule(pretraining.streams, pretraining.recipe)
    return history_from(work, fresh(work, pretraining), schedule, points, exposed, exposure)


def history_from(
    work: Work,
    start: Checkpoint,
    pretraining: Schedule,
    points: int = HISTORY_POINTS,
    exposed: int = 0,
    exposure: Schedule | None = None,
) -> History:
    """The same of any kind of model, from its untrained weights."""
    first = Moment(start, 0, 0, "pretraining")
    moments = [first, *snapshots(work, first, pretraining, points, "history")]
    if exposed and exposure:
        moments += snapshots(work, moments[-1], exposure, exposed, "exposure")
    return History(tuple(moments))


def snapshots(work: Work, start: Moment, schedule: Schedule, points: int, label: str) -> list[Moment]:
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


def onward(
    work: Work, first: Callable[[], Checkpoint], rows: Sequence[Example], options: Options, lr: float, label: str
) -> Callable[[], Checkpoint]:
    """``first`` after later training on ``rows``: the gap between the forget set and the model that is to forget it."""
    if not options.gap_steps:
        return first
    streams = (Stream(tuple(rows), 64, descent()),)
    return stage_two(work, first, streams, Recipe(options.gap_steps, lr), label)
