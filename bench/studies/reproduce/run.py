"""Carrying a recipe out: plans of all its scenarios first, then the runs, then result file and page."""

from __future__ import annotations

import gc
import io
import json
from collections.abc import Mapping, Sequence
from contextlib import closing, redirect_stderr
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from bench.core import distributed
from bench.core.errors import UserError, collecting, mistakes_in, raise_problems
from bench.core.files import write_text
from bench.core.machine import Machine
from bench.core.provenance import get_provenance
from bench.core.record import Record, RunSpec
from bench.core.trackers import Tracker
from bench.core.types import Json
from bench.records.files import read_record
from bench.runs.estimate import checkpoints_of
from bench.runs.executor import in_step, keep_log
from bench.runs.jobs import Job, Result, WorkerConfig
from bench.runs.launch import build_jobs, carry_out, check_fits, on_first, record_results, track_result
from bench.runs.plan import Plan, make_plan
from bench.runs.progress import ignore_event
from bench.runs.terminal import show_plan
from bench.studies.reproduce import asking, gate, page, recipes, smoke
from bench.studies.reproduce.asking import ReproduceRequest
from bench.studies.reproduce.gate import BY_DEFINITION, GateVerdict, MeasuredCell
from bench.studies.reproduce.published import NR, PublishedTable
from bench.studies.reproduce.recipe import ORACLE, TARGET, Recipe, RecipeColumn, RecipePanel, RecipeRow
from bench.tracking.guarded import open_tracker

SCHEMA = 1


@dataclass(frozen=True)
class Planned:
    """A panel, its runs, and which runs make which row."""

    panel: RecipePanel
    plan: Plan
    rows: Mapping[str, tuple[RunSpec, ...]]
    """Published row -> its runs, one for each seed."""


def reproduce_table(wanted: ReproduceRequest) -> bool:
    """Write ``NAME.json`` and ``NAME.md``; returns whether some run failed. Under torchrun the first process does both."""
    recipe = asking.prepare_recipe(wanted)
    machine = wanted.machine(recipe)
    problems = replace(machine, out=wanted.out).problems()
    machine = replace(machine, device=distributed.join_processes("cpu" if problems else wanted.device))

    def prepare() -> list[Planned]:
        raise_problems(problems)
        small = recipe
        if wanted.scale == "smoke":
            small = smoke.shrink_recipe(recipe, wanted.out / "smoke", wanted.sets, pasts_of(recipe.name))
        if lacking := asking.to_fetch(small, wanted.store):
            said = ", ".join(f"`{command}`" for command in lacking)
            raise UserError(f"{recipe.name} needs what isn't fetched yet: run {said}.")
        return plan_panels(small, wanted, machine)

    planned = on_first(prepare)
    if planned is None:
        return False
    failed = [message for each in planned for message in make_panel(each, recipe, wanted)]
    is_first = distributed.is_first()
    distributed.leave_processes()
    if not is_first:
        return False
    result = result_of(recipe, wanted, planned, machine.out)
    for message in failed:
        print(f"FAILED {message}")
    print("\n".join([*page.summary_lines(result), *map(str, write_result(result, wanted.out))]))
    return bool(failed)


def pasts_of(name: str) -> dict[str, tuple[str, ...]]:
    """Panel -> the past of a whole recipe, whatever rows were chosen."""
    return {panel.name: panel.past for panel in recipes.recipe_named(name).panels}


def plan_panels(recipe: Recipe, wanted: ReproduceRequest, machine: Machine) -> list[Planned]:
    """The plans of all panels; one `UserError` with every mistake in them."""
    found = list[Planned]()
    pasts = pasts_of(recipe.name)
    with collecting():
        for panel in recipe.panels:
            past = tuple(dict.fromkeys([*pasts[panel.name], *panel.past]))
            history = asking.history_file(panel, past, wanted.out / "histories" / recipe.name)
            with mistakes_in():
                planned = plan_panel(recipe, panel, history, machine)
                check_fits(planned.plan)
                found.append(planned)
    return found


