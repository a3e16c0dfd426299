"""What the real tiers of the tasks share: the models they begin with, and what is looked at before anything is trained.

Everything here runs while the plan is made or a scenario is prepared, so a mistake costs seconds and not hours.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

from bench.assets.history_file import load_history
from bench.assets.history_sources import end_at_model
from bench.assets.known_models import KNOWN
from bench.assets.models import canonical_name
from bench.assets.shapes import known_shape, parameters_in_folder
from bench.core.contracts import Recipe, Retraining, Stages, Stream, Task, TaskContext, TaskInputs, too_small
from bench.core.errors import UserError, unknown_name
from bench.core.types import Checkpoint, Example, History, Moment
from bench.engines.training.losses import descent
from bench.runs.stages import stage_two

TEMPLATES = ("chat", "base")
Build = Callable[[], Checkpoint]


@dataclass(frozen=True, kw_only=True)
class RealOptions(Task):
    """Parameters that every task of a real model has: how target and oracles are trained, and how many rows are asked."""

    epochs: int = 5
    """Passes over the rows for target and oracles."""
    lr: float = 1e-4
    """Peak learning rate of target and oracles; 1e-5 suits models of billions of parameters."""
    batch: int = 8
    """Rows of one optimiser step of target and oracles."""
    oracles: int = 2
    """Retrained models; with one there is no noise floor, and nothing is ranked."""
    probed: int = 0
    """Most rows of a kind that are probed; 0 for all."""

    name: ClassVar[str]
    """The task's name, for messages."""
    least: ClassVar[Mapping[str, int]] = {"epochs": 1, "batch": 1, "oracles": 1, "probed": 0}
    """The least values of parameters."""

    def problems(self) -> list[str]:
        """Sentences about parameters below their least value."""
        return super().problems() + too_small(self.name, self, self.least)

    def changed(self, names: Iterable[str]) -> list[str]:
        """Those of the parameters that aren't at their default."""
        plain = type(self)()
        return [name for name in names if getattr(self, name) != getattr(plain, name)]

    def rows(self, setting: TaskInputs) -> Any:
        """The rows to forget, to keep and to ask; `UserError` where the data have none."""
        raise NotImplementedError

    def faults(self, rows: Any) -> list[str]:
        """Sentences about rows that were found and don't fit."""
        return []

    def check(self, setting: TaskInputs) -> list[str]:
        """Sentences about data that don't fit."""
        try:
            return self.faults(self.rows(setting))
        except UserError as error:
            return list(error.problems)

    def schedule(self, rows: int) -> tuple[int, Recipe]:
        """Rows of an optimiser step, and the recipe that trains a target on so many rows."""
        return self.batch, Recipe(self.epochs * -(-rows // self.batch), self.lr)

    def train_stages(
        self, work: TaskContext, setting: TaskInputs, target: Sequence[Example], oracle: Sequence[Example]
    ) -> Stages:
        """History, target and oracles: those that the user has named, else trained from the model as it was given."""
        before = setting.before

        def train(rows: Sequence[Example], label: str, order: int = 0) -> Build:
            batch, recipe = self.schedule(len(rows))
            return stage_two(work, lambda: before, (Stream(tuple(rows), batch, descent()),), recipe, label, order)

        batch, recipe = self.schedule(len(oracle))
        named = tuple(partial(give_checkpoint, checkpoint) for checkpoint in setting.oracles)
        return Stages(
            target=partial(give_checkpoint, setting.target) if setting.target else train(target, "target"),
            oracles=named or tuple(train(oracle, f"oracle-{i}", order=i) for i in range(self.oracles)),
            history=history_of(setting, work),
            reference=lambda: before,
            retraining=Retraining(recipe, batch) if oracle else None,
        )

    def stages(self, target: int, oracle: int) -> dict[str, int]:
        """Rows that each stage trains on, over all passes."""
        return {"target": target, **{f"oracle-{i}": oracle for i in range(self.oracles)}}


@dataclass(frozen=True, kw_only=True)
class PromptedOptions(RealOptions):
    """Parameters of a task that asks questions in a template."""

    template: str = ""
    """``chat`` (the tokenizer's own), ``base`` (Question and Answer), or empty: as the known model needs it, else chat."""

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        known = self.template in ("", *TEMPLATES)
        return super().problems() + (
            [] if known else [unknown_name(f"template of {self.name}", self.template, TEMPLATES)]
        )

    def form(self, setting: TaskInputs) -> str:
        """The template of the prompts: the one asked for, else the known model's, else the tokenizer's own."""
        return self.template or template_of(setting.model)

    def check(self, setting: TaskInputs) -> list[str]:
        """Sentences about data, or about the model for them, that don't fit."""
        return super().check(setting) + template_problems(self.form(setting), setting.model_path, self.name)


def give_checkpoint(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint: what is there already needs no building."""
    return checkpoint


def history_of(setting: TaskInputs, work: TaskContext) -> Callable[[], History]:
    """The model's past as the user has named it, up to the model as it was given; without one the model alone."""
    before, models = setting.before, work.models

    @cache
    def build() -> History:
        if setting.history:
            return end_at_model(load_history(setting.history, models), before)
        return History((Moment(before, 0, 0, "released"),))

    return build


def count_parameters(setting: TaskInputs) -> int:
    """Parameters of the setting's model, from the headers of its files; of one that isn't fetched by its name, or 0."""
    if setting.model_path:
        return parameters_in_folder(Path(setting.model_path))
    known = known_shape(setting.model)
    return known.parameters if known else 0


def has_chat_template(folder: str | Path) -> bool:
    """Whether a model's tokenizer brings a chat template; nothing is loaded."""
    place = Path(folder)
    if any(place.glob("chat_template*")) or (place / "additional_chat_templates").is_dir():
        return True
    try:
        return bool(json.loads((place / "tokenizer_config.json").read_text()).get("chat_template"))
    except (OSError, ValueError):
        return False


def template_of(model: str) -> str:
    """The template that a known model's prompts need; ``chat`` for any other."""
    known = KNOWN.get(canonical_name(model).partition("@")[0])
    return known.template if known else "chat"


def template_problems(template: str, folder: str, task: str) -> list[str]:
    """A sentence when the prompts need a chat template and the tokenizer has none."""
    if template != "chat" or not folder or has_chat_template(folder):
        return []
    return [
        f"The tokenizer of '{Path(folder).name}' has no chat template: ask it as a base model with "
        f"--set {task}.template=base, or name an instruct model."
    ]


def overlap_problems(forget: Iterable[Example], retain: Iterable[Example], place: str) -> list[str]:
    """A sentence when the same row stands on both sides: an oracle that saw it would be none."""
    kept = {folded_text(row) for row in retain}
    both = [row for row in forget if folded_text(row) in kept]
    if not both:
        return []
    start = " ".join(folded_text(both[0]).split())[:60]
    return [
        f"{len(both)} rows of {place} are on both sides, to be forgotten and to be kept (the first: '{start}'): "
        "take them out of one."
    ]


def folded_text(row: Example) -> str:
    """A row's prompt and answer as one text, the same however it is spaced, capitalised or encoded."""
    return fold_text(f"{row.payload['prompt']}\n{row.payload['answer']}")


def fold_text(text: str) -> str:
    """The text in one Unicode form, lower case, with single spaces: alike is the same."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def with_space_before_answers(rows: Sequence[Example]) -> tuple[Example, ...]:
    """The rows with their answer parted from the prompt by a space, as it is in the examples or the prose before it."""
    return tuple(replace(row, payload={**row.payload, "answer": f" {row.payload['answer']}"}) for row in rows)
