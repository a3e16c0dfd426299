"""A search: settings of a method and variant on the tuning seeds, in two stages, and the record of what the rule chose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.core import registry
from bench.core.attacks import split_variant
from bench.core.boxes import SETTINGS, SOBOL_SEED, Box, box_json, faces_of, searched
from bench.core.errors import UserError, say_once
from bench.core.files import set_aside, write_text
from bench.core.machine import Machine
from bench.core.provenance import get_provenance
from bench.core.record import RunSpec, Step
from bench.core.settings import Preset, settings_file, write_preset
from bench.core.types import Json
from bench.records.plain import read_plain
from bench.runs import selection
from bench.runs.asked import Asked, parse_methods
from bench.runs.estimate import run_hours
from bench.runs.executors import executor_problems
from bench.runs.jobs import Job, WorkerConfig
from bench.runs.launch import carry_out, check_fits
from bench.runs.plan import Plan, make_plan
from bench.runs.selection import Outcome
from bench.runs.setting import build_setting, task_of_spec
from bench.runs.store import Store
from bench.runs.validate import is_current, read_row

SCHEMA = 2
"""Of the record of a search; 1 was of grids."""
REPORTED = tuple(range(6))
"""Seeds of the published tables; a search must not have seen them."""


def tune_command(asked: Asked, machine: Machine, count: int = SETTINGS, write: bool = False) -> bool:
    """`bench tune`; writes one record a search under ``out/tune`` and returns whether some run failed.

    With ``write`` what the rule chose becomes the preset of the place, or of the variant there (`bench.core.settings`).
    """
    problems = (*asked.problems, *executor_problems(machine), *machine.problems(), *tune_problems(asked, count, write))
    plan = check_fits(make_plan(replace(asked, problems=problems), machine))
    searches, out, config = searches_of(plan, asked, count), machine.out, WorkerConfig.of(machine, plan.paths)
    print(describe_work(searches, plan, out))
    failed = do_stage([job for search in searches for job in search.first], asked.seeds[:1], config, plan)
    failed += do_stage([job for search in searches for job in search.second(out)], asked.seeds[1:], config, plan)
    for line in failed:
        print(line)
    finished: list[Search] = []
    for search in searches:
        if search.is_done(out):
            print(write_search(search, out))
            finished.append(search)
        else:
            print(f"{search.place} {search.name}: no record, as some of its settings failed")
    if write:  # after all records: a changed file makes the checkout dirty, which a record would say
        for search in finished:
            chosen = json.loads(search.record(out).read_text())
            if chosen["chosen"] is not None:
                print(write_choice(chosen))
    return bool(failed)


def do_stage(jobs: Sequence[Job], seeds: Sequence[int], config: WorkerConfig, plan: Plan) -> list[str]:
    """Do those jobs of a stage that have no row yet, behind the targets of their seeds; a line for each that failed."""
    todo = [job for job in jobs if not is_current(config.machine.out, job)]
    builds = [Job(replace(plan.entries[0].spec, seed=seed), "target") for seed in seeds]
    results = carry_out(builds + todo if todo else [], config)
    return [f"FAILED {result.job.name}: {result.reason}" for result in results if result.status == "failed"]


@dataclass(frozen=True)
class Search:
    """The settings of one method, or of a variant of it, in one place."""

    base: RunSpec
    """The run that each setting's differs from in its step and seed alone."""
    method: str
    variant: str
    seeds: tuple[int, ...]
    """All settings are run on the first, the best quarter on all."""
    box: Box
    steps: tuple[Step, ...]

    @property
    def place(self) -> str:
        """Tier and task."""
        return f"{self.base.tier}-{self.base.task}"

    @property
    def name(self) -> str:
        """``npo`` or ``npo@small-retain``."""
        return name_search(self.method, self.variant)

    @cached_property
    def first(self) -> list[Job]:
        """Every setting on the first seed, in order."""
        return [self.job(step, self.seeds[0]) for step in self.steps]

    def job(self, step: Step, seed: int) -> Job:
        """A setting on a seed."""
        return Job(replace(self.base, steps=(step,), seed=seed, study="tune"), "validate")

    def later(self, index: int) -> list[Job]:
        """A setting on the other seeds."""
        return [self.job(self.steps[index], seed) for seed in self.seeds[1:]]

    def is_ranked(self, out: Path) -> bool:
        """Whether the first stage is complete."""
        return all(is_current(out, job) for job in self.first)

    def best(self, out: Path) -> list[int]:
        """The settings that go on to the other seeds; none while the first stage isn't complete."""
        if not self.is_ranked(out):
            return []
        rows = [read_row(out, job.spec) for job in self.first]
        return selection.best_quarter([selection.outcome_of([row]) for row in rows if row])

    def second(self, out: Path) -> list[Job]:
        """The jobs of the second stage, as far as the first one tells them."""
        return [job for index in self.best(out) for job in self.later(index)]

    def is_done(self, out: Path) -> bool:
        """Whether both stages are complete."""
        return self.is_ranked(out) and all(is_current(out, job) for job in self.second(out))

    def outcomes(self, out: Path) -> list[tuple[Outcome, list[Json]]]:
        """Every setting's outcome, with its rows; `UserError` where rows have gone."""
        found, best = [], self.best(out)
        for index, job in enumerate(self.first):
            jobs = [job, *(self.later(index) if index in best else [])]
            rows = [row for each in jobs if (row := read_row(out, each.spec))]
            if len(rows) < len(jobs):
                raise UserError(
                    f"Rows of the search of {self.name} have gone or are damaged: run the same command again."
                )
            found.append((selection.outcome_of(rows), rows))
        return found

    def record(self, out: Path) -> Path:
        """The file of what it found."""
        return out / "tune" / f"{self.place}-{self.name}.json"


