"""From what the user typed to run specs, and what would happen to each: run, cached or skipped. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from bench.assets.shapes import known_shape, parameters_in, shape_in
from bench.core import machine as memory
from bench.core import registry
from bench.core.compute import DTYPES, Way
from bench.core.contracts import Outline, Setting
from bench.core.errors import UserError, collect, unknown
from bench.core.record import Record, RunSpec, Step
from bench.core.registry import full_variant, preset_params
from bench.estimate import BYTES_PER_PARAMETER, PROCESS_BYTES, Size, known_rate, seen_rates
from bench.records.files import read
from bench.runner import Paths, setting_of
from bench.store import Store

ALWAYS = ("target", "retrain")
"""Rows of every table: the untouched model and the oracle."""
LAB = "lab"
KINDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text"}
"""How a parameter's type is called in a message."""


@dataclass(frozen=True)
class Asked:
    """What the user typed, not yet understood."""

    task: str
    methods: tuple[str, ...]
    """Names, ``name@variant``, or ``all``."""
    sets: tuple[str, ...] = ()
    """``component.parameter=value``."""
    seeds: tuple[int, ...] = (0, 1, 2)
    model: str = ""
    data: str = ""
    history: str = ""
    """File or folder with the model's past."""
    limit: int | None = None
    lm_eval: tuple[str, ...] = ()
    lm_eval_data: str = ""
    study: str = ""
    target: str = ""
    """A target that was trained elsewhere: known name, hub id or folder."""
    oracles: tuple[str, ...] = ()
    """Retrained models from elsewhere."""
    then: tuple[str, ...] = ()
    """Methods that go on where each row's method has ended, and from the untouched target."""
    kinds: tuple[str, ...] = ()
    """Kinds of probes that are asked; none for all."""
    compute: Mapping[str, Any] = field(default_factory=dict)
    """`RunSpec.compute` as the user has it: what isn't said is absent."""
    problems: tuple[str, ...] = ()
    """Mistakes that parsing has found already."""


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
    task = component("tasks", asked.task, problems)
    wanted = method_names(asked.methods, problems)
    sets = parse_sets(asked.sets, asked.task, [*wanted, *((name, "") for name in asked.then)], problems)
    if asked.limit is not None and asked.limit < 1:
        problems.append(f"--limit must be at least 1, not {asked.limit}.")
    if not asked.seeds and not asked.problems:
        problems.append("--seeds needs at least one whole number, such as 0 or 0,1,2.")
    if len(set(asked.seeds)) < len(asked.seeds):
        problems.append("--seeds names a seed twice.")
    tier = "real" if asked.model and asked.model != LAB else LAB
    if task is not None and tier not in task.tiers:
        problems.append(
            f"{asked.task} has no {tier} tier yet; it has: {', '.join(task.tiers)}. Leave out --model to run the lab."
        )
    if tier == LAB and asked.data:
        problems.append("--data goes with --model: the lab generates its own rows.")
    if tier == LAB and asked.history:
        problems.append("--history goes with --model: the lab makes its own history.")
    if tier == LAB and (asked.target or asked.oracles):
        problems.append("--target and --oracle go with --model: the lab trains its own.")
    compute = computing(asked, tier, problems)
    absent: list[str] | None = [] if only else None
    hashes, paths, model = outside(asked, tier, store.root / "models", problems, getattr(task, "files", False), absent)
    if asked.lm_eval_data and not Path(asked.lm_eval_data).is_dir():
        problems.append(f"--lm-eval-data {asked.lm_eval_data}: there is no such folder.")
    elif asked.lm_eval and task is not None and "lm-eval" not in getattr(task, "answers", ("lm-eval",)):
        problems.append(f"--lm-eval asks language models, and those of {asked.task} are none: leave it out.")
    elif asked.lm_eval:
        check_lm_eval(asked.lm_eval, asked.lm_eval_data, problems)
    if asked.lm_eval_data and asked.lm_eval and Path(asked.lm_eval_data).is_dir():
        from bench.core.hashing import tree_hash

        hashes["lm_eval"] = tree_hash(Path(asked.lm_eval_data))
    paths = replace(paths, lm_eval=asked.lm_eval_data and str(Path(asked.lm_eval_data).resolve()))
    specs: list[RunSpec] = []
    rows = rows_of(wanted, sets, f"{tier}-{getattr(task, 'presets_of', asked.task)}", asked.then, problems)
    if task is not None:
        params = component_params(task, asked.task, sets.get(asked.task, {}), problems)
        if not problems and hasattr(task, "problems_in"):
            problems.extend(task(**params).problems_in(tier))
        there = not only or not (absent or paths.data == "hub")  # else there is nothing to look at yet
        if not problems and tier != LAB and there and hasattr(task, "check"):
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
                        data=data_name(asked.data) if tier == "real" else getattr(task, "data", "generated"),
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
            found.append(replace(way, lora=getattr(method, "lora", 0) or way.lora))
    return found or [way]


