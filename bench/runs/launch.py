"""Carrying out a plan: whether it fits the machine, its jobs in a pool, its records, what the terminal says."""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from bench.core import distributed, registry
from bench.core.errors import UserError, raise_problems
from bench.core.machine import Machine, device_problems
from bench.core.provenance import say_when
from bench.core.record import Record, RunSpec
from bench.core.registry import last_place
from bench.core.texts import one_line
from bench.core.trackers import Tracker
from bench.core.trouble import explain_trouble
from bench.core.types import Json, Responses
from bench.records.agreement import find_results
from bench.records.files import load_records, read_record, write_record
from bench.records.leaderboard import write_pages
from bench.records.plots import draw_plots
from bench.records.tables import TARGET, find_all_older, keys_beside, tell_older
from bench.runs.asked import Asked
from bench.runs.at_hand import find_stages
from bench.runs.estimate import list_refusals, room_of, round_seconds
from bench.runs.executor import in_step
from bench.runs.executors import JobsGoOn, executor_problems, follow, open_executor
from bench.runs.facts import loss_curves
from bench.runs.jobs import Job, Result, WorkerConfig
from bench.runs.leases import at_work
from bench.runs.plan import Plan, PlannedRun, make_plan
from bench.runs.progress import Reporter, ignore_event
from bench.runs.report import NAME, write_report_page
from bench.runs.responses import load_responses
from bench.runs.store import Store
from bench.runs.terminal import plan_json, print_agreement, print_table, show_plan
from bench.tracking.guarded import open_tracker, tracker_problems

T = TypeVar("T")


def check_fits(plan: Plan) -> Plan:
    """The plan, unless its machine can't hold its work: `UserError`, with what would make it fit.

    A plan with nothing to do needs no room. Nor does one whose store can't be written: what the store lacks fails alone.
    """
    if plan.todo:
        room = room_of(plan.compute, plan.machine, plan.size, Store(plan.machine.store))
        if plan.machine.executor != "local":
            room = replace(room, memory=0)  # what matters is what the nodes have, which the cluster knows
        if plan.machine.store_problems():
            room = replace(room, disk=sys.maxsize)
        raise_problems(list_refusals(plan.size, plan.compute, plan.machine, room))
    return plan


def build_jobs(plan: Plan) -> list[Job]:
    """Seed by seed its shared stages, then its runs, those that the others are compared with first."""
    jobs: list[Job] = []
    for seed in sorted({entry.spec.seed for entry in plan.todo}):
        runs = [entry for entry in plan.todo if entry.spec.seed == seed]
        for stage in [stage for stage in plan.stages if stage != "history"]:
            expected = {"seconds": round_seconds(seconds_of_stage(plan, stage)), "memory": plan.memory}
            jobs.append(Job(runs[0].spec, stage, expected))
        for entry in sorted(runs, key=lambda entry: entry.spec.method not in ("target", "retrain")):
            expected = {"seconds": round_seconds(entry.seconds), "memory": plan.memory, "disk": entry.disk}
            jobs.append(Job(entry.spec, estimate=expected))
    return jobs


def seconds_of_stage(plan: Plan, stage: str) -> float:
    """Expected seconds of a stage, with the history that whichever comes first has to train."""
    return plan.stages[stage] + plan.stages.get("history", 0.0)


def record_results(plan: Plan, results: Sequence[Result]) -> list[str]:
    """Write the records of skipped runs, and say whether repeated runs gave the old scores.

    Returns a line for each job that failed, and for each record that can't be written.
    """
    out, failed = plan.machine.out, describe_failures(results, plan.machine.out)
    ended = {result.job.spec.key: result.status for result in results if not result.job.stage}
    for entry in plan.entries:
        try:
            if entry.status == "skipped":
                with suppress(UserError):  # a file in its place that is no record stays; `write_report` names it
                    write_record(Record(entry.spec, "skipped", entry.reason, provenance={"finished": say_when()}), out)
                continue
            status = ended.get(entry.spec.key)
            record = record_of_job(entry.spec, status, out) if entry.old is not None else None
            if record is not None and record.status == "done":
                print(compare_with_old(entry, record))
        except OSError as error:
            failed.append(f"{Job(entry.spec).name}: {explain_trouble(error, plan.machine.places())}")
    return failed


def record_of_job(spec: RunSpec, status: str | None, out: Path) -> Record | None:
    """The record that a job has left, by how it ended; None where that isn't there or is an earlier job's."""
    if status is None:
        return None
    try:
        record = read_record(out / Record(spec, "done").name)
    except UserError:  # no record: `write_report` names it
        return None
    return record if record.status == status else None


