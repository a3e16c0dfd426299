"""What is shown of a run, wherever it is shown: names, settings, series of rows, a summary, examples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from bench.core.record import Record, RunSpec
from bench.core.trackers import Curves, Numbers
from bench.core.types import Json, Responses

GROUPS = {
    "distance": ("kl_",),
    "privacy": ("mia_", "privleak", "membership"),
    "forget": ("forget_", "exact_memorization", "extraction_strength", "acc_forget"),
    "recovery": ("restor_", "acc_recover", "logprob_"),
    "retain": ("retain_", "acc_retain"),
    "world": ("world_", "ra_", "wf_", "model_utility"),
}
"""Group in the summary and how the names of its scores begin; the rest is ``other``."""
TRACE = "trace"
"""The series of scores on the way to a method's result."""
COLUMNS = ("probe", "id", "question", "truth", "target", "oracle", "said")
"""Of the table of examples; the last one is what the run's own model said."""
MAX_ROWS = 50
"""Rows of the examples table, in equal parts over the probes."""


def name_of(spec: RunSpec, stage: str = "") -> str:
    """What a run, or a stage that several share, is called: ``npo-tofu-0``, ``stage-target-tofu-0``."""
    what = f"stage-{stage}" if stage else spec.method
    return "-".join([what, spec.task, str(spec.seed), *([f"order-{spec.order}"] if spec.order else [])])


def group_of_run(spec: RunSpec) -> str:
    """What a run is filed under: task, model, and the study or the tier."""
    return f"{spec.task}-{spec.model.replace('/', '--')}-{spec.study or spec.tier}"


def settings_of(spec: RunSpec) -> Json:
    """What a run was asked for, without lists: ``params`` holds each step's parameters and the task's, by name.

    So W&B's columns read ``params.npo.beta``, as ``--set npo.beta=...`` does. A method's second step is ``npo-2``.
    """
    params: Json = {}
    for step in spec.steps:
        count = sum(name.partition("#")[0] == step.method for name in params)
        params[f"{step.method}#{count + 1}" if count else step.method] = dict(step.params)
    params = {name.replace("#", "-"): given for name, given in params.items()}
    own = {name: value for name, value in spec.to_json().items() if isinstance(value, str | int | float | bool)}
    return {"method": spec.method, "key": spec.key, **own, "params": {**params, spec.task: dict(spec.task_params)}}


def facts_of(record: Record) -> Json:
    """What is known of a run once it is over, numbers and texts alone: how it ended, where its numbers come from."""
    plain = {name: value for name, value in record.provenance.items() if isinstance(value, str | int | float | bool)}
    return {"label": record.label, "status": record.status, "reason": record.reason, "provenance": plain}


def flat(prefix: str, data: Mapping[str, Any], joint: str) -> dict[str, Any]:
    """The values in nested dictionaries, by their path joined with ``joint``."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        path = f"{prefix}{joint}{key}" if prefix else key
        found |= flat(path, value, joint) if isinstance(value, Mapping) else {path: value}
    return found


def group_of(score: str) -> str:
    """The summary's group of a score, by `GROUPS`."""
    return next((group for group, beginnings in GROUPS.items() if score.startswith(beginnings)), "other")


def summary_of(record: Record) -> dict[str, float]:
    """Every score as ``group/name`` and every number of the cost as ``cost/...``.

    Where there is an oracle also ``oracle/name`` (the mean of this seed's oracles), ``gap/name`` (the score minus that) and
    ``floor/name`` (how far two oracles lie apart).
    """
    cost = flat("cost", record.cost, "/")
    summary: dict[str, float] = {name: value for name, value in cost.items() if isinstance(value, int | float)}
    oracles: Mapping[str, Sequence[float]] = record.facts.get("oracle_values", {})
    for name, score in sorted(record.scores.items()):
        summary[f"{group_of(name)}/{name}"] = score.value
        if each := oracles.get(name):
            mean = sum(each) / len(each)
            summary |= {f"oracle/{name}": mean, f"gap/{name}": score.value - mean}
        if name in record.floors:
            summary[f"floor/{name}"] = record.floors[name]
    return summary


def series_of(record: Record, curves: Curves) -> dict[str, Sequence[Numbers]]:
    """Every series of a complete run: its trainings, and the scores on the way to its result."""
    trace = [{"share": point["share"], **point["scores"]} for point in record.facts.get("trace", [])]
    return {**{f"train/{stage}": rows for stage, rows in curves.items()}, **({TRACE: trace} if trace else {})}


def axis_of(row: Numbers) -> str:
    """What the rows of a series are drawn over: the first thing in each of them."""
    return next(iter(row))


def side_by_side(series: Mapping[str, Sequence[Numbers]]) -> Iterator[dict[str, Numbers]]:
    """The first rows of all series together, then the second ones: a call costs most trackers the same, whatever is in it."""
    for rows in zip_longest(*series.values()):
        yield {name: row for name, row in zip(series, rows, strict=True) if row is not None}


def numbers_of(name: str, row: Numbers) -> dict[str, float]:
    """A row by full names, without what was no finite number."""
    return {f"{name}/{key}": value for key, value in row.items() if value is not None and math.isfinite(value)}


def examples_of(said: Mapping[str, Responses]) -> list[list[str]]:
    """Rows of `COLUMNS`: each question with its truth and what target, oracle and the run's own model said to it.

    Of the run's generations with texts at hand, at most `MAX_ROWS`; a column is empty where nobody knows.
    """
    own = said.get("method")
    by_probe: dict[str, list[list[str]]] = {}
    for probe, examples in (own.rows if own else {}).items():
        beside = [said[who].rows.get(probe, {}) if who in said else {} for who in ("target", "oracle")]
        for key, row in examples.items():
            if isinstance(row.get("text"), str):
                others = [str(rows.get(key, {}).get("text", "")) for rows in beside]
                told = [str(row.get("prompt", "")), str(row.get("reference", ""))]
                by_probe.setdefault(probe, []).append([probe, key, *told, *others, row["text"]])
    share = math.ceil(MAX_ROWS / max(len(by_probe), 1))
    return [row for rows in by_probe.values() for row in rows[:share]][:MAX_ROWS]
