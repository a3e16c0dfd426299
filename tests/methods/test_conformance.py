"""Every registered method, without anyone listing them: its declaration, its behaviour on a tiny model, its budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.conformance import check_declared, check_method
from bench.core import registry
from bench.runs.selection import search_grid

METHODS = sorted(registry.components("methods"))
PLACES = [f"{tier}-{task}" for task, tiers in sorted(registry.components("tasks").items()) for tier in tiers]
ORACLE = "retrain"
"""The oracle's row unlearns nothing itself, and is tested apart."""
COMPARED = [name for name in METHODS if name != ORACLE and registry.load_component("methods", name).in_all]
"""Of a run of all; what ablations alone use has nothing to be searched."""


@pytest.mark.parametrize("name", [name for name in METHODS if name != ORACLE])
def test_it_keeps_what_a_method_owes(name: str, small: Callable[[type], dict[str, Any]]) -> None:
    cls = registry.load_component("methods", name)
    check_method(cls, **small(cls))


def test_the_oracles_row_is_declared_like_the_others() -> None:
    check_declared(registry.load_component("methods", ORACLE))


@pytest.mark.parametrize("place", PLACES)
def test_every_method_has_the_same_budget_in_the_search(place: str) -> None:
    components = {name: registry.load_component("methods", name) for name in COMPARED}
    budgets = {name: len(search_grid(cls, place, registry.default_params(cls))) for name, cls in components.items()}
    assert len(set(budgets.values())) == 1 and min(budgets.values()) > 0, f"settings tried in {place}: {budgets}"


@pytest.mark.parametrize("name", METHODS)
def test_presets_of_places_are_of_places_that_exist(name: str) -> None:
    cls = registry.load_component("methods", name)
    named = [key for key in cls.presets if key.split("-")[0] in ("lab", "real")]
    variants = set(cls.presets) - set(named)
    assert set(named) <= {*PLACES, *(f"{place}-{variant}" for place in PLACES for variant in variants)}
    assert set(cls.space) <= {*PLACES, "lab", "real"}


@pytest.mark.parametrize("name", METHODS)
def test_the_preset_of_a_place_is_among_the_settings_that_its_search_tries(name: str) -> None:
    cls = registry.load_component("methods", name)
    usual = registry.default_params(cls)
    tried = {place: [usual | setting for setting in settings] for place, settings in cls.space.items()}
    outside = [
        place for place in tried if place in cls.presets and usual | cls.presets[place].params not in tried[place]
    ]
    assert outside == []


@pytest.mark.parametrize("name", METHODS)
def test_the_table_names_its_own_modules(name: str) -> None:
    assert registry.components("methods")[name].startswith("methods.")
