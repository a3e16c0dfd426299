"""What every method, task and metric owes, as checks for our own tests and for those of plug-ins.

    from bench.conformance import check_method, check_metric, check_task

    def test_mine():
        check_method(Mine, steps=3)

Parameters make a check quick; the defaults are checked without running them. A check raises AssertionError with one
sentence for each thing that is wrong.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import get_annotations
from math import log
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.core import registry
from bench.core.boxes import SETTINGS, Box, box_faults, box_json, draw_settings
from bench.core.contracts import (
    Method,
    Metric,
    Node,
    Preset,
    Recipe,
    Retraining,
    Scenario,
    Schedule,
    Stream,
    Task,
    TaskInputs,
)
from bench.core.errors import Absent, UserError
from bench.core.hashing import canonical_json, hash_checkpoint, hash_json
from bench.core.record import PRIMARY
from bench.core.registry import field_meanings
from bench.core.types import Checkpoint, Example, Probe, Request, Responses, Validation, data_hash
from bench.engines.loaders import open_checkpoint
from bench.engines.training.losses import descent
from bench.lab.build import Architecture, Pretraining, build_history_from, make_fresh_llama
from bench.metrics import score_all
from bench.metrics.rouge import count_overlap
from bench.runs.context import Work
from bench.runs.method_context import Ledger, MethodContext
from bench.runs.store import Store

NEEDS = frozenset({"history", "retain", "instructions"})
"""What a method may declare to need, and a task to offer."""
METHOD_OWES = ("summary", "unlearn")
TASK_OWES = ("summary", "metrics", "prepare", "outline")
"""What has no default in the base classes."""
WORDS = ("Q:", "A:", "?", *(f"w{i}" for i in range(32)))
"""Vocabulary of the tiny world that methods are tried on."""
LAB = TaskInputs("lab")
Problems = Iterator[str]


def check_method(cls: type, **params: Any) -> None:
    """The declaration of a method, and two runs of it with ``params`` on a tiny model: a minute of its own is a bug."""
    check_declared(cls)
    with TemporaryDirectory() as folder:
        raise_if_any(cls, unlearning(cls, cls(**params), Path(folder)))


def check_declared(cls: type) -> None:
    """The declaration alone: the dataclass, its documentation, presets and search boxes."""
    raise_if_any(cls, [*check_component(cls, Method, METHOD_OWES)])
    try:
        raise_if_any(cls, [*declared_method(cls)])
    except UserError as error:
        raise_if_any(cls, error.problems)


def check_task(cls: type, setting: TaskInputs = LAB, **params: Any) -> None:
    """The declaration of a task and its scenario with ``params``: rows, probes, metrics, and, where there is a model
    to start from, what its checkpoints are trained on.
    """
    raise_if_any(cls, [*check_component(cls, Task, TASK_OWES)])
    raise_if_any(cls, [*declared_task(cls, TaskInputs(setting.tier))])
    with TemporaryDirectory() as folder:
        made = [prepare_traced(cls(**params), setting, Path(folder) / str(i), seed) for i, seed in enumerate((0, 0, 1))]
        scenario = made[0].scenario
        raise_if_any(cls, [*rows_apart(scenario), *probes_sound(scenario), *scores_sound(scenario, cls(**params))])
        raise_if_any(cls, questions_sound(scenario))
        raise_if_any(cls, seeded([trace.scenario for trace in made], setting))
        if setting.tier == "lab" or setting.model_path:
            raise_if_any(cls, checkpoints_apart(made[0]))


def raise_if_any(cls: type, problems: Iterable[str]) -> None:
    """AssertionError with all of ``problems``, if there is one."""
    found = list(problems)
    kind = cls if isinstance(cls, type) else type(cls)
    assert not found, f"{kind.__module__}.{kind.__qualname__}:\n" + "\n".join(f"- {problem}" for problem in found)


# What a component is


def check_component(cls: Any, base: type, owed: Sequence[str]) -> Problems:
    """A frozen dataclass derived from ``base``, whose fields have plain defaults and say what they mean."""
    if not issubclass(type(cls), type):
        yield f"it is an object of {type(cls).__name__}: give the class"
        return
    own = {name for kind in cls.__mro__ if not issubclass(base, kind) for name in vars(kind)}
    yield from (f"it lacks '{name}'" for name in owed if name not in own)
    annotated = any("ClassVar" not in str(kind) for kind in get_annotations(cls).values())
    plain = dataclasses.is_dataclass(cls) and ("__dataclass_fields__" in vars(cls) or not annotated)
    if not plain:
        yield "it is not a dataclass: its hyperparameters must be fields"
        return
    if not cls.__dataclass_params__.frozen:
        yield "it is not frozen: write @dataclass(frozen=True)"
    if not (cls.__doc__ or "").strip() or (cls.__doc__ or "").startswith(f"{cls.__name__}("):
        yield "it has no docstring: say what it does, with the equation and the paper"
    meanings = field_meanings(cls)
    for each in dataclasses.fields(cls):
        if each.default is dataclasses.MISSING:
            yield f"field '{each.name}' has no default"
        elif not isinstance(each.default, bool | int | float | str):
            yield f"field '{each.name}' is a {type(each.default).__name__}, which --set can't give: use bool, int, float or str"
        if each.name not in meanings:
            yield f"field '{each.name}' has no meaning: put a string with its unit right under it"
    if not issubclass(cls, base):
        yield f"it is not derived from bench.api.{base.__name__}"
        return
    if type(cls.version) is not int:
        yield "version is a whole number, raised when the same parameters give another result"
    if "summary" in own and (not isinstance(cls.summary, str) or not cls.summary.strip() or "\n" in cls.summary):
        yield "summary is one line that says what it is"


def refused_params(cls: type, params: Mapping[str, Any], what: str) -> list[str]:
    """Sentences about ``params``, laid over the defaults, that the component refuses."""
    known = registry.default_params(cls)
    found = [f"{what} sets '{name}', which is no field" for name in params if name not in known]
    for name in (name for name in params if name in known):
        given, default = params[name], known[name]
        if not isinstance(given, (int, float) if isinstance(default, float) else type(default)):
            kinds = type(given).__name__, type(default).__name__
            found.append(f"{what} sets '{name}' to a {kinds[0]} where the default is a {kinds[1]}")
    return found or [f"{what} is refused: {text}" for text in registry.check_bounds(cls, {**known, **params})]


def refused_box(cls: Any, box: Box, what: str) -> Problems:
    """Sentences about a box that `bench tune` can't search, or with settings that the component refuses."""
    if faults := list(box_faults(box_json(box), what, registry.default_params(cls))):
        yield from faults
        return
    try:
        settings = draw_settings(box, SETTINGS)
    except UserError as error:
        yield f"{what} is too small: {error}"
        return
    found = [problem for setting in settings for problem in refused_params(cls, setting, f"a setting of {what}")]
    yield from dict.fromkeys(found)


