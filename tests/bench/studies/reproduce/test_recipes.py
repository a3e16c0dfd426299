"""Every recipe against the published tables and against what methods, tasks and models there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.assets.history import rule_problems
from bench.assets.known_models import KNOWN
from bench.assets.models import check_model_name, published_revisions
from bench.assets.shapes import known_shape
from bench.core import registry
from bench.studies.reproduce.asking import ReproduceRequest, as_set_texts, models_of, with_changes
from bench.studies.reproduce.gate import REASONS
from bench.studies.reproduce.recipe import ORACLE, TARGET, Recipe, RecipePanel, RecipeRow
from bench.studies.reproduce.recipes import NOT_HERE, RECIPES, RECIPES_BY_NAME
from bench.studies.reproduce.run import plan_panel
from bench.studies.reproduce.smoke import SMOKE

PANELS = [(recipe, panel) for recipe in RECIPES for panel in recipe.panels]
RUN = [(recipe, arm) for recipe, panel in PANELS for arm in panel.arms if arm.method not in ("", TARGET, ORACLE)]


def test_every_table_of_the_issue_has_a_recipe() -> None:
    wanted = "t1-tofu01 t2-tofu10 t3-tofu-restor t4-distance t5-restor t6-muse-books t7-tofu10-olmo t8-restor ou-tofu ou-muse"
    lost = "v1-tofu05 v1-llama-8b v3-tofu-llama"
    assert list(RECIPES_BY_NAME) == [*wanted.split(), *lost.split()] and len(RECIPES_BY_NAME) == len(RECIPES)
    assert all(
        RECIPES_BY_NAME[name].status == "numbers not recovered" and not RECIPES_BY_NAME[name].tables
        for name in lost.split()
    )


@pytest.mark.parametrize(("recipe", "panel"), PANELS, ids=[f"{r.name}-{p.name}" for r, p in PANELS])
def test_rows_and_columns_are_the_published_ones(recipe: Recipe, panel: RecipePanel) -> None:
    shown = [arm.published for arm in panel.arms]
    assert [row.name for row in panel.table.rows] == [
        name for name in shown if name in {r.name for r in panel.table.rows}
    ]
    added = [arm for arm in panel.arms if arm.published not in {row.name for row in panel.table.rows}]
    assert all(arm.method in (TARGET, ORACLE) for arm in added), "a row that nobody published"
    assert tuple(column.published for column in recipe.columns) == panel.table.columns
    assert {TARGET, ORACLE} <= {arm.method for arm in panel.arms}
    assert all(column.kind in REASONS for column in recipe.columns)
    assert all(arm.method or arm.note == NOT_HERE for arm in panel.arms)


@pytest.mark.parametrize(("recipe", "panel"), PANELS, ids=[f"{r.name}-{p.name}" for r, p in PANELS])
def test_tasks_models_and_scores_exist(recipe: Recipe, panel: RecipePanel) -> None:
    task = registry.load_task(recipe.task, "real")
    params = {name: registry.convert_param(task, name, str(value)) for name, value in panel.params.items()}
    made = task(**(registry.default_params(task) | params))
    assert not made.problems()
    scores = {metric.name for metric in made.metrics()}
    assert {column.score for column in recipe.columns if column.score} <= scores
    for name in models_of(panel):
        check_model_name(name)
    base = panel.model.partition("@")[0]
    assert known_shape(base) and base in SMOKE.architectures
    assert all("/" in name or name in published_revisions(base) for name in panel.past), "a revision that nobody knows"


@pytest.mark.parametrize(("recipe", "arm"), RUN, ids=[f"{r.name}-{a.published}" for r, a in RUN])
def test_methods_take_their_settings(recipe: Recipe, arm: RecipeRow) -> None:
    method = registry.load_component("methods", arm.method)
    params = {name: registry.convert_param(method, name, str(value)) for name, value in arm.params.items()}
    assert not registry.check_bounds(method, registry.default_params(method) | params, arm.method)
    assert not rule_problems(str(arm.params.get("before", "step=1")))


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe.panels], ids=lambda recipe: recipe.name)
def test_the_flag_of_every_assumption_can_be_planned_and_changes_some_run(recipe: Recipe, tmp_path: Path) -> None:
    """All that a text names together, as it says; nothing is fetched, so nothing is looked at but the words."""

    def keys(made: Recipe) -> set[str]:
        panel, machine = made.panels[-1], ReproduceRequest(made.name, tmp_path, tmp_path / "store").machine(made)
        plan = plan_panel(made, panel, "", machine, only=True).plan
        return {entry.spec.key for entry in plan.entries}

    as_given = keys(recipe)
    for assumption in recipe.assumptions:
        flags = [assumption.flag, *(code.strip("`") for code in re.findall("`--set [^`]+`", assumption.choice))]
        for flag in filter(None, flags):
            sets = [text.strip() for text in flag.split("--set ")[1:]]
            assert keys(with_changes(recipe, sets)) != as_given, f"{flag} changes nothing"


def test_runs_that_no_row_shows_are_left_out(tmp_path: Path) -> None:
    """RESTOR repairs what was unlearned; the corrupted model is published as it is, and isn't repaired here."""
    recipe = RECIPES_BY_NAME["t8-restor"]
    machine = ReproduceRequest(recipe.name, tmp_path, tmp_path / "store").machine(recipe)
    planned = plan_panel(recipe, recipe.panels[0], "", machine, only=True)
    steps = {tuple(step.method for step in entry.spec.steps) for entry in planned.plan.entries}
    assert steps == {(), ("retrain",), ("graddiff", "repair"), ("npo", "repair")}