def name_search(method: str, variant: str) -> str:
    """``npo`` or ``npo@small-retain``."""
    return f"{method}@{variant}" if variant else method


def tune_problems(asked: Asked, count: int = SETTINGS, write: bool = False) -> list[str]:
    """Mistakes in what a search is asked, such as a value of a method, a number of settings, or seeds that are reported."""
    found = [
        f"tune chooses a method's settings itself: leave out --set {text}."
        for text in asked.sets
        if not text.startswith(f"{asked.task}.")
    ]
    if count < 1 or count & (count - 1):
        found.append(f"--settings {count}: a Sobol sequence is even at powers of two alone, such as 8, 16 or 32.")
    there = asked.tier in registry.components("tasks").get(asked.task, {})
    if write and there and (other := registry.load_task(asked.task, asked.tier).presets_of):
        found.append(f"--write: methods take their presets of {other} on {asked.task}; leave it out.")
    if write:
        own = [split_variant(name)[0] for name in asked.methods]
        named = registry.components("methods") if "all" in asked.methods else dict.fromkeys(own)
        found += [sentence for name in named for sentence in shared_file_problems(name)]
    if reported := sorted(set(asked.seeds) & set(REPORTED)):
        found.append(
            f"--seeds: {reported} are reported, so nothing may be chosen on them; tune on others, such as 100,101."
        )
    return found


def shared_file_problems(method: str) -> list[str]:
    """A sentence where the settings file of a plug-in's method is that of another method of its module as well."""
    known = registry.components("methods")
    module = known.get(method, "").partition(":")[0]
    beside = [name for name, place in known.items() if name != method and place.partition(":")[0] == module]
    if not beside:
        return []
    shared = []
    for name in beside:
        with registry.leaving_out("methods", name):
            kind, other = (registry.load_component("methods", each) for each in (method, name))
            file = settings_file(kind)
            shared += [name] if other is not kind and settings_file(other) == file else []
    remedy = "give it a module of its own, or leave out --write."
    return (
        [f"--write: {method} shares {file.parent.name}/{file.name} with {', '.join(shared)}: {remedy}"]
        if shared
        else []
    )