def declared_method(cls: Any) -> Problems:
    """Needs, presets, variants, search boxes."""
    yield from refused_params(cls, {}, "the default setting")
    if not isinstance(cls.needs, frozenset) or not cls.needs <= NEEDS:
        yield f"needs is a frozenset of {sorted(NEEDS)}, not {cls.needs!r}"
    for name, preset in cls.presets.items():
        if not isinstance(preset, Preset) or not preset.source.strip():
            yield f"preset '{name}' must be a Preset with its source: the paper and table, or the search that chose it"
            continue
        yield from refused_params(cls, preset.params, f"preset '{name}'")
    for variant in cls.variants:
        if not any(name == variant or name.endswith(f"-{variant}") for name in cls.presets):
            yield f"variant '{variant}' has no preset"
    for place, box in cls.space.items():
        yield from refused_box(cls, box, f"the box of '{place}'")
    count = cls().rows(100, 400)
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        yield f"rows(100, 400) is {count!r}: it must be a whole number, the rows through a forward and backward pass"


def declared_task(cls: Any, setting: TaskInputs) -> Problems:
    """Defaults, metrics, what is offered, sizes."""
    yield from refused_params(cls, {}, "the default setting")
    task = cls()
    metrics = task.metrics()
    if not metrics or find_repeated(metric.name for metric in metrics):
        yield "metrics() must be there, each name once"
    if not task.offers(setting) <= NEEDS:
        yield f"offers is a frozenset of {sorted(NEEDS)}"
    outline = task.outline(setting)
    sizes = [outline.row_tokens, outline.probe_rows, outline.forget, *outline.stages.values()]
    if setting.tier == "lab":  # a real model's parameters are counted when it is named
        sizes.append(outline.parameters)
    if min(sizes) <= 0:
        yield "the outline has a size of 0 or less"


