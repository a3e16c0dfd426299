"""`bench ablate`: plan an ablation's runs, make what isn't there, and write its study, table and picture."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.core import registry as names
from bench.core.contracts import Setting
from bench.core.errors import UserError, collect
from bench.core.machine import default_jobs, machine_problems
from bench.core.record import Record, RunSpec, Step
from bench.core.types import Json
from bench.records.files import read
from bench.records.tracking import KINDS, Tracker, open_tracker
from bench.runs import plan, selection
from bench.runs.asked import load_or_report, parse_sets, task_params
from bench.runs.estimate import known_rate
from bench.runs.executor import Pool
from bench.runs.facts import curves
from bench.runs.jobs import Job, Result, Surroundings
from bench.runs.progress import Reporter
from bench.runs.setting import Paths
from bench.runs.store import Store
from bench.runs.validate import is_current
from bench.studies.ablations import FOLDER, catalogue
from bench.studies.ablations import study as studies
from bench.studies.ablations.base import Ablation, Finding, Place, Point, Study, framed, spec_of
from bench.studies.ablations.experiment import Experiment, carry_out
from bench.studies.ablations.experiment import read as read_file


@dataclass(frozen=True)
class AskedAblation:
    """What the user typed."""

    names: tuple[str, ...]
    task: str
    seeds: tuple[int, ...]
    sets: tuple[str, ...] = ()
    """``task.parameter=value`` alone: a method's parameters are the ablation's."""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Planned:
    """A point on a seed, with its settings to choose from."""

    point: Point
    seed: int
    search: tuple[Job, ...]
    """A ``validate`` job for each choice; empty where there is nothing to choose."""


def ablate_command(
    asked: AskedAblation, out: Path, store_root: Path, jobs: int | None, device: str, threads: int, track: str
) -> bool:
    """Run the ablations one after another; returns whether some run failed."""
    problems = [*asked.problems, *machine_problems(device, jobs, threads, out, store_root)]
    if track not in KINDS:
        problems.append(f"--track is one of {', '.join(KINDS)}, not '{track}'.")
    wanted = understood(asked, problems)
    place = place_of(asked, problems)
    collect(problems)
    assert place is not None
    store, failed = Store(store_root), False
    around = Surroundings(store_root, out / FOLDER / "runs", Paths(), device, threads, out / "logs")
    for ablation in wanted:
        if isinstance(ablation, Experiment):
            files = carry_out(ablation, asked.seeds, out / FOLDER, jobs or default_jobs(device))
            print("\n".join(map(str, files)))
            continue
        failed |= not one(ablation, place, asked, around, store, jobs or default_jobs(device), out, track)
    return failed


def listing(results: Path) -> str:
    """Every ablation with its question, its tasks, and the minutes that the published studies took."""
    minutes: dict[str, list[str]] = {}
    for file in sorted((results / FOLDER).glob("*.json")):
        data = read_file(file)
        where = f" ({data['place']['task']})" if "place" in data else ""
        minutes.setdefault(data["name"], []).append(f"{data['minutes'] / 2:.0f} min{where}")
    lines = []
    for name in catalogue.TABLE:
        found = catalogue.load(name)
        took = f" On two cores, from an empty store: {', '.join(minutes[name])}." if name in minutes else ""
        lines.append(f"{name}: {found.question} {found.reading}{took}")
    return "\n".join(lines)


def understood(asked: AskedAblation, problems: list[str]) -> list[Ablation | Experiment]:
    """The ablations by name; ``all`` is every one that the task has."""
    everything = list(catalogue.TABLE) if "all" in asked.names else []
    found: list[Ablation | Experiment] = []
    for name in dict.fromkeys([*(n for n in asked.names if n != "all"), *everything]):
        try:
            ablation = catalogue.load(name)
        except UserError as error:
            problems.extend(error.problems)
            continue
        if asked.task in ablation.tasks or asked.task not in names.table("tasks"):
            found.append(ablation)
        elif name not in everything:
            problems.append(f"The ablation {name} is for {', '.join(ablation.tasks)}, not for {asked.task}.")
    if not asked.names:
        problems.append("Name an ablation, or 'all'; `python -m bench ablate --list` lists them.")
    return found


def place_of(asked: AskedAblation, problems: list[str]) -> Place | None:
    """The task with its parameters."""
    kind = load_or_report(names.load_task, (asked.task, "lab"), problems)
    if kind is None:
        return None
    given = parse_sets(asked.sets, asked.task, (), problems)
    params = task_params(kind, asked.task, "lab", given.get(asked.task, {}), problems)
    if not asked.seeds and not asked.problems:
        problems.append("--seeds needs at least one whole number, such as 0 or 0,1,2.")
    if len(set(asked.seeds)) < len(asked.seeds):
        problems.append("--seeds names a seed twice.")
    return Place(asked.task, params=params)


def one(
    ablation: Ablation,
    place: Place,
    asked: AskedAblation,
    around: Surroundings,
    store: Store,
    workers: int,
    out: Path,
    track: str,
) -> bool:
    """One ablation from plan to picture; returns whether all its runs are done."""
    label = f"ablate-{ablation.name}"
    planned = [
        Planned(point, seed, tuple(Job(spec_of(place, point, seed, label, c), "validate") for c in point.choices))
        for point in framed(ablation.points(place))
        for seed in asked.seeds
    ]
    began = time.perf_counter()
    rows = around.out / "tune" / "rows"
    search = distinct([job for item in planned for job in item.search if not is_current(rows, job)])
    todo = [item for item in planned if not is_made(item, place, rows, around.out, store, label)]
    runs = [spec_of(place, item.point, item.seed, label) for item in todo]
    minutes = expected([*(job.spec for job in search), *runs], place, store)
    print(
        f"{ablation.name} on {place.task} ({place.tier}), seeds {','.join(map(str, asked.seeds))}: {len(planned)} runs, "
        f"{len(todo)} to do{f', {len(search)} settings to search' if search else ''}; about {minutes / workers:.0f} min "
        f"with {workers} worker(s) beside shared stages (an estimate)"
    )
    searched = work(search, around, workers, ["target"])
    jobs = [
        Job(spec_of(place, item.point, item.seed, label, chosen_for(item, rows).get("params")))
        for item in todo
        if all(is_current(rows, job) for job in item.search)
    ]
    ended = work(distinct(jobs), around, workers, ["target", "oracle-0", "oracle-1"])
    failed = [result for result in (*searched, *ended) if result.status != "done"]
    for result in failed:
        print(f"FAILED {result.job.name}: {result.message.strip().splitlines()[-1] if result.message else 'no reason'}")
    if failed:
        print(f"{ablation.name}: {len(failed)} jobs failed, so there is no study; the same command tries them again.")
        return False
    findings = tuple(found(item, place, rows, around.out, label) for item in planned)
    sets = "".join(f" --set {text}" for text in asked.sets)
    command = (
        f"python -m bench ablate {ablation.name} --task {place.task} --seeds {','.join(map(str, asked.seeds))}{sets}"
    )
    done = Study(ablation.name, place, asked.seeds, findings, round(spent(findings, store), 1), command)
    if ablation.gather:
        done = replace(done, notes=ablation.gather(done))
    files = studies.write(done, ablation, out / FOLDER)
    tell_tracker(track, out, done, files, {result.job.spec.key for result in ended}, store)
    print("\n".join(map(str, files)))
    print(f"{ablation.name}: {len(findings)} runs, {time.perf_counter() - began:.0f} s")
    return True


def work(jobs: Sequence[Job], around: Surroundings, workers: int, stages: Sequence[str]) -> list[Result]:
    """Do the jobs, the stages that they share first."""
    if not jobs:
        return []
    scenarios = distinct_scenarios([job.spec for job in jobs])
    builds = [Job(replace(spec, steps=(), start=""), stage) for stage in stages for spec in scenarios]
    with Reporter() as reporter:
        return Pool(workers, around, reporter.report).run([*builds, *jobs])


def distinct(jobs: Sequence[Job]) -> list[Job]:
    """One job for each run."""
    return list({(job.stage, job.spec.key): job for job in jobs}.values())


def distinct_scenarios(specs: Sequence[RunSpec]) -> list[RunSpec]:
    """One run of each scenario: task parameters and seed."""
    return list({json.dumps([dict(s.task_params), s.seed], sort_keys=True): s for s in specs}.values())


def is_made(item: Planned, place: Place, rows: Path, out: Path, store: Store, label: str) -> bool:
    """Whether a planned point's run is finished already."""
    if not all(is_current(rows, job) for job in item.search):
        return False
    return finished(spec_of(place, item.point, item.seed, label, chosen_for(item, rows).get("params")), out, store)


