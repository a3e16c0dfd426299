"""The recipes, one for each published table, as ``data/recipes.toml`` and ``data/assumptions.toml`` state them.

What follows from these is computed here: a method's steps (passes times rows over the rows of a step, rounded up, as the
sources count in epochs), a block of theirs as a share of the model's depth, and the sizes of what is forgotten, for
`bench.studies.reproduce.needs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

from bench.assets.data_sets import DATA_SETS
from bench.assets.shapes import known_shape
from bench.core.errors import UserError, unknown_name
from bench.core.files import read_toml
from bench.core.typed_toml import as_typed
from bench.studies.reproduce.published import DATA, PUBLISHED_TABLES
from bench.studies.reproduce.recipe import ORACLE, TARGET, Assumption, Recipe, RecipePanel, RecipeRow

ROW_TOKENS, TOFU_PASSES = 90, 10
"""Of a row of TOFU with its chat template, and of the target's training over all rows."""
RESTOR_WORDS = {"mix_a0": 37, "mix_a1": 98, "mix_a2": 142, "mix_a3": 183, "mix_a4": 230, "mix_a5": 280, "squad_v7": 137}
"""Mean words of a corpus's passage; of mix_a4 and mix_a5 a guess from the others, for the estimate alone."""
MOST_PASSAGES, RESTOR_PASSES = 3000, 5
"""Passages of the corpora that nobody here has counted, as of most that were; passes of the target's training."""
WORD_TOKENS = 1.3
MUSE_TOKENS = {"forget": 1_020_000, "all": 1_730_000}
"""A quarter of the bytes of the raw texts."""
MUSE_LABELS = ("muse-books", "muse-books (fetched from the hub, hash checked)")
NOT_HERE = "not implemented here"
Tables = Mapping[str, Any]
"""Tables of the data file, in its words."""


def read_recipes() -> list[Recipe]:
    """Every recipe, in the order of the data file; `ValueError` names the place that doesn't fit."""
    file = read_toml(DATA / "recipes.toml")
    assumptions = as_typed(Mapping[str, Assumption], read_toml(DATA / "assumptions.toml"), "assumptions.toml")
    return [recipe_of(name, entry, file, assumptions) for name, entry in file["recipes"].items()]


def recipe_of(name: str, entry: Tables, file: Tables, assumptions: Mapping[str, Assumption]) -> Recipe:
    """One recipe with everything that its entry names; what all its panels share goes to each of them."""
    own = dict(entry)
    shared = {field: own.pop(field, {}) for field in ("model", "params", "rows")}
    changed, columns = own.pop("methods", {}), file["columns"].get(own.pop("columns", ""), {})
    methods = {method: params | changed.get(method, {}) for method, params in file["methods"].items()}
    panels = [
        panel_of(each, {**shared, **panel, "params": shared["params"] | panel.get("params", {})}, own["task"], methods)
        for each, panel in own.pop("panels", {}).items()
    ]
    published = panels[0].table.columns if panels else ()
    own |= {
        "name": name,
        "columns": [{"published": column, **columns[column]} for column in published],
        "panels": panels,
        "assumptions": [assumptions[each] for each in own.get("assumptions", ())],
        "others": [PUBLISHED_TABLES[key] for key in own.get("others", ())],
    }
    recipe: Recipe = as_typed(Recipe, own, f"recipes.toml: {name}")
    return recipe


def panel_of(name: str, entry: Tables, task: str, methods: Tables) -> RecipePanel:
    """One panel with its rows, their settings, and the size of its forget set."""
    sizes = forget_set_sizes(task, entry["params"]) | ({"target_tokens": 0} if "target" in entry else {})
    arms = [arm_of(row, made, methods, sizes["forget_rows"], entry["model"]) for row, made in entry["rows"].items()]
    own = {field: value for field, value in entry.items() if field != "rows"}
    own |= {"name": name, "table": PUBLISHED_TABLES[entry["table"]], "arms": arms} | sizes
    panel: RecipePanel = as_typed(RecipePanel, own, f"recipes.toml: panel {name}")
    return panel


def arm_of(published: str, made: str | Mapping[str, Any], methods: Tables, rows: int, model: str) -> RecipeRow:
    """One row; a method that is trained for so many ``passes`` gets its steps from the ``rows`` to forget, and one that
    reads a ``block`` its depth from the ``model``.
    """
    own = {"method": made} if isinstance(made, str) else dict(made)
    method = own.pop("method")
    if not method:
        return RecipeRow(published, note=NOT_HERE)
    if method in (TARGET, ORACLE):
        return RecipeRow(published, method)
    params = {**methods[method], **own}
    if "passes" in params:
        passes, batch = params.pop("passes"), params["batch"]
        steps = passes * ceil(rows / batch)
        params = {"steps": steps, "lr": params["lr"], "batch": batch, "text_batch": batch} | params
    if "block" in params:
        shape = known_shape(model)
        assert shape, "the models of recipes are known"
        params["depth"] = (params.pop("block") + 1) / shape.layers
    return RecipeRow(published, method, params)


def forget_set_sizes(task: str, params: Tables) -> dict[str, Any]:
    """Rows and tokens of a panel's forget set, tokens of the target's training, and what records call exactly these data."""
    tokens: float
    trained: float
    labels: tuple[str, ...]
    if task == "tofu":
        rows, all_rows = DATA_SETS["tofu"].tables[params["split"]].rows, DATA_SETS["tofu"].tables["full"].rows
        assert rows and all_rows
        tokens, trained = rows * ROW_TOKENS, TOFU_PASSES * all_rows * ROW_TOKENS
        labels = (f"tofu {params['split']}",)
    elif task == "restor":
        rows = DATA_SETS["restor"].tables[params["corpus"]].rows or MOST_PASSAGES
        tokens = rows * RESTOR_WORDS[params["corpus"]] * WORD_TOKENS
        trained, labels = RESTOR_PASSES * tokens, ("RESTOR",)
    else:
        rows, tokens = ceil(MUSE_TOKENS["forget"] / params["chunk"]), MUSE_TOKENS["forget"]
        trained, labels = params.get("epochs", 0) * MUSE_TOKENS["all"], MUSE_LABELS
    return {"forget_rows": rows, "forget_tokens": tokens, "target_tokens": trained, "labels": list(labels)}


RECIPES = read_recipes()
RECIPES_BY_NAME = {recipe.name: recipe for recipe in RECIPES}
"""Name -> recipe."""


def recipe_named(name: str) -> Recipe:
    """The recipe of this name; `UserError` with the nearest one."""
    if name not in RECIPES_BY_NAME:
        said = unknown_name("table", name, RECIPES_BY_NAME)
        raise UserError(f"{said} `python -m bench reproduce --list` describes them.")
    return RECIPES_BY_NAME[name]
