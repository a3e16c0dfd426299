"""Tables on the terminal: a plan before it is carried out, and its scores afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.core.errors import UserError
from bench.core.machine import format_bytes, format_duration
from bench.core.record import Record
from bench.core.texts import one_line
from bench.core.types import BROKEN_DOWN
from bench.records.agreement import compare_with_published
from bench.records.attacked import build_attacks
from bench.records.files import read_record
from bench.records.leaderboard import goal_arrow, seed_list
from bench.records.markdown import format_number
from bench.records.tables import Section, TableRow, build_sections
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
        for rows in side_by_side(section.rows, room):
            table = Table(show_edge=False, pad_edge=False)
            table.add_column("score", no_wrap=True)
            for row in rows:
                table.add_column(shown_name(row), justify="right", overflow="fold")
            for column, score in zip(section.headline, scores, strict=True):
                cells = [row.cells.get(column.name) for row in rows]
                table.add_row(score, *("-" if cell is None else format_number(cell.mean) for cell in cells))
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
        for line in map(describe_wreck, section.rows):
            if line:
                console.print(line)
        for line in describe_skips(section):
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
    console.print("beside the published runs of the same settings", style="italic")
    table = Table(show_edge=False, pad_edge=False)
    for head in ("row", "score", "here", "published, 95% interval", "seeds", ""):
        table.add_column(head, justify="right" if head in ("here", "seeds") else "left", overflow="fold")
    for one in found:
        low, high = map(format_number, one.interval)
        said = f"{format_number(one.mean)} [{low}, {high}]"
        word = "agrees" if one.agrees else "differs"
        table.add_row(one_line(one.row), one_line(one.score), format_number(one.here), said, str(one.n), word)
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


def describe_wreck(row: TableRow) -> str:
    """A line about a row that is a wreck on some seed: broken down, diverged or collapsed; empty for others."""
    broken = [record.spec.seed for record in row.records if BROKEN_DOWN in record.absent.values()]
    exploded = [seed for seed in row.diverged if seed not in broken]
    left = [seed for seed in row.collapsed if seed not in row.diverged]
    said = [
        *([f"on {seed_list(broken)}: {BROKEN_DOWN}"] if broken else []),
        *([f"on {seed_list(exploded)}: its training diverged"] if exploded else []),
        *([f"on {seed_list(left)}: it has collapsed, and its scores are those of a wreck"] if left else []),
    ]
    return f"{one_line(row.name)} {'; '.join(said)}" if said else ""


def shown_name(row: TableRow) -> str:
    """A row's name, and the mark of a wreck."""
    return f"{one_line(row.name)} ⚠" if row.wrecked else one_line(row.name)


def side_by_side(rows: Sequence[TableRow], room: int) -> list[list[TableRow]]:
    """The rows in as many tables as it takes for their names to stand in ``room`` columns of text."""
    tables: list[list[TableRow]] = [[]]
    left = room
    for row in rows:
        wide = max(len(shown_name(row)), 7) + 3
        if tables[-1] and wide > left:
            tables.append([])
            left = room
        tables[-1].append(row)
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
        for problem in plan.machine.store_problems():
            console.print(f"NOTE: what the store lacks can't be made: {one_line(problem)}", soft_wrap=True)
    if plan.fetch:
        console.print("not fetched yet:")
        for command in plan.fetch:
            console.print(f"  {command}", soft_wrap=True)


def summarise_plan(plan: Plan) -> Iterator[str]:
    """Time, memory and disk of a plan, a line each."""
    is_here = all(entry.spec.tier == "lab" or entry.spec.hashes.get("model") for entry in plan.entries)
    if plan.size is None and not is_here:
        yield "how long and how much memory: nobody here knows before the model is fetched"
        return
    machine, workers = plan.machine, plan.machine.workers
    shared = ", ".join(f"{name} {format_duration(seconds)}" for name, seconds in plan.stages.items())
    yield f"shared by each seed, where not cached: {shared or 'nothing'}"
    rate = "; the GPU's speed is a guess" if machine.device != "cpu" and plan.guessed else ""
    yield (
        f"expected at most {format_duration(plan.seconds(workers))} with {workers} worker(s), "
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
