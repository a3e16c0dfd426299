"""A recipe made small: random tiny models of the same architecture, rows generated in the benchmark's schema, few steps.

Everything from `bench.runs.asked.Asked` on is as at full scale, but that the jobs are done in the command's own process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.assets.known_models import KNOWN
from bench.assets.models import folder_name
from bench.core.files import new_folder, read_toml
from bench.core.typed_toml import as_typed
from bench.studies.reproduce.published import DATA
from bench.studies.reproduce.recipe import Recipe, RecipePanel, RecipeRow
from bench.studies.reproduce.smoke_data import VOCABULARY, WRITERS


@dataclass(frozen=True)
class SmokeSettings:
    """What stands in the place of a recipe's own models, data and steps, as ``data/smoke.toml`` says it."""

    noise: float
    chat: str
    replaced: tuple[str, ...]
    architectures: Mapping[str, str]
    config: Mapping[str, Any]
    steps: Mapping[str, Any]
    sizes: Mapping[str, Mapping[str, Any]]
    left_out: Mapping[str, tuple[str, ...]]

    def replaced_texts(self) -> list[str]:
        """What the page says was replaced."""
        tasks = [
            f"{task} {', '.join(f'{n} {v}' for n, v in sizes.items())}" for task, sizes in self.sizes.items() if sizes
        ]
        return [text.format(**self.config, **self.steps, tasks="; ".join(tasks)) for text in self.replaced]


SMOKE: SmokeSettings = as_typed(SmokeSettings, read_toml(DATA / "smoke.toml"), "smoke.toml")


def shrink_recipe(
    recipe: Recipe, folder: Path, sets: Sequence[str], pasts: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> Recipe:
    """The recipe on stand-ins below ``folder``, which are made if they aren't there; the user's ``sets`` stay.

    ``pasts``: panel -> the whole of its past, where the recipe has some of its rows alone.
    """
    given = {text.partition("=")[0].strip() for text in sets}
    data = folder / "data" / recipe.task
    WRITERS[recipe.task](data)
    panels = tuple(
        shrink_panel(panel, recipe.task, folder / "models", given, pasts.get(panel.name, ())) for panel in recipe.panels
    )
    return replace(recipe, data=str(data), panels=panels)


def shrink_panel(panel: RecipePanel, task: str, models: Path, given: set[str], past: Sequence[str] = ()) -> RecipePanel:
    """A panel on tiny models, with few rows and steps."""
    base, _, _ = panel.model.partition("@")
    known = KNOWN.get(base)
    talks = known is not None and known.template == "chat"

    def stand_in(name: str, number: int, chat: bool = talks) -> str:
        place = models / f"smoke-{folder_name(name)}"
        if not place.is_dir():
            write_model(place, SMOKE.architectures[base], chat, number)
        return str(place)

    left = {name: value for name, value in panel.params.items() if name not in SMOKE.left_out.get(task, ())}
    sizes = {name: value for name, value in SMOKE.sizes[task].items() if f"{task}.{name}" not in given}
    return replace(
        panel,
        model=stand_in(panel.model, 0),
        params=left | sizes,
        arms=tuple(shrink_arm(arm, given) for arm in panel.arms),
        target=stand_in(panel.target, 1) if panel.target else "",
        oracles=tuple(stand_in(name, 2) for name in panel.oracles),
        stand_ins={
            name: stand_in(f"{base}@{name}", 3 + i, talks and "/" not in name)  # another model is a base without a chat
            for i, name in enumerate(dict.fromkeys([*past, *panel.past]))
        },
    )


def shrink_arm(arm: RecipeRow, given: set[str]) -> RecipeRow:
    """A row with few steps, but for what the user has ``given``."""
    few = {
        name: value
        for name, value in SMOKE.steps.items()
        if name in arm.params and not {f"{arm.method}.{name}", f"{arm.published}.{name}"} & given
    }
    return replace(arm, params={**arm.params, **few})


def write_model(folder: Path, architecture: str, chat: bool, number: int) -> None:
    """A random model with its tokenizer: number 0, and noise upon it for every other number."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from bench.engines.training.trainer import save_model
    from bench.lab.model import word_tokenizer

    tokenizer = word_tokenizer(VOCABULARY)
    if chat:
        tokenizer.chat_template = SMOKE.chat
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, vocab_size=len(tokenizer), **SMOKE.config)
    model = AutoModelForCausalLM.from_config(config)
    torch.manual_seed(number)
    with torch.no_grad():
        for weights in model.parameters() if number else ():
            weights.add_(SMOKE.noise * torch.randn_like(weights))
    with new_folder(folder) as made:
        save_model(model, tokenizer, made)
