"""`bench ablate`: plan an ablation's runs, make what isn't there, and write its study, table and picture."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from bench.core import registry as names
from bench.core.contracts import TaskInputs
from bench.core.errors import UserError, collecting, mistakes_in, report_mistake
from bench.core.machine import Machine
from bench.core.record import Record, RunSpec, Step
from bench.core.trackers import Tracker
from bench.core.types import Json
from bench.lab.build import ORACLES
from bench.records.files import read_record
from bench.runs import selection
from bench.runs.asked import check_seeds, load_or_report, parse_sets, task_params
from bench.runs.estimate import known_rate, method_of, seconds_for
from bench.runs.executors import executor_problems
from bench.runs.jobs import Job, Result, WorkerConfig
from bench.runs.launch import carry_out
from bench.runs.plan import finished_record, is_kept
from bench.runs.store import Store
from bench.runs.validate import is_current, read_row
from bench.studies.ablations import FOLDER, catalogue
from bench.studies.ablations import study as studies
from bench.studies.ablations.base import Ablation, AblationPlace, Finding, Point, Study, spec_of, with_framing_points
from bench.studies.ablations.experiment import Experiment, Ground
from bench.studies.ablations.experiment import read_study_or_experiment as read_file
from bench.studies.ablations.experiment import run_experiment as carry_out_experiment
from bench.tracking.guarded import open_tracker, tracker_problems

UNREAD = {"provenance", "versions", "nodes"}
"""What a row of a search says and no study reads."""


@dataclass(frozen=True)
class AblationRequest:
    """The user's request as it was typed, not yet understood."""

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


def ablate_command(asked: AblationRequest, machine: Machine) -> bool:
    """Run the ablations one after another; returns whether some run failed."""
    with collecting():
        report_mistake(*asked.problems, *executor_problems(machine), *machine.problems())
        report_mistake(*tracker_problems(machine.track))
        wanted = ablations_named(asked)
        alone = [each.name for each in wanted if isinstance(each, Experiment)]
        if alone and machine.executor != "local":
            report_mistake(
                f"--executor {machine.executor}: {', '.join(alone)} is no set of runs and is computed where the command is "
                "typed; leave out --executor for it, and name the others by themselves."
            )
        place = parse_place(asked)
    assert place is not None
    failed = False
    with closing(open_tracker(machine.track, machine.out, machine.device)) as tracker:
        for ablation in wanted:
            if isinstance(ablation, Experiment):
                ground = Ground(place, machine.store, asked.sets)
                files = carry_out_experiment(ablation, asked.seeds, machine.out / FOLDER, machine.workers, ground)
                print("\n".join(map(str, files)))
            else:
                failed |= not make_study(ablation, place, asked, machine, tracker)
    return failed


def list_ablations(results: Path) -> str:
    """Every ablation with its question, its tasks, and the minutes that the published studies took."""
    minutes: dict[str, list[str]] = {}
    for file in sorted((results / FOLDER).glob("[!.]*.json")):
        data = read_file(file)
        where = f" ({data['place']['task']})" if "place" in data else ""
        minutes.setdefault(data["name"], []).append(f"{data['minutes'] / 2:.0f} min{where}")
    lines = []
    for name in catalogue.ABLATIONS:
        found = catalogue.load_ablation(name)
        took = f" On two cores, from an empty store: {', '.join(minutes[name])}." if name in minutes else ""
        lines.append(f"{name}: {found.question} {found.reading}{took}")
    return "\n".join(lines)


def ablations_named(asked: AblationRequest) -> list[Ablation | Experiment]:
    """The ablations by name; ``all`` is every one that the task has."""
    everything = list(catalogue.ABLATIONS) if "all" in asked.names else []
    found: list[Ablation | Experiment] = []
    for name in dict.fromkeys([*(n for n in asked.names if n != "all"), *everything]):
        with mistakes_in():
            ablation = catalogue.load_ablation(name)
            if asked.task in ablation.tasks or asked.task not in names.components("tasks"):
                found.append(ablation)
            elif name not in everything:
                report_mistake(f"The ablation {name} is for {', '.join(ablation.tasks)}, not for {asked.task}.")
    if not asked.names:
        report_mistake("Name an ablation, or 'all'; `python -m bench ablate --list` lists them.")
    return found