def finished(spec: RunSpec, out: Path, store: Store) -> bool:
    """Whether a finished record of the run is there and the store holds what it names."""
    old = plan.finished(spec, out)
    return old is not None and plan.is_kept(old, store)


def chosen_for(item: Planned, rows: Path) -> Json:
    """What the rule chooses among a point's settings, by this seed's validation rows; empty without settings."""
    if not item.search:
        return {}
    tried = [json.loads((rows / f"{job.spec.key}.json").read_text()) for job in item.search]
    choice = selection.choose([selection.average([row]) for row in tried])
    return {
        "params": dict(item.point.choices[choice.index]),
        "forgotten": choice.forgotten,
        "edge": choice.index in (0, len(tried) - 1),
        "of": len(tried),
    }


def found(item: Planned, place: Place, rows: Path, out: Path, label: str) -> Finding:
    """The finding of a finished point."""
    chosen = chosen_for(item, rows)
    spec = spec_of(place, item.point, item.seed, label, chosen.get("params"))
    tried = []
    for job, params in zip(item.search, item.point.choices, strict=True):
        row = json.loads((rows / f"{job.spec.key}.json").read_text())
        tried.append(
            {k: v for k, v in row.items() if k not in ("provenance", "versions", "params")} | {"params": dict(params)}
        )
    return Finding(item.point.at, item.seed, read(out / Record(spec, "done").name), chosen, tuple(tried))


