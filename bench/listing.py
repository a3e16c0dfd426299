"""What `bench ls` prints; loads no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from bench import names
from bench.errors import UserError, unknown


def listing(what: str) -> str:
    """The listing of ``what``; `UserError` for anything there is no listing of."""
    if what not in LISTINGS:
        raise UserError(unknown("listing", what, LISTINGS))
    return LISTINGS[what]()


def methods() -> str:
    """Each method: what it does, what it needs, its parameters with meaning and default, its presets with source."""
    lines: list[str] = []
    for name in names.table("methods"):
        kind = names.load("methods", name)
        needs = ", ".join(sorted(kind.needs)) or "nothing but the target and the forget set"
        lines += [f"{name}: {kind.summary}", f"    needs {needs}"]
        lines += parameters(name, kind)
        lines += [f"    preset {key}: {dict(preset.params)} ({preset.source})" for key, preset in kind.presets.items()]
    return "\n".join(lines)


def tasks() -> str:
    """Each task: what it is, its tiers, its parameters."""
    lines: list[str] = []
    for name in names.table("tasks"):
        kind = names.load("tasks", name)
        lines += [f"{name}: {kind.summary}", f"    tiers: {', '.join(kind.tiers)}", *parameters(name, kind)]
    return "\n".join(lines)


def parameters(name: str, kind: type) -> list[str]:
    """``--set`` lines of a component, with the meaning that stands under each field."""
    meanings = field_meanings(kind)
    return [
        f"    --set {name}.{field}={default}  {meanings.get(field, '')}".rstrip()
        for field, default in names.defaults(kind).items()
    ]


def field_meanings(kind: type) -> dict[str, str]:
    """The string under each field of a dataclass, first line, from its source."""
    import ast
    import inspect
    import textwrap

    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(meaning))):
                found[name] = " ".join(meaning.split())
    return found


def models() -> str:
    """Each known model: where it comes from, licence, what to know."""
    from bench.models import KNOWN

    lab = "lab: a small Llama trained here from nothing (the default; needs no --model)"
    return "\n".join(
        [lab, *(f"{m.name}: {m.summary} Source: {m.source}. Licence: {m.licence}." for m in KNOWN.values())]
    )


def metrics() -> str:
    """Each metric: goal, meaning, source."""
    catalogue = importlib.import_module("bench.metrics.catalogue")
    return "\n".join(
        f"{row['name']} (version {row['version']}, goal {row['goal']}): {row['meaning']} Source: {row['source']}."
        for row in catalogue.describe()
    )


def runs(folder: Path = Path("runs")) -> str:
    """Each record below ``runs``: status and name."""
    from bench.records import load

    if not folder.is_dir():
        return "No runs yet: `python -m bench run --methods msa,npo --task muse-books` makes some."
    loaded = load(folder)
    lines = [f"{record.status:8} {record.name}" for record in loaded.records]
    return "\n".join([*lines, *(f"broken   {broken.path}: {broken.reason}" for broken in loaded.broken)])


LISTINGS: dict[str, Callable[[], str]] = {
    "methods": methods,
    "tasks": tasks,
    "models": models,
    "metrics": metrics,
    "runs": runs,
}