def plan_panel(recipe: Recipe, panel: RecipePanel, history: str, machine: Machine, only: bool = False) -> Planned:
    """One panel: the plans of its groups as one, every run once; ``only`` as `bench.runs.plan.make_plan` has it."""
    rows: dict[str, tuple[RunSpec, ...]] = {}
    made = list[Plan]()
    for asked, group in asking.asked_of(recipe, panel, recipe.seeds, history):
        plan = make_plan(asked, machine, only=only)
        made.append(plan)
        specs = [entry.spec for entry in plan.entries]
        for arm in (*(arm for arm in panel.arms if arm.method in (TARGET, ORACLE)), *group):
            first = () if arm.method == TARGET else (arm.method,)
            rows[arm.published] = tuple(spec for spec in specs if tuple(s.method for s in spec.steps[:1]) == first)
    return Planned(panel, without_unshown_runs(merge_plans(made), rows), rows)


def merge_plans(made: Sequence[Plan]) -> Plan:
    """Plans of one scenario as one, every run once; memory is the largest, and disk the sum."""
    largest = max(made, key=lambda plan: plan.memory)
    entries = {entry.spec.key: entry for plan in made for entry in plan.entries}
    written = sum(plan.size.checkpoints for plan in made if plan.size)
    size = replace(largest.size, checkpoints=written) if largest.size else None
    return replace(largest, entries=tuple(entries.values()), size=size)


def without_unshown_runs(plan: Plan, rows: Mapping[str, Sequence[RunSpec]]) -> Plan:
    """The plan without the runs that no row shows: a repair goes on from the target too, and nobody published that."""
    keys = {spec.key for specs in rows.values() for spec in specs}
    left = tuple(entry for entry in plan.entries if entry.spec.key in keys)
    spared = sum(checkpoints_of(entry.spec) for entry in plan.todo if entry.spec.key not in keys)
    size = replace(plan.size, checkpoints=plan.size.checkpoints - spared) if plan.size else None
    return replace(plan, entries=left, size=size)


def make_panel(planned: Planned, recipe: Recipe, wanted: ReproduceRequest) -> list[str]:
    """Make what isn't there of a panel's runs; what failed, a line each."""
    plan = planned.plan
    jobs, config = build_jobs(plan), WorkerConfig.of(plan.machine, plan.paths)
    if not distributed.is_first():
        carry_out(jobs, config)
        return []
    print(f"{recipe.name}, {planned.panel.name}: {len(plan.entries)} runs, {len(jobs)} jobs to do")
    with closing(open_tracker(wanted.track, wanted.out, wanted.device)) as tracker:
        if wanted.scale == "smoke":
            results = carry_out_quietly(jobs, config, tracker)
        else:
            show_plan(plan)
            results = carry_out(jobs, config, tracker=tracker)
    failed = record_results(plan, results)
    return [f"{planned.panel.name} {line}" for line in failed]


def carry_out_quietly(jobs: Sequence[Job], config: WorkerConfig, tracker: Tracker) -> list[Result]:
    """The jobs in this process, one after another: tiny models take less time than a worker takes to start."""
    gc.freeze()  # every training collects garbage, among all that torch has loaded: a tenth of the time
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return in_step(jobs, config, ignore_event, lambda result: track_result(result, config.machine, tracker))
    finally:
        said.seek(0)
        keep_log(said, config.logs / "worker-0.log", config.folders())


# What came out


def result_of(recipe: Recipe, wanted: ReproduceRequest, planned: Sequence[Planned], records: Path) -> Json:
    """All that the page says, as JSON."""
    return {
        "schema": SCHEMA,
        **{field: getattr(recipe, field) for field in ("name", "title", "source", "status", "note")},
        "scale": wanted.scale,
        "command": wanted.command,
        "sets": list(wanted.sets),
        "seeds": list(recipe.seeds),
        "replaced": smoke.SMOKE.replaced_texts() if wanted.scale == "smoke" else [],
        "assumptions": [asdict(assumption) for assumption in recipe.assumptions],
        "columns": [asdict(column) | {"tolerance": gate.REASONS[column.kind]} for column in recipe.columns],
        "panels": [panel_result(recipe, each, wanted, records) for each in planned],
        "others": [table.source for table in recipe.others],
        "provenance": get_provenance(wanted.device),
    }


