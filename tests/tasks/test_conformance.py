"""Every registered task, without anyone listing them: rows apart, probes and metrics sound, checkpoints as stated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.conformance import check_task, fingerprint, prepare_traced, raise_if_any, rows_apart
from bench.core import registry
from bench.core.contracts import TaskInputs

TASKS = sorted(name for name, tiers in registry.components("tasks").items() if "lab" in tiers)


@pytest.mark.parametrize("name", TASKS)
def test_it_keeps_what_a_task_owes(name: str, small: Callable[[type], dict[str, Any]]) -> None:
    cls = registry.load_task(name, "lab")
    check_task(cls, **small(cls))


@pytest.mark.parametrize("name", TASKS)
def test_at_its_full_size_the_rows_are_apart_on_every_seed_in_use(name: str, tmp_path: Any) -> None:
    """The defaults, which the checks above make small; seeds 0 to 2 are reported, 100 tunes."""
    cls = registry.load_task(name, "lab")
    made = [prepare_traced(cls(), TaskInputs("lab"), tmp_path, seed).scenario for seed in (0, 1, 2, 100)]
    for scenario in made:
        raise_if_any(cls, rows_apart(scenario))
    assert len({fingerprint(scenario) for scenario in made}) == len(made)


@pytest.mark.parametrize("name", TASKS)
def test_the_outline_is_of_the_scenarios_size(name: str, tmp_path: Any) -> None:
    """The estimate's rows to forget and to retain: within a factor of 2 of the scenario's (a chapter counts as four)."""
    task = registry.load_task(name, "lab")()
    scenario, outline = prepare_traced(task, TaskInputs("lab"), tmp_path).scenario, task.outline(TaskInputs("lab"))
    assert 0.5 < outline.forget / len(scenario.forget) < 2.01
    assert 0.5 < outline.retain / len(scenario.retain) < 2.01
    assert set(outline.stages) == {"history", "target", *(f"oracle-{i}" for i in range(len(scenario.oracles)))}


@pytest.mark.parametrize("name", TASKS)
def test_parameters_of_no_size_are_refused(name: str) -> None:
    cls = registry.load_task(name, "lab")
    whole = [key for key, value in registry.default_params(cls).items() if type(value) is int and value > 0]
    assert "width" in whole
    assert registry.check_bounds(cls, registry.default_params(cls) | {"width": 0})