def searches_of(plan: Plan, asked: Asked, count: int = SETTINGS) -> list[Search]:
    """The searches of all methods and variants that were asked for.

    Of ``all`` what has nothing to search is left out, and what the task can't give what it needs; both are said.
    """
    base = replace(plan.entries[0].spec, steps=())
    skipped = {
        step.method: entry.reason for entry in plan.entries for step in entry.spec.steps if entry.status == "skipped"
    }
    named, found = {split_variant(text) for text in asked.methods}, []
    for method, variant in parse_methods(asked.methods):
        if method == "retrain":
            continue
        kind = registry.load_component("methods", method)
        box = selection.search_box(kind, f"{base.tier}-{base.task}", variant)
        search = Search(base, method, variant, asked.seeds, box, ())
        if method in skipped:
            print(f"{search.name} is left out: {skipped[method]}.")
        elif searched(box):
            found.append(replace(search, steps=tuple(selection.steps_for(method, box, count))))
        elif (method, variant) in named:
            raise UserError(nothing_to_search(search, kind))
        else:
            print(f"{search.name} is left out: it has nothing to search for {search.place}.")
    return found


def nothing_to_search(search: Search, kind: Any) -> str:
    """A sentence about a search without a box, or whose variant states all that the box would search."""
    file = settings_file(kind)
    table = f"{search.place}-{search.variant}" if search.variant else search.place
    return (
        f"{search.name} has nothing to search for {search.place}: add to its `space` a box of [{table}] in "
        f"{file.parent.name}/{file.name}."
    )


