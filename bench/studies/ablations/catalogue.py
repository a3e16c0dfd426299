"""The ablations by name, loaded when asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from bench.core.errors import UserError, unknown

if TYPE_CHECKING:
    from bench.studies.ablations.base import Ablation
    from bench.studies.ablations.experiment import Experiment

TABLE = {
    "distance": "bench.studies.ablations.past:DISTANCE",
    "frequency": "bench.studies.ablations.past:FREQUENCY",
    "exposure": "bench.studies.ablations.past:EXPOSURE",
    "gap": "bench.studies.ablations.conditions:GAP",
    "noise": "bench.studies.ablations.conditions:NOISE",
    "rewind": "bench.studies.ablations.arms:REWIND",
    "controls": "bench.studies.ablations.arms:CONTROLS",
    "recipe": "bench.studies.ablations.arms:RECIPE",
    "influence": "bench.studies.ablations.arms:INFLUENCE",
    "alpha-beta": "bench.studies.ablations.settings:ALPHA_BETA",
    "steps": "bench.studies.ablations.settings:STEPS",
    "lr": "bench.studies.ablations.settings:LR",
    "regret": "bench.studies.ablations.settings:REGRET",
    "cost": "bench.studies.ablations.cost:COST",
    "sgd-influence": "bench.studies.ablations.experiment:SGD_INFLUENCE",
}
"""Name -> ``module:CONSTANT``."""


def load(name: str) -> Ablation | Experiment:
    """The ablation of that name; `UserError` with the nearest when there is none."""
    if name not in TABLE:
        raise UserError(unknown("ablation", name, TABLE))
    module, _, constant = TABLE[name].partition(":")
    found: Ablation | Experiment = getattr(importlib.import_module(module), constant)
    return found


def load_experiment(name: str) -> Experiment:
    """The ablation of that name, which is an experiment of its own."""
    from bench.studies.ablations.experiment import Experiment

    found = load(name)
    assert isinstance(found, Experiment)
    return found


def of_runs(name: str) -> Ablation:
    """The ablation of that name, which is made of runs; `UserError` for an experiment of its own."""
    from bench.studies.ablations.base import Ablation

    found = load(name)
    if not isinstance(found, Ablation):
        raise UserError(f"{name} is an experiment of its own and not made of runs.")
    return found
