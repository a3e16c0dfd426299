"""What the command `reproduce` does, apart from parsing; lists and pages load no torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench.core.errors import UserError, collect, unknown
from bench.core.files import write_text
from bench.records.tracking import KINDS
from bench.studies.reproduce import page, recipes
from bench.studies.reproduce.asking import Wanted, changed, chosen
from bench.studies.reproduce.recipe import Recipe

SCALES = ("full", "smoke")


def prepared(wanted: Wanted) -> Recipe:
    """The recipe as the user wants it, at full scale; one `UserError` for all that stands against it."""
    if not wanted.name:
        raise UserError("Name a table, such as t1-tofu01; `python -m bench reproduce --list` has them.")
    recipe = recipes.named(wanted.name)
    problems = [*wanted.problems]
    if wanted.scale not in SCALES:
        problems.append("--scale: " + unknown("scale", wanted.scale, SCALES))
    if wanted.track not in KINDS:
        problems.append("--track: " + unknown("tracker", wanted.track, KINDS))
    if not recipe.panels:
        problems.append(
            f"{recipe.name} can't be run here: {recipe.note}. `python -m bench reproduce --list` has others."
        )
    if wanted.data and wanted.scale == "smoke":
        problems.append("--data goes with --scale full: at smoke scale the rows are generated.")
    collect(problems)
    recipe = chosen(changed(recipe, wanted.sets), wanted.methods)
    return replace(recipe, seeds=wanted.seeds or recipe.seeds, data=wanted.data or recipe.data)


def listing(as_json: bool) -> str:
    """`reproduce --list`."""
    return json.dumps([recipe.row() for recipe in recipes.RECIPES], indent=1) if as_json else page.listing()


def overview(file: Path, results: Path, check: bool, say: Callable[[str], object]) -> bool:
    """Write the overview, or say whether it is up to date."""
    text = page.overview(results)
    if not check:
        write_text(file, text)
        say(f"{file}: written.")
        return True
    good = file.exists() and file.read_text() == text
    say(f"{file} is {'up to date' if good else f'stale: run `python -m bench reproduce --page {file}`'}.")
    return good


def dry_run(wanted: Wanted, say: Callable[[str], object]) -> None:
    """`reproduce NAME --dry-run`; with the plan of every scenario where all models are there."""
    from bench.studies.reproduce.dry import lines

    if wanted.scale == "smoke":
        raise UserError("--dry-run describes the full scale; the smoke scale takes a minute: leave one of them out.")
    recipe = prepared(wanted)
    for line in lines(recipe, wanted):
        say(line)


def reproduce(wanted: Wanted) -> bool:
    """`reproduce NAME`; returns whether some run failed."""
    from bench.studies.reproduce.run import run

    return run(prepared(wanted), wanted)
