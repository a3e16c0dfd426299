"""What an ablation is made of, and the runs that a command makes of it. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bench.core import registry
from bench.core.record import Record, RunSpec, Step
from bench.core.types import Json
from bench.records.contrasts import SEEDS_TO_RANK

NOT_SHOWN = ("privleak", "forget_quality")
"""Headline scores that ablations leave out: functions of others that they show, and jumpy on few rows."""
FRAME = ("target", "oracle")
"""Values of the column ``row`` that frame every ablation."""


@dataclass(frozen=True)
class AblationPlace:
    """Where an ablation is run: a task in a tier on a model."""

    task: str
    tier: str = "lab"
    model: str = "lab"
    params: Mapping[str, Any] = field(default_factory=dict)
    """The task's parameters, complete."""

    @property
    def name(self) -> str:
        """``lab-tofu``: the presets' name of it."""
        return f"{self.tier}-{self.task}"

    def step(self, method: str, variant: str = "", **changed: Any) -> Step:
        """A method at this place's default setting, with a variant's and then the given parameters laid over it."""
        kind = registry.load_component("methods", method)
        params = registry.preset_params(kind, self.name, variant)
        assert params is not None, f"{method} has no variant {variant}"
        said = registry.said_params(kind, params | changed)
        return Step(method, said, registry.name_variant(kind, said, variant))


@dataclass(frozen=True)
class Point:
    """One thing to run for every seed, and its coordinates in table and picture."""

    at: Mapping[str, Any]
    """Column -> value; numbers or short texts."""
    steps: tuple[Step, ...] = ()
    task: Mapping[str, Any] = field(default_factory=dict)
    """Task parameters laid over the place's."""
    start: str = ""
    """As `RunSpec.start`."""
    choices: tuple[Mapping[str, Any], ...] = ()
    """Parameters to lay over the last step's: the rule of `bench.runs.selection` chooses on validation rows."""
    tuned_on: int | None = None
    """The seed whose validation rows decide, for all seeds alike; None: each seed's own."""


@dataclass(frozen=True)
class Finding:
    """The finished run of one point on one seed, and its scores."""

    at: Mapping[str, Any]
    seed: int
    record: Record
    chosen: Json = field(default_factory=dict)
    """What the rule chose, and how: ``params``, ``edge``, ``of``; empty where there was nothing to choose."""
    tried: tuple[Json, ...] = ()
    """The rows of the search behind ``chosen``."""

    def score(self, name: str) -> float | None:
        """A score's value, None where it is absent."""
        found = self.record.scores.get(name)
        return None if found is None else found.value


@dataclass(frozen=True)
class Study:
    """A finished ablation: everything that its table and picture are made of."""

    name: str
    place: AblationPlace
    seeds: tuple[int, ...]
    findings: tuple[Finding, ...]
    minutes: float = 0.0
    """Sum of the seconds of all its stages over 60: what it takes one core from an empty store."""
    command: str = ""
    notes: Json = field(default_factory=dict)
    """What `Ablation.gather` found outside of the study's own runs when it was written."""
    more: tuple[str, ...] = ()
    """Scores that it shows beside the task's headline."""

    @property
    def scores(self) -> tuple[str, ...]:
        """The scores that it shows: the task's headline but `NOT_SHOWN`, and `more`, as far as they were measured."""
        first = self.findings[0].record
        names = dict.fromkeys([*first.facts["headline"], *self.more])
        return tuple(name for name in names if name not in NOT_SHOWN and name in first.scores)

    def framing_values(self, row: str, score: str) -> list[float]:
        """A score of the target or of the oracle on each seed that has it."""
        return [value for finding in self.framing(row) if (value := finding.score(score)) is not None]

    def about(self, score: str) -> Json:
        """The goal and unit of a score, as the records state them."""
        found: Json = self.findings[0].record.metrics[score]
        return found

    def framing(self, row: str) -> list[Finding]:
        """The findings of the target or of the oracle, of the place's own parameters."""
        return [finding for finding in self.findings if finding.at.get("row") == row]

    @property
    def points(self) -> list[Finding]:
        """All but the framing rows."""
        return [finding for finding in self.findings if finding.at.get("row") not in FRAME]


