"""`bench run`, `bench plan` and `bench exec`."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.options import Checkpointing, Device, Jobs, Out, StoreAt, Threads, Track, asking, store_at
from bench.cli.results import report
from bench.core import distributed
from bench.core.errors import UserError, unknown
from bench.core.files import write_text
from bench.core.machine import default_jobs, device_problems, machine_problems
from bench.core.types import Json
from bench.records.files import load
from bench.records.tables import Row
from bench.records.tracking import KINDS, open_tracker
from bench.runs.asked import Asked
from bench.runs.executor import Pool, in_step
from bench.runs.jobs import Result, Surroundings
from bench.runs.launch import finish, fitting, jobs_of, show_plan
from bench.runs.plan import Entry, Plan, make_plan
from bench.runs.progress import Reporter
from bench.runs.setting import Paths
from bench.runs.store import Store


def run_command(
    asked: Asked,
    out: Path,
    store_root: Path,
    jobs: int | None,
    device: str,
    threads: int,
    track: str,
    checkpointing: bool = False,
) -> bool:
    """`bench run`; returns whether some run failed. Under torchrun every process does the jobs, the first the rest."""
    machine = machine_problems(device, jobs, threads, out, store_root)
    problems = (*asked.problems, *machine, *distributed.problems(device, jobs, asked.compute.get("lora", 0)))
    if track not in KINDS:
        problems += (unknown("tracker", track, KINDS),)
    store = Store(store_root)
    device = distributed.start("cpu" if problems else device)
    try:
        plan = distributed.from_first(
            lambda: fitting(
                make_plan(replace(asked, problems=problems), out, store, device=device, checkpointing=checkpointing),
                jobs or default_jobs(device),
                store,
            )
        )
    except UserError:
        if distributed.is_first():
            raise
        return False  # the first process says it, and ends torchrun with it
    around = Surroundings(store_root, out, plan.paths, device, threads, out / "logs", checkpointing)
    if not distributed.is_first():
        in_step(jobs_of(plan), around, lambda event: None)
        distributed.stop()
        return False  # the same
    tracker = open_tracker(track, out / "wandb")
    workers = 1 if distributed.world() > 1 else jobs or default_jobs(device)
    show_plan(plan, workers, store)
    if asked.limit:
        print(f"NOTE: --limit {asked.limit} cuts every probe: the scores are for trying out and are not published.")
    began = time.perf_counter()
    results: list[Result] = []
    try:
        with Reporter() as reporter:
            if distributed.world() > 1:
                results = in_step(jobs_of(plan), around, reporter.report)
                distributed.stop()
            else:
                results = Pool(workers, around, reporter.report).run(jobs_of(plan))
        finish(plan, results, out, store, tracker)
        page, pictures = report(out)
        if results:
            tracker.report(page, pictures)
    finally:
        tracker.close()
    print_table(plan, out)
    print(f"leaderboard: {page}")
    print(f"plots:       {pictures[0].parent if pictures else 'none (no finished run)'}")
    print(f"records:     {out} ({time.perf_counter() - began:.0f} s)")
    failed = [result for result in results if result.status == "failed"]
    for result in failed:
        print(f"FAILED {result.job.name}: {result.message.strip().splitlines()[-1] if result.message else 'no reason'}")
    return bool(failed)


def plan_command(
    asked: Asked, out: Path, store_root: Path, jobs: int | None, device: str, checkpointing: bool = False
) -> None:
    """`bench plan`: what `run` would do; raises what `run` would refuse, but for what isn't fetched."""
    wrong = [] if re.fullmatch(r"cpu|cuda(:\d+)?", device) else device_problems(device)
    store, workers = Store(store_root), jobs or default_jobs(device)
    asked = replace(asked, problems=(*asked.problems, *wrong))
    plan = make_plan(asked, out, store, only=True, device=device, checkpointing=checkpointing)
    show_plan(plan, workers, store)
    fitting(plan, workers, store)


