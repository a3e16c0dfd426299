"""What the command `reproduce_table` does, apart from parsing; lists and pages load no torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from bench.core.errors import UserError, raise_problems, unknown_name
from bench.records.tracking import KINDS
from bench.studies.reproduce import page, recipes
from bench.studies.reproduce.asking import ReproduceRequest, with_changes, with_methods
from bench.studies.reproduce.recipe import Recipe

SCALES = ("full", "smoke")


def prepare_recipe(wanted: ReproduceRequest) -> Recipe:
    """The recipe as the user wants it, at full scale; one `UserError` for all that stands against it."""
    if not wanted.name:
        raise UserError("Name a table, such as t1-tofu01; `python -m bench reproduce --list` has them.")
    recipe = recipes.recipe_named(wanted.name)
    problems = [*wanted.problems]
    if wanted.scale not in SCALES:
        problems.append("--scale: " + unknown_name("scale", wanted.scale, SCALES))
    if wanted.track not in KINDS:
        problems.append("--track: " + unknown_name("tracker", wanted.track, KINDS))
    if not recipe.panels:
        problems.append(
            f"{recipe.name} can't be run here: {recipe.note}. `python -m bench reproduce --list` has others."
        )
    if wanted.data and wanted.scale == "smoke":
        problems.append("--data goes with --scale full: at smoke scale the rows are generated.")
    raise_problems(problems)
    recipe = with_methods(with_changes(recipe, wanted.sets), wanted.methods)
    return replace(recipe, seeds=wanted.seeds or recipe.seeds, data=wanted.data or recipe.data)


def list_recipes(as_json: bool) -> str:
    """The text of `bench reproduce --list`: a line for each table."""
    return json.dumps([recipe.row() for recipe in recipes.RECIPES], indent=1) if as_json else page.recipes_text()


def dry_run(wanted: ReproduceRequest, say: Callable[[str], object]) -> None:
    """`reproduce NAME --dry-run`; with the plan of every scenario where all models are there."""
    from bench.studies.reproduce.dry import dry_run_lines

    if wanted.scale == "smoke":
        raise UserError("--dry-run describes the full scale; the smoke scale takes a minute: leave one of them out.")
    recipe = prepare_recipe(wanted)
    for line in dry_run_lines(recipe, wanted):
        say(line)


def reproduce_table(wanted: ReproduceRequest) -> bool:
    """`reproduce NAME`; returns whether some run failed."""
    from bench.studies.reproduce.run import run_recipe

    return run_recipe(prepare_recipe(wanted), wanted)
