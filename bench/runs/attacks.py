"""Attacks: the steps that try a method's result, and the questions that are put to it in the place of the task's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from bench.core.contracts import Metric, Scenario
from bench.core.errors import Unmet
from bench.core.types import Probe
from bench.runs import depth_probes


@dataclass(frozen=True)
class QuestionAttack:
    """An attack that leaves the weights as they are, and asks."""

    summary: str
    """One line: what it asks, and the paper."""
    ask: Callable[[Scenario], tuple[Probe, ...]]
    """Its probes, made of `Scenario.questions`; `Unmet` where the task lacks what it needs."""
    metrics: tuple[Metric, ...]
    """The first is the one that is shown: how much is known, whose goal is the oracle's value; or 1, of a share of what
    the oracle has lost."""


QUESTIONS: Mapping[str, QuestionAttack] = {
    "uds": QuestionAttack(
        "unlearning depth score: what the target loses with its states patched (arXiv 2605.24614)",
        depth_probes.ask_patching,
        depth_probes.UDS,
    ),
    "lens": QuestionAttack(
        "logit lens: what the target's head reads off each block's states (arXiv 2605.24614)",
        depth_probes.ask_lens,
        depth_probes.LENS,
    ),
    "linear": QuestionAttack(
        "a linear probe for the answer on each block's states (arXiv 1610.01644)",
        depth_probes.ask_linear,
        depth_probes.LINEAR,
    ),
}
"""Attack -> what it asks."""


def ask_instead(attack: str, scenario: Scenario) -> Scenario:
    """The scenario with an attack's probes and scores in the place of its own; `Unmet` where it has no questions."""
    if not scenario.questions:
        raise Unmet("it asks questions about what was to be forgotten, and this task has none")
    made = QUESTIONS[attack]
    names = tuple(metric.name for metric in made.metrics)
    return replace(
        scenario, probes=made.ask(scenario), metrics=made.metrics, headline=names, forgetting=names[:1], utility=()
    )
