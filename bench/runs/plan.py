"""From what the user typed to run specs, and what would happen to each: run, cached or skipped. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.assets.shapes import known_shape, parameters_in, shape_in
from bench.core import machine as memory
from bench.core import registry
from bench.core.compute import Way
from bench.core.contracts import Outline, Setting
from bench.core.errors import UserError, collect
from bench.core.record import Record, RunSpec
from bench.records.files import read
from bench.runs.asked import LAB, Asked, computing, load_or_report, method_names, parse_sets, rows_of, task_params
from bench.runs.estimate import BYTES_PER_PARAMETER, PROCESS_BYTES, Size, known_rate, seen_rates
from bench.runs.outside import check_lm_eval, data_name, fetch_data, outside
from bench.runs.setting import Paths, setting_of
from bench.runs.store import Store

ALWAYS = ("target", "retrain")
"""Rows of every table: the untouched model and the oracle."""


@dataclass(frozen=True)
class Entry:
    """One run and what would happen to it."""

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
class Plan:
    """Every run of a command, and the stages that its runs share."""

    entries: tuple[Entry, ...]
    paths: Paths
    stages: Mapping[str, float] = field(default_factory=dict)
    """Expected seconds of ``history``, ``target``, ``oracle-0`` ... for one seed."""
    memory: int = 0
    """Expected bytes of one worker; on a GPU of the GPU's."""
    seeds: tuple[int, ...] = ()
    size: Size | None = None
    """What memory and disk depend on, of a real model; None for the lab, and where nobody knows the model's shape."""
    way: Way = field(default_factory=Way)
    fetch: tuple[str, ...] = ()
    """Commands for what isn't fetched, with its size."""
    guessed: bool = True
    """Whether nothing like it has been trained in this store, so that times come from a stated rate."""

    def seconds(self, jobs: int) -> float:
        """Expected wall time: the work of all seeds over ``jobs`` workers."""
        todo = [entry for entry in self.entries if entry.status == "run"]
        seeds = {entry.spec.seed for entry in todo}
        return (sum(self.stages.values()) * len(seeds) + sum(entry.seconds for entry in todo)) / max(1, jobs)