def heaviest(size: Size, found: Sequence[Way]) -> Way:
    """The way that takes the most memory."""
    return max(found, key=lambda way: size.parts(way).get("training", 0))


def amounts(entries: Sequence[Entry], stages: Mapping[str, float], asked: Asked) -> tuple[int, int, int, bool]:
    """For `Size`: streams of rows that are trained on together, oracles, checkpoints written, whether any is trained."""
    todo = [entry.spec for entry in entries if entry.status == "run"]
    steps = [step for spec in todo for step in spec.steps]
    streams = [getattr(registry.load("methods", step.method), "together", 1) for step in steps]
    oracles = len(asked.oracles) or sum(name.startswith("oracle-") for name in stages)
    shared = len(stages) * len({spec.seed for spec in todo})
    return max(streams, default=1), oracles, sum(map(written, todo)) + shared, bool(todo)


def written(spec: RunSpec) -> int:
    """Checkpoints that a run's own steps leave in the store."""
    made = [registry.load("methods", step.method)(**step.params) for step in spec.steps]
    return sum(method.checkpoints() if hasattr(method, "checkpoints") else 1 for method in made)


def fetch_model(name: str) -> str:
    """The command that fetches a model, with its size where that is known."""
    from bench.assets.models import canonical, how_to_fetch
    from bench.assets.shapes import download_bytes
    from bench.core.machine import gigabytes

    size = download_bytes(name)
    return f"{how_to_fetch(canonical(name))} ({gigabytes(size) if size else 'nobody here knows its size'})"


def fetch_data(task: str) -> str:
    """The command that fetches a task's data."""
    from bench.assets.data_sets import how_to_fetch

    return f"{how_to_fetch(task)} (some MB of text)"


def whole(spec: RunSpec) -> RunSpec:
    """The spec with the versions of all that takes part, and the code of the plug-ins among it."""
    task = registry.load("tasks", spec.task)
    code = registry.plugin_code("tasks", spec.task)
    versions = engines(task, spec.tier) | {spec.task: task.version}
    for step in spec.steps:
        code |= registry.plugin_code("methods", step.method)
        versions[step.method] = registry.load("methods", step.method).version
    return replace(spec, task_params=said(task, spec.task_params), hashes={**spec.hashes, **code}, versions=versions)


