"""From what the user typed to run specs, and what would happen to each: run, cached or skipped. Loads no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.core import registry, versions
from bench.core.contracts import ALL_KINDS, Outline
from bench.core.errors import UserError, collecting, report_mistake
from bench.core.hashing import hash_file
from bench.core.machine import Machine
from bench.core.record import Record, RunSpec
from bench.metrics.catalogue import plugged_metrics
from bench.records.files import read_record
from bench.runs.asked import LAB, Asked, Attack, Understood, understand
from bench.runs.attacks import questions_of
from bench.runs.estimate import Estimate, checkpoints_of, estimate, method_of, model_shape
from bench.runs.outside import Outside, check_lm_eval, data_name, look_outside
from bench.runs.setting import Paths, build_setting, task_of_spec
from bench.runs.store import Store

SPREAD, SPREAD_GUESSED = (0.3, 1.5), (0.3, 3.0)
"""What runs took over what was expected of them: eight of ten of the published ones lie between these; where nothing like
it has been trained in a store, another machine may be that much slower."""
START_SECONDS = (3.0, 15.0)
"""Loading libraries in the workers and drawing the pictures at the end, on an idle machine and on a busy one."""
FRAMING = ("target", "retrain", "before")
"""Rows that an attack is always made on."""


@dataclass(frozen=True)
class PlannedRun:
    """One run and whether it would be made."""

    spec: RunSpec
    status: str
    """``run``, ``cached`` or ``skipped``."""
    reason: str = ""
    seconds: float = 0.0
    """Expected, of this run alone; shared stages are in `Plan.stages`."""
    disk: int = 0
    """Expected bytes of its own checkpoints."""
    old: Record | None = None
    """A record whose checkpoint the store no longer has: the run is made again and compared with it."""


@dataclass(frozen=True)
class Plan(Estimate):
    """Every run of a command, and what those take that are to be made."""

    entries: tuple[PlannedRun, ...] = ()
    paths: Paths = field(default_factory=Paths)
    machine: Machine = field(default_factory=Machine)
    fetch: tuple[str, ...] = ()
    """Commands for what isn't fetched, with its size."""
    at_hand: Mapping[int, Collection[str]] = field(default_factory=dict)
    """Seed -> the stages that the store has (`bench.runs.at_hand`)."""

    @property
    def todo(self) -> list[PlannedRun]:
        """The runs that are to be made."""
        return [entry for entry in self.entries if entry.status == "run"]

    def seconds(self, workers: int) -> float:
        """Expected wall time of the work of all seeds over so many workers, what the store has left out."""
        shared = 0.0
        for seed in {entry.spec.seed for entry in self.todo}:
            there = self.at_hand.get(seed, ())
            shared += self.measuring + sum(seconds for name, seconds in self.stages.items() if name not in there)
        return (shared + sum(entry.seconds for entry in self.todo)) / max(1, workers)

    def expected(self, workers: int) -> tuple[float, float]:
        """The wall time that a command takes at least and at most, as far as one can know: its processes' start as well."""
        work = self.seconds(workers)
        least, most = SPREAD_GUESSED if self.guessed else SPREAD
        return work * least + START_SECONDS[0], work * most + START_SECONDS[1]


def make_plan(asked: Asked, machine: Machine, *, only: bool = False) -> Plan:
    """Understand ``asked``, look outside, build the specs, judge each and estimate what is left to do.

    Raises one `UserError` with every mistake. ``only``: nothing is to be run yet, so a model or data that aren't fetched
    are no mistake; `Plan.fetch` has them.
    """
    store = Store(machine.store)
    with collecting() as problems:
        report_mistake(*asked.problems)
        understood = understand(asked)
        task = understood.task
        outside = look_outside(asked, store.root / "models", bool(task and task.files), only)
        check_lm_eval(asked, task.answers if task else ALL_KINDS)
        if not problems:
            check_task(asked, understood, outside)
    specs = specs_of(asked, understood, outside)
    if understood.attacks:
        specs = attacks_on(specs, understood.attacks, machine.out, "all" in asked.methods)
    entries = [judge(spec, outside.paths, machine, store) for spec in specs]
    return estimated(entries, asked, outside, machine, store)


def attacks_on(specs: Sequence[RunSpec], attacks: Sequence[Attack], out: Path, named_all: bool) -> list[RunSpec]:
    """The rows that frame a comparison, and every attack on these and on those that ``out`` has finished records of.

    `UserError` where one that was named has none on some seed; of ``all`` those that have none are left out.
    """
    framing = [spec for spec in specs if spec.method in FRAMING]
    there = [spec for spec in specs if spec not in framing and finished_record(spec, out)]
    lacking: dict[str, list[str]] = {}
    for spec in specs:
        if spec not in framing and spec not in there:
            lacking.setdefault(spec.method, []).append(str(spec.seed))
    if lacking and not (named_all and there):
        names = "; ".join(f"{method} (seed {', '.join(seeds)})" for method, seeds in lacking.items())
        raise UserError(
            f"{out} has no finished run in this setting of {names}: make it first, with the same options and `run`."
        )
    attacked = [with_versions(attack.on(spec)) for attack in attacks for spec in [*framing, *there]]
    return [*framing, *there, *attacked]