def expected(specs: Sequence[RunSpec], place: Place, store: Store) -> float:
    """Minutes of one core that runs take by themselves, by `bench plan`'s estimate."""
    if not specs:
        return 0.0
    outline = names.load_task(place.task, place.tier)(**place.params).outline(Setting(place.tier))
    rate = known_rate(store.root, outline.parameters)
    training = {
        json.dumps([dict(spec.task_params), spec.seed, spec.start, trained_by(step)], sort_keys=True): names.load(
            "methods", step.method
        )(**step.params).rows(outline.forget, outline.retain)
        for spec in specs
        for step in spec.steps
    }
    return plan.cost(outline, sum(training.values()) + 0.2 * outline.probe_rows * len(specs), rate) / 60


def trained_by(step: Step) -> Json:
    """What decides a step's training: lengths of vectors don't, so that runs that differ in them share it."""
    return {"method": step.method} | {k: v for k, v in step.params.items() if k not in ("alpha", "beta", "weights")}


def spent(findings: Sequence[Finding], store: Store) -> float:
    """Minutes of one core behind the findings: each stage once, as its record or node has it."""
    stages: dict[str, float] = {}
    for finding in findings:
        record = finding.record
        for key in (*record.cost["nodes"], record.lineage["responses"], *record.lineage["oracle_responses"]):
            if key not in stages and (node := store.find(key)):
                stages[key] = node.info["seconds"]
        for label, seconds in record.cost["scenario_seconds"].items():
            scenario = json.dumps([label, dict(record.spec.task_params), record.spec.seed], sort_keys=True)
            stages.setdefault(scenario, seconds)
        stages[f"search {record.spec.key}"] = sum(row["seconds"] for row in finding.tried)
    return sum(stages.values()) / 60


def tell_tracker(track: str, out: Path, done: Study, files: Sequence[Path], new: set[str], store: Store) -> None:
    """The new runs of the study as one group, then its table and picture."""
    tracker: Tracker = open_tracker(track, out / "wandb")
    try:
        for finding in done.findings:
            if finding.record.spec.key in new:
                tracker.record(finding.record, None, curves(finding.record, store))
        page = next(file for file in files if file.suffix == ".md")
        tracker.report(page, [file for file in files if file.suffix == ".png"])
    finally:
        tracker.close()
