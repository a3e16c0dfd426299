"""Recipes made small: what is replaced, what the user's words keep, and the stand-ins."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.core.hashing import hash_checkpoint
from bench.core.types import Checkpoint
from bench.engines.loaders import open_checkpoint
from bench.studies.reproduce import smoke
from bench.studies.reproduce.published import PublishedTable
from bench.studies.reproduce.recipe import Recipe, RecipePanel, RecipeRow
from bench.studies.reproduce.smoke import SMOKE, shrink_arm, shrink_panel, shrink_recipe, write_model

TABLE = PublishedTable("t", "a page", (), ())
ROWS = (
    RecipeRow("Original", "target"),
    RecipeRow("MSA", "msa", {"steps": 90, "alpha": 2.0, "before": "step9"}),
    RecipeRow("MSA (other)", "msa", {"before": "owner/base"}),
)
PANEL = RecipePanel(
    "p", TABLE, "olmo-2-1b@step7", ROWS, {"split": "forget10", "template": "base"}, "some/target", ("some/oracle",)
)


def test_a_row_takes_few_steps_of_what_it_says_unless_the_user_said_how_many() -> None:
    row = RecipeRow("NPO*", "npo", {"steps": 90, "lr": 1e-5, "beta": 0.1})
    assert shrink_arm(row, set()).params == {"steps": 2, "lr": 1e-2, "beta": 0.1}, "nothing that it doesn't name"
    assert shrink_arm(row, {"npo.steps"}).params == {"steps": 90, "lr": 1e-2, "beta": 0.1}
    assert shrink_arm(row, {"NPO*.lr"}).params == {"steps": 2, "lr": 1e-5, "beta": 0.1}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, bool, int]]:
    """Stand-ins that are written, in the place of writing them."""
    found: list[tuple[str, str, bool, int]] = []

    def write(place: Path, architecture: str, chat: bool, number: int) -> None:
        place.mkdir(parents=True)
        found.append((place.name, architecture, chat, number))

    monkeypatch.setattr(smoke, "write_model", write)
    return found


def test_a_panels_models_have_stand_ins_that_differ(made: list[tuple[str, str, bool, int]], tmp_path: Path) -> None:
    small = shrink_panel(PANEL, "tofu", tmp_path, {"tofu.authors"})
    names = ["olmo-2-1b@step7", "some--target", "some--oracle", "olmo-2-1b@step9", "olmo-2-1b@owner--base"]
    assert [place for place, *_ in made] == [f"smoke-{name}" for name in names]
    assert [number for *_, number in made] == [0, 1, 2, 3, 4] and {kind for _, kind, *_ in made} == {"olmo2"}
    assert small.model == str(tmp_path / "smoke-olmo-2-1b@step7")
    assert (small.target, small.oracles) == (
        str(tmp_path / "smoke-some--target"),
        (str(tmp_path / "smoke-some--oracle"),),
    )
    assert small.stand_ins == {
        "step9": str(tmp_path / "smoke-olmo-2-1b@step9"),
        "owner/base": str(tmp_path / "smoke-olmo-2-1b@owner--base"),
    }
    assert small.params == {"template": "base", "questions": 4, "forget_share": 0.25, "probed": 2}
    shrink_panel(PANEL, "tofu", tmp_path, set())
    assert len(made) == 5, "what is there is used again"


def test_a_chat_models_past_talks_as_well_but_another_model_is_a_base(
    made: list[tuple[str, str, bool, int]], tmp_path: Path
) -> None:
    shrink_panel(replace(PANEL, model="llama-3.2-1b-instruct", target="", oracles=()), "restor", tmp_path, set())
    assert [(kind, chat) for _, kind, chat, _ in made] == [("llama", True), ("llama", True), ("llama", False)]


def test_a_recipe_gets_generated_rows_and_keeps_the_rest(
    made: list[tuple[str, str, bool, int]], tmp_path: Path
) -> None:
    recipe = Recipe("r", "", "", "restor", panels=(PANEL,), seeds=(5,), compute={"dtype": "bfloat16"})
    small = shrink_recipe(recipe, tmp_path, ["restor.corpus = mix", "npo.steps=3"])
    assert small.data == str(tmp_path / "data" / "restor") and (Path(small.data) / "datasets" / "facts.json").is_file()
    assert replace(small, data=recipe.data, panels=recipe.panels) == recipe
    assert small.panels[0].params == PANEL.params


@pytest.mark.parametrize(("architecture", "chat"), [("llama", True), ("olmo2", False)])
def test_a_stand_in_opens_and_another_differs_from_it_by_noise(architecture: str, chat: bool, tmp_path: Path) -> None:
    for number in (0, 1, 1):
        folder = tmp_path / f"{number}-{len(list(tmp_path.iterdir()))}"
        write_model(folder, architecture, chat, number)
    first, second, again = sorted(tmp_path.iterdir())
    assert hash_checkpoint(second) == hash_checkpoint(again) != hash_checkpoint(first)
    opened = [open_checkpoint(Checkpoint(str(folder), "")) for folder in (first, second)]
    assert json.loads((first / "config.json").read_text())["model_type"] == architecture
    assert bool(opened[0].tokenizer.chat_template) == chat
    pairs = zip(*(each.model.state_dict().values() for each in opened), strict=True)
    difference = torch.cat([(b - a).flatten() for a, b in pairs])
    assert float(difference.std()) == pytest.approx(SMOKE.noise, rel=0.05)


def test_some_rows_of_a_recipe_have_its_whole_past(made: list[tuple[str, str, bool, int]], tmp_path: Path) -> None:
    alone = replace(PANEL, arms=tuple(arm for arm in PANEL.arms if arm.method in ("target", "retrain")))
    assert not alone.past and set(shrink_panel(alone, "tofu", tmp_path, set(), PANEL.past).stand_ins) == set(PANEL.past)
