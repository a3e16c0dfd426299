"""Carrying out a plan: whether it fits the machine, its jobs in a pool, its records, what the terminal says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from bench.core.errors import UserError, collect
from bench.core.machine import duration, gigabytes
from bench.core.record import Record
from bench.records.files import read, write
from bench.records.tracking import Tracker
from bench.runs.estimate import refusals, room_of
from bench.runs.facts import curves
from bench.runs.jobs import Job, Result
from bench.runs.plan import Entry, Plan, job_id
from bench.runs.responses import responses_in
from bench.runs.store import Store


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


def show_plan(plan: Plan, workers: int, store: Store | None = None) -> None:
    """What will happen, before it happens."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(title=None, show_edge=False, pad_edge=False)
    for heading in ("run", "seeds", "status", "expected", "why"):
        table.add_column(heading, overflow="fold")
    for row in plan_rows(plan):
        table.add_row(*row)
    console.print(table)
    if any(entry.status == "run" for entry in plan.entries):
        for line in summary(plan, workers, store):
            console.print(line)
    if plan.fetch:
        console.print("not fetched yet:")
        for command in plan.fetch:
            console.print(f"  {command}", soft_wrap=True)


def summary(plan: Plan, workers: int, store: Store | None) -> Iterator[str]:
    """What the plan takes: time, memory, disk; a line each."""
    if plan.size is None and any(
        entry.spec.tier == "real" and not entry.spec.hashes.get("model") for entry in plan.entries
    ):
        yield "how long and how much memory: nobody here knows before the model is fetched"
        return
    shared = ", ".join(f"{name} {duration(seconds)}" for name, seconds in plan.stages.items())
    yield f"shared by each seed, where not cached: {shared or 'nothing'}"
    rate = "" if plan.way.device == "cpu" or not plan.guessed else "; the GPU's speed is a guess"
    yield (
        f"expected at most {duration(plan.seconds(workers))} with {workers} worker(s), "
        f"{gigabytes(plan.memory)} of memory each (an estimate; the records keep it beside the fact{rate})"
    )
    if plan.size is None:
        return
    room = room_of(plan.way, plan.size, store or Store(Path("none")))
    parts = ", ".join(f"{what} {gigabytes(size)}" for what, size in plan.size.parts(plan.way).items())
    has = f"{room.where} has {gigabytes(room.memory)}" if room.memory else f"{room.where} says not how much it has"
    yield f"memory: {parts}; {has}"
    disk = gigabytes(plan.size.disk(plan.way, workers))
    yield f"disk: at most {disk} of checkpoints" + (f", {gigabytes(room.disk)} are free" if store else "")


def plan_rows(plan: Plan) -> list[tuple[str, str, str, str, str]]:
    """One line for each method and status."""
    groups: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in plan.entries:
        groups.setdefault((entry.spec.method, entry.status, entry.reason), []).append(entry)
    return [
        (
            method,
            ",".join(str(entry.spec.seed) for entry in entries),
            status,
            duration(sum(entry.seconds for entry in entries)) if status == "run" else "",
            reason,
        )
        for (method, status, reason), entries in groups.items()
    ]