def compare_with_old(entry: PlannedRun, record: Record) -> str:
    """Whether a run that was made again, its checkpoint having gone, gave the scores of its old record."""
    assert entry.old is not None
    names = sorted(set(entry.old.scores) | set(record.scores))
    other = [name for name in names if entry.old.scores.get(name) != record.scores.get(name)]
    if not other:
        return f"{Job(entry.spec).name}: made again, all {len(names)} scores as before"
    return f"{Job(entry.spec).name}: made again, {len(other)} of {len(names)} scores DIFFER: {', '.join(other)}"


def write_report(out: Path, store: Path) -> tuple[Path, list[Path]]:
    """Leaderboard, tables, plots and report of the records in ``out``; broken ones are named and left out."""
    loaded = load_records(out)
    for broken in loaded.broken:
        print(broken.left_out)
    for line in tell_older(find_all_older(loaded.records), flag_of("--out", out)):
        print(line)
    page = out / "leaderboard.md"
    write_pages(loaded, out, page)
    write_report_page(loaded, out, store, out / NAME, keep=True)
    return page, draw_plots(loaded.records, out / "plots")


def carry_out(
    jobs: Sequence[Job],
    config: WorkerConfig,
    ended: Callable[[Result], None] = lambda result: None,
    tracker: Tracker | None = None,
) -> list[Result]:
    """Do the jobs of a command, and show how they get on, to ``tracker`` too.

    By the machine's executor, or under torchrun in this process, in step with the others; ``ended`` hears of each result as
    it comes.
    """
    if not distributed.is_first():
        return in_step(jobs, config, ignore_event)
    machine = config.machine
    specs, shown = {job.identity: job.spec for job in jobs}, tracker or Tracker(machine.out)

    def tell(result: Result) -> None:
        track_result(result, machine, shown)
        ended(result)

    is_for_others = machine.executor != "local" and not machine.store.is_dir()  # to make, where the jobs run
    with nullcontext() if is_for_others else at_work(machine.store), Reporter() as reporter:

        def report(event: Json) -> None:
            if event["status"] != "row":
                reporter.report(event)
            elif spec := specs.get(tuple(event["of"])):
                shown.row(spec, event["of"][1], event["series"], event["row"])

        if distributed.world() > 1:
            return in_step(jobs, config, report, tell)
        executor = open_executor(config, report)
        try:
            return follow(executor, jobs, tell)
        except JobsGoOn:
            print(f"\nThe jobs go on: `{name_status_command(machine.out)}` shows them, with --cancel it ends them.")
            raise


def track_result(result: Result, machine: Machine, tracker: Tracker) -> None:
    """Show the record that a job has left, or else how it ended."""
    if type(tracker) is Tracker:  # it shows nothing, and need not be told what the store holds
        return
    job, store = result.job, Store(machine.store)
    record = None if job.stage else record_of_job(job.spec, result.status, machine.out)
    if record is None:
        tracker.end(job.spec, job.stage, result.status == "failed")
        return
    curves: Mapping[str, list[dict[str, float]]] = {}
    with suppress(OSError, UserError):  # a store that can't be read is said by what needs it
        curves = loss_curves(record, store)
    tracker.record(record, said_beside(record, machine.out, store), curves)


def said_beside(record: Record, out: Path, store: Store) -> dict[str, Responses]:
    """What ``method``, ``target`` and ``oracle`` answered to the questions of a finished run, of those that are at hand."""
    if record.status != "done":
        return {}
    found: dict[str, Responses] = {}
    with suppress(OSError, UserError):
        targets = load_records(out, f"/{TARGET}-").records
        keys = {"method": record.lineage.get("responses", "")} | keys_beside(record, targets)
        for who, key in keys.items():
            if key:
                with suppress(UserError):  # gone from the store
                    found[who] = load_responses(store, key)
    return found


def name_status_command(out: Path) -> str:
    """The command that shows the cluster's jobs of a folder of records."""
    return f"python -m bench status{flag_of('--out', out)}"


def tell_seeds(plan: Plan) -> Callable[[Result], None]:
    """What hears of results, and prints the table of the seeds that are complete each time that one more is.

    The last seed's comes with the report.
    """
    left = Counter(entry.spec.seed for entry in plan.todo)

    def ended(result: Result) -> None:
        seed = result.job.spec.seed
        left[seed] -= not result.job.stage
        if not left[seed] and any(left.values()) and not result.job.stage:
            print_table(
                replace(plan, entries=tuple(e for e in plan.entries if not left[e.spec.seed])), plan.machine.out
            )

    return ended


def describe_failures(results: Sequence[Result], out: Path) -> list[str]:
    """A line for each job that has failed: the end of its error, where in a plug-in it happened, and what shows the whole."""
    return [explain_failure(result, out) for result in results if result.status == "failed"]


