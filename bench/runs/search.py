"""A search: every setting of a method on every tuning seed, and the record of what the rule chose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.core import registry
from bench.core.errors import UserError, say_once
from bench.core.files import write_text
from bench.core.machine import Machine
from bench.core.provenance import get_provenance
from bench.core.record import Step
from bench.core.settings import Preset, settings_file, write_preset
from bench.core.types import Json
from bench.records.plain import read_plain
from bench.runs import selection
from bench.runs.asked import Asked
from bench.runs.executors import executor_problems
from bench.runs.jobs import Job, WorkerConfig
from bench.runs.launch import carry_out, check_fits
from bench.runs.plan import Plan, make_plan
from bench.runs.validate import is_current, read_row, set_aside

REPORTED = (0, 1, 2)
"""Seeds of the published tables; a search must not have seen them."""


def tune_command(asked: Asked, machine: Machine, write: bool = False) -> bool:
    """`bench tune`; writes one record a method under ``out/tune`` and returns whether some run failed.

    With ``write`` what the rule chose becomes the methods' preset of the place (`bench.core.settings`).
    """
    problems = (*asked.problems, *executor_problems(machine), *machine.problems(), *tune_problems(asked, write))
    plan = check_fits(make_plan(replace(asked, problems=problems), machine))
    searches, out = searches_of(plan, asked), machine.out
    todo = [job for search in searches for job in search.jobs if not is_current(out, job)]
    total = sum(len(search.jobs) for search in searches)
    sizes = ", ".join(f"{search.method}: {len(search.steps)} settings" for search in searches)
    print(f"{total} runs ({sizes}), {len(todo)} to do")
    builds = [Job(replace(plan.entries[0].spec, seed=seed), "target") for seed in asked.seeds]
    results = carry_out(builds + todo if todo else [], WorkerConfig.of(machine, plan.paths))
    failed = [result for result in results if result.status == "failed"]
    for result in failed:
        print(f"FAILED {result.job.name}: {result.reason}")
    finished: list[Search] = []
    for search in searches:
        if all(is_current(out, job) for job in search.jobs):
            print(write_search(search, out))
            finished.append(search)
        else:
            print(f"{search.place} {search.method}: no record, as some of its settings failed")
    if write:  # after all records: a changed file makes the checkout dirty, which a record would say
        for search in finished:
            chosen = json.loads(search.record(out).read_text())
            if chosen["chosen"] is not None:
                print(write_choice(chosen))
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

    def record(self, out: Path) -> Path:
        """The file of what it found."""
        return out / "tune" / f"{self.place}-{self.method}.json"


def tune_problems(asked: Asked, write: bool = False) -> list[str]:
    """Mistakes in what a search is asked, such as settings of a method or seeds that are reported."""
    found = [f"tune searches a method's own grid: leave out '@' in {name}." for name in asked.methods if "@" in name]
    own = [text for text in asked.sets if not text.startswith(f"{asked.task}.")]
    found += [f"tune searches a method's own grid: leave out --set {text}." for text in own]
    there = asked.tier in registry.components("tasks").get(asked.task, {})
    if write and there and (other := registry.load_task(asked.task, asked.tier).presets_of):
        found.append(f"--write: methods take their presets of {other} on {asked.task}; leave it out.")
    if write:
        named = registry.components("methods") if "all" in asked.methods else asked.methods
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


def searches_of(plan: Plan, asked: Asked) -> list[Search]:
    """The searches of all methods that were asked for."""
    base = plan.entries[0].spec
    place = f"{base.tier}-{base.task}"
    methods = dict.fromkeys(step.method for entry in plan.entries for step in entry.spec.steps)
    found = []
    for method in (name for name in methods if name != "retrain"):
        steps = tuple(selection.steps_for(method, place))
        if not steps:
            file = settings_file(registry.load_component("methods", method))
            raise UserError(
                f"{method} has no settings to try for {place}: add them to its `space`, as a box of [{place}] in "
                f"{file.parent.name}/{file.name}."
            )
        jobs = tuple(
            Job(replace(base, steps=(step,), seed=seed, study="tune"), "validate")
            for step in steps
            for seed in asked.seeds
        )
        found.append(Search(place, method, asked.seeds, steps, jobs))
    return found


def write_search(search: Search, out: Path) -> str:
    """Apply the rule to a finished search, write its record, and say what it chose."""
    found = [row for job in search.jobs if (row := read_row(out, job.spec))]
    if len(found) < len(search.jobs):
        raise UserError(f"Rows of the search of {search.method} have gone or are damaged: run the same command again.")
    n = len(search.seeds)
    outcomes = [selection.average_rows(found[i : i + n]) for i in range(0, len(found), n)]
    chosen = selection.search_record(
        search.place, search.method, search.seeds, outcomes, provenance_of_all([row["provenance"] for row in found])
    )
    file = search.record(out)
    if not is_record_of(search, file):
        set_aside(file, "record", say_once)
    write_text(file, json.dumps(chosen, indent=1, allow_nan=False) + "\n")
    broken = [outcome.broken for outcome in outcomes if outcome.broken]
    wrecks = f" ({len(broken)} of {len(outcomes)} BROKEN: {broken[0]})" if broken else ""
    if chosen["chosen"] is None:
        return f"{search.place} {search.method}: no setting works{wrecks} -> {file}"
    best = outcomes[chosen["chosen"]]
    return (
        f"{search.place} {search.method}: {chosen['params']} forget {best.forget} (level {best.level}) "
        f"utility {best.utility:.3f}{'' if chosen['forgotten'] else ' NOT FORGOTTEN'}"
        f"{' EDGE: ' + ', '.join(chosen['edges']) if chosen['edges'] else ''}{wrecks} -> {file}"
    )


def is_record_of(search: Search, file: Path) -> bool:
    """Whether a file says that it is the record of such a search."""
    try:
        found = read_plain(file)
    except ValueError:
        return False
    return isinstance(found, dict) and (found.get("place"), found.get("method")) == (search.place, search.method)


def chosen_preset(record: Json) -> Preset:
    """The choice of a search as a preset: the parameters that aren't the method's defaults, with the record as their source."""
    known = registry.default_params(registry.load_component("methods", record["method"]))
    params = {name: value for name, value in record["params"].items() if value != known[name]}
    remark = " (edge of its grid)" if record["edges"] else ""
    return Preset(params, f"bench tune, results/tune/{record['place']}-{record['method']}.json{remark}")


def write_choice(record: Json) -> str:
    """Make what a search chose the method's preset of the place, and say where that stands."""
    kind, preset = registry.load_component("methods", record["method"]), chosen_preset(record)
    file = write_preset(kind, record["place"], preset.params, preset.source)
    return f"{record['place']} {record['method']}: the preset of that place now, in {file.parent.name}/{file.name}"


def provenance_of_all(made: Sequence[Json]) -> Json:
    """This process's provenance, which built the grid; dirty when a run's is, and every commit that took part."""
    here = get_provenance()
    commits = sorted({str(here["commit"]), *(commit for row in made for commit in row["commits"])})
    dirty = here["dirty"] is not False or any(row["dirty"] for row in made)
    return {**made[0], "commit": here["commit"], "dirty": dirty, "commits": commits}