def make_plan(
    asked: Asked,
    out: Path,
    store: Store,
    *,
    only: bool = False,
    device: str = "cpu",
    checkpointing: bool = False,
) -> Plan:
    """Understand ``asked``; raises one `UserError` with every mistake in it.

    ``only``: nothing is to be run yet, so a model or data that aren't fetched are no mistake; `Plan.fetch` has them.
    """
    problems = list(asked.problems)
    tier = "real" if asked.model and asked.model != LAB else LAB
    task = load_or_report(registry.load_task, (asked.task, tier), problems)
    wanted = method_names(asked.methods, problems)
    sets = parse_sets(asked.sets, asked.task, [*wanted, *((name, "") for name in asked.then)], problems)
    if asked.limit is not None and asked.limit < 1:
        problems.append(f"--limit must be at least 1, not {asked.limit}.")
    if not asked.seeds and not asked.problems:
        problems.append("--seeds needs at least one whole number, such as 0 or 0,1,2.")
    if len(set(asked.seeds)) < len(asked.seeds):
        problems.append("--seeds names a seed twice.")
    if tier == LAB and asked.data:
        problems.append("--data goes with --model: the lab generates its own rows.")
    if tier == LAB and asked.history:
        problems.append("--history goes with --model: the lab makes its own history.")
    if tier == LAB and (asked.target or asked.oracles):
        problems.append("--target and --oracle go with --model: the lab trains its own.")
    compute = computing(asked, tier, problems)
    absent: list[str] | None = [] if only else None
    hashes, paths, model = outside(
        asked, tier, store.root / "models", problems, task is not None and task.files, absent
    )
    if asked.lm_eval_data and not Path(asked.lm_eval_data).is_dir():
        problems.append(f"--lm-eval-data {asked.lm_eval_data}: there is no such folder.")
    elif asked.lm_eval and task is not None and "lm-eval" not in task.answers:
        problems.append(f"--lm-eval asks language models, and those of {asked.task} are none: leave it out.")
    elif asked.lm_eval:
        check_lm_eval(asked.lm_eval, asked.lm_eval_data, problems)
    if asked.lm_eval_data and asked.lm_eval and Path(asked.lm_eval_data).is_dir():
        from bench.core.hashing import tree_hash

        hashes["lm_eval"] = tree_hash(Path(asked.lm_eval_data))
    paths = replace(paths, lm_eval=asked.lm_eval_data and str(Path(asked.lm_eval_data).resolve()))
    specs: list[RunSpec] = []
    rows = rows_of(wanted, sets, f"{tier}-{(task and task.presets_of) or asked.task}", asked.then, problems)
    if task is not None:
        params = task_params(task, asked.task, tier, sets.get(asked.task, {}), problems)
        there = not only or not (absent or paths.data == "hub")  # else there is nothing to look at yet
        if not problems and tier != LAB and there:
            problems.extend(task(**params).check(setting_of(first_spec(asked, tier, model, hashes, compute), paths)))
        if not problems:
            specs = [
                whole(
                    RunSpec(
                        task=asked.task,
                        task_params=params,
                        tier=tier,
                        model=model,
                        steps=row,
                        seed=seed,
                        limit=asked.limit,
                        data=data_name(asked.data) if tier == "real" else task.data,
                        hashes=hashes,
                        lm_eval=asked.lm_eval,
                        kinds=asked.kinds,
                        compute=compute,
                        study=asked.study,
                    )
                )
                for row in rows
                for seed in asked.seeds
            ]
    collect(list(dict.fromkeys(problems)))  # a method's variants share its mistakes
    assert task is not None
    setting = setting_of(specs[0], paths)
    outline = task(**params).outline(setting)
    way = way_of(compute, device, checkpointing)
    shape = None
    if tier != LAB:
        folder = Path(paths.model)
        shape = shape_in(folder) if paths.model else known_shape(asked.model)
        counted = shape.parameters if shape else parameters_in(folder) if paths.model else 0
        outline = replace(outline, parameters=counted)
    gpu = memory.gpu(device) if device != "cpu" else None
    half = "bfloat16" if way.autocast or way.dtype == "bfloat16" else "float32"
    rate = known_rate(store.root, outline.parameters, device, half, gpu.name if gpu else "") * way.world
    rate *= 6 / way.operations
    one = outline.parameters * way.width
    entries = tuple(entry(spec, task, setting, out, store, outline, rate) for spec in specs)
    entries = tuple(replace(e, disk=written(e.spec) * one if e.status == "run" else 0) for e in entries)
    stages = {
        name: cost(outline, rows, rate)
        for name, rows in outline.stages.items()
        if not (name == "target" and asked.target) and not (name.startswith("oracle-") and asked.oracles)
    }
    size = Size(shape, outline.row_tokens, *amounts(entries, stages, asked)) if shape else None
    used = ways(way, outline, stages, [e.spec for e in entries if e.status == "run"])
    if way.world > 1 and any(each.lora for each in used):
        raise UserError(
            "Adapters are trained in one process, and here --lora, a method's or a task's recipe asks for them: "
            "leave out torchrun, or the adapters."
        )
    way = heaviest(size, used) if size else way
    return Plan(
        entries,
        paths,
        stages,
        size.worker(way) if size else PROCESS_BYTES + BYTES_PER_PARAMETER * outline.parameters,
        asked.seeds,
        size,
        way,
        tuple(dict.fromkeys([*(absent or []), *([fetch_data(asked.task)] if only and paths.data == "hub" else [])])),
        not seen_rates(store.root, outline.parameters, device),
    )


def way_of(compute: Mapping[str, Any], device: str, checkpointing: bool) -> Way:
    """How a spec's training computes."""
    from bench.core.compute import MICRO
    from bench.core.distributed import launched

    return Way(
        compute.get("dtype", "float32"),
        compute.get("autocast", False),
        compute.get("lora", 0),
        compute.get("micro", MICRO),
        checkpointing,
        launched(),
        device,
    )


def ways(way: Way, outline: Outline, stages: Mapping[str, float], todo: Sequence[RunSpec]) -> list[Way]:
    """How each thing that is left is trained: the stages by their own recipe, a method's with its own adapters."""
    own = outline.recipe
    found = [replace(way, dtype=own.dtype or way.dtype, lora=own.lora or way.lora) if own else way] if stages else []
    for step in (step for spec in todo for step in spec.steps):
        method = registry.load("methods", step.method)(**step.params)
        if method.rows(outline.forget, outline.retain):
            found.append(replace(way, lora=method.adapters() or way.lora))
    return found or [way]