def explain_failure(result: Result, out: Path) -> str:
    """The line about one job."""
    spec = result.job.spec
    files = registry.plugin_files([spec.task, *(step.method for step in spec.steps)])
    where = last_place(result.message, files) if files else ""
    kept = not result.job.stage and (out / Record(spec, "done").name).is_file()
    see = f"; see: python -m bench show {spec.method}-{spec.key}{flag_of('--from', out)}" if kept else ""
    return f"{result.job.name}: {result.reason}{where}{see}"


def flag_of(option: str, out: Path) -> str:
    """An option that names the folder of records; empty for the usual one."""
    return f" {option} {out}" if out != Path("runs") else ""


def renew_dates(plan: Plan) -> None:
    """Say of cached runs of a plug-in's earlier code, which is the code again, that they are the newest."""
    cached = {
        Record(entry.spec, "done").name
        for entry in plan.entries
        if entry.status == "cached" and any(name.startswith(registry.CODE) for name in entry.spec.hashes)
    }
    records = load_records(plan.machine.out).records if cached else []
    older = find_all_older(records)
    for record in records:
        if record.name in cached and record.name in older:
            write_record(replace(record, provenance={**record.provenance, "finished": say_when()}), plan.machine.out)


def on_first(prepare: Callable[[], T]) -> T | None:
    """Prepare on the first process of torchrun, for all; None on the others where it is refused.

    The first one says why, and ends torchrun with it.
    """
    try:
        return distributed.call_on_first(prepare)
    except UserError:
        if distributed.is_first():
            raise
        return None


def run_command(asked: Asked, machine: Machine) -> bool:
    """`bench run`; returns whether some run failed. Under torchrun every process does the jobs, the first the rest."""
    problems = (*asked.problems, *executor_problems(machine), *machine.problems(), *tracker_problems(machine.track))
    machine = replace(machine, device=distributed.join_processes("cpu" if problems else machine.device))
    plan = on_first(lambda: check_fits(make_plan(replace(asked, problems=problems), machine)))
    if plan is None:
        return False
    jobs, config = build_jobs(plan), WorkerConfig.of(machine, plan.paths)
    if not distributed.is_first():
        carry_out(jobs, config)
        distributed.leave_processes()
        return False
    out = machine.out
    with closing(open_tracker(machine.track, out, machine.device)) as tracker:
        plan = look_into_store(plan)
        show_plan(plan)
        if asked.limit:
            print(f"NOTE: --limit {asked.limit} cuts every probe: the scores are for trying out and are not published.")
        began = time.perf_counter()
        results = carry_out(jobs, config, tell_seeds(plan), tracker)
        distributed.leave_processes()
        renew_dates(plan)
        failed = record_results(plan, results)
        page, pictures = None, list[Path]()
        try:
            page, pictures = write_report(out, machine.store)
            if results:
                tracker.report(page, pictures)
        except OSError as error:  # the runs are kept, and their scores and what failed are told all the same
            failed.append(f"report: {explain_trouble(error, machine.places())}")
        except UserError as error:
            failed.append(f"report: {error}")
        print_table(plan, out)
        print_agreement(plan, out, find_results())
        if page is not None:
            print(f"leaderboard: {page}")
            print(f"report:      {out / NAME}")
            print(f"plots:       {pictures[0].parent if pictures else 'none (no finished run)'}")
        print(f"records:     {out} ({time.perf_counter() - began:.0f} s)")
        for line in failed:
            print(f"FAILED {one_line(line)}")
    return bool(failed)


def look_into_store(plan: Plan) -> Plan:
    """The plan with what the store has of the stages that are left."""
    specs, machine = [entry.spec for entry in plan.todo], plan.machine
    there = find_stages(specs, plan.paths, machine.out, Store(machine.store), machine.device) if plan.stages else {}
    return replace(plan, at_hand=there)


def plan_command(asked: Asked, machine: Machine, as_json: bool = False) -> None:
    """`bench plan`: what `run` would do; raises what `run` would refuse, but for what isn't fetched.

    It writes nothing, so that records which can't be written are said and not refused.
    """
    is_named = re.fullmatch(r"cpu|cuda(:\d+)?", machine.device)
    wrong = [] if is_named else device_problems(machine.device)
    plan = make_plan(
        replace(
            asked, problems=(*asked.problems, *executor_problems(machine), *wrong, *machine.place_problems(only=True))
        ),
        machine,
        only=True,
    )
    plan = look_into_store(plan)
    if as_json:
        print(json.dumps(plan_json(plan), indent=1, ensure_ascii=False))
        check_fits(plan)
        return
    show_plan(plan)
    for problem in machine.place_problems():
        print(f"NOTE: `run` writes records: {problem}")
    check_fits(plan)
    for line in open_executor(WorkerConfig.of(machine, plan.paths), ignore_event).foresee(build_jobs(plan)):
        print(line)
