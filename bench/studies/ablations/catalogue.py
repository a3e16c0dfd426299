"""The ablations by name, as ``ablations.toml`` states them; their code is loaded when one is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.core.errors import UserError, unknown_name
from bench.core.files import read_toml
from bench.core.typed_toml import as_typed, named_object
from bench.studies.ablations.base import Ablation
from bench.studies.ablations.experiment import Experiment

FILE = Path(__file__).with_name("ablations.toml")
CODE = ("points", "derive", "draw", "extra", "gather", "table", "asks")
"""Fields that name a function, ``module:name`` in this folder; `Experiment.run` keeps the name."""

ABLATIONS: Mapping[str, Mapping[str, Any]] = read_toml(FILE)
"""Name -> what the data file says of it."""


def load_ablation(name: str) -> Ablation | Experiment:
    """The ablation of that name; `UserError` with the nearest when there is none."""
    if name not in ABLATIONS:
        raise UserError(unknown_name("ablation", name, ABLATIONS))
    given = ABLATIONS[name]
    code = {field: named_object(f"{__package__}.{text}") for field, text in given.items() if field in CODE}
    kind = Experiment if "run" in given else Ablation
    found: Ablation | Experiment = as_typed(kind, {"name": name, **given, **code}, f"{FILE.name}: {name}")
    return found


def load_experiment_named(name: str) -> Experiment:
    """The ablation of that name, which is an experiment of its own; `UserError` for one that is made of runs."""
    found = load_ablation(name)
    if not isinstance(found, Experiment):
        raise UserError(f"{name} is made of runs and no experiment of its own.")
    return found


def load_ablation_of_runs(name: str) -> Ablation:
    """The ablation of that name, which is made of runs; `UserError` for an experiment of its own."""
    found = load_ablation(name)
    if not isinstance(found, Ablation):
        raise UserError(f"{name} is an experiment of its own and not made of runs.")
    return found
