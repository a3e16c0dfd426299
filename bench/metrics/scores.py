"""What every score is made of: the mean of examples' finite values with its interval. Needs no NumPy before one is computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from bench.core.contracts import Metric, PerExample
from bench.core.errors import Absent
from bench.core.record import Score
from bench.core.types import Responses
from bench.metrics import rounded_score


def mean_score(values: Mapping[str, float], unit: str = "") -> Score:
    """The mean over examples (by id) with its interval over people, which examples about one alone do not have.

    Raises `Absent` when there is no example, or when a value is not a finite number (a model that broke down).
    """
    from bench.metrics.bootstrap import bootstrap_mean

    each = finite_values(values)
    low, high = bootstrap_mean(each, people_of(values))
    return Score(rounded_score(math.fsum(each) / len(each)), len(each), low, high, unit)


def mean_metric(
    name: str, rows: PerExample, goal: str | float, *, unit: str = "", needs_oracle: bool = False
) -> Metric:
    """The metric whose score is the mean of its examples' values."""

    def compute(responses: Responses, oracles: Sequence[Responses]) -> Score:
        return mean_score(rows(responses, oracles), unit)

    return Metric(name, compute, goal, needs_oracle=needs_oracle, unit=unit, examples=rows)


def finite_values(values: Mapping[str, float]) -> list[float]:
    """The values in the order of their ids; `Absent` when there is none or one is not a finite number."""
    if not values:
        raise Absent("no example has anything to score")
    if bad := sum(not math.isfinite(value) for value in values.values()):
        raise Absent(f"{bad} of {len(values)} examples gave no finite number: the model's outputs are broken")
    return [values[key] for key in sorted(values)]


def people_of(values: Mapping[str, float]) -> list[str]:
    """Whom each example is about, in the order of `finite_values`."""
    from bench.metrics.bootstrap import person_of

    return [person_of(key) for key in sorted(values)]


def about_people(metric: Metric, name: Callable[[str], str]) -> Metric:
    """The metric with its interval over people that ids don't name: scored with every id as ``name`` says it instead."""

    def renamed(responses: Responses) -> Responses:
        rows = {probe: {name(key): row for key, row in by_id.items()} for probe, by_id in responses.rows.items()}
        return replace(responses, rows=rows)

    def compute(responses: Responses, oracles: Sequence[Responses]) -> Score:
        return metric.compute(renamed(responses), list(map(renamed, oracles)))

    return replace(metric, compute=compute)
