"""The needs of recipes, by hand and beside each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.assets.known_models import KNOWN
from bench.assets.shapes import known_shape
from bench.core.compute import Compute
from bench.studies.reproduce.needs import Needs, computing, estimate_needs, size_of, trainings
from bench.studies.reproduce.published import PublishedTable
from bench.studies.reproduce.recipe import ORACLE, TARGET, Recipe, RecipePanel, RecipeRow
from bench.studies.reproduce.recipes import RECIPES_BY_NAME


def test_needs_grow_with_the_model() -> None:
    small, large = estimate_needs(RECIPES_BY_NAME["t1-tofu01"]), estimate_needs(RECIPES_BY_NAME["t6-muse-books"])
    assert (small.gpus, large.gpus) == (1, 2), "MSA's vector in float32: 7.3e9 x 16 bytes"
    assert estimate_needs(RECIPES_BY_NAME["t5-restor"]).gpus == 1, "adapters are trained by one process"
    assert "minutes of one H100" in str(small) and "hours of one H100" in str(large)
    assert small.memory < large.memory and small.disk < large.disk and small.hours < large.hours
    assert 6.7e9 * 16 / 80e9 > 1 and estimate_needs(RECIPES_BY_NAME["ou-tofu"]).gpus == 2, (
        "float32 AdamW on 7B doesn't fit one GPU of 80 GB"
    )


TABLE = PublishedTable("t", "a page", (), ())
PANEL = RecipePanel(
    "p",
    TABLE,
    "llama-3.2-1b-instruct",
    (RecipeRow("Original", TARGET), RecipeRow("Ideal", ORACLE), RecipeRow("NPO", "npo", {"steps": 5, "batch": 4})),
    {},
    target_tokens=1000,
    forget_tokens=40,
    forget_rows=10,
)
"""Forget rows of 4 tokens; NPO takes 2 x 5 x 4 rows and 10 // 3 for its reference: 43 rows, 172 tokens."""


def test_a_panel_trains_target_oracle_and_methods() -> None:
    """The oracle's training is ten passes over the forget set shorter."""
    assert trainings(PANEL) == [1000, 600, 43 * 4]
    assert trainings(replace(PANEL, target="m", target_tokens=0)) == [0, 172]
    assert (
        trainings(replace(PANEL, oracles=("m",)))
        == [1000, 172]
        == trainings(replace(PANEL, params={"oracle": "clean"}))
    )


@pytest.mark.parametrize(
    ("changed", "checkpoints"),
    [({}, 3), ({"target": "m"}, 2), ({"oracles": ("m",)}, 2), ({"params": {"oracle": "clean"}, "target": "m"}, 1)],
)
def test_checkpoints_are_what_is_trained_here(changed: dict[str, Any], checkpoints: int) -> None:
    size = size_of(replace(PANEL, **changed))
    assert (size.checkpoints, size.tokens, size.streams) == (checkpoints, 4, 2)


def test_hours_and_disk_by_hand() -> None:
    """6 operations a parameter and token at 35% of 989e12 a second; what is fetched has 2 bytes a parameter."""
    recipe = Recipe("r", "", "", "tofu", panels=(PANEL,))
    shape = known_shape("llama-3.2-1b-instruct")
    assert shape is not None
    found = estimate_needs(recipe)
    assert found.hours == pytest.approx(6 * shape.parameters * (1000 + 600 + 172) / (0.35 * 989e12) / 3600)
    compute, machine = computing(recipe, PANEL)
    assert found.disk == 2 * shape.parameters + size_of(PANEL).disk(compute, machine)
    assert (found.gpus, found.memory) == (1, size_of(PANEL).worker(compute, machine))
    twice = estimate_needs(replace(recipe, panels=(PANEL, PANEL)))
    assert (twice.gpus, twice.memory, twice.hours) == (1, found.memory, 2 * found.hours)
    assert twice.disk == 2 * found.disk - 2 * shape.parameters, "a model is fetched once"


def test_a_recipes_own_way_of_training_is_laid_over_the_models() -> None:
    compute, machine = computing(Recipe("r", "", "", compute={"dtype": "bfloat16", "checkpointing": True}), PANEL)
    assert compute == Compute("bfloat16", micro=KNOWN["llama-3.2-1b-instruct"].micro) and machine.checkpointing
    assert computing(Recipe("r", "", "", compute={"micro": 3}), PANEL)[0].micro == 3


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        (Needs(1, 40 * 10**9, 5e9, 0.5), "one GPU with 40 GB, 5 GB of disk, about 30 minutes of one H100"),
        (Needs(1, 40 * 10**9, 5e9, 0.001), "about 1 minutes of one H100"),
        (Needs(4, 80 * 10**9, 5e9, 2.4), "4 GPUs (torchrun), each with 80 GB, 5 GB of disk, about 2 hours of one H100"),
    ],
)
def test_needs_are_said_in_the_unit_that_reads_best(needs: Needs, said: str) -> None:
    assert said in str(needs)
