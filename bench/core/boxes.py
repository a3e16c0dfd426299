"""Boxes that `bench tune` searches: a scale for each searched parameter, and settings drawn from it quasi-randomly."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.core.errors import UserError
from bench.core.hashing import hash_json

KINDS = ("log", "linear", "int", "log-int", "choice")
"""What a scale may be: real numbers on a logarithmic or linear scale, whole numbers on either, or the values alone."""
SETTINGS = 16
"""Settings of a search, where nothing else is said; as many for every method and variant."""
SOBOL_SEED = 20250
"""Seed of every search's scrambled Sobol sequence, whatever the method: who has as many parameters has the same points."""
DIGITS = 3
"""Significant digits of a drawn number, so that a preset can be read."""
FACE = 0.05
"""A value within this share of the range from its end, on its scale, lies at a face of the box."""
MOST_DRAWS = 64
"""Points drawn for each setting wanted, before a box counts as too small to have so many."""


@dataclass(frozen=True)
class Scale:
    """How a parameter is searched."""

    kind: str
    """One of `KINDS`."""
    values: tuple[Any, ...]
    """The two ends, both included; of a ``choice`` all values."""

    def at(self, share: float) -> Any:
        """The value at a share of the scale in [0, 1), rounded to `DIGITS` and never beyond the ends."""
        if self.kind == "choice":
            return self.values[int(share * len(self.values))]
        low, high = self.values
        if self.kind == "int":
            return low + int(share * (high - low + 1))
        if self.kind == "log-int":
            whole = round_digits(math.floor(low * ((high + 1) / low) ** share))
            return min(max(int(whole), low), high)
        value = low * (high / low) ** share if self.kind == "log" else low + share * (high - low)
        return float(min(max(round_digits(value), low), high))

    def is_face(self, value: Any) -> bool:
        """Whether a value lies within `FACE` of an end; the values of a choice have none."""
        if self.kind == "choice":
            return False
        low, high = self.values
        if self.kind.startswith("log"):
            low, high, value = math.log(low), math.log(high), math.log(value)
        share = round((value - low) / (high - low), 9)
        return share <= FACE or share >= 1 - FACE

    def to_json(self) -> dict[str, list[Any]]:
        """As it stands in a settings file."""
        return {self.kind: list(self.values)}


Box = Mapping[str, Any]
"""By parameter its `Scale`, or the value that it is held at."""


def round_digits(value: float) -> float:
    """A number with `DIGITS` significant digits."""
    return float(f"{value:.{DIGITS}g}")


def searched(box: Box) -> dict[str, Scale]:
    """The parameters that a box searches."""
    return {name: scale for name, scale in box.items() if isinstance(scale, Scale)}


def box_json(box: Box) -> dict[str, Any]:
    """A box as it stands in a settings file."""
    return {name: value.to_json() if isinstance(value, Scale) else value for name, value in box.items()}


def read_box(stated: Mapping[str, Any]) -> Box:
    """A box as a settings file states it, after `box_faults` had nothing to say."""

    def read(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        [(kind, values)] = value.items()
        return Scale(kind, tuple(values))

    return {name: read(value) for name, value in stated.items()}


def faces_of(box: Box, params: Mapping[str, Any]) -> list[str]:
    """The searched parameters whose value lies at a face of the box."""
    return [name for name, scale in searched(box).items() if scale.is_face(params[name])]


def draw_settings(box: Box, count: int, seed: int = SOBOL_SEED) -> list[dict[str, Any]]:
    """``count`` different settings of a box, a power of two: points of a scrambled Sobol sequence on the scales.

    Where two points round to the same setting the sequence goes on. `UserError` where the box hasn't so many.
    """
    from scipy.stats import qmc

    scales, found = searched(box), dict[str, dict[str, Any]]()
    if scales:
        sequence = qmc.Sobol(len(scales), scramble=True, seed=seed)
        for _ in range(MOST_DRAWS):
            for point in sequence.random(count):
                drawn = {name: scale.at(share) for (name, scale), share in zip(scales.items(), point, strict=True)}
                found.setdefault(hash_json(drawn), {name: drawn.get(name, box[name]) for name in box})
            if len(found) >= count:
                return list(found.values())[:count]
    raise UserError(
        f"The box of {', '.join(scales) or 'no searched parameter'} has {len(found)} different settings, and {count} are "
        "to be tried: widen it, or lower --settings for every method."
    )


def box_faults(stated: Any, where: str, defaults: Mapping[str, Any]) -> Iterator[str]:
    """Sentences about a box of a settings file; names that are no parameter are left to the caller."""
    if not isinstance(stated, Mapping):
        yield f"{where} must be a table of parameters, not {stated!r}."
        return
    for name, value in stated.items():
        if isinstance(value, Mapping):
            yield from scale_faults(value, f"{where}: {name}", defaults.get(name))
        elif isinstance(value, list):
            yield f"{where}: {name} must be one value, or a scale such as {{ choice = {value!r} }}, not {value!r}."
    if not any(isinstance(value, Mapping) for value in stated.values()):
        yield f"{where} searches nothing: give a parameter a scale ({', '.join(KINDS)})."


def scale_faults(stated: Mapping[str, Any], where: str, default: Any) -> Iterator[str]:
    """Sentences about one scale of a parameter with such a default."""
    kind, values = next(iter(stated.items()), ("", None))
    if len(stated) != 1 or kind not in KINDS:
        yield f"{where} must have one scale of {', '.join(KINDS)}, not {dict(stated)!r}."
        return
    if not isinstance(values, list):
        yield f"{where}: {kind} must be a list, not {values!r}."
    elif kind == "choice":
        if len(values) < 2 or len({hash_json(value) for value in values}) < len(values):
            yield f"{where}: choice needs two or more different values, not {values!r}; a single one is written plainly."
    elif len(values) != 2 or not all(is_number(value) for value in values) or not values[0] < values[1]:
        yield f"{where}: {kind} must be the smallest and the largest number, not {values!r}."
    elif kind.startswith("log") and values[0] <= 0:
        yield f"{where}: {kind} must begin above 0, not at {values[0]!r}."
    elif isinstance(default, int) and not isinstance(default, bool) and "int" not in kind:
        yield f"{where} is a whole number: search it with int, log-int or choice, not {kind}."
    elif isinstance(default, float) and "int" in kind:
        yield f"{where} is a real number: search it with log, linear or choice, not {kind}."
    elif isinstance(default, bool | str):
        yield f"{where} has no scale of numbers: search it with choice, not {kind}."


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
