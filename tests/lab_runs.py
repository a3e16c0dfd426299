"""Runs of the smallest TOFU lab inside this process, over one store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.core import registry
from bench.core.contracts import Scenario
from bench.core.record import Record, RunSpec, Step
from bench.core.types import Moment
from bench.runs.context import Work
from bench.runs.runner import execute, prepare
from bench.runs.setting import Paths
from bench.runs.store import Store

SMALL = {"authors": 10, "width": 16, "history_passes": 0.18, "target_passes": 2.0}


def step(method: str, **params: Any) -> Step:
    """A step with the method's defaults but for ``params``."""
    return Step(method, registry.default_params(registry.load_component("methods", method)) | params)


def spec(*steps: Step, **fields: Any) -> RunSpec:
    """A lean run of the steps on seed 0."""
    params = registry.default_params(registry.load_task("tofu", "lab")) | SMALL
    return RunSpec("tofu", params, "lab", "lab", steps, 0, **{"lean": True, **fields})


MSA = step("msa", before="age=0.5", steps=2)
STILL = step("finetune", steps=1, lr=1e-12)
"""Training that changes nothing to speak of."""


class Lab:
    """One store for every run of a test session; each record is made once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.known: dict[str, Record] = {}

    def work(self) -> Work:
        return Work(Store(self.root), seed=0, provenance={})

    def run(self, one: RunSpec) -> Record:
        """The record of a spec."""
        if one.key not in self.known:
            self.known[one.key] = execute(one, Paths(), self.work())
        return self.known[one.key]

    def scenario(self) -> Scenario:
        return prepare(spec(), Paths(), self.work())

    def moments(self) -> tuple[Moment, ...]:
        history = self.scenario().history
        assert history is not None
        return history().moments
