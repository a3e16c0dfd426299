"""A recipe made small: random tiny models of the same architecture, rows generated in the benchmark's schema, few steps.

Everything from `bench.runs.asked.Asked` on is as at full scale, but that the jobs are done in the command's own process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.assets.known_models import KNOWN
from bench.assets.models import folder_name
from bench.studies.reproduce.recipe import Recipe, RecipePanel, RecipeRow
from bench.studies.reproduce.smoke_data import VOCABULARY, WRITERS

ARCHITECTURES = {
    "llama-3.2-1b-instruct": "llama",
    "llama-3.1-8b-instruct": "llama",
    "meta-llama/Meta-Llama-3-8B": "llama",
    "llama-2-7b": "llama",
    "llama-2-7b-chat": "llama",
    "olmo-2-1b": "olmo2",
    "olmo-2-7b": "olmo2",
}
"""Model of a recipe, without its revision -> its model type in transformers, which decides its config class."""
WIDTH, LAYERS, POSITIONS = 32, 2, 1024
STEPS = {"steps": 2, "batch": 2, "text_batch": 2, "lr": 1e-2}
"""Of every method that has them; MSA's official recipe counts its own steps from the rows. A recipe's own rate moves no
weight of a model that is so small."""
SIZES: Mapping[str, Mapping[str, Any]] = {
    "tofu": {"authors": 4, "questions": 4, "forget_share": 0.25, "probed": 2},
    "restor": {},
    "muse-books": {"chunk": 24, "epochs": 2, "batch": 8},
}
"""Task -> parameters in the place of the recipe's own."""
LEFT_OUT = {"tofu": ("split",)}
"""Task -> parameters of the recipe that contradict them."""
REPLACED = (
    f"models: random weights, {LAYERS} layers of width {WIDTH} of the same architecture; earlier checkpoints differ from "
    "them by noise",
    "tokenizer: the lab's, a token for each word, with a minimal chat template where the model has one (no base has)",
    "data: generated rows in the benchmark's schema",
    f"steps, rows and rates: {STEPS['steps']} steps of a method at {STEPS['lr']}, and of the tasks: "
    + "; ".join(f"{task} {', '.join(f'{n} {v}' for n, v in sizes.items())}" for task, sizes in SIZES.items() if sizes),
    "worker processes: the runs are made in the command's own process",
)
NOISE = 0.02
"""Deviation of the difference between two stand-ins; their weights have the same."""
CHAT = (
    "{{ bos_token }} {% for m in messages %}{{ m['role'] }} {{ m['content'] }} {{ eos_token }} {% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)


def shrink_recipe(recipe: Recipe, folder: Path, sets: Sequence[str]) -> Recipe:
    """The recipe on stand-ins below ``folder``, which are made if they aren't there; the user's ``sets`` stay."""
    given = {text.partition("=")[0].strip() for text in sets}
    data = folder / "data" / recipe.task
    WRITERS[recipe.task](data)
    panels = tuple(shrink_panel(panel, recipe.task, folder / "models", given) for panel in recipe.panels)
    return replace(recipe, data=str(data), panels=panels)


def shrink_panel(panel: RecipePanel, task: str, models: Path, given: set[str]) -> RecipePanel:
    """A panel on tiny models, with few rows and steps."""
    base, _, _ = panel.model.partition("@")
    known = KNOWN.get(base)
    talks = known is not None and known.template == "chat"

    def stand_in(name: str, number: int, chat: bool = talks) -> str:
        place = models / f"smoke-{folder_name(name)}"
        if not place.is_dir():
            write_model(place, ARCHITECTURES[base], chat, number)
        return str(place)

    left = {name: value for name, value in panel.params.items() if name not in LEFT_OUT.get(task, ())}
    sizes = {name: value for name, value in SIZES[task].items() if f"{task}.{name}" not in given}
    return replace(
        panel,
        model=stand_in(panel.model, 0),
        params=left | sizes,
        arms=tuple(shrink_arm(arm, given) for arm in panel.arms),
        target=stand_in(panel.target, 1) if panel.target else "",
        oracles=tuple(stand_in(name, 2) for name in panel.oracles),
        stand_ins={
            name: stand_in(f"{base}@{name}", 3 + i, talks and "/" not in name)  # another model is a base without a chat
            for i, name in enumerate(panel.past)
        },
    )


def shrink_arm(arm: RecipeRow, given: set[str]) -> RecipeRow:
    """A row with few steps."""
    few = {
        name: value
        for name, value in STEPS.items()
        if name in arm.params and not {f"{arm.method}.{name}", f"{arm.published}.{name}"} & given
    }
    return replace(arm, params={**arm.params, **few})


def write_model(folder: Path, architecture: str, chat: bool, number: int) -> None:
    """A random model with its tokenizer: number 0, and noise upon it for every other number."""
    import torch
    from transformers import AutoModelForCausalLM

    from bench.engines.training.trainer import save_model
    from bench.lab.model import word_tokenizer

    tokenizer = word_tokenizer(VOCABULARY)
    if chat:
        tokenizer.chat_template = CHAT
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(architecture, len(tokenizer)))
    torch.manual_seed(number)
    with torch.no_grad():
        for weights in model.parameters() if number else ():
            weights.add_(NOISE * torch.randn_like(weights))
    partial = folder.with_name(f".{folder.name}")
    save_model(model, tokenizer, partial)
    partial.rename(folder)


def tiny_config(architecture: str, vocabulary: int) -> Any:
    """The architecture's own config class, with small numbers."""
    from transformers import AutoConfig

    return AutoConfig.for_model(
        architecture,
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        max_position_embeddings=POSITIONS,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
