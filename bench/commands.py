"""What the commands do, apart from parsing them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.core import distributed
from bench.core.errors import UserError, collect, unknown
from bench.core.files import write_text
from bench.core.machine import default_jobs, device_problems, machine_problems
from bench.core.record import Record, Step
from bench.core.types import Json, Responses
from bench.records.files import load, write
from bench.records.tables import Row
from bench.records.tracking import KINDS, open_tracker
from bench.runs.asked import Asked
from bench.runs.executor import Pool, in_step
from bench.runs.jobs import Job, Result, Surroundings
from bench.runs.launch import finish, fitting, jobs_of, show_plan
from bench.runs.plan import Entry, Plan, make_plan
from bench.runs.progress import Reporter
from bench.runs.responses import responses_in
from bench.runs.setting import Paths
from bench.runs.store import Store
from bench.runs.validate import is_current
from bench.studies.ablations import FOLDER


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


REPORTED = (0, 1, 2)
"""Seeds of the published tables; a search must not have seen them."""


def tune_command(
    asked: Asked,
    out: Path,
    store_root: Path,
    jobs: int | None,
    device: str,
    threads: int,
    checkpointing: bool = False,
) -> bool:
    """`bench tune`; writes one record a method under ``out/tune`` and returns whether some run failed."""
    problems = (*asked.problems, *machine_problems(device, jobs, threads, out, store_root), *tune_problems(asked))
    store = Store(store_root)
    plan = make_plan(replace(asked, problems=problems), out, store, device=device, checkpointing=checkpointing)
    fitting(plan, jobs or default_jobs(device), store)
    searches = searches_of(plan, asked)
    rows = out / "tune" / "rows"
    todo = [job for search in searches for job in search.jobs if not is_current(rows, job)]
    total = sum(len(search.jobs) for search in searches)
    print(f"{total} runs ({', '.join(f'{s.method}: {len(s.steps)} settings' for s in searches)}), {len(todo)} to do")
    builds = [Job(replace(plan.entries[0].spec, seed=seed), "target") for seed in asked.seeds]
    around = Surroundings(store_root, out, plan.paths, device, threads, out / "logs", checkpointing)
    with Reporter() as reporter:
        results = Pool(jobs or default_jobs(device), around, reporter.report).run(builds + todo if todo else [])
    failed = [result for result in results if result.status == "failed"]
    for result in failed:
        print(f"FAILED {result.job.name}: {result.message}")
    for search in searches:
        if all(is_current(rows, job) for job in search.jobs):
            print(write_search(search, rows, out))
        else:
            print(f"{search.place} {search.method}: no record, as some of its settings failed")
    return bool(failed)


@dataclass(frozen=True)
class Search:
    """Every setting of one method on every tuning seed."""

    place: str
    method: str
    seeds: tuple[int, ...]
    steps: tuple[Step, ...]
    jobs: tuple[Job, ...]
    """Setting by setting, and for each the seeds in order."""


def tune_problems(asked: Asked) -> list[str]:
    """What a search doesn't take."""
    found = [f"tune searches a method's own grid: leave out '@' in {name}." for name in asked.methods if "@" in name]
    own = [text for text in asked.sets if not text.startswith(f"{asked.task}.")]
    found += [f"tune searches a method's own grid: leave out --set {text}." for text in own]
    if reported := sorted(set(asked.seeds) & set(REPORTED)):
        found.append(
            f"--seeds: {reported} are reported, so nothing may be chosen on them; tune on others, such as 100,101."
        )
    return found


def searches_of(plan: Plan, asked: Asked) -> list[Search]:
    """The searches of all methods that were asked for."""
    from bench.runs import selection

    base = plan.entries[0].spec
    place = f"{base.tier}-{base.task}"
    methods = dict.fromkeys(step.method for entry in plan.entries for step in entry.spec.steps)
    found = []
    for method in (name for name in methods if name != "retrain"):
        steps = tuple(selection.steps_for(method, place))
        if not steps:
            raise UserError(f"{method} has no settings to try for {place}: add them to its `space`.")
        jobs = tuple(
            Job(replace(base, steps=(step,), seed=seed, study="tune"), "validate")
            for step in steps
            for seed in asked.seeds
        )
        found.append(Search(place, method, asked.seeds, steps, jobs))
    return found


def write_search(search: Search, rows: Path, out: Path) -> str:
    """Apply the rule to a finished search, write its record, and say what it chose."""
    from bench.runs import selection

    found = [json.loads((rows / f"{job.spec.key}.json").read_text()) for job in search.jobs]
    n = len(search.seeds)
    outcomes = [selection.average(found[i : i + n]) for i in range(0, len(found), n)]
    chosen = selection.report(
        search.place, search.method, search.seeds, outcomes, provenance_of_all([row["provenance"] for row in found])
    )
    file = out / "tune" / f"{search.place}-{search.method}.json"
    write_text(file, json.dumps(chosen, indent=1) + "\n")
    best = outcomes[chosen["chosen"]]
    return (
        f"{search.place} {search.method}: {chosen['params']} forget {best.forget} (level {best.level}) "
        f"utility {best.utility:.3f}{'' if chosen['forgotten'] else ' NOT FORGOTTEN'}"
        f"{' EDGE: ' + ', '.join(chosen['edges']) if chosen['edges'] else ''} -> {file}"
    )