def said(task: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """A task's parameters without those that it leaves out at their default."""
    defaults, unsaid = registry.defaults(task), getattr(task, "unsaid", ())
    return {name: value for name, value in params.items() if name not in unsaid or value != defaults[name]}


def engines(task: Any, tier: str) -> dict[str, int]:
    """Versions of the engines, and of each of the task's metrics."""
    from bench.core import versions

    found = {"training": versions.TRAINING, "arithmetic": versions.ARITHMETIC, "measure": versions.MEASURE}
    return found | {metric.name: metric.version for metric in task().metrics(tier)}


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


def component(kind: str, name: str, problems: list[str]) -> Any:
    """The class of a task or method, or None and a sentence."""
    try:
        return registry.load(kind, name)
    except UserError as error:
        problems.extend(error.problems)
        return None


def method_names(asked: Sequence[str], problems: list[str]) -> list[tuple[str, str]]:
    """(method, variant) of every row beside the untouched target; the oracle's comes first."""
    known = registry.table("methods")
    wanted: list[tuple[str, str]] = [("retrain", "")]
    for text in asked:
        if text == "all":
            for name in known:
                if not getattr(registry.load("methods", name), "in_all", True):
                    continue
                variants = getattr(registry.load("methods", name), "variants", ())
                wanted += [(name, ""), *((name, variant) for variant in variants)]
            continue
        name, _, variant = text.partition("@")
        if name == "target":
            continue
        if name not in known:
            problems.append(unknown("method", name, [*known, "all"], "methods"))
            continue
        wanted.append((name, variant))
    if not asked:
        problems.append("--methods needs at least one name (`python -m bench ls methods` lists them), or 'all'.")
    return list(dict.fromkeys(wanted))


def parse_sets(
    sets: Sequence[str], task: str, wanted: Sequence[tuple[str, str]], problems: list[str]
) -> dict[str, dict[str, str]]:
    """``a.b=c`` as {a: {b: c}}; a component that takes no part is a mistake."""
    takes_part = list(dict.fromkeys([*({task} & set(registry.table("tasks"))), *(name for name, _ in wanted)]))
    found: dict[str, dict[str, str]] = {}
    for text in sets:
        left, equals, value = text.partition("=")
        owner, dot, name = left.strip().rpartition(".")
        if not equals or not dot or not name:
            problems.append(f"--set {text}: write it as component.parameter=value, such as npo.beta=0.1.")
        elif owner not in takes_part and (owner in registry.table("methods") or owner in registry.table("tasks")):
            problems.append(f"--set {text}: {owner} takes no part here; leave this out, or add it to the command.")
        elif owner not in takes_part:
            problems.append("--set " + text + ": " + unknown("component", owner, takes_part))
        elif name in found.setdefault(owner, {}):
            problems.append(f"--set {text}: {owner}.{name} is set twice; leave one out.")
        else:
            found[owner][name] = value.strip()
    return found


def component_params(kind: Any, name: str, given: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    """A component's complete parameters: its defaults with ``given`` laid over them."""
    return overlay(kind, name, registry.defaults(kind), given, problems)


def overlay(
    kind: Any, name: str, base: Mapping[str, Any], given: Mapping[str, str], problems: list[str]
) -> dict[str, Any]:
    """``base`` with the user's texts converted and laid over it."""
    params = dict(base)
    for key, text in given.items():
        if key not in params:
            problems.append("--set: " + unknown(f"parameter of {name}", key, params))
            continue
        try:
            params[key] = registry.convert(kind, key, text)
        except ValueError:
            expected = KINDS[type(registry.defaults(kind)[key])]
            problems.append(f"--set {name}.{key}={text}: the value must be {expected}.")
    problems.extend(registry.check_bounds(kind, params, name))  # what couldn't be read stands at its default, in bounds
    return params


def steps_of(
    wanted: Sequence[tuple[str, str]], sets: Mapping[str, Mapping[str, str]], place: str, problems: list[str]
) -> list[Step]:
    """Each method with its complete parameters: defaults, then the preset of this place, then the variant, then --set."""
    steps: list[Step] = []
    for name, variant in wanted:
        kind = component("methods", name, problems)
        if kind is None:
            continue
        base = preset_params(kind, place, variant)
        if base is None:
            short = sorted({key.removeprefix(f"{place}-") for key in kind.presets} - {place})
            problems.append(unknown(f"variant of {name}", variant, short))
            continue
        params = overlay(kind, name, base, sets.get(name, {}), problems)
        steps.append(Step(name, params, full_variant(kind, params, variant)))
    return list({(step.name, str(step.params)): step for step in steps}.values())


Rows = list[tuple[Step, ...]]


def rows_of(
    wanted: Sequence[tuple[str, str]],
    sets: Mapping[str, Mapping[str, str]],
    place: str,
    then: Sequence[str],
    problems: list[str],
) -> Rows:
    """The steps of every row of the table: none for the target; what goes on after each method goes on from it too."""
    further: list[tuple[str, str]] = []
    for name in then:
        if name in registry.table("methods"):
            further.append((name, ""))
        else:
            problems.append("--then: " + unknown("method", name, registry.table("methods"), "methods"))
    later = tuple(steps_of(further, sets, place, problems))
    each = steps_of(wanted, sets, place, problems)
    return [(), *([later] if later else []), *((step, *(later if step.method != "retrain" else ())) for step in each)]


def computing(asked: Asked, tier: str, problems: list[str]) -> dict[str, Any]:
    """How training computes, where it isn't as usual: the user's word, else the known model's."""
    from bench.assets.known_models import KNOWN
    from bench.assets.models import canonical
    from bench.core.compute import MICRO
    from bench.core.types import ProbeKind

    asked_kinds = get_args(ProbeKind)

    found = {name: value for name, value in asked.compute.items() if value}
    if tier == LAB and found:
        problems.append(f"--{', --'.join(found)} goes with --model: the lab's models need none of it.")
    if found.get("dtype", "float32") not in DTYPES:
        problems.append(f"--dtype {found['dtype']}: models are trained in {' or '.join(DTYPES)}.")
    if found.get("dtype") == "bfloat16" and found.get("autocast"):
        problems.append("--autocast computes in bfloat16 and keeps the weights in float32: leave out --dtype bfloat16.")
    if any(found.get(name, 1) < 1 for name in ("lora", "micro")):
        problems.append("--lora and --micro are at least 1.")
    problems.extend(
        "--probes: " + unknown("kind of probe", kind, asked_kinds) for kind in asked.kinds if kind not in asked_kinds
    )
    known = KNOWN.get(canonical(asked.model).partition("@")[0])
    micro = found.get("micro") or (known.micro if known else MICRO)
    found = {name: value for name, value in found.items() if (name, value) != ("dtype", "float32")}
    return {
        **{k: v for k, v in found.items() if k != "micro"},
        **({"micro": micro} if tier != LAB and micro != MICRO else {}),
    }


def first_spec(asked: Asked, tier: str, model: str, hashes: Mapping[str, str], compute: Mapping[str, Any]) -> RunSpec:
    """Enough of a spec for its setting."""
    return RunSpec(asked.task, {}, tier, model, (), 0, hashes=hashes, compute=compute)


def outside(
    asked: Asked,
    tier: str,
    models: Path,
    problems: list[str],
    takes_files: bool = False,
    absent: list[str] | None = None,
) -> tuple[dict[str, str], Paths, str]:
    """Content hashes and places of the model and the data that come from outside the harness, and the model's name.

    ``takes_files``: whether the task's data are files of the user's, with commas between them. ``absent`` collects the
    commands for what isn't fetched, which is a mistake where it is None.
    """
    if tier == LAB:
        return {}, Paths(), LAB
    from bench.assets.data_sets import data_set
    from bench.assets.data_sets import resolve as resolve_data
    from bench.assets.models import canonical, resolve

    hashes: dict[str, str] = {}
    elsewhere: dict[str, list[str]] = {"target": [], "oracle": []}
    model, name = "", asked.model
    try:
        reference = resolve(asked.model, models)
        hashes["model"], model, name = reference.hash, str(reference.path), reference.name
    except UserError as error:
        if absent is not None and isnt_fetched(asked.model, models):
            name = canonical(asked.model)
            absent.append(fetch_model(name))
        else:
            problems.extend(error.problems)
    data = "hub"
    try:
        rows = resolve_data(asked.task, asked.data, takes_files, models.parent / "data")
        data = rows.path
        hashes |= {"data": rows.hash} if rows.hash else {}
    except UserError as error:
        known = data_set(asked.task)
        if absent is None or known is None or not known.source or asked.data not in ("", "hub"):
            problems.extend(error.problems)
        else:
            absent.append(fetch_data(asked.task))
    for i, (option, given) in enumerate([("target", asked.target), *(("oracle", oracle) for oracle in asked.oracles)]):
        if given:
            try:
                other = resolve(given, models)
                hashes["target" if option == "target" else f"oracle-{i - 1}"] = other.hash
                elsewhere[option].append(str(other.path))
            except UserError as error:
                if absent is not None and isnt_fetched(given, models):
                    absent.append(fetch_model(given))
                    continue
                problems.extend(f"--{option}: {problem}" for problem in error.problems)
    past = ""
    if asked.history and model:
        past, hashes["history"] = past_of(asked.history, model, hashes["model"], models, problems)
    elif asked.history:
        past_of(asked.history, "", "", models, problems)
    found = Paths(model, data, history=past, target="".join(elsewhere["target"]), oracles=tuple(elsewhere["oracle"]))
    return hashes, found, name


def isnt_fetched(name: str, models: Path) -> bool:
    """Whether this names a model that could be fetched and isn't."""
    from bench.assets.known_models import KNOWN
    from bench.assets.models import canonical, check_name, folder_name

    try:
        check_name(canonical(name))
    except UserError:
        return False
    is_local = name not in KNOWN and Path(name).expanduser().is_dir()
    return not is_local and not (models / folder_name(name)).exists()


def past_of(source: str, model: str, model_hash: str, models: Path, problems: list[str]) -> tuple[str, str]:
    """Where the model's history lies, and its digest; without a model only the history's own mistakes are looked for."""
    from bench.assets.history import history_digest
    from bench.assets.history_file import load
    from bench.assets.history_sources import with_model
    from bench.core.types import Checkpoint

    try:
        past = load(source, models)
        if model:
            past = with_model(past, Checkpoint(model, model_hash))
    except UserError as error:
        problems.extend(f"--history {source}: {problem}" for problem in error.problems)
        return "", ""
    return str(Path(source).expanduser().resolve()), history_digest(past)


def check_lm_eval(names_: Sequence[str], data: str, problems: list[str]) -> None:
    """A sentence for every lm-eval task that isn't there."""
    from bench.engines.measuring.lm_eval import first_of, leaves

    for name in names_:
        try:
            leaves(first_of(name)[0], Path(data) if data else None)
        except UserError as error:
            problems.extend(error.problems)


def data_name(data: str) -> str:
    """How the data are called in a record: a folder's or the files' own names, not where they lie."""
    return ",".join(Path(part.strip()).name for part in data.split(",")) if data and data != "hub" else "hub"


def job_id(spec: RunSpec) -> str:
    """A short name of a run for progress lines."""
    return f"{spec.method} seed {spec.seed}"