def parse_place(asked: AblationRequest) -> AblationPlace | None:
    """The task with its parameters."""
    kind = load_or_report(names.load_task, asked.task, "lab")
    if kind is None:
        return None
    given = parse_sets(asked.sets, asked.task, ())
    params = task_params(kind, asked.task, "lab", given.get(asked.task, {}))
    check_seeds(asked.seeds, asked.problems)
    return AblationPlace(asked.task, params=params)


def make_study(
    ablation: Ablation, place: AblationPlace, asked: AblationRequest, machine: Machine, tracker: Tracker
) -> bool:
    """Carry out one ablation from plan to picture; returns whether all its runs are done."""
    label, began = f"ablate-{ablation.name}", time.perf_counter()
    folder, store = machine.out / FOLDER, Store(machine.store)
    out = folder / "runs"
    config = WorkerConfig(replace(machine, out=out), logs=machine.out / "logs")
    planned = [
        plan_point(place, point, seed, label)
        for point in with_framing_points(ablation.points(place))
        for seed in asked.seeds
    ]
    search = distinct([job for item in planned for job in item.search if not is_current(out, job)])
    todo = [item for item in planned if not is_made(item, place, out, store, label)]
    runs = [spec_of(place, item.point, item.seed, label) for item in todo]
    workers = machine.workers
    expected = expected_minutes([*(job.spec for job in search), *runs], place, store) / workers
    seeds = ",".join(map(str, asked.seeds))
    print(
        f"{ablation.name} on {place.task} ({place.tier}), seeds {seeds}: {len(planned)} runs, "
        f"{len(todo)} to do{f', {len(search)} settings to search' if search else ''}; about {expected:.0f} min "
        f"with {workers} worker(s) beside shared stages (an estimate)"
    )
    searched = carry_out_with_stages(search, config, ["target"])
    jobs = [
        Job(spec_of(place, item.point, item.seed, label, chosen_for(item, out).get("params")))
        for item in todo
        if all(is_current(out, job) for job in item.search)
    ]
    stages = ["target", *(f"oracle-{i}" for i in range(ORACLES))]
    ended = carry_out_with_stages(distinct(jobs), config, stages, tracker)
    failed = [result for result in (*searched, *ended) if result.status != "done"]
    for result in failed:
        print(f"FAILED {result.job.name}: {result.reason}")
    if failed:
        print(f"{ablation.name}: {len(failed)} jobs failed, so there is no study; the same command tries them again.")
        return False
    left_out = UNREAD if ablation.signals else {*UNREAD, "signals"}
    findings = tuple(_finding_of(item, place, out, label, left_out) for item in planned)
    sets = "".join(f" --set {text}" for text in asked.sets)
    command = f"python -m bench ablate {ablation.name} --task {place.task} --seeds {seeds}{sets}"
    rows = (row_of(job, out) for item in planned for job in item.search)
    tried = {key: float(seconds) for row in rows for key, seconds in row.get("nodes", {}).items()}
    minutes = round(minutes_spent(findings, store, tried), 1)
    done = Study(ablation.name, place, asked.seeds, findings, minutes, command)
    if ablation.gather:
        done = replace(done, notes=ablation.gather(done))
    files = studies.write_study(done, ablation, folder)
    page = next(file for file in files if file.suffix == ".md")
    tracker.report(page, [file for file in files if file.suffix == ".png"])
    print("\n".join(map(str, files)))
    print(f"{ablation.name}: {len(findings)} runs, {time.perf_counter() - began:.0f} s")
    return True


def plan_point(place: AblationPlace, point: Point, seed: int, label: str) -> Planned:
    """A point on a seed with what there is to choose from, on that seed's validation rows or on those of the point's own."""
    tuned_on = seed if point.tuned_on is None else point.tuned_on
    specs = [spec_of(place, point, tuned_on, label, choice) for choice in point.choices]
    return Planned(point, seed, tuple(Job(spec, "validate") for spec in specs))


def carry_out_with_stages(
    jobs: Sequence[Job], config: WorkerConfig, stages: Sequence[str], tracker: Tracker | None = None
) -> list[Result]:
    """Do the jobs, the stages that they share first."""
    if not jobs:
        return []
    scenarios = distinct_scenarios([job.spec for job in jobs])
    builds = [Job(replace(spec, steps=(), start=""), stage) for stage in stages for spec in scenarios]
    return carry_out([*builds, *jobs], config, tracker=tracker)


