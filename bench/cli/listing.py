"""`bench ls`: listings of methods, tasks, models and metrics; loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bench.cli.options import complete_name
from bench.core import registry
from bench.core.boxes import box_json
from bench.core.contracts import Method
from bench.core.errors import UserError, unknown_name
from bench.core.registry import field_meanings

WHERE = {"lab": "in the lab", "real": "on a real model"}
"""How a tier is called."""


def listing(what: str, name: str = "") -> str:
    """The listing of ``what``, or of one method or task by ``name``; `UserError` for anything there is no listing of."""
    if what not in LISTINGS:
        raise UserError(unknown_name("listing", what, [*LISTINGS, "history", "runs"]))
    if name and what in ("methods", "tasks"):
        name = complete_name(what, name)
    if not name:
        return LISTINGS[what]()
    if what == "methods":
        return describe_method(name)
    if what == "tasks":
        return tasks(name)
    raise UserError(f"ls {what} takes no name: `python -m bench ls methods NAME` and `ls tasks NAME` say more of one.")


def methods() -> str:
    """A table of the methods: what each needs beside target and forget set (in brackets what not all its settings use), what
    it works from, where it is published.
    """
    rows = [("method", "needs", "works from", "paper", "what it does")]
    for name in registry.components("methods"):
        with registry.leaving_out("methods", name):
            kind = registry.load_component("methods", name)
            _ = kind.presets  # of a plug-in whose settings can't be read that is said here
            rows.append((name, needs_of(kind) or "-", kind.reads, kind.paper or "-", kind.summary))
    about = (
        "(retain): only with some settings. Parameters, presets and variants of one: python -m bench ls methods NAME"
    )
    return "\n".join([*align_columns(rows), "", about])


def align_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines, their cells below one another."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def needs_of(kind: type[Method]) -> str:
    """What a method needs; what its default setting leaves unused in brackets."""
    return ", ".join(f"({need})" if need in kind.optional else need for need in sorted(kind.needs))


def describe_method(name: str) -> str:
    """A method: what it does and needs, its parameters with meaning and default, its presets, ``NAME@PRESET``, with source."""
    kind = registry.load_component("methods", name)
    needs = needs_of(kind) or "nothing but the target and the forget set"
    lines = [f"{name}: {kind.summary}", f"    {' '.join((kind.__doc__ or '').split())}", f"    needs {needs}"]
    lines += [f"    works from {kind.reads}", *([f"    paper {kind.paper}"] if kind.paper else [])]
    if kind.in_all and kind.variants:
        lines.append(f"    run by --methods all as well: {', '.join(f'{name}@{variant}' for variant in kind.variants)}")
    lines += parameters(name, kind)
    lines += [f"    preset {key}: {dict(preset.params)} ({preset.source})" for key, preset in kind.presets.items()]
    if kind.space:
        lines += [f"    box of {place}: {box_json(box)}" for place, box in kind.space.items()]
    return "\n".join(lines)


def attacks() -> str:
    """A table of the attacks: what each does, on the weights or by questions."""
    rows = [("attack", "on", "what it does"), *attack_rows()]
    return "\n".join(
        [*align_columns(rows), "", "A step takes its parameters by --set (ls methods NAME); name@variant is one too."]
    )


def attack_rows() -> list[tuple[str, str, str]]:
    """Each attack, what it is on, and what it does."""
    from bench.core.attacks import STEPS, is_attack, split_variant
    from bench.runs.attacks import QUESTIONS

    rows = []
    for short, step in STEPS.items():
        method, variant = split_variant(step)
        rows.append((short, "the weights", registry.load_component("methods", method).presets[variant].source))
    for name in registry.components("methods"):
        if is_attack(name):
            rows.append((name, "the weights", registry.load_component("methods", name).summary))
    return rows + [(name, "questions", attack.summary) for name, attack in QUESTIONS.items()]


def tasks(only: str = "") -> str:
    """Each task, or one: what it is, its tiers, the parameters of each."""
    known = registry.components("tasks")
    if only and only not in known:
        raise UserError(unknown_name("task", only, known, "tasks"))
    lines: list[str] = []
    for name, tiers in ({only: known[only]} if only else known).items():
        with registry.leaving_out("tasks", name):
            kinds = {tier: registry.load_task(name, tier) for tier in tiers}
            lines += [f"{name}: {next(iter(kinds.values())).summary}", f"    tiers: {', '.join(tiers)}"]
            for tier, kind in kinds.items():
                lines += [f"    parameters {WHERE[tier]}:", *parameters(name, kind)]
    return "\n".join(lines)


def parameters(name: str, kind: type) -> list[str]:
    """``--set`` lines of a component, with the meaning that stands under each field."""
    meanings = field_meanings(kind)
    return [
        f"    --set {name}.{field}={default}  {meanings.get(field, '')}".rstrip()
        for field, default in registry.default_params(kind).items()
    ]


def models() -> str:
    """Each known model: where it comes from, licence, what to know."""
    from bench.assets.known_models import KNOWN

    lab = "lab: a small Llama trained here from nothing (the default; needs no --model)"
    lines = [lab]
    for m in KNOWN.values():
        lines.append(f"{m.name}: {m.summary}. Source: {m.source}. Licence: {m.licence}.")
        if m.revisions or m.past:
            lines.append(f"    its past: python -m bench ls history --model {m.name}")
    return "\n".join(lines)


def metrics() -> str:
    """Each metric: goal, meaning, source."""
    from bench.metrics.catalogue import metric_entries

    return "\n".join(
        f"{entry.name} (version {entry.version}, goal {entry.goal}): {entry.meaning} Source: {entry.source}."
        for entry in metric_entries()
    )


def as_json(what: str, name: str = "") -> Any:
    """The same listings as data: a list, or of one method or task an object."""
    listing(what, name)  # says what is wrong with the words
    if what == "methods":
        loaded = [complete_name(what, name)] if name else loadable("methods")
        found = [method_json(each, registry.load_component("methods", each)) for each in loaded]
        return found[0] if name else found
    if what == "tasks":
        tasks = [task_json(each) for each in ([complete_name(what, name)] if name else loadable("tasks"))]
        return tasks[0] if name else tasks
    if what == "metrics":
        from bench.metrics.catalogue import metric_entries

        fields = ("name", "version", "goal", "meaning", "source")
        return [{field: getattr(entry, field) for field in fields} for entry in metric_entries()]
    if what == "models":
        from bench.assets.known_models import KNOWN

        return [
            {"name": m.name, "summary": m.summary, "source": m.source, "licence": m.licence} for m in KNOWN.values()
        ]
    return [{"name": attack, "on": on, "summary": summary} for attack, on, summary in attack_rows()]


def loadable(kind: str) -> list[str]:
    """The names of components that can be loaded; stderr says of the others what is wrong."""
    found = []
    for name, place in registry.components(kind).items():
        with registry.leaving_out(kind, name):
            for tier in place if kind == "tasks" else ():
                registry.load_task(name, tier)
            if kind == "methods":
                _ = registry.load_component(kind, name).presets
            found.append(name)
    return found


def method_json(name: str, kind: Any) -> dict[str, Any]:
    """A method as data."""
    return {
        "name": name,
        "summary": kind.summary,
        "needs": sorted(kind.needs),
        "optional": sorted(kind.optional),
        "works_from": kind.reads,
        "paper": kind.paper,
        "version": kind.version,
        "parameters": parameters_json(kind),
        "presets": {key: {"params": dict(each.params), "source": each.source} for key, each in kind.presets.items()},
        "variants": list(kind.variants),
    }


def task_json(name: str) -> dict[str, Any]:
    """A task as data."""
    kinds = {tier: registry.load_task(name, tier) for tier in registry.components("tasks")[name]}
    return {
        "name": name,
        "summary": next(iter(kinds.values())).summary,
        "tiers": {tier: {"parameters": parameters_json(kind)} for tier, kind in kinds.items()},
    }


def parameters_json(kind: Any) -> dict[str, Any]:
    """Parameter -> its default and what it means."""
    meanings = field_meanings(kind)
    return {
        field: {"default": default, "meaning": meanings.get(field, "")}
        for field, default in registry.default_params(kind).items()
    }


LISTINGS: dict[str, Callable[[], str]] = {
    "methods": methods,
    "attacks": attacks,
    "tasks": tasks,
    "models": models,
    "metrics": metrics,
}