def find_repeated(texts: Iterable[str]) -> list[str]:
    """The items that occur more than once, sorted."""
    return sorted(text for text, count in Counter(texts).items() if count > 1)


# What a method does


@dataclass(frozen=True)
class TinyScenario:
    """A tiny scenario that a method can work in: the request, and what it was made in."""

    request: Request
    root: Path

    def work(self, name: str) -> Work:
        """A fresh store beside the given checkpoints, so that nothing is cached from another run."""
        return Work(Store(self.root / name), seed=0, provenance={})


def tiny_rows(side: str, first: int, count: int = 6) -> tuple[Example, ...]:
    """``count`` questions and two passages over the tiny world's words."""
    at = [first + i for i in range(count)]
    questions = [
        Example(f"{side}-q{i}", {"prompt": f"w{i} w{i % 7} ?", "answer": f"w{i + 1}", "template": "qa"}) for i in at
    ]
    passages = [
        Example(f"{side}-t{i}", {"prompt": "", "answer": f"w{i} w{i + 2} w{i + 1} .", "template": "text"})
        for i in at[:2]
    ]
    return (*questions, *passages)


def tiny_place(folder: Path, needs: Iterable[str] = NEEDS) -> TinyScenario:
    """A request with a history of two checkpoints and a target trained on forget and retain rows."""
    forget, retain = tiny_rows("forget", 0), tiny_rows("retain", 8, 12)
    held = Validation(tiny_rows("v-forget", 20, 2), tiny_rows("v-retain", 22, 2), tiny_rows("v-world", 24, 2))
    work = Work(Store(folder / "given"), seed=0, provenance={})
    past = Schedule((Stream(tiny_rows("past", 3, 16), 8, descent()),), Recipe(6, 5e-3))
    fresh = make_fresh_llama(work, Pretraining(Architecture(16, layers=2, positions=64), WORDS, past))
    history = build_history_from(work, fresh, past, points=1)
    target = work.train(history.last.checkpoint, [Stream(forget + retain, 8, descent())], Recipe(6, 5e-3), "target")
    request = Request(
        target,
        forget,
        retain if "retain" in needs else (),
        held,
        history if "history" in needs else None,
        instructions=tiny_rows("told-to", 26, 4) if "instructions" in needs else (),
        retraining=Retraining(Recipe(6, 5e-3), 8),
    )
    return TinyScenario(request, folder)


def unlearning(cls: Any, method: Any, folder: Path) -> Problems:
    """Two runs of ``method`` in two stores: a sound checkpoint, the same bits, the given files as they were."""
    place = tiny_place(folder, cls.needs)
    past = place.request.history.moments if place.request.history else ()
    given = [place.request.target, *(moment.checkpoint for moment in past)]
    request = place.request
    if cls.attack:
        request = dataclasses.replace(request, first=request.target, half=request.forget[1::2])
    results: list[Checkpoint] = []
    for name in ("first", "second"):
        result = method.unlearn(request, MethodContext(place.work(name), Ledger(set(), set())))
        if not isinstance(result, Checkpoint):
            yield f"unlearn returned a {type(result).__name__}, not a Checkpoint"
            return
        results.append(result)
    for checkpoint in given:
        if hash_checkpoint(Path(checkpoint.path)) != checkpoint.hash:
            yield f"unlearn changed the files of the {checkpoint.label or 'given checkpoint'}: it must leave them alone"
    first, second = results
    if hash_checkpoint(Path(first.path)) != first.hash:
        yield "the returned checkpoint's hash is not that of its files (take it from ctx.train or ctx.combine)"
    if first.hash != second.hash:
        yield "the same seed gave other weights the second time: draw from ctx.seed and from lists, never from a set"
    model = open_checkpoint(first).model
    if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
        yield "the unlearned weights are not finite"


# What a task prepares


@dataclass(frozen=True)
class Training:
    """One training run that a scenario asked for: where it starts, its rows, its recipe."""

    label: str
    start: str
    """Content hash of the checkpoint that it began from."""
    rows: list[Example]
    recipe: Recipe


@dataclass
class Tracer(Work):
    """A context that remembers its training runs."""

    runs: list[Training] = field(default_factory=list)

    @property
    def trained(self) -> dict[str, list[Example]]:
        """The rows of every training run, by label."""
        found: dict[str, list[Example]] = {}
        for run in self.runs:
            found.setdefault(run.label, []).extend(run.rows)
        return found

    def train_node(
        self, start: Checkpoint, streams: Sequence[Stream], recipe: Recipe, label: str, *rest: Any, **named: Any
    ) -> Node:
        """Remember the run, then train."""
        rows = [row for stream in streams for row in stream.examples]
        self.runs.append(Training(label, start.hash, rows, recipe))
        return super().train_node(start, streams, recipe, label, *rest, **named)


