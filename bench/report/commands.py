"""The command that makes a row again, from what its records say was asked."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from bench.core import registry
from bench.core.record import Record, RunSpec, Step
from bench.records.identity import UNREADABLE


def command_of(records: Sequence[Record]) -> str:
    """``python -m bench run ...`` for the runs of one row; empty where only an ablation makes such runs.

    What lay outside stands in capitals (``--history HISTORY``): a record holds no path.
    """
    spec = records[0].spec
    if spec.start or spec.lean or spec.attack:
        return ""
    first = [_asked_for(step, spec) for step in spec.steps] or ["target"]
    words = ["--methods", first[0], "--task", spec.task, "--seeds", seed_ranges(r.spec.seed for r in records)]
    if len(first) > 1:
        words += ["--then", ",".join(first[1:])]
    words += _outside(spec) + [word for part in _settings(spec) for word in ("--set", part)]
    words += [word for name, value in spec.compute.to_json().items() for word in _flag(name, value)]
    for option, value in (("--probes", spec.kinds), ("--lm-eval", spec.lm_eval)):
        words += [option, ",".join(value)] if value else []
    for option, number in (
        ("--limit", spec.limit),
        ("--order", spec.order),
        ("--trace", records[0].facts.get("trace") and records[0].facts.get("trace_points")),
    ):
        words += [option, str(number)] if number else []
    return "python -m bench run " + " ".join(map(shlex.quote, words))


def seed_ranges(seeds: Any) -> str:
    """``0-5,9``: seeds as the command line reads them."""
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def _asked_for(step: Step, spec: RunSpec) -> str:
    """``name@variant`` as the command line takes it: what the parameters make of a method is no part of the asked variant."""
    return "@".join(filter(None, (step.method, _base(step, spec)[0])))


def _base(step: Step, spec: RunSpec) -> tuple[str, Mapping[str, Any]]:
    """The variant that was asked for, and the parameters that a step has without any setting of the user's.

    Of the variants that make a step of this name the one from which it differs least.
    """
    with suppress(*UNREADABLE):
        kind = registry.load_component("methods", step.method)
        parts = step.variant.split("+")
        found = {}
        for variant in ("+".join(parts[:count]) for count in range(len(parts) + 1)):
            params = registry.preset_params(kind, _place(spec), variant)
            if params is not None and registry.name_variant(kind, step.params, variant) == step.variant:
                found[variant] = registry.said_params(kind, params)
        if found:
            return min(found.items(), key=lambda each: len(dict(step.params).items() - each[1].items()))
    return step.variant, {}


def _place(spec: RunSpec) -> str:
    """Where presets are looked for."""
    task = registry.load_task(spec.task, spec.tier)
    return f"{spec.tier}-{task.presets_of or spec.task}"


def _settings(spec: RunSpec) -> Iterator[str]:
    """``component.parameter=value`` for all that isn't as it would be without it."""
    usual: Mapping[str, Any] = {}
    with suppress(*UNREADABLE):
        usual = registry.default_params(registry.load_task(spec.task, spec.tier))
    for name, value in sorted(spec.task_params.items()):
        if name not in usual or usual[name] != value:
            yield f"{spec.task}.{name}={_as_word(value)}"
    for step in spec.steps:
        base = _base(step, spec)[1]
        for name, value in sorted(step.params.items()):
            if name not in base or base[name] != value:
                yield f"{step.method}.{name}={_as_word(value)}"


def _as_word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _outside(spec: RunSpec) -> list[str]:
    """What the real tier names, as far as the records know it."""
    if spec.tier == "lab":
        return []
    data = spec.data if spec.data == "hub" else f"DATA/{spec.data}"
    words = ["--model", spec.model, "--data", data]
    for name, option in (("history", "--history"), ("target", "--target"), ("oracle-0", "--oracle")):
        words += [option, name.partition("-")[0].upper()] if name in spec.hashes else []
    return words


def _flag(name: str, value: Any) -> list[str]:
    """The flag of one part of how training computed."""
    return [f"--{name}"] if value is True else [f"--{name}", str(value)]
