"""`reproduce NAME --dry-run`: what would be fetched, trained and run, and what was assumed. Nothing is loaded or written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bench.core.errors import UserError
from bench.runs.terminal import summarise_plan
from bench.studies.reproduce.asking import ReproduceRequest, models_of, prepare_recipe, to_fetch
from bench.studies.reproduce.needs import estimate_needs
from bench.studies.reproduce.page import assumption_line, wrap_text
from bench.studies.reproduce.recipe import ORACLE, TARGET, Recipe, RecipePanel, RecipeRow
from bench.studies.reproduce.run import plan_panel


def dry_run_lines(wanted: ReproduceRequest) -> Iterator[str]:
    """The whole report, as a terminal holds it; commands stay whole, to be copied."""
    if wanted.scale == "smoke":
        raise UserError("--dry-run describes the full scale; the smoke scale takes a minute: leave one of them out.")
    for line in report_lines(prepare_recipe(wanted), wanted):
        indent = " " * (len(line) - len(line.lstrip()))
        yield line if line.startswith("  python ") else wrap_text(line.lstrip(), indent, indent + "  ")


def report_lines(recipe: Recipe, wanted: ReproduceRequest) -> Iterator[str]:
    """The dry run as lines of text, one for each thing that would be fetched, trained or run."""
    yield f"{recipe.name}: {recipe.title}"
    yield f"published: {recipe.source}; {recipe.status}" + (f" ({recipe.note})" if recipe.note else "")
    yield f"needs: {estimate_needs(recipe)}"
    yield f"seeds: {', '.join(map(str, recipe.seeds))}; data: {recipe.data}; computing: {computing_text(recipe)}"
    missing = to_fetch(recipe, wanted.store)
    yield "to fetch first: " + ("nothing" if not missing else "")
    yield from (f"  {command}" for command in missing)
    for panel in recipe.panels:
        yield from panel_lines(recipe, panel)
        yield from plan_lines(recipe, panel, wanted)
    yield "assumed, as the source doesn't report it:"
    yield from (f"  {assumption_line(a.about, a.choice, a.flag)}" for a in recipe.assumptions)


def computing_text(recipe: Recipe) -> str:
    """How training computes, for people."""
    told = [name if value is True else f"{name} {value}" for name, value in recipe.compute.items() if value]
    return ", ".join(told) or "as usual"


def panel_lines(recipe: Recipe, panel: RecipePanel) -> Iterator[str]:
    """One scenario: its models, and a line for each row."""
    yield f"{panel.name}: {panel.table.source}"
    yield f"  models: {', '.join(models_of(panel))}"
    yield f"  {recipe.task}: {_params_text(panel.params)}"
    for arm in panel.arms:
        yield f"  {arm.published}: {how_made(recipe, panel, arm)}"


def plan_lines(recipe: Recipe, panel: RecipePanel, wanted: ReproduceRequest) -> Iterator[str]:
    """The lines of `bench plan` for a scenario on this machine; without the history, which isn't written yet."""
    plan = plan_panel(recipe, panel, "", wanted.machine(recipe), only=True).plan
    yield f"  on this machine ({wanted.device}): {len(plan.entries)} runs, {len(plan.todo)} to make"
    yield from (f"    {line}" for line in summarise_plan(plan) if plan.todo)


def how_made(recipe: Recipe, panel: RecipePanel, arm: RecipeRow) -> str:
    """The method and parameters that make a row, as text."""
    if not arm.method:
        return arm.note
    if arm.method == TARGET:
        return f"taken from {panel.target}" if panel.target else "target, trained here"
    if arm.method == ORACLE and panel.params.get("oracle") == "clean":
        return "the model as it was before the corruption"
    if arm.method == ORACLE:
        return f"taken from {', '.join(panel.oracles)}" if panel.oracles else "retrained here"
    return f"{arm.method} {_params_text(arm.params)}" + "".join(f", then {name}" for name in recipe.then)


def _params_text(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in params.items())
