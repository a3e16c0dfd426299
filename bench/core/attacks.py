"""Which runs attack what another one has left, and which run that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from bench.core import registry
from bench.core.record import RunSpec

T = TypeVar("T")
STEPS = {name: f"quantise@{name}" for name in ("int8", "int4", "int4-128", "nf4", "fp4")}
"""Short name of an attack that is a step -> the method and its variant; every other such attack goes by its own name."""


def split_variant(name: str) -> tuple[str, str]:
    """``method@variant`` apart; the variant is empty where there is none."""
    method, _, variant = name.partition("@")
    return method, variant


def is_attack(method: str) -> bool:
    """Whether a method unlearns nothing, and tries what another one has left; False where there is no such method."""
    if method not in registry.components("methods"):
        return False
    with registry.leaving_out("methods", method):
        return bool(registry.load_component("methods", method).attack)
    return False


def attack_of(spec: RunSpec) -> str:
    """The name of the attack that a run is; empty where it is none."""
    if spec.attack or not spec.steps or not is_attack(spec.steps[-1].method):
        return spec.attack
    name = spec.steps[-1].name
    return next((short for short, step in STEPS.items() if step == name), name)


def compared_oracles(spec: RunSpec, oracles: Sequence[T]) -> Sequence[T]:
    """Those of a seed's ``oracles`` that a run is compared with: of what has been made of the first one, the others."""
    return oracles[1:] if len(spec.steps) > 1 and spec.steps[0].method == "retrain" else oracles


def attacked_run(spec: RunSpec) -> RunSpec:
    """The run without its attack, as far as names and steps go; its versions are still those of both."""
    return replace(spec, attack="") if spec.attack else replace(spec, steps=spec.steps[:-1])