def print_table(plan: Plan, out: Path) -> None:
    """The headline scores of this command's runs, mean over seeds, on the terminal: a line for each score."""
    from rich.console import Console
    from rich.table import Table

    from bench.records.leaderboard import arrow, number
    from bench.records.tables import build

    keys = {entry.spec.key for entry in plan.entries}
    console = Console(highlight=False)
    for section in build([record for record in load(out).records if record.spec.key in keys]):
        scores = [f"{column.name} {arrow(column.goal)}" for column in section.headline]
        room = console.width - max(map(len, scores), default=0)
        console.print(f"{section.label}, mean over seeds", style="italic")
        for rows in side_by_side(section.rows, room):
            table = Table(show_edge=False, pad_edge=False)
            table.add_column("score", no_wrap=True)
            for row in rows:
                table.add_column(row.name, justify="right", overflow="fold")
            for column, score in zip(section.headline, scores, strict=True):
                cells = [row.cells.get(column.name) for row in rows]
                table.add_row(score, *("-" if cell is None else number(cell.mean) for cell in cells))
            console.print(table)


def side_by_side(rows: Sequence[Row], room: int) -> list[list[Row]]:
    """The rows in as many tables as it takes for their names to stand in ``room`` columns of text."""
    tables: list[list[Row]] = [[]]
    left = room
    for row in rows:
        wide = max(len(row.name), 7) + 3
        if tables[-1] and wide > left:
            tables.append([])
            left = room
        tables[-1].append(row)
        left -= wide
    return tables


def spec_file(entry: Entry, paths: Paths, folder: Path) -> Path:
    """The file that `bench exec` takes, for one run."""
    file = folder / f"{entry.spec.key}.json"
    data: Json = {"spec": entry.spec.to_json(), "paths": asdict(paths)}
    write_text(file, json.dumps(data, indent=1))
    return file


@asking()
def run(
    asked: Any,
    jobs: Jobs = None,
    out: Out = Path("runs"),
    store: StoreAt = None,
    device: Device = "cpu",
    threads: Threads = 1,
    checkpointing: Checkpointing = False,
    track: Track = "wandb",
) -> None:
    """Run methods on a task: target, oracle and every method, each seed; what is done already is not done again."""
    failed = run_command(asked, out, store_at(store), jobs, device, threads, track, checkpointing)
    raise typer.Exit(1 if failed else 0)


@asking()
def plan(
    asked: Any,
    jobs: Jobs = None,
    out: Out = Path("runs"),
    store: StoreAt = None,
    device: Device = "cpu",
    checkpointing: Checkpointing = False,
) -> None:
    """Say what `run` would do: what is cached, how long the rest takes, memory, disk, what to fetch. Loads nothing heavy."""
    plan_command(asked, out, store_at(store), jobs, device, checkpointing)


def exec_(
    spec: Annotated[Path | None, typer.Argument(help="A run's spec, as JSON.")] = None,
    worker: Annotated[str, typer.Option("--worker", help="Serve jobs from standard input (used by `run`).")] = "",
    out: Out = Path("runs"),
    store: StoreAt = None,
    device: Device = "cpu",
    threads: Threads = 1,
) -> None:
    """Make one run's record in this process, or serve jobs."""
    import json

    from bench.runs.executor import Worker, serve_jobs

    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    if worker:
        serve_jobs(json.loads(worker))
        return
    if spec is None:
        raise UserError("exec needs the file of a run's spec.")
    from bench.runs.setting import spec_from_file

    wanted, paths = spec_from_file(spec)
    around = {
        "store": str(store_at(store)),
        "out": str(out),
        "paths": vars(paths),
        "device": device,
        "threads": threads,
    }
    done = Worker(around, lambda event: typer.echo(json.dumps(event), err=True)).do(
        {"spec": wanted.to_json(), "stage": "", "estimate": {}}, wait=True
    )
    typer.echo(f"{wanted.method} seed {wanted.seed}: {done['status']}")
    if done["status"] == "failed":
        typer.echo(done["message"], err=True)
        raise typer.Exit(1)
