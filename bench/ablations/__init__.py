"""Ablations: what decides whether a method works, each a set of runs, a table and a picture.

An ablation is a list of `Point`s; each is a run with some coordinates, made for every seed by the same workers, the
same store and the same records as `bench run`. Table and picture are functions of the finished records alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from bench.core.errors import UserError, unknown

if TYPE_CHECKING:
    from bench.ablations.base import Ablation
    from bench.ablations.experiment import Experiment

FOLDER = "ablations"
"""Of the studies, below runs and results alike; their runs are in ``runs`` inside, shared by all of them."""
TABLE = {
    "distance": "bench.ablations.past:DISTANCE",
    "frequency": "bench.ablations.past:FREQUENCY",
    "exposure": "bench.ablations.past:EXPOSURE",
    "gap": "bench.ablations.conditions:GAP",
    "noise": "bench.ablations.conditions:NOISE",
    "rewind": "bench.ablations.arms:REWIND",
    "controls": "bench.ablations.arms:CONTROLS",
    "recipe": "bench.ablations.arms:RECIPE",
    "influence": "bench.ablations.arms:INFLUENCE",
    "alpha-beta": "bench.ablations.settings:ALPHA_BETA",
    "steps": "bench.ablations.settings:STEPS",
    "lr": "bench.ablations.settings:LR",
    "regret": "bench.ablations.settings:REGRET",
    "cost": "bench.ablations.cost:COST",
    "sgd-influence": "bench.ablations.experiment:SGD_INFLUENCE",
}
"""Name -> ``module:CONSTANT``."""


def load(name: str) -> Ablation | Experiment:
    """The ablation of that name; `UserError` with the nearest when there is none."""
    if name not in TABLE:
        raise UserError(unknown("ablation", name, TABLE))
    module, _, constant = TABLE[name].partition(":")
    found: Ablation | Experiment = getattr(importlib.import_module(module), constant)
    return found


def of_runs(name: str) -> Ablation:
    """The same, of an ablation that is made of runs."""
    from bench.ablations.base import Ablation

    found = load(name)
    if not isinstance(found, Ablation):
        raise UserError(f"{name} is an experiment of its own and not made of runs.")
    return found
