"""Tables on the terminal: a plan before it is carried out, and its scores afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.core.errors import UserError
from bench.core.machine import format_bytes, format_duration, tell_load
from bench.core.record import Record
from bench.core.texts import one_line
from bench.core.types import Json
from bench.records.agreement import compare_with_published
from bench.records.attacked import build_attacks
from bench.records.files import read_record
from bench.records.markdown import format_interval, format_number, goal_arrow, seed_list
from bench.records.tables import SEEDS_OF_INTERVAL, Section, TableRow, build_sections
from bench.records.warnings import find_warnings
from bench.runs.estimate import room_of
from bench.runs.plan import Plan, PlannedRun
from bench.runs.store import Store


def print_table(plan: Plan, out: Path) -> None:
    """The headline scores of this command's runs, mean over seeds, on the terminal: a line for each score."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, emoji=False)
    if plan.entries and all(entry.spec.order for entry in plan.entries):
        console.print("Second runs are no rows of a table: they tell the noise of the leaderboard.")
        return
    for section in sections_of(plan, out):
        scores = [f"{one_line(column.name)} {goal_arrow(column.goal)}" for column in section.headline]
        room = console.width - max(map(len, scores), default=0)
        seeds = sorted({seed for row in section.rows for seed in row.seeds})
        over = f"mean over {seed_list(seeds)}" if len(seeds) > 1 else seed_list(seeds)
        console.print(f"{one_line(section.label)}, {over}", style="italic")
        columns = [
            [shown_name(row), *(shown_cell(row, each.name) for each in section.headline)] for row in section.rows
        ]
        for some in side_by_side(columns, room):
            table = Table(show_edge=False, pad_edge=False)
            table.add_column("score", no_wrap=True)
            for name, *_ in some:
                table.add_column(name, justify="right", overflow="fold")
            for score, *cells in zip(scores, *(cells for _, *cells in some), strict=True):
                table.add_row(score, *cells)
            console.print(table)
        for attack in build_attacks(section):
            console.print(f"under {one_line(attack.attack)}", style="italic")
            table = Table(show_edge=False, pad_edge=False)
            for head in ("", f"{attack.before} before".strip(), f"{attack.score} after", "minus the oracle's after"):
                table.add_column(head, justify="right" if head else "left", overflow="fold")
            for hit in attack.rows:
                told = (hit.before, hit.after, hit.gap)
                table.add_row(one_line(hit.title), *("-" if c is None else format_number(c.mean) for c in told))
            console.print(table)
        for line in (*explain_table(section), *find_warnings(section), *describe_skips(section)):
            console.print(line, soft_wrap=True)


def print_agreement(plan: Plan, out: Path, results: Path | None) -> None:
    """This command's primary scores beside the published ones of the same settings, where there are any."""
    if results is None or results.resolve() == out.resolve():
        return
    found = compare_with_published(sections_of(plan, out), results)
    if not found:
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, emoji=False)
    seeds = " to ".join(map(str, sorted({min(one.n for one in found), max(one.n for one in found)})))
    console.print(f"beside the published runs of the same settings, {seeds} seeds", style="italic")
    table = Table(box=None, pad_edge=False)
    for head in ("row", "score", "here", "published, 95%", ""):
        table.add_column(head, justify="right" if head == "here" else "left", overflow="fold")
    before = ""
    for one in found:
        said = f"{format_number(one.mean)} {format_interval(*one.interval)}"
        word = "agrees" if one.agrees else "differs"
        row = one_line(one.row) if one.row != before else ""
        table.add_row(row, one_line(one.score), format_number(one.here), said, word)
        before = one.row
    console.print(table)
    console.print(
        "agrees: within the 95% prediction interval given the published seeds; another processor gives other weights at "
        "the same seed",
        soft_wrap=True,
    )


def describe_skips(section: Section) -> list[str]:
    """A line for each method that was skipped, with its seeds and the reason."""
    return [
        f"{one_line(run.name)} on {seed_list(run.seeds)}: skipped, {one_line(run.reason)}"
        for run in section.unfinished
        if run.status == "skipped"
    ]


def sections_of(plan: Plan, out: Path) -> list[Section]:
    """The sections of what this command's runs have left."""
    names = sorted({Record(entry.spec, "done").name for entry in plan.entries})
    return build_sections([record for name in names for record in readable_record(out / name)])


def readable_record(path: Path) -> list[Record]:
    """The record of a run, if it left a good one; others are named where all records are read."""
    try:
        return [read_record(path)]
    except UserError:
        return []


def shown_name(row: TableRow) -> str:
    """A row's name, and the mark of a wreck."""
    return f"{one_line(row.name)} ⚠" if row.wrecked else one_line(row.name)


def shown_cell(row: TableRow, score: str) -> str:
    """A cell: its mean, with the 95% interval where it has one."""
    cell = row.cells.get(score)
    if cell is None:
        return "-"
    ends = "" if cell.interval is None else f" {format_interval(*cell.interval)}"
    return f"{format_number(cell.mean)}{ends}"


def explain_table(section: Section) -> list[str]:
    """The line that says what the signs of a section's table mean; none where it has no rows."""
    if not section.rows:
        return []
    cells = [cell for row in section.rows for cell in row.cells.values() if cell.interval]
    over = {cell.n >= SEEDS_OF_INTERVAL for cell in cells}
    kinds = [
        *(["over seeds (t)"] if True in over else []),
        *(["over people or rows (bootstrap)"] if False in over else []),
    ]
    goals = {column.goal for column in section.headline}
    signs = [
        *([f"[low, high] 95%, {' or '.join(kinds)}"] if cells else []),
        *(["↑ more is better"] if "up" in goals else []),
        *(["↓ less is better"] if "down" in goals else []),
        *(["→oracle as near to retrain, the oracle, as can be"] if "oracle" in goals else []),
        *(["⚠ a wreck"] if any(row.wrecked for row in section.rows) else []),
        *(
            ["- not measured"]
            if any(each.name not in row.cells for row in section.rows for each in section.headline)
            else []
        ),
    ]
    return ["; ".join(signs)] if signs else []


