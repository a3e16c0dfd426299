"""Attacks that ask the states and not the answers: what decoder blocks still hold (`bench.engines.measuring.depth`)."""

from __future__ import annotations

from bench.core.contracts import Scenario
from bench.core.errors import Unmet
from bench.core.types import Probe
from bench.metrics.depth import erasure, linear_probe_accuracy

UDS = (erasure("uds", "forget_patching", "patching"),)
LENS = (erasure("lens_depth", "forget_lens", "lens"),)
LINEAR = (linear_probe_accuracy("linear_probe_accuracy", "forget_linear"),)


def ask_patching(scenario: Scenario) -> tuple[Probe, ...]:
    """What the target loses of the answers with a model's states in the place of its own."""
    return (Probe("forget_patching", "depth", scenario.questions, options={"by": "patching"}),)


def ask_lens(scenario: Scenario) -> tuple[Probe, ...]:
    """What the target's head reads off a model's states."""
    return (Probe("forget_lens", "depth", scenario.questions, options={"by": "lens"}),)


def ask_linear(scenario: Scenario) -> tuple[Probe, ...]:
    """Whether a linear probe that was trained on retain questions finds the answers to forget questions."""
    templates = {row.payload["template"] for row in scenario.questions}
    rows = [
        row.payload for row in scenario.retain if row.payload.get("prompt") and row.payload["template"] in templates
    ]
    if not rows:
        raise Unmet("a linear probe is trained on retain questions, and this task has none of that form")
    return (Probe("forget_linear", "depth", scenario.questions, options={"by": "linear", "train": rows}),)
