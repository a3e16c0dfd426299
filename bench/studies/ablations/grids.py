"""Values that ablations try along a parameter, made of the box that a method's search has at the place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.core import registry
from bench.core.boxes import Scale, draw_settings, round_digits
from bench.core.errors import UserError
from bench.runs.selection import search_box
from bench.studies.ablations.base import AblationPlace

LENGTHS = 8
"""Lengths of a forget vector among which the rule chooses."""
BEYOND = 2
"""Times the longest of the box that they reach to: an older checkpoint may need a longer step."""
SEARCHED = 8
"""Settings of a small search, of the box's quasi-random ones the first."""
TUNING_SEED = 100
"""Seed of a small search; it is not reported."""


def scale_of(place: AblationPlace, method: str, name: str) -> Scale:
    """The scale on which a method's search has a parameter at the place."""
    found = search_box(registry.load_component("methods", method), place.name).get(name)
    if not isinstance(found, Scale) or found.kind == "choice":
        raise UserError(
            f"{method} searches no range of {name} at {place.name}: state one in its box (methods/settings/), "
            "of which the ablation's values are made."
        )
    return found


def space_evenly(low: float, high: float, count: int, whole: bool = False) -> list[float]:
    """So many numbers of equal ratios from ``low`` to ``high``, both included."""
    values = [low * (high / low) ** (i / (count - 1)) for i in range(count)]
    return [round(value) if whole else round_digits(value) for value in values]


def values_of(place: AblationPlace, method: str, name: str, count: int, beyond: float = 1) -> list[float]:
    """``count`` values from the lower end of the box to ``beyond`` times its upper end, and the place's own beside them."""
    scale = scale_of(place, method, name)
    low, high = scale.values
    return sorted({*space_evenly(low, high * beyond, count, "int" in scale.kind), place.step(method).params[name]})


def lengths(place: AblationPlace) -> tuple[dict[str, float], ...]:
    """Lengths of MSA's forget vector among which the rule chooses."""
    return tuple({"alpha": alpha} for alpha in values_of(place, "msa", "alpha", LENGTHS, BEYOND))


def small_search(place: AblationPlace, method: str) -> tuple[Mapping[str, Any], ...]:
    """The first `SEARCHED` settings of a method's own search at the place."""
    return tuple(draw_settings(search_box(registry.load_component("methods", method), place.name), SEARCHED))