@dataclass(frozen=True)
class Trace:
    """A scenario and the context it was prepared in."""

    scenario: Scenario
    work: Tracer


def prepare_traced(task: Any, setting: TaskInputs, folder: Path, seed: int = 0) -> Trace:
    """The scenario of ``task`` over a store in ``folder``; no checkpoint is built yet."""
    work = Tracer(Store(folder), seed=seed, provenance={})
    return Trace(task.prepare(work, setting), work)


def row_content(example: Example) -> str:
    """The content of a row: its prompt and answer, whatever its id and template."""
    return canonical_json({key: value for key, value in example.payload.items() if key != "template"})


def row_contents(rows: Iterable[Example]) -> set[str]:
    """The contents of the rows, as a set."""
    return {row_content(row) for row in rows}


def shared_texts(one: Iterable[Example], other: Iterable[Example], what: str) -> Problems:
    """A sentence when two lists of rows have a text in common."""
    if both := sorted(row_contents(one) & row_contents(other)):
        yield f"{what}: {len(both)} rows, the first is {both[0]}"


def held_rows(validation: Validation) -> list[Example]:
    """The validation rows of every side, together."""
    return [row for rows in vars(validation).values() for row in rows]


def rows_apart(scenario: Scenario) -> Problems:
    """Forget and retain, oracle and forget, validation and probes have nothing in common; ids are unique."""
    sides = {"forget": scenario.forget, "retain": scenario.retain, "oracle_rows": scenario.oracle_rows}
    for name, rows in (sides | vars(scenario.validation)).items():
        if again := find_repeated(row.id for row in rows):
            yield f"{name} has the id '{again[0]}' twice"
    for name in ("retain", "oracle_rows"):
        if both := sorted({row.id for row in scenario.forget} & {row.id for row in sides[name]}):
            yield f"forget and {name} share the id '{both[0]}'"
        yield from shared_texts(scenario.forget, sides[name], f"forget and {name} share texts")
    if not scenario.forget:
        yield "there is nothing to forget"
    for probe in scenario.probes:
        yield from shared_texts(
            held_rows(scenario.validation), probe.examples, f"the probe '{probe.name}' asks validation rows"
        )
    trained = scenario.forget + scenario.retain + scenario.oracle_rows
    yield from shared_texts(scenario.validation.unseen, trained, "validation.unseen holds rows that are trained on")


def probes_sound(scenario: Scenario) -> Problems:
    """Unique names and ids, known kinds, texts for every role."""
    from bench.engines.measuring.measure import KINDS

    if again := find_repeated(probe.name for probe in scenario.probes):
        yield f"two probes are called '{again[0]}'"
    for probe in scenario.probes:
        if probe.kind not in KINDS:
            yield f"the probe '{probe.name}' is of the unknown kind '{probe.kind}'; there are {', '.join(KINDS)}"
        if again := find_repeated(row.id for row in probe.examples):
            yield f"the probe '{probe.name}' has the id '{again[0]}' twice"
        if not probe.examples:
            yield f"the probe '{probe.name}' has no examples"
        if probe.kind == "generate" and probe.max_new_tokens < 1:
            yield f"the probe '{probe.name}' generates nothing: set max_new_tokens"
        roles = probe.roles if probe.kind == "logprob" else ()
        for role in roles:
            if role != "answer" and not all(row.references.get(role) for row in probe.examples):
                yield f"the probe '{probe.name}' scores '{role}', and some of its rows have no such reference"


def questions_sound(scenario: Scenario) -> Problems:
    """What attacks ask is asked by a greedy generate probe of the task's own, and is about nothing that is kept."""
    own = (probe for probe in scenario.probes if probe.kind == "generate" and "sample" not in probe.options)
    asked = [{(row.id, row.payload["prompt"], row.payload["template"]) for row in probe.examples} for probe in own]
    rows = {(row.id, row.payload["prompt"], row.payload["template"]) for row in scenario.questions}
    if again := find_repeated(row.id for row in scenario.questions):
        yield f"attacks ask the question '{again[0]}' twice"
    if not any(rows <= probe for probe in asked or [set()]):
        yield "attacks ask questions that no greedy generate probe of the task's own asks so"
    kept = {scenario.fact_of(row.id) for row in scenario.retain}
    if both := [row.id for row in scenario.questions if scenario.fact_of(row.id) in kept]:
        yield f"attacks ask '{both[0]}', whose fact is that of a retain row"