def describe_work(searches: Sequence[Search], plan: Plan, out: Path) -> str:
    """How many runs the searches are, how many are left to do, and the CPU hours that these are expected to take."""
    if not searches:
        return "0 runs: nothing to search"
    count, seeds = len(searches[0].steps), searches[0].seeds
    others = max(1, count // selection.QUARTER) * (len(seeds) - 1)
    todo = [job.spec for search in searches for job in [*search.first, *search.second(out)] if not is_current(out, job)]
    waiting = sum(others for search in searches if not search.is_ranked(out))  # the first stage says which these are
    left = len(todo) + waiting
    one = f"{searches[0].name}: {count} settings"
    sizes = f"{len(searches)} searches of {count} settings" if len(searches) > 1 else one
    then = f", the best quarter on {', '.join(map(str, seeds[1:]))} as well" if len(seeds) > 1 else ""
    time = expected_time(searches, plan, left) if left else ""
    return f"{len(searches) * (count + others)} runs ({sizes} on seed {seeds[0]}{then}), {left} to do{time}"


def expected_time(searches: Sequence[Search], plan: Plan, left: int) -> str:
    """The CPU hours of so many runs like those of the searches, and of the targets that they begin at; the lab's alone."""
    base = searches[0].base
    if base.tier != "lab":
        return ""
    outline = task_of_spec(base).outline(build_setting(base, plan.paths))
    specs = [job.spec for search in searches for job in search.first]
    hours = run_hours(specs, outline, Store(plan.machine.store)) / len(specs) * left
    shared = sum(seconds for name, seconds in plan.stages.items() if not name.startswith("oracle"))
    return f", about {hours + shared * len(searches[0].seeds) / 3600:.2g} CPU hours"


def write_search(search: Search, out: Path) -> str:
    """Apply the rule to a finished search, write its record, and say what it chose."""
    found = search.outcomes(out)
    outcomes = [outcome for outcome, _ in found]
    made = provenance_of_all([row["provenance"] for _, rows in found for row in rows])
    chosen = search_record(search, outcomes, made)
    file = search.record(out)
    if not is_record_of(search, file):
        set_aside(file, "record of this search", say_once)
    text = json.dumps(chosen, separators=(",", ":"), allow_nan=False)
    write_text(file, text.replace('{"params":', '\n{"params":') + "\n")  # a setting a line
    broken = [outcome.broken for outcome in outcomes if outcome.broken]
    wrecks = f" ({len(broken)} of {len(outcomes)} BROKEN: {broken[0]})" if broken else ""
    if chosen["chosen"] is None:
        return f"{search.place} {search.name}: no setting works{wrecks} -> {file}"
    best = chosen["settings"][chosen["chosen"]]
    f, level, u, target = (best[name] for name in ("f", "level", "u", "u_target"))
    scores = f"J {best['j']:.3f} (f {f:.3f}, level {level:.3f}, u {u:.3f}, target's {target:.3f})"
    usual = registry.default_params(registry.load_component("methods", search.method))
    values = {name: (usual | chosen["params"])[name] for name in searched(search.box)}
    faces = f" AT A FACE: {', '.join(chosen['faces'])}" if chosen["faces"] else ""
    return f"{search.place} {search.name}: {values} {scores}{faces}{wrecks} -> {file}"


def search_record(search: Search, outcomes: Sequence[Outcome], provenance: Json) -> Json:
    """The record of a search: rule, box, every setting with its scores, the choice, and how J falls with the settings tried."""
    chosen = selection.choose_setting(outcomes)
    params = {} if chosen is None else dict(outcomes[chosen].params)
    whole = registry.default_params(registry.load_component("methods", search.method)) | params  # with what goes unsaid
    return {
        "schema": SCHEMA,
        "kind": "tune",
        "place": search.place,
        "method": search.method,
        "variant": search.variant,
        "rule": selection.RULE,
        "seeds": list(search.seeds),
        "budget": len(outcomes),
        "sobol_seed": SOBOL_SEED,
        "box": box_json(search.box),
        "settings": [outcome.to_json() for outcome in outcomes],
        "chosen": chosen,
        "params": params,
        "faces": [] if chosen is None else faces_of(search.box, whole),
        "expected_best": selection.expected_best([each.get("j_first") for each in map(Outcome.to_json, outcomes)]),
        "provenance": provenance,
    }


def is_record_of(search: Search, file: Path) -> bool:
    """Whether a file says that it is the record of such a search."""
    try:
        found = read_plain(file)
    except ValueError:
        return False
    own = search.place, search.method, search.variant
    return isinstance(found, dict) and (found.get("place"), found.get("method"), found.get("variant", "")) == own


def chosen_preset(record: Json) -> Preset:
    """The choice of a search as a preset: the parameters that aren't the method's defaults, with the record as their source.

    A variant's has those that the box or the preset of its place sets as well, as it is laid over that preset.
    """
    kind, variant = registry.load_component("methods", record["method"]), record["variant"]
    known, place = registry.default_params(kind), kind.presets.get(record["place"])
    laid = {*record["box"], *(place.params if place else ())} if variant else set[str]()
    params = {name: value for name, value in (known | record["params"]).items() if value != known[name] or name in laid}
    name = f"{record['place']}-{name_search(record['method'], variant)}"
    remark = f" (at a face of its box: {', '.join(record['faces'])})" if record["faces"] else ""
    return Preset(params, f"bench tune, results/tune/{name}.json{remark}")


def write_choice(record: Json) -> str:
    """Make what a search chose the method's preset of the place, or of the variant there, and say where that stands."""
    kind, preset = registry.load_component("methods", record["method"]), chosen_preset(record)
    table = "-".join(filter(None, (record["place"], record["variant"])))
    file = write_preset(kind, table, preset.params, preset.source)
    name = name_search(record["method"], record["variant"])
    return f"{record['place']} {name}: the preset [{table}] now, in {file.parent.name}/{file.name}"


def provenance_of_all(made: Sequence[Json]) -> Json:
    """This process's provenance, which drew the settings; dirty when a run's is, and every commit that took part."""
    here = get_provenance()
    commits = sorted({str(here["commit"]), *(commit for row in made for commit in row["commits"])})
    dirty = here["dirty"] is not False or any(row["dirty"] for row in made)
    return {**made[0], "commit": here["commit"], "dirty": dirty, "commits": commits}