def side_by_side(columns: Sequence[Sequence[str]], room: int) -> list[list[Sequence[str]]]:
    """The columns, names first, in as many tables as it takes for them to stand in ``room`` characters."""
    tables: list[list[Sequence[str]]] = [[]]
    left = room
    for column in columns:
        wide = max(map(len, column)) + 3
        if tables[-1] and wide > left:
            tables.append([])
            left = room
        tables[-1].append(column)
        left -= wide
    return tables


def show_plan(plan: Plan) -> None:
    """Print a plan: its runs, time, memory, disk, and what to fetch."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, emoji=False)
    table = Table(title=None, show_edge=False, pad_edge=False)
    for heading in ("run", "seeds", "status", "expected", "why"):
        table.add_column(heading, overflow="fold")
    for row in plan_rows(plan):
        table.add_row(*map(one_line, row))
    console.print(table)
    if plan.todo:
        for line in summarise_plan(plan):
            console.print(line)
        if plan.machine.executor == "local" and (busy := tell_load()):
            console.print(busy)
        for problem in plan.machine.store_problems():
            console.print(f"NOTE: what the store lacks can't be made: {one_line(problem)}", soft_wrap=True)
    if plan.fetch:
        console.print("not fetched yet:")
        for command in plan.fetch:
            console.print(f"  {command}", soft_wrap=True)


def plan_json(plan: Plan) -> Json:
    """A plan as data: times in seconds, sizes in bytes; memory is of one worker, disk of all that is to be made."""
    least, most = plan.expected(plan.machine.workers) if plan.todo else (0.0, 0.0)
    return {
        "runs": [
            {
                "method": entry.spec.method,
                "seed": entry.spec.seed,
                "key": entry.spec.key,
                "status": entry.status,
                "reason": entry.reason,
                "seconds": round(entry.seconds, 1),
            }
            for entry in plan.entries
        ],
        "stages": {name: round(seconds, 1) for name, seconds in plan.stages.items()},
        "in_store": {str(seed): sorted(stages) for seed, stages in plan.at_hand.items()},
        "expected": [round(least, 1), round(most, 1)],
        "workers": plan.machine.workers,
        "memory": plan.memory,
        "disk": plan.size.disk(plan.compute, plan.machine) if plan.size else None,
        "fetch": list(plan.fetch),
    }


def summarise_plan(plan: Plan) -> Iterator[str]:
    """Time, memory and disk of a plan, a line each."""
    is_here = all(entry.spec.tier == "lab" or entry.spec.hashes.get("model") for entry in plan.entries)
    if plan.size is None and not is_here:
        yield "how long and how much memory: nobody here knows before the model is fetched"
        return
    machine, workers = plan.machine, plan.machine.workers
    yield from describe_stages(plan)
    rate = "; the GPU's speed is a guess" if machine.device != "cpu" and plan.guessed else ""
    least, most = map(say_roughly, plan.expected(workers))
    queue = "" if machine.executor == "local" else "waiting in the queue apart, "
    yield (
        f"expected {least} to {most} with {workers} worker{'s' * (workers > 1)}, {queue}start-up and measuring included; "
        f"{format_bytes(plan.memory)} of memory each (an estimate; the records keep it beside the fact{rate})"
    )
    if plan.size is None:
        return
    room = room_of(plan.compute, machine, plan.size, Store(machine.store))
    parts = ", ".join(f"{what} {format_bytes(size)}" for what, size in plan.size.parts(plan.compute, machine).items())
    has = f"{room.where} has {format_bytes(room.memory)}" if room.memory else f"{room.where} says not how much it has"
    yield f"memory: {parts}; {has}"
    disk = format_bytes(plan.size.disk(plan.compute, machine))
    yield f"disk: at most {disk} of checkpoints, {format_bytes(room.disk)} are free"


def say_roughly(seconds: float) -> str:
    """A time that is a guess, in whole seconds, minutes or hours."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def describe_stages(plan: Plan) -> Iterator[str]:
    """What the store has of the stages that a seed's runs share, and what is to be made of them."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for seed in sorted({entry.spec.seed for entry in plan.todo}):
        there = plan.at_hand.get(seed, ())
        groups.setdefault(tuple(name for name in plan.stages if name in there), []).append(seed)
    for there, seeds in groups.items():
        made = [f"{name} {format_duration(seconds)}" for name, seconds in plan.stages.items() if name not in there]
        has = f"the store has {', '.join(there)}; " if there else ""
        yield f"{seed_list(seeds)}: {has}to be made: {', '.join(made) or 'nothing that is shared'}"


def plan_rows(plan: Plan) -> list[tuple[str, str, str, str, str]]:
    """One line for each method and status."""
    groups: dict[tuple[str, str, str], list[PlannedRun]] = {}
    for entry in plan.entries:
        groups.setdefault((entry.spec.method, entry.status, entry.reason), []).append(entry)
    return [
        (
            method,
            ",".join(str(entry.spec.seed) for entry in entries),
            status,
            format_duration(sum(entry.seconds for entry in entries)) if status == "run" else "",
            reason,
        )
        for (method, status, reason), entries in groups.items()
    ]