def check_task(asked: Asked, understood: Understood, outside: Outside) -> None:
    """Report a model or data of the real tier that the task can't use."""
    if asked.tier != LAB and outside.is_complete:
        spec = RunSpec(
            asked.task, {}, asked.tier, outside.model, (), 0, hashes=outside.hashes, compute=understood.compute
        )
        report_mistake(*understood.task(**understood.params).check(build_setting(spec, outside.paths)))


def specs_of(asked: Asked, understood: Understood, outside: Outside) -> list[RunSpec]:
    """The run of every row on every seed."""
    first = RunSpec(
        task=asked.task,
        task_params=understood.params,
        tier=asked.tier,
        model=outside.model,
        steps=(),
        seed=0,
        limit=asked.limit,
        data=understood.task.data if asked.tier == LAB else data_name(asked.data),
        hashes=outside.hashes,
        lm_eval=asked.lm_eval,
        kinds=asked.kinds,
        compute=understood.compute,
        order=asked.order,
        study=asked.study,
    )
    return [with_versions(replace(first, steps=row, seed=seed)) for row in understood.rows for seed in asked.seeds]


def with_versions(spec: RunSpec) -> RunSpec:
    """The spec with the versions of all that takes part, and the code of the plug-ins among it."""
    task = registry.load_task(spec.task, spec.tier)
    code = registry.plugin_code("tasks", spec.task, task)
    asked = questions_of(spec.attack).metrics if spec.attack else task().metrics()
    versions = engines() | {each.name: each.version for each in asked if not each.late} | {spec.task: task.version}
    for step in spec.steps:
        method = registry.load_component("methods", step.method)
        code |= registry.plugin_code("methods", step.method, method)
        versions[step.method] = method.version
        code |= {f"{step.method}.{name}": hash_file(Path(path)) for name, path in method(**step.params).files().items()}
    for metric in () if spec.attack else plugged_metrics(spec.task, versions):
        code |= registry.plugin_code("metrics", metric.name, metric)
        versions[metric.name] = metric.version
    return replace(spec, hashes={**spec.hashes, **code}, versions=versions)


def engines() -> dict[str, int]:
    """Versions of the engines."""
    return {"training": versions.TRAINING, "arithmetic": versions.ARITHMETIC, "measure": versions.MEASURE}


def judge(spec: RunSpec, paths: Paths, machine: Machine, store: Store) -> PlannedRun:
    """Decide whether a spec is run, cached or skipped, by the records in the machine's folder and the store's nodes."""
    offers = task_of_spec(spec).offers(build_setting(spec, paths))
    missing = [
        need for step in spec.steps for need in sorted(registry.load_component("methods", step.method).needs - offers)
    ]
    if missing:
        return PlannedRun(spec, "skipped", f"it needs {' and '.join(missing)}, which {spec.task} cannot give here")
    if spec.compute.lora and (
        reason := next(filter(None, (method_of(step).against_adapters() for step in spec.steps)), "")
    ):
        return PlannedRun(spec, "skipped", reason)
    old = finished_record(spec, machine.out)
    if old is not None and is_kept(old, store) and is_traced(old, machine.trace):
        return PlannedRun(spec, "cached")
    return PlannedRun(spec, "run", old=old)


def finished_record(spec: RunSpec, out: Path) -> Record | None:
    """The spec's finished record, if there is a good one."""
    path = out / Record(spec, "done").name
    if not path.exists():
        return None
    try:
        record = read_record(path)
    except UserError:  # a broken file: `load` names it, and the run writes it anew
        return None
    return record if record.status == "done" else None


def is_traced(record: Record, points: int) -> bool:
    """Whether a record has a trace that was asked for with so many points; with 0 every record has."""
    return not points or record.facts.get("trace_points") == points


def is_kept(record: Record, store: Store) -> bool:
    """Whether the store still holds the checkpoint and the responses that a record names, unharmed."""
    known = record.lineage
    result, measured = known.get("result_node"), [known.get("responses"), *known.get("oracle_responses", [])]
    elsewhere = [*known.get("history", []), known.get("before"), *known.get("outside", [])]
    outside = known.get("result") and known["result"] in elsewhere
    nodes = [*([result] if result or not outside else []), *measured]
    return all(key and store.find(key) is not None for key in nodes)


def estimated(entries: Sequence[PlannedRun], asked: Asked, outside: Outside, machine: Machine, store: Store) -> Plan:
    """The plan of judged runs, with what those take that are left to do."""
    spec = entries[0].spec
    outline: Outline = task_of_spec(spec).outline(build_setting(spec, outside.paths))
    shape = None
    if asked.tier != LAB:
        shape, parameters = model_shape(outside.paths.model, asked.model)
        outline = replace(outline, parameters=parameters)
    given = [*(["target"] if asked.target else []), *(f"oracle-{i}" for i in range(len(asked.oracles)))]
    todo = [entry.spec for entry in entries if entry.status == "run"]
    takes = estimate(todo, outline, spec.compute, machine, store, given, shape)
    one = outline.parameters * spec.compute.width
    planned = tuple(
        replace(entry, seconds=takes.runs[entry.spec.key], disk=checkpoints_of(entry.spec, machine.trace) * one)
        if entry.status == "run"
        else entry
        for entry in entries
    )
    return Plan(**vars(takes), entries=planned, paths=outside.paths, machine=machine, fetch=outside.fetch)
