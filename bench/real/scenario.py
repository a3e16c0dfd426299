"""What the real tiers of the tasks share: the models they begin with, and what is looked at before anything is trained.

Everything here runs while the plan is made or a scenario is prepared, so a mistake costs seconds and not hours.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.assets.history_file import load
from bench.assets.history_sources import with_model
from bench.assets.known_models import KNOWN
from bench.assets.models import canonical
from bench.assets.shapes import known_shape, parameters_in
from bench.core.contracts import Recipe, Setting, Stream
from bench.core.types import Checkpoint, Example, History, Moment
from bench.engines.training.losses import descent
from bench.runs.context import Work
from bench.runs.stages import lasting, stage_two

Build = Callable[[], Checkpoint]


def target_of(setting: Setting, trained: Build) -> Build:
    """The target from elsewhere, if the user has named one, else the one that the task trains."""
    return partial(same, setting.target) if setting.target else trained


def oracles_of(setting: Setting, trained: Sequence[Build]) -> tuple[Build, ...]:
    """The retrained models from elsewhere, if the user has named some, else those that the task trains."""
    return tuple(partial(same, oracle) for oracle in setting.oracles) or tuple(trained)


def same(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint itself: what is there already needs no building."""
    return checkpoint


def training(work: Work, setting: Setting, schedule: Callable[[int], tuple[int, Recipe]]) -> Callable[..., Build]:
    """``train(rows, label, order=0)``: target or oracle trained on ``rows`` from the model as it was given.

    ``schedule`` has, for so many rows, the rows of an optimiser step and the recipe; ``order`` varies the data order.
    """

    def train(rows: Sequence[Example], label: str, order: int = 0) -> Build:
        batch, recipe = schedule(len(rows))
        streams = (Stream(tuple(rows), batch, descent()),)
        return stage_two(work, lambda: setting.before, streams, recipe, label, order)

    return train


def out_of_place(name: str, task: Any, tier: str, others: Iterable[str]) -> list[str]:
    """A sentence for each of the parameters ``others``, which have no meaning in the tier, that was changed."""
    fresh = type(task)()
    return [
        f"{name}.{other} has no meaning in the {tier} tier; leave it out."
        for other in others
        if getattr(task, other) != getattr(fresh, other)
    ]


def history_of(setting: Setting, work: Work) -> Callable[[], History]:
    """The model's past as the user has named it, up to the model as it was given; without one the model alone."""
    before, models = setting.before, work.store.root / "models"

    def build() -> History:
        if setting.history:
            return with_model(load(setting.history, models), before)
        return History((Moment(before, 0, 0, "released"),))

    return lasting(build)


def parameters_of(setting: Setting) -> int:
    """Parameters of the setting's model, from the headers of its files; of one that isn't fetched by its name, or 0."""
    if setting.model_path:
        return parameters_in(Path(setting.model_path))
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
    known = KNOWN.get(canonical(model).partition("@")[0])
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
    kept = {text_of(row) for row in retain}
    both = [row for row in forget if text_of(row) in kept]
    if not both:
        return []
    start = " ".join(text_of(both[0]).split())[:60]
    return [
        f"{len(both)} rows of {place} are on both sides, to be forgotten and to be kept (the first: '{start}'): "
        "take them out of one."
    ]


def text_of(row: Example) -> str:
    """What a row says, prompt and answer; however it is spaced, capitalised or encoded."""
    return folded(f"{row.payload['prompt']}\n{row.payload['answer']}")


def folded(text: str) -> str:
    """The text in one Unicode form, lower case, with single spaces: alike is the same."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
