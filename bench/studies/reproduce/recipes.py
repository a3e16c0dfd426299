"""The recipes, one for each published table, as ``data/recipes.toml`` and ``data/assumptions.toml`` state them.

What follows from these is computed here: a method's steps (passes times rows over the rows of a step, rounded up, as the
sources count in epochs), and the sizes of what is forgotten, for `bench.studies.reproduce.needs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

from bench.assets.published_tables import RESTOR, TOFU
from bench.core.errors import UserError, unknown
from bench.studies.reading import as_typed, read_toml
from bench.studies.reproduce.published import DATA, TABLES
from bench.studies.reproduce.recipe import ORACLE, TARGET, Arm, Assumption, Column, Panel, Recipe, Status

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
Rows = Mapping[str, str | Mapping[str, Any]]
"""Published row -> the method that makes it here, or this method and what is set otherwise."""
Params = Mapping[str, Any]


@dataclass(frozen=True)
class PanelEntry:
    """A panel of the data file; what is empty is its recipe's."""

    table: str
    """Key of the published table."""
    model: str = ""
    params: Params = field(default_factory=dict)
    """Of the task, over the recipe's."""
    rows: Rows = field(default_factory=dict)
    target: str = ""
    oracles: tuple[str, ...] = ()


@dataclass(frozen=True)
class RecipeEntry:
    """A recipe of the data file, see `bench.studies.reproduce.recipe.Recipe`."""

    title: str
    source: str
    task: str = ""
    columns: str = ""
    """The set of columns of which it has those that were published."""
    model: str = ""
    status: Status = "runnable"
    note: str = ""
    assumptions: tuple[str, ...] = ()
    compute: Params = field(default_factory=dict)
    then: tuple[str, ...] = ()
    params: Params = field(default_factory=dict)
    methods: Mapping[str, Params] = field(default_factory=dict)
    """Settings over those that all recipes share."""
    rows: Rows = field(default_factory=dict)
    panels: Mapping[str, PanelEntry] = field(default_factory=dict)
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class RecipeFile:
    """The whole of ``recipes.toml``."""

    columns: Mapping[str, Mapping[str, Params]]
    methods: Mapping[str, Params]
    recipes: Mapping[str, RecipeEntry]


def read_recipes() -> list[Recipe]:
    """Every recipe, in the order of the data file."""
    file: RecipeFile = as_typed(RecipeFile, read_toml(DATA / "recipes.toml"), "recipes.toml")
    assumptions = as_typed(Mapping[str, Assumption], read_toml(DATA / "assumptions.toml"), "assumptions.toml")
    return [recipe_of(name, entry, file, assumptions) for name, entry in file.recipes.items()]


def recipe_of(name: str, entry: RecipeEntry, file: RecipeFile, assumptions: Mapping[str, Assumption]) -> Recipe:
    """One recipe with everything that its entry names."""
    methods = {method: {**shared, **entry.methods.get(method, {})} for method, shared in file.methods.items()}
    panels = tuple(panel_of(each, panel, entry, methods) for each, panel in entry.panels.items())
    columns = tuple(
        as_typed(
            Column, {"published": published} | dict(file.columns[entry.columns][published]), f"columns.{published}"
        )
        for published in (panels[0].table.columns if panels else ())
    )
    return Recipe(
        name,
        entry.title,
        entry.source,
        entry.task,
        columns,
        panels,
        tuple(assumptions[each] for each in entry.assumptions),
        entry.status,
        entry.note,
        compute=entry.compute,
        then=entry.then,
        others=tuple(TABLES[key] for key in entry.others),
    )


def panel_of(name: str, entry: PanelEntry, recipe: RecipeEntry, methods: Mapping[str, Params]) -> Panel:
    """One panel with its rows, their settings, and the size of its forget set."""
    params = {**recipe.params, **entry.params}
    panel = Panel(
        name,
        TABLES[entry.table],
        entry.model or recipe.model,
        (),
        params,
        target=entry.target,
        oracles=entry.oracles,
        **amounts(recipe.task, params),
    )
    rows = entry.rows or recipe.rows
    arms = tuple(arm_of(row, made, methods, panel.forget_rows) for row, made in rows.items())
    return replace(panel, arms=arms, target_tokens=0 if panel.target else panel.target_tokens)


def arm_of(published: str, made: str | Mapping[str, Any], methods: Mapping[str, Params], rows: int) -> Arm:
    """One row; a method that is trained for so many ``passes`` gets its steps from the ``rows`` to forget."""
    own = {"method": made} if isinstance(made, str) else dict(made)
    method = own.pop("method")
    if not method:
        return Arm(published, note=NOT_HERE)
    if method in (TARGET, ORACLE):
        return Arm(published, method)
    params = {**methods[method], **own}
    if "passes" in params:
        passes, batch = params.pop("passes"), params["batch"]
        steps = passes * ceil(rows / batch)
        params = {"steps": steps, "lr": params["lr"], "batch": batch, "text_batch": batch} | params
    return Arm(published, method, params)


def amounts(task: str, params: Params) -> dict[str, Any]:
    """Rows and tokens of a panel's forget set, tokens of the target's training, and what records call exactly these data."""
    tokens: float
    trained: float
    labels: tuple[str, ...]
    if task == "tofu":
        rows, all_rows = TOFU[params["split"]].rows, TOFU["full"].rows
        assert rows and all_rows
        tokens, trained = rows * ROW_TOKENS, TOFU_PASSES * all_rows * ROW_TOKENS
        labels = (f"tofu {params['split']}",)
    elif task == "restor":
        rows = RESTOR[params["corpus"]].rows or MOST_PASSAGES
        tokens = rows * RESTOR_WORDS[params["corpus"]] * WORD_TOKENS
        trained, labels = RESTOR_PASSES * tokens, ("RESTOR",)
    else:
        rows, tokens = ceil(MUSE_TOKENS["forget"] / params["chunk"]), MUSE_TOKENS["forget"]
        trained, labels = params.get("epochs", 0) * MUSE_TOKENS["all"], MUSE_LABELS
    return {"forget_rows": rows, "forget_tokens": tokens, "target_tokens": trained, "labels": labels}


RECIPES = read_recipes()
TABLE = {recipe.name: recipe for recipe in RECIPES}
"""Name -> recipe."""


def named(name: str) -> Recipe:
    """The recipe of this name; `UserError` with the nearest one."""
    if name not in TABLE:
        raise UserError(unknown("table", name, TABLE) + " `python -m bench reproduce --list` describes them.")
    return TABLE[name]