@dataclass(frozen=True)
class Line:
    """One coordinate of the table, over its seeds."""

    at: Mapping[str, Any]
    findings: tuple[Finding, ...]

    def values(self, score: str) -> list[float]:
        """The score of each seed that has it."""
        return [value for finding in self.findings if (value := finding.score(score)) is not None]


def lines_of(study: Study) -> list[Line]:
    """The findings by coordinates, in their own order."""
    groups: dict[str, list[Finding]] = {}
    for finding in study.findings:
        groups.setdefault(json.dumps(dict(finding.at), sort_keys=True), []).append(finding)
    return [Line(group[0].at, tuple(group)) for group in groups.values()]


@dataclass(frozen=True)
class Ablation:
    """One question about a method, and how to answer it."""

    name: str
    question: str
    """What it answers, one sentence."""
    reading: str
    """How its picture is to be read, one or two sentences."""
    points: Callable[[AblationPlace], Sequence[Point]]
    x: str
    """The column along the axis of the picture."""
    x_label: str
    """With its unit."""
    series: str = "series"
    """The column that tells lines apart."""
    log_x: bool = False
    tasks: tuple[str, ...] = ("tofu", "restor", "muse-books", "digits", "graph")
    columns: tuple[str, ...] = ()
    """Columns of the table beside ``x`` and ``series``."""
    more: tuple[str, ...] = ()
    """Scores to show beside the task's headline."""
    derive: Callable[[Study], list[Finding]] | None = None
    """Further findings computed of the finished ones, or the same with further columns; None: as they are."""
    draw: Callable[[Study, Ablation], Any] | None = None
    """Its own picture, a figure of matplotlib; None: lines over ``x``."""
    extra: Callable[[Study], str] | None = None
    """More Markdown under the table."""
    signals: bool = False
    """Whether it reads the signals of each setting that was tried; else its file leaves them out, a quarter of it."""
    gather: Callable[[Study], Json] | None = None
    """The study's `Study.notes`, read once when its runs are done: table and picture see nothing else of outside."""


def with_framing_points(points: Sequence[Point]) -> list[Point]:
    """The points, and before them target and oracle of every set of task parameters that occurs."""
    found: list[Point] = []
    for params in without_repetitions([dict(point.task) for point in points]):
        mark = {f"task.{key}": value for key, value in params.items()}
        found.append(Point({"row": "target", **mark}, task=params))
        found.append(Point({"row": "oracle", **mark}, (Step("retrain", {}),), params))
    return [*found, *points]


def framing_as_series(column: str, parameter: str) -> Callable[[Study], list[Finding]]:
    """Target and oracle as lines of their own over ``column``, where they move with that task parameter."""

    def derive(study: Study) -> list[Finding]:
        return [
            replace(f, at={"series": str(f.at["row"]), column: f.at[f"task.{parameter}"]})
            if f.at.get("row") in FRAME
            else f
            for f in study.findings
        ]

    return derive


def without_repetitions(items: Sequence[Any]) -> list[Any]:
    """The items without repetitions, in order."""
    found: list[Any] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found


def spec_of(
    place: AblationPlace, point: Point, seed: int, study: str, chosen: Mapping[str, Any] | None = None
) -> RunSpec:
    """The run of a point on a seed, with ``chosen`` laid over its last step's parameters."""
    from bench.runs.plan import with_versions

    steps = point.steps
    if chosen:
        last = steps[-1]
        steps = (*steps[:-1], Step(last.method, {**last.params, **chosen}, last.variant))
    params, data = {**place.params, **point.task}, registry.load_task(place.task, place.tier).data
    where = {"task": place.task, "task_params": params, "tier": place.tier, "model": place.model, "data": data}
    return with_versions(RunSpec(**where, steps=steps, seed=seed, start=point.start, lean=True, study=study))


def tell_few(seeds: Sequence[int]) -> str:
    """That so few seeds rank nothing; empty where there are enough."""
    return f" Nothing is ranked: that takes {SEEDS_TO_RANK} seeds." if len(seeds) < SEEDS_TO_RANK else ""