def scores_sound(scenario: Scenario, task: Any) -> Problems:
    """Every metric can be had from the probes alone, and the named columns are metrics."""
    metrics = [metric.name for metric in scenario.metrics]
    if again := find_repeated(metrics):
        yield f"two metrics are called '{again[0]}'"
    if metrics != [metric.name for metric in task.metrics()]:
        yield "the scenario's metrics are not those of metrics(): scores could not be computed again"
    for name in ("headline", "forgetting", "utility"):
        if not getattr(scenario, name):
            yield f"{name} is empty"
        yield from (
            f"{name} names '{column}', which is no metric"
            for column in getattr(scenario, name)
            if column not in metrics
        )
    for role, name in scenario.primary.items():
        if role not in PRIMARY:
            yield f"primary names the role '{role}', which is none of {', '.join(PRIMARY)}"
        if name not in metrics:
            yield f"primary names '{name}', which is no metric"
    yield from metrics_sound(scenario.metrics, scenario.probes)


# What a metric does


def check_metric(metric: Metric, probes: Sequence[Probe]) -> None:
    """A metric's declaration, and what it says of made-up responses to ``probes``, those that it reads.

    It must be pure (one score for the same responses, which stay as they are), not look at the order of examples, and
    be absent with a reason where rows are missing.
    """
    found = [*declared_metric(metric), *metrics_sound([metric], probes)]
    assert not found, f"metric {metric.name}:\n" + "\n".join(f"- {problem}" for problem in found)


def declared_metric(metric: Metric) -> Problems:
    """Name, description, goal, version and unit."""
    if not metric.name or not metric.description.strip() or "\n" in metric.description:
        yield "it needs a name and a description of one line"
    if fault := registry.goal_fault(metric):
        yield fault
    if type(metric.version) is not int or metric.version < 1:
        yield "version is a whole number from 1, raised when the same responses give another score"
    if not isinstance(metric.unit, str):
        yield "unit is a text such as 'nats/token', or empty for a share"


def metrics_sound(metrics: Sequence[Metric], probes: Sequence[Probe]) -> Problems:
    """Every metric can be had from the probes alone, by a pure function that is absent where nothing was asked."""
    labels = ("oracle-0", "oracle-1")
    oracles = [Responses(label, invent_responses(probes, label, [o for o in labels if o != label])) for label in labels]
    model = Responses("model", invent_responses(probes, "model", labels))
    before = hash_json(model.to_json())
    scored = score_all(metrics, model, oracles)
    yield from (f"the metric '{name}' can't be had from the probes: {why}" for name, why in scored.absent.items())
    if hash_json(model.to_json()) != before:
        yield "a metric changes the responses that it is given"
    again = score_all(metrics, backwards(model), [backwards(oracle) for oracle in oracles])
    units = {metric.name: metric.unit for metric in metrics}
    for name, score in scored.scores.items():
        if again.scores.get(name) != score:
            yield f"the metric '{name}' is another when the same examples come in another order"
        if score.unit != units[name]:
            yield f"the metric '{name}' has the unit '{units[name]}' and its score '{score.unit}'"
    bare_rows: tuple[dict[str, dict[str, Any]], ...] = ({}, {probe.name: {} for probe in probes})
    for bare in bare_rows:
        for metric in metrics:
            try:
                score = metric.compute(Responses("model", bare), oracles)
                yield f"the metric '{metric.name}' is {score.value} without a row to read: raise Absent with the reason"
            except Absent as reason:
                if not str(reason):
                    yield f"the metric '{metric.name}' is absent and doesn't say why"
            except Exception as error:
                yield f"the metric '{metric.name}' fails ({error!r}) without a row to read: raise Absent with the reason"


def backwards(responses: Responses) -> Responses:
    """The rows of the responses with each probe's examples in the opposite order."""
    rows = {probe: dict(reversed(list(by_id.items()))) for probe, by_id in responses.rows.items()}
    return dataclasses.replace(responses, rows=rows)


