"""The user's changes, rows in groups, the history file, what is to be fetched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.assets.history_file import load_history
from bench.core.errors import UserError
from bench.studies.reproduce.asking import (
    asked_of,
    changes_of_all_rows,
    groups_of_rows,
    history_file,
    is_changed,
    to_fetch,
    with_changes,
    with_methods,
)
from bench.studies.reproduce.recipe import Recipe
from bench.studies.reproduce.recipes import RECIPES_BY_NAME


def params(recipe: Recipe, row: str) -> dict[str, object]:
    return dict(next(arm.params for panel in recipe.panels for arm in panel.arms if arm.published == row))


def test_a_setting_for_a_method_a_row_a_task_and_the_run() -> None:
    recipe = RECIPES_BY_NAME["t6-muse-books"]
    made = with_changes(recipe, ["msa.alpha=1.5", "MSA_last.beta=0", "muse-books.epochs=3", "run.dtype=float32"])
    assert params(made, "MSA_500B")["alpha"] == params(made, "MSA_last")["alpha"] == "1.5"
    assert params(made, "MSA_last")["beta"] == "0" and params(made, "MSA_500B")["beta"] == 1.0
    assert made.panels[0].params["epochs"] == "3" and made.compute["dtype"] == "float32"
    assert recipe.panels[0].params["epochs"] == 10, "the recipe itself stays"


def test_a_dtype_takes_the_place_of_the_recipes_autocast() -> None:
    recipe = RECIPES_BY_NAME["ou-muse"]
    assert with_changes(recipe, ["run.dtype=bfloat16"]).compute == {"dtype": "bfloat16"}
    both = with_changes(recipe, ["run.autocast=true", "run.dtype=bfloat16"]).compute
    assert both == {"dtype": "bfloat16", "autocast": True}, "the user's own contradiction is told by the plan"


def test_what_a_change_is_about() -> None:
    recipe = RECIPES_BY_NAME["t6-muse-books"]
    sets = ["msa.alpha=1.5", "muse-books.epochs=3", " run.dtype = float32", "MSA_last.beta=0"]
    assert changes_of_all_rows(recipe, sets) == sets[1:3]
    arms = {arm.published: is_changed(arm, sets[3:]) for arm in recipe.panels[0].arms}
    assert [name for name, touched in arms.items() if touched] == ["MSA_last"]


def test_what_goes_on_after_a_method() -> None:
    assert with_changes(RECIPES_BY_NAME["t8-restor"], ["run.then=none"]).then == ()
    assert with_changes(RECIPES_BY_NAME["t5-restor"], ["run.then=repair"]).then == ("repair",)


def test_every_mistake_is_told_at_once() -> None:
    sets = ["mas.alpha=1", "alpha", "run.dtyp=float32", "run.autocast=yes", "run.lora=x"]
    with pytest.raises(UserError) as error:
        with_changes(RECIPES_BY_NAME["t1-tofu01"], sets)
    assert len(error.value.problems) == len(sets) and "Did you mean 'msa'?" in error.value.problems[0]


def test_rows_by_method_or_by_name() -> None:
    recipe = RECIPES_BY_NAME["t6-muse-books"]
    by_method, by_row = with_methods(recipe, ["msa"]), with_methods(recipe, ["MSA_500B", "npo"])
    assert sum(arm.method == "msa" for arm in by_method.panels[0].arms) == 5
    run = [arm.published for arm in by_row.panels[0].arms if arm.method]
    assert run == ["Target", "Ideal", "MSA_500B", "NPO"]
    with pytest.raises(UserError, match="Unknown row 'npu'. Did you mean 'npo'"):
        with_methods(recipe, ["npu"])


def test_a_group_has_each_method_once_and_settings_of_its_own() -> None:
    recipe = RECIPES_BY_NAME["t6-muse-books"]
    panel = recipe.panels[0]
    rows = [[arm.published for arm in group] for group in groups_of_rows(panel)]
    assert rows[0] == ["MSA_500B", "NPO", "RMU", "GradDiff", "Task vector", "SatImp", "UNDIAL"] and rows[1:] == [
        [name] for name in ("MSA_2207B", "MSA_3691B", "MSA_3859B", "MSA_last")
    ]
    asked = [each for each, _ in asked_of(recipe, panel, (0, 1), "")]
    assert "msa.before=stage1-step119000-tokens500B" in asked[0].sets and asked[0].methods[0] == "msa"
    assert "msa.before=stage1-step526000-tokens2207B" in asked[1].sets
    assert all(each.seeds == (0, 1) and each.compute.said() == {"dtype": "bfloat16"} for each in asked), (
        "checkpointing is apart"
    )


def test_the_history_file_is_read_back(tmp_path: Path) -> None:
    panel = RECIPES_BY_NAME["t1-tofu01"].panels[0]
    file = history_file(panel, panel.past, tmp_path)
    assert json.loads(Path(file).read_text())["checkpoints"] == [
        {"model": "meta-llama/Llama-3.2-1B", "step": 0, "stage": "base"}
    ]
    assert [moment.checkpoint.label for moment in load_history(file, tmp_path).moments] == ["meta-llama/Llama-3.2-1B"]
    olmo = RECIPES_BY_NAME["t4-distance"].panels[0]
    tokens = [moment.tokens for moment in load_history(history_file(olmo, olmo.past, tmp_path), tmp_path).moments]
    assert tokens == [210 * 10**9, 1049 * 10**9, 2098 * 10**9, 3146 * 10**9, 3964 * 10**9]
    assert history_file(RECIPES_BY_NAME["ou-tofu"].panels[0], (), tmp_path) == ""


def test_what_is_to_be_fetched(tmp_path: Path) -> None:
    recipe = RECIPES_BY_NAME["t4-distance"]
    commands = to_fetch(with_methods(recipe, ["210B", "npo"]), tmp_path)
    assert commands == [
        "python -m bench fetch olmo-2-1b --revision stage1-step1900000-tokens3985B",
        "python -m bench fetch olmo-2-1b --revision stage1-step100000-tokens210B",
        "python -m bench fetch tofu",
    ]
    (tmp_path / "models" / "olmo-2-1b@stage1-step100000-tokens210B").mkdir(parents=True)
    (tmp_path / "data" / "tofu").mkdir(parents=True)
    assert to_fetch(with_methods(recipe, ["210B"]), tmp_path) == commands[:1]