def distinct(jobs: Sequence[Job]) -> list[Job]:
    """One job for each run."""
    return list({(job.stage, job.spec.key): job for job in jobs}.values())


def distinct_scenarios(specs: Sequence[RunSpec]) -> list[RunSpec]:
    """One run of each scenario: task parameters and seed."""
    return list({json.dumps([dict(s.task_params), s.seed], sort_keys=True): s for s in specs}.values())


def is_made(item: Planned, place: AblationPlace, out: Path, store: Store, label: str) -> bool:
    """Whether a planned point's run has a finished record, and the store holds what that names."""
    if not all(is_current(out, job) for job in item.search):
        return False
    record = finished_record(spec_of(place, item.point, item.seed, label, chosen_for(item, out).get("params")), out)
    return record is not None and is_kept(record, store)


def row_of(job: Job, out: Path) -> Json:
    """The row of a setting that was searched."""
    row = read_row(out, job.spec)
    if row is None:
        raise UserError(f"The row of {job.name} has gone or is damaged: run the same command again.")
    return row


def chosen_for(item: Planned, out: Path) -> Json:
    """The rule's choice among a point's settings, by this seed's validation rows; empty without settings."""
    if not item.search:
        return {}
    index = selection.choose_setting([selection.outcome_of([row_of(job, out)]) for job in item.search]) or 0
    return {
        "params": dict(item.point.choices[index]),
        "edge": is_grid(item.point) and index in (0, len(item.search) - 1),
        "of": len(item.search),
    }


def is_grid(point: Point) -> bool:
    """Whether a point's choices are values of one parameter in order, which have ends."""
    return len({name for choice in point.choices for name in choice}) == 1


def _finding_of(item: Planned, place: AblationPlace, out: Path, label: str, left_out: Collection[str]) -> Finding:
    chosen = chosen_for(item, out)
    spec = spec_of(place, item.point, item.seed, label, chosen.get("params"))
    tried = []
    for job, params in zip(item.search, item.point.choices, strict=True):
        row = row_of(job, out) | {"params": dict(params)}
        tried.append({name: value for name, value in row.items() if name not in left_out})
    return Finding(item.point.at, item.seed, read_record(out / Record(spec, "done").name), chosen, tuple(tried))


def expected_minutes(specs: Sequence[RunSpec], place: AblationPlace, store: Store) -> float:
    """Minutes of one core that runs take by themselves, by `bench plan`'s estimate."""
    if not specs:
        return 0.0
    outline = names.load_task(place.task, place.tier)(**place.params).outline(TaskInputs(place.tier))
    rows = 0.2 * outline.probe_rows * len(specs)
    counted = set[str]()
    for spec in specs:
        for step in spec.steps:
            key = json.dumps([dict(spec.task_params), spec.seed, spec.start, trained_by(step)], sort_keys=True)
            if key not in counted:
                rows += method_of(step).rows(outline.forget, outline.retain)
                counted.add(key)
    return seconds_for(outline, rows, known_rate(store, outline.parameters)) / 60


def trained_by(step: Step) -> Json:
    """The parameters that decide a step's training: lengths of vectors don't, so that runs that differ in them share it."""
    return {"method": step.method} | {k: v for k, v in step.params.items() if k not in ("alpha", "beta", "weights")}


def minutes_spent(findings: Sequence[Finding], store: Store, searched: Mapping[str, float]) -> float:
    """Minutes of one core behind the findings: each stage once, as its record or node has it.

    ``searched``: the seconds of the nodes that settings were tried with, by key.
    """
    stages = dict(searched)
    for finding in findings:
        record = finding.record
        for key in (*record.cost["nodes"], record.lineage["responses"], *record.lineage["oracle_responses"]):
            if key not in stages and (node := store.find(key)):
                stages[key] = node.info["seconds"]
        for label, seconds in record.cost["scenario_seconds"].items():
            scenario = json.dumps([label, dict(record.spec.task_params), record.spec.seed], sort_keys=True)
            stages.setdefault(scenario, seconds)
    return sum(stages.values()) / 60
