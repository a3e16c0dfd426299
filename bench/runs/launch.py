"""Carrying out a plan: whether it fits the machine, its jobs in a pool, its records, what the terminal says."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bench.core import distributed
from bench.core.errors import UserError, collect, unknown
from bench.core.files import write_text
from bench.core.machine import default_jobs, device_problems, machine_problems
from bench.core.record import Record
from bench.records.files import load, read, write
from bench.records.tracking import KINDS, Tracker, open_tracker
from bench.runs.asked import Asked
from bench.runs.estimate import refusals, room_of
from bench.runs.executor import Pool, in_step
from bench.runs.facts import curves
from bench.runs.jobs import Job, Result, Surroundings
from bench.runs.plan import Entry, Plan, job_id, make_plan
from bench.runs.progress import Reporter
from bench.runs.responses import responses_in
from bench.runs.store import Store
from bench.runs.terminal import print_table, show_plan


def fitting(plan: Plan, workers: int, store: Store) -> Plan:
    """The plan, unless this machine can't hold its work: `UserError`, with what would make it fit."""
    workers = 1 if plan.way.world > 1 else workers
    if any(entry.status == "run" for entry in plan.entries):
        collect(refusals(plan.size, plan.way, workers, room_of(plan.way, plan.size, store)))
    return plan


def jobs_of(plan: Plan) -> list[Job]:
    """Shared stages first, all seeds of one before the next, then the runs: long work early, no core waits."""
    todo = [entry for entry in plan.entries if entry.status == "run"]
    first = {entry.spec.seed: entry.spec for entry in reversed(todo)}
    stages = [stage for stage in plan.stages if stage != "history"]
    builds = [Job(first[seed], stage) for stage in stages for seed in sorted(first)]
    runs = [
        Job(entry.spec, estimate={"seconds": round(entry.seconds, 1), "memory": plan.memory, "disk": entry.disk})
        for entry in todo
    ]
    return builds + sorted(runs, key=lambda job: job.spec.method in ("target", "retrain"), reverse=True)


def finish(plan: Plan, results: Sequence[Result], out: Path, store: Store, tracker: Tracker) -> None:
    """Write the records of skipped runs, say whether repeated runs gave the old scores, and track what is new."""
    for entry in plan.entries:
        if entry.status == "skipped":
            with suppress(UserError):  # a file in its place that is no record stays; `report` names it
                write(Record(entry.spec, "skipped", entry.reason), out)
    ended = {result.job.spec.key for result in results if not result.job.stage}
    for entry in plan.entries:
        if entry.spec.key not in ended:
            continue
        try:
            record = read(out / Record(entry.spec, "done").name)
        except UserError:  # the same
            continue
        if entry.old is not None and record.status == "done":
            print(compare(entry, record))
        said = responses_in(store, record.lineage["responses"]) if record.status == "done" else None
        tracker.record(record, said, curves(record, store))


def compare(entry: Entry, record: Record) -> str:
    """Whether a run that was made again, its checkpoint having gone, gave the scores of its old record."""
    assert entry.old is not None
    names = sorted(set(entry.old.scores) | set(record.scores))
    other = [name for name in names if entry.old.scores.get(name) != record.scores.get(name)]
    if not other:
        return f"{job_id(entry.spec)}: made again, all {len(names)} scores as before"
    return f"{job_id(entry.spec)}: made again, {len(other)} of {len(names)} scores DIFFER: {', '.join(other)}"


def report(out: Path) -> tuple[Path, list[Path]]:
    """Leaderboard and plots of the records in ``out``; broken ones are named and left out."""
    from bench.records.leaderboard import render
    from bench.records.plots import draw

    loaded = load(out)
    for broken in loaded.broken:
        print(f"left out: {broken.path}: {broken.reason}")
    page = out / "leaderboard.md"
    write_text(page, render(loaded.records, loaded.broken))
    return page, draw(loaded.records, out / "plots")


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