def invent_responses(
    probes: Sequence[Probe], checkpoint: str, others: Sequence[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Responses as a model of no merit would give them: their form is right, their numbers are drawn."""
    return {
        probe.name: {
            row.id: invent_row(probe, row, random.Random(f"{checkpoint}/{probe.name}/{row.id}"), others)
            for row in probe.examples
        }
        for probe in probes
    }


def invent_row(probe: Probe, row: Example, rng: random.Random, others: Sequence[str]) -> dict[str, Any]:
    """One row of responses."""
    if probe.kind == "generate":
        words = row.payload["answer"].split()

        def draw_counts() -> dict[str, int]:
            return count_overlap(" ".join(words[: rng.randint(0, len(words))]), row.payload["answer"])

        if "sample" not in probe.options:
            return {"text": "", "counts": draw_counts()}
        texts = [""] * probe.options["sample"]["repeats"]
        return {"texts": texts} | (
            {"counts_each": [draw_counts() for _ in texts]} if probe.options.get("overlap") else {}
        )
    if probe.kind == "classes":
        parts = [rng.random() for _ in range(4)]
        logps = [log(part / sum(parts)) for part in parts]
        return {"answer": [{"logp": logps[:1], "hit": [int(max(logps) == logps[0])], "eos": False}], "classes": logps}
    if probe.kind == "divergence":
        return {label: [rng.random() for _ in range(3)] for label in others}
    if probe.kind == "judge":
        options = ["truth", *(f"oracle-{i}" for i in range(len(others))), "wrong-0"]
        return {"grades": {option: rng.random() for option in options}}
    if probe.kind == "depth":
        by = probe.options["by"]
        return {by: [float(rng.random() < 0.5) if by == "linear" else 2 * rng.random() for _ in range(3)]}
    single = {"lm-eval": "acc", "reference": "loss", "gradnorm": "norm"}
    if probe.kind in single:
        return {single[probe.kind]: float(rng.random() < 0.5) if probe.kind == "lm-eval" else rng.random()}

    def text() -> dict[str, Any]:
        logp = [-rng.expovariate(1.0) for _ in range(4)]
        asked = {"mu": [-1.0] * 4, "sigma": [1.0] * 4} if probe.options.get("vocabulary") else {}
        return {"logp": logp, "hit": [int(value > -1) for value in logp], "eos": True, "zlib": 20} | asked

    counts = {role: 1 if role == "answer" else len(row.references.get(role, ())) for role in probe.roles}
    return {role: [text() for _ in range(count)] for role, count in counts.items()}


def fingerprint(scenario: Scenario) -> str:
    """Hash of every row that a scenario trains on or asks."""
    rows = [scenario.forget, scenario.retain, held_rows(scenario.validation), *(p.examples for p in scenario.probes)]
    return hash_json([data_hash(part) for part in rows])


def seeded(made: Sequence[Scenario], setting: TaskInputs) -> Problems:
    """Seeds 0, 0 and 1: the same rows twice, and in the lab other rows the third time."""
    first, second, third = map(fingerprint, made)
    if first != second:
        yield "the same seed gave other rows the second time"
    if setting.tier == "lab" and first == third:
        yield "another seed gave the same rows: a seed of the lab varies the world"


def checkpoints_apart(trace: Trace) -> Problems:
    """Nothing but the target has seen the forget rows; the oracles have seen what the scenario says."""
    scenario, runs = trace.scenario, trace.work.runs

    def seen_since() -> list[Example]:
        rows = [row for run in runs for row in run.rows]
        runs.clear()
        return rows

    if scenario.history:
        scenario.history()
    past = seen_since()
    yield from shared_texts(scenario.forget, past, "the history has seen forget rows")
    oracles = [build() for build in scenario.oracles]
    seen = seen_since()
    yield from shared_texts(scenario.forget, seen, "an oracle has seen forget rows")
    if row_contents(seen) != row_contents(scenario.oracle_rows):
        yield "oracle_rows are not the rows that the oracles are trained on"
    target = scenario.target()
    seen += seen_since()
    if not row_contents(scenario.forget) <= row_contents(seen):
        yield "the target was not trained on every forget row"
    yield from shared_texts(scenario.validation.unseen, past + seen, "validation.unseen holds rows that are trained on")
    if len(oracles) < 2:
        yield "there are fewer than two oracles: without their distance there is no noise floor"
    if len({checkpoint.hash for checkpoint in (target, *oracles)}) <= len(oracles):
        yield "target and oracles are not different checkpoints"
    if len({oracle.label for oracle in oracles}) < len(oracles):
        yield "two oracles have one label: divergences are kept by it"