def panel_result(recipe: Recipe, planned: Planned, wanted: ReproduceRequest, records: Path) -> Json:
    """One scenario: every published row with what came out, and what the gate says."""
    panel, table = planned.panel, planned.panel.table
    made = {row: [_record_of(spec, records) for spec in specs] for row, specs in planned.rows.items()}
    cells = {
        (arm.published, column.published): found
        for arm in panel.arms
        for column in recipe.columns
        if (found := measure_cell(arm, column, made.get(arm.published, [])))
    }
    done = [record for found in made.values() for record in found if record and record.status == "done"]
    other = gate.departures(
        panel.labels, (record.label for record in done), asking.changes_of_all_rows(recipe, wanted.sets)
    )
    verdict = gate.judge_calibration(table, recipe.columns, panel.arms, cells, other)
    if wanted.scale == "smoke":
        verdict = GateVerdict("not applicable", ("a random model on generated rows reproduces nothing",))
    return {
        "name": panel.name,
        "table": table.name,
        "source": table.source,
        "note": table.note,
        "label": done[0].label if done else "",
        "model": panel.model if wanted.scale == "full" else Path(panel.model).name,
        "gate": {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(verdict).items()},
        "rows": [
            row_result(recipe, table, arm, made.get(arm.published, []), cells)
            | {"changed": asking.is_changed(arm, wanted.sets)}
            for arm in panel.arms
        ],
    }


def row_result(
    recipe: Recipe, table: PublishedTable, arm: RecipeRow, records: Sequence[Record | None], cells: gate.Cells
) -> Json:
    """One row: how it was made, and its cells."""
    unknown = (NR,) * len(recipe.columns)
    texts, tags = next(((row.values, row.tags) for row in table.rows if row.name == arm.published), (unknown, unknown))
    steps = next((record.spec.steps for record in records if record), ())
    return {
        "row": arm.published,
        "method": arm.method,
        "made": [{"method": step.method, "params": dict(step.params)} for step in steps],
        "status": status_of(arm, records),
        "note": arm.note,
        "keys": [record.spec.key for record in records if record],
        "cells": {
            column.published: cell_json(column, text, tag, cells.get((arm.published, column.published)))
            for column, text, tag in zip(recipe.columns, texts, tags, strict=True)
        },
    }


def status_of(arm: RecipeRow, records: Sequence[Record | None]) -> str:
    """``done``, or why there is nothing."""
    if not arm.method:
        return arm.note
    bad = [record for record in records if record and record.status != "done"]
    if bad:
        return f"{bad[0].status}: {bad[0].reason.strip().splitlines()[-1] if bad[0].reason else 'no reason'}"
    return "done" if records and all(records) else "no record"


def cell_json(column: RecipeColumn, text: str, tag: str, found: MeasuredCell | None) -> Json:
    """Published, measured, and how far apart."""
    about: Json = {"published": text, "tag": tag}
    if found is None:
        return about
    about["measured"] = asdict(found)
    if text != NR:
        about |= {
            "difference": gate.signed_distance(column, text, found.value),
            "tolerance": gate.tolerance(column, text, found.n),
            "within": gate.is_within(column, text, found),
        }
    return about


def measure_cell(arm: RecipeRow, column: RecipeColumn, records: Sequence[Record | None]) -> MeasuredCell | None:
    """A cell's value, mean over the seeds that gave one; of p-values, of which we score the log10, the geometric mean."""
    values, sizes = list[float](), list[int]()
    for record in records:
        found = score_of(arm, column, record) if record and record.status == "done" else None
        if found:
            values.append(float(found["value"]) * column.scale)
            sizes.append(int(found["n"]))
    if not values:
        return None
    told = [mean(values), min(values), max(values)]
    average, low, high = [10**value for value in told] if column.kind == "p-value" else told
    return MeasuredCell(average, min(sizes), low, high)


def score_of(arm: RecipeRow, column: RecipeColumn, record: Record) -> Json | None:
    """The score of a column in a record. The oracle's row is judged against itself, as the paper's ideal model is."""
    if arm.method == ORACLE and column.kind in BY_DEFINITION:
        return None
    if arm.method == ORACLE and column.score.startswith("acc_"):
        found: Any = record.facts.get("judge", {}).get("scores", {}).get("oracle", {}).get(column.score)
        return dict(found) if found else None
    return record.scores[column.score].to_json() if column.score in record.scores else None


def _record_of(spec: RunSpec, records: Path) -> Record | None:
    file = records / Record(spec, "done").name
    return read_record(file) if file.exists() else None


def write_result(result: Json, out: Path) -> list[Path]:
    """Write a reproduction's result as ``NAME.json`` and its page as ``NAME.md``."""
    files = [out / f"{result['name']}.json", out / f"{result['name']}.md"]
    write_text(files[0], json.dumps(result, indent=1, sort_keys=True, allow_nan=False) + "\n")
    write_text(files[1], page.render_result(result))
    return files