def provenance_of_all(made: Sequence[Json]) -> Json:
    """This process's provenance, which built the grid; dirty when a run's is, and every commit that took part."""
    from bench.core.provenance import provenance

    here = provenance()
    commits = sorted({str(here["commit"]), *(commit for row in made for commit in row["commits"])})
    dirty = here["dirty"] is not False or any(row["dirty"] for row in made)
    return {**made[0], "commit": here["commit"], "dirty": dirty, "commits": commits}


def chosen_records(names: Sequence[str], source: Path) -> list[Record]:
    """Records by file, key or part of their name; all when none is named."""
    loaded = load(source)
    for broken in loaded.broken:
        print(f"left out: {broken.path}: {broken.reason}")
    if not names:
        return [record for record in loaded.records if record.status == "done"]
    found: list[Record] = []
    for name in names:
        matching = [r for r in loaded.records if name.removeprefix(f"{source}/") in r.name or r.spec.key == name]
        if not matching:
            raise UserError(f"No record in '{source}' has '{name}' in its name: `python -m bench ls runs` lists them.")
        found += [record for record in matching if record not in found]
    return found


def publish_command(names: Sequence[str], source: Path, to: Path, store_root: Path, force: bool) -> list[Path]:
    """`bench publish`."""
    from bench.records.publish import publish, response_keys

    store = Store(store_root)

    def responses_of(record: Record) -> Mapping[str, Responses]:
        return {key: responses_in(store, key) for key in response_keys(record) if store.find(key) is not None}

    studies = sorted((source / FOLDER).glob("*.json"))
    wanted = [file for file in studies if not names or any(name in file.name for name in names)]
    recorded = [name for name in names if not any(name in file.name for file in studies)]
    records = chosen_records(recorded, source) if recorded or not names else []
    paths = publish(records, to, responses_of, force) if records else []
    return paths + publish_studies(wanted, to / FOLDER, force)


def publish_studies(files: Sequence[Path], to: Path, force: bool) -> list[Path]:
    """Copy clean studies, with page and picture drawn from them; nothing is written unless all can be."""
    from bench.studies.ablations import study

    problems = [f"{file.name}: {fault}" for file in files for fault in study.faults_in(file)]
    new = [file for file in files if not (to / file.name).exists() or (to / file.name).read_text() != file.read_text()]
    if not force:
        problems += [
            f"{file.name}: published already and different; delete that file first, or use --force."
            for file in new
            if (to / file.name).exists()
        ]
    collect(problems)
    return [path for file in new for path in study.rewrite(file, to)]


def rescore_command(source: Path, store_root: Path, write_back: bool, say: Callable[[str], Any]) -> bool:
    """`bench rescore`: every record's scores again from its kept responses; true when all agree."""
    from bench.metrics import score_all
    from bench.records.files import read_responses, responses_path
    from bench.records.publish import rescore
    from bench.runs.facts import floors, oracle_values
    from bench.runs.runner import all_metrics

    store, good = Store(store_root), True

    def kept(key: str) -> Responses:
        file = responses_path(source, key)
        return read_responses(file) if file.exists() else responses_in(store, key)

    loaded = load(source)
    for broken in loaded.broken:
        say(f"left out: {broken.path}: {broken.reason}")
    measured = [record for record in loaded.records if record.status == "done"]
    records = [record for record in measured if "imported" not in record.provenance]
    if len(measured) > len(records):
        say(f"{len(measured) - len(records)} imported records have no responses to score again")
    for record in records:
        metrics = all_metrics(record)
        again = rescore(record, kept, metrics)
        oracles = [kept(key) for key in record.lineage["oracle_responses"]]
        values = oracle_values(metrics, oracles)
        between = floors(metrics, values)
        stale = stale_parts(record, metrics, values, again.absent)
        same = again.same and between == record.floors and not stale
        good = good and same
        if not again.same:
            say(str(again))
        if between != record.floors:
            say(f"{record.name}: the noise floors are stored otherwise than they are now")
        for part in stale:
            say(f"{record.name}: {part} stored otherwise than they are now")
        if write_back and not same:
            scored = score_all(metrics, kept(record.lineage["responses"]), oracles)
            about = {metric.name: metric.to_json() for metric in metrics}
            facts = {**record.facts, "oracle_values": values}
            write(
                replace(
                    record,
                    scores=scored.scores,
                    absent=scored.absent,
                    metrics=about,
                    floors=between,
                    facts=facts,
                ),
                source,
            )
    say(f"{len(records)} records computed again: {'all numbers the same' if good else 'some numbers DIFFER'}")
    if loaded.broken:
        say(f"{len(loaded.broken)} files could not be read and are left out: mend or remove them")
    return good and not loaded.broken


def stale_parts(
    record: Record, metrics: Sequence[Any], values: Mapping[str, Sequence[float]], absent: Mapping[str, str]
) -> list[str]:
    """What of a record decides losses and ranks beside its scores, and is not what it would be now."""
    now = {
        "the oracles' values are": (record.facts.get("oracle_values"), values),
        "goals and versions of the metrics are": (dict(record.metrics), {m.name: m.to_json() for m in metrics}),
        "the absent scores are": (dict(record.absent), absent),
    }
    return [part for part, (kept, made) in now.items() if kept != made]


def spec_file(entry: Entry, paths: Paths, folder: Path) -> Path:
    """The file that `bench exec` takes, for one run."""
    file = folder / f"{entry.spec.key}.json"
    data: Json = {"spec": entry.spec.to_json(), "paths": asdict(paths)}
    write_text(file, json.dumps(data, indent=1))
    return file
