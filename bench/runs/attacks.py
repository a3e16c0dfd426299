"""Attacks: the steps that try a method's result, and the questions that are put to it in the place of the task's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from bench.core.contracts import Metric, Scenario
from bench.core.errors import Unmet, UserError, unknown_name
from bench.core.types import Probe
from bench.runs import attack_probes as probes
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
    "leak": QuestionAttack(
        f"{probes.SAMPLES} samples of each question: how often one of k gives the answer (Leak@k, arXiv 2511.04934)",
        probes.ask_samples,
        probes.leak_metrics(),
    ),
    "prefill": QuestionAttack(
        f"the answer begun with '{probes.OPENING}', or so in the lab's words (arXiv 2605.24614)",
        probes.ask_after_opening,
        probes.said_metrics("prefill"),
    ),
    "paraphrase": QuestionAttack(
        "the questions in other words (TOFU's paraphrased questions, arXiv 2401.06121)",
        probes.ask_otherwise,
        probes.said_metrics("paraphrase"),
    ),
    "few-shot": QuestionAttack(
        f"{probes.SOLVED} solved questions about other forgotten facts before each (RepSelect's)",
        probes.ask_behind_solved,
        probes.said_metrics("fewshot"),
    ),
    "first-words": QuestionAttack(
        "the first 1, 2 or 4 words of the true answer given: is the rest said? (own)",
        probes.ask_after_words,
        probes.first_words_metrics(),
    ),
    "context": QuestionAttack(
        "the fact told in the prompt: tells suppression where the oracle reads it off (arXiv 2410.02879)",
        probes.ask_in_context,
        probes.said_metrics("context"),
    ),
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


def questions_of(attack: str) -> QuestionAttack:
    """The attack of that name; `UserError` where there is none, as in a record of another version."""
    if attack not in QUESTIONS:
        raise UserError(unknown_name("attack", attack, QUESTIONS))
    return QUESTIONS[attack]


def ask_instead(attack: str, scenario: Scenario) -> Scenario:
    """The scenario with an attack's probes and scores in the place of its own; `Unmet` where it has no questions."""
    if not scenario.questions:
        raise Unmet("it asks questions about what was to be forgotten, and this task has none")
    made = questions_of(attack)
    names = tuple(metric.name for metric in made.metrics)
    return replace(
        scenario, probes=made.ask(scenario), metrics=made.metrics, headline=names, forgetting=names[:1], utility=()
    )