def heaviest(size: Size, found: Sequence[Way]) -> Way:
    """The way that takes the most memory."""
    return max(found, key=lambda way: size.parts(way).get("training", 0))


def amounts(entries: Sequence[Entry], stages: Mapping[str, float], asked: Asked) -> tuple[int, int, int, bool]:
    """For `Size`: streams of rows that are trained on together, oracles, checkpoints written, whether any is trained."""
    todo = [entry.spec for entry in entries if entry.status == "run"]
    steps = [step for spec in todo for step in spec.steps]
    streams = [registry.load("methods", step.method).together for step in steps]
    oracles = len(asked.oracles) or sum(name.startswith("oracle-") for name in stages)
    shared = len(stages) * len({spec.seed for spec in todo})
    return max(streams, default=1), oracles, sum(map(written, todo)) + shared, bool(todo)


def written(spec: RunSpec) -> int:
    """Checkpoints that a run's own steps leave in the store."""
    made = [registry.load("methods", step.method)(**step.params) for step in spec.steps]
    return sum(method.checkpoints() for method in made)


def whole(spec: RunSpec) -> RunSpec:
    """The spec with the versions of all that takes part, and the code of the plug-ins among it."""
    task = registry.load_task(spec.task, spec.tier)
    code = registry.plugin_code("tasks", spec.task, task)
    versions = engines(task) | {spec.task: task.version}
    for step in spec.steps:
        method = registry.load("methods", step.method)
        code |= registry.plugin_code("methods", step.method, method)
        versions[step.method] = method.version
    return replace(spec, hashes={**spec.hashes, **code}, versions=versions)


def engines(task: Any) -> dict[str, int]:
    """Versions of the engines, and of each of the task's metrics."""
    from bench.core import versions

    found = {"training": versions.TRAINING, "arithmetic": versions.ARITHMETIC, "measure": versions.MEASURE}
    return found | {metric.name: metric.version for metric in task().metrics()}


def cost(outline: Outline, rows: float, rate: float) -> float:
    """Seconds to train on ``rows``."""
    return 6 * outline.parameters * outline.row_tokens * rows / rate


def entry(spec: RunSpec, task: Any, setting: Setting, out: Path, store: Store, outline: Outline, rate: float) -> Entry:
    """What would happen to one spec."""
    missing = [
        need
        for step in spec.steps
        for need in sorted(registry.load("methods", step.method).needs - task(**spec.task_params).offers(setting))
    ]
    if missing:
        return Entry(spec, "skipped", f"it needs {' and '.join(missing)}, which {spec.task} cannot give here")
    old = finished(spec, out)
    if old is not None and is_kept(old, store):
        return Entry(spec, "cached")
    rows = sum(
        registry.load("methods", s.method)(**s.params).rows(outline.forget, outline.retain) for s in spec.steps
    ) + 0.4 * min(outline.probe_rows, (spec.limit or 10**9) * 10)
    return Entry(spec, "run", seconds=cost(outline, rows, rate), old=old)


def finished(spec: RunSpec, out: Path) -> Record | None:
    """The spec's finished record, if there is a good one."""
    path = out / Record(spec, "done").name
    if not path.exists():
        return None
    try:
        record = read(path)
    except UserError:  # a broken file: `load` names it, and the run writes it anew
        return None
    return record if record.status == "done" else None


def is_kept(record: Record, store: Store) -> bool:
    """Whether the store still holds the checkpoint and the responses that a record names, unharmed."""
    known = record.lineage
    result, measured = known.get("result_node"), [known.get("responses"), *known.get("oracle_responses", [])]
    elsewhere = [*known.get("history", []), known.get("before"), *known.get("outside", [])]
    outside = known.get("result") and known["result"] in elsewhere
    nodes = [*([result] if result or not outside else []), *measured]
    return all(key and store.find(key) is not None for key in nodes)


def first_spec(asked: Asked, tier: str, model: str, hashes: Mapping[str, str], compute: Mapping[str, Any]) -> RunSpec:
    """Enough of a spec for its setting."""
    return RunSpec(asked.task, {}, tier, model, (), 0, hashes=hashes, compute=compute)


def job_id(spec: RunSpec) -> str:
    """A short name of a run for progress lines."""
    return f"{spec.method} seed {spec.seed}"