def test_sizes_of_restors_corpora_are_the_data_sets() -> None:
    """k=3 has 2,700 passages: ten passes at batch 4 are 6,750 steps."""
    panels = {panel.name: panel for panel in RECIPES_BY_NAME["t8-restor"].panels}
    rows = {"k2": (3000, 7500), "k3": (2700, 6750), "squad": (3107, 7770)}
    for name, (passages, steps) in rows.items():
        npo = next(arm for arm in panels[name].arms if arm.method == "npo")
        assert (panels[name].forget_rows, npo.params["steps"]) == (passages, steps)
    assert panels["k3"].forget_tokens == pytest.approx(2700 * 183 * 1.3)
    from tasks.restor import DOCUMENTS

    assert {"mix_a3": panels["k3"].forget_rows, "squad_v7": panels["squad"].forget_rows} == DOCUMENTS


def test_an_oracles_auc_is_the_published_one() -> None:
    """Of T6 its own column has it; the AUC of MUSE's own code counts the other way."""
    t6, ou = (next(c for c in RECIPES_BY_NAME[name].columns if c.oracle_area) for name in ("t6-muse-books", "ou-muse"))
    place = [c.published for c in RECIPES_BY_NAME["t6-muse-books"].columns].index("Min-k% AUC")
    assert t6.oracle_area == float(RECIPES_BY_NAME["t6-muse-books"].panels[0].table.row("Ideal").values[place])
    assert ou.oracle_area == pytest.approx(0.4607)


def test_a_base_model_is_asked_without_a_chat() -> None:
    for recipe, panel in PANELS:
        known = KNOWN.get(panel.model.partition("@")[0])
        if recipe.task == "tofu" and known and known.template == "base":
            assert panel.params["template"] == "base", panel.name


def test_settings_that_the_sources_state() -> None:
    """OpenUnlearning: ten passes at batch 32 (40, 200 and 400 rows: 2, 7 and 13 steps each), lr 1e-5, beta .1."""
    steps = {
        panel.name: next(arm.params["steps"] for arm in panel.arms if arm.method == "npo")
        for panel in RECIPES_BY_NAME["ou-tofu"].panels
    }
    assert [steps[f"llama-2-7b-chat-{split}"] for split in ("forget01", "forget05", "forget10")] == [20, 70, 130]
    assert all(arm.params["lr"] == (1e-4 if arm.method == "undial" else 1e-5) for _, arm in RUN)
    betas = {"npo": 0.1, "idk-dpo": 0.1, "simnpo": 4.5, "undial": 10.0}
    assert {(arm.method, arm.params["beta"]) for _, arm in RUN if "beta" in arm.params and arm.method != "msa"} == {
        *betas.items()
    }
    distances = [arm.params["before"] for arm in RECIPES_BY_NAME["t4-distance"].panels[0].arms if arm.method == "msa"]
    assert [revision.rpartition("tokens")[2] for revision in distances] == ["3964B", "3146B", "2098B", "1049B", "210B"]
    ours = RECIPES_BY_NAME["ou-tofu"].panels[2]
    assert (
        ours.oracles == ("open-unlearning/tofu_Llama-3.2-1B-Instruct_retain90",) and ours.params["split"] == "forget10"
    )


def test_rmu_reads_openunlearnings_block_7_of_every_model() -> None:
    """Of 16 blocks at half of the depth, of 32 at a quarter."""
    read = {panel.model: arm.params["depth"] for _, panel in PANELS for arm in panel.arms if arm.method == "rmu"}
    deep = ("llama-3.1-8b-instruct", "olmo-2-7b", "llama-2-7b-chat", "llama-2-7b")
    assert read == {"llama-3.2-1b-instruct": 0.5, **dict.fromkeys(deep, 0.25)}
    assert all(round(depth * shape.layers) - 1 == 7 for model, depth in read.items() if (shape := known_shape(model)))


def test_texts_are_as_the_command_line_takes_them() -> None:
    assert as_set_texts("msa", {"alpha": 1.5, "before": "a/b"}) == ["msa.alpha=1.5", "msa.before=a/b"]


def test_steps_that_an_assumption_states_are_those_of_the_rows() -> None:
    """The books' 1,020,000 tokens are 499 passages of 2,048: ten passes at batch 32 are 160 steps, at batch 4 1,250."""
    for name in ("t6-muse-books", "ou-muse"):
        (said,) = [a.choice for a in RECIPES_BY_NAME[name].assumptions if a.about.startswith("steps of ten passes")]
        steps = {arm.params["steps"] for arm in RECIPES_BY_NAME[name].panels[0].arms if "steps" in arm.params}
        assert steps and all(str(number) in said for number in steps)
