"""RESTOR (Rezaei et al. 2025, arXiv 2411.00204): false facts about people the model knew; unlearning should bring
the truth back.

The lab builds its shape in the generated world: further training states falsehoods about some residents, beside true
statements about the others and new people. Asked in question form, form 0 is validation, forms 1 and 2 are the probe.
A method with a checkpoint from before (MSA) holds the truth in its hands; the others never see it. That asymmetry is
by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from bench.context import Work
from bench.contracts import Outline, Recipe, Scenario, Setting, Stream
from bench.errors import UserError
from bench.lab.build import (
    ORACLES,
    Architecture,
    Options,
    Schedule,
    history,
    lasting,
    onward,
    resident_pretraining,
    stage_two,
)
from bench.lab.world import Person, make_world, questions, statements
from bench.losses import descent
from bench.metrics import Metric
from bench.metrics.collapse import collapsed
from bench.metrics.divergence import kl, kl_floors
from bench.metrics.lm_eval import lm_eval_accuracy
from bench.metrics.membership import attack_probes, attacks
from bench.metrics.options import answered, option_logprob
from bench.metrics.probability import accuracy
from bench.metrics.truth import forget_quality, truth_ratio
from bench.suites import Suite, restor
from bench.types import Checkpoint, Example, Probe, Validation, data_hash

FACTS = 10
RESIDENTS = 40


@dataclass(frozen=True)
class Restor(Options):
    """Parameters of the lab's world and schedule."""

    corrupted: int = 16
    """Residents about whom falsehoods are spread; 10 facts each."""
    newcomers: int = 30
    """New people taught in the same training, who must stay."""
    width: int = 192
    """Hidden size of the two-layer Llama."""
    history_steps: int = 640
    """Optimiser steps of pretraining."""
    target_steps: int = 400
    """Optimiser steps of the corruption; the oracle's are scaled by its rows."""

    summary: ClassVar[str] = "false facts about known people; unlearning should restore the truth (RESTOR)"
    version: ClassVar[int] = 2
    tiers: ClassVar[tuple[str, ...]] = ("lab",)

    def problems(self) -> list[str]:
        """What is wrong with the parameters."""
        least = ("corrupted", "newcomers", "width", "history_steps", "target_steps")
        found = [
            f"restor.{name} must be at least 1, not {getattr(self, name)}." for name in least if getattr(self, name) < 1
        ]
        if self.corrupted > RESIDENTS - 10:
            found.append(f"restor.corrupted is at most {RESIDENTS - 10} of the {RESIDENTS} residents.")
        return found + self.lab_problems("restor")

    def metrics(self, tier: str) -> tuple[Metric, ...]:
        """Every score of the task there."""
        return METRICS

    def offers(self, setting: Setting) -> frozenset[str]:
        """A history and retain rows."""
        return frozenset({"history", "retain"})

    def prepare(self, work: Work, setting: Setting) -> Scenario:
        """The lab's world, its checkpoints and its probes."""
        if setting.tier != "lab":
            raise UserError("restor has no real tier yet: run it in the lab, without --model and --data.")
        groups = {"resident": RESIDENTS, "newcomer": self.newcomers, "later": self.later}
        world = make_world(work.seed, groups, FACTS)
        residents, newcomers, others = (world.groups[g] for g in groups)
        wronged, clean = residents[: self.corrupted], residents[self.corrupted :]
        ask = partial(questions, values=world.values)
        pretraining = resident_pretraining(world, self.width, self.history_steps)
        forget = statements(wronged, tell="falsehoods")
        retain = statements(clean) + ask(clean, (0,)) + ask(newcomers, (0, 1))
        later = ask(others, (0, 1)) if self.gap_steps else ()

        def schedule(rows: Sequence[Example]) -> Schedule:
            share = len(rows) / (len(forget) + len(retain))
            recipe = Recipe(max(1, round(self.target_steps * share)), 5e-4)
            return Schedule((Stream(tuple(rows), 64, descent()),), recipe)

        exposure = schedule(forget + retain)
        past = lasting(partial(history, work, pretraining, self.history_points, self.exposed, exposure))

        def train(rows: Sequence[Example], label: str, order: int = 0) -> Callable[[], Checkpoint]:
            taught = schedule(rows)
            first = stage_two(work, lambda: past().last.checkpoint, taught.streams, taught.recipe, label, order)
            return onward(work, first, later + retain, self, 5e-4, label)

        return Scenario(
            label="restor (lab)",
            target=train(forget + retain, "target"),
            oracles=tuple(train(retain, f"oracle-{i}", order=i) for i in range(ORACLES)),
            history=past,
            forget=forget,
            retain=retain,
            validation=Validation(
                falsely(ask(wronged, (0,))), ask(newcomers, (0,)), ask(clean, (0,)), falsely(ask(clean, (0,)))
            ),
            probes=probes(ask, wronged, clean, newcomers),
            metrics=METRICS,
            oracle_rows=retain + later,
            told=self.told(forget, retain, work.seed),
            reference=lambda: past().last.checkpoint,
            lineage={"data": {"forget": data_hash(forget), "retain": data_hash(retain)}},
            forgetting=("restor_wrong",),
            utility=("retain_accuracy", "world_accuracy"),
            headline=HEADLINE,
        )

    @staticmethod
    def suite(data: str, split: str = "", judge: str = "") -> Suite:
        """The benchmark's complete suite, for `bench eval`; ``split`` names the corpus that corrupted the model."""
        return restor.suite(data, split or "mix_a0", judge)

    def outline(self, setting: Setting) -> Outline:
        """Rows of every stage."""
        forget = self.corrupted * FACTS * 2
        retain = (RESIDENTS - self.corrupted) * FACTS * 3 + self.newcomers * FACTS * 2
        oracle = round(self.target_steps * retain / (forget + retain)) * 64
        stages = {"history": self.history_steps * 64, "target": self.target_steps * 64}
        stages |= {f"oracle-{i}": oracle for i in range(ORACLES)}
        if self.gap_steps:
            stages = {name: n + self.gap_steps * 64 * (name != "history") for name, n in stages.items()}
        return Outline(Architecture(self.width, 2, 64).parameters(530), 12.0, stages, forget, retain, 20 * forget)


def falsely(rows: Sequence[Example]) -> tuple[Example, ...]:
    """The questions with the falsehood as the answer: what must be forgotten, asked."""
    return tuple(replace(row, payload={**row.payload, "answer": row.references["corrupted"][0]}) for row in rows)


Ask = Callable[..., tuple[Example, ...]]
"""`bench.lab.world.questions` with its values given: people and forms to examples."""


def probes(
    ask: Ask,
    wronged: Sequence[Person],
    clean: Sequence[Person],
    newcomers: Sequence[Person],
) -> tuple[Probe, ...]:
    """The truth, the falsehood and an unrelated word about the wronged; the truth about everyone else.

    Membership: the falsehoods that were told, beside others about the same people that nobody told. Only the telling
    tells them apart, so an oracle stands at .5.
    """
    options = ("answer", "corrupted", "unrelated", "wrong")
    return (
        Probe("corrupted_questions", "logprob", ask(wronged, (1, 2)), options),
        Probe("clean_questions", "logprob", ask(clean, (1, 2)), ("answer",)),
        Probe("retain_questions", "logprob", ask(newcomers, (1,))),
        Probe("corrupted_said", "generate", ask(wronged, (2,)), max_new_tokens=6),
        *attack_probes(Probe("corrupted_statements", "logprob", statements(wronged, tell="falsehoods"))),
        *attack_probes(Probe("untold_statements", "logprob", statements(wronged, tell="untold"))),
        Probe("kl_forget", "divergence", ask(wronged, (1,))),
        Probe("kl_retain", "divergence", ask(newcomers, (1,))),
        Probe("kl_world", "divergence", ask(clean, (1,))),
        Probe("world_choice", "lm-eval", ask(clean[:10], (2,))),
    )


WORLD = accuracy("world_accuracy", "clean_questions", goal="up")
METRICS: tuple[Metric, ...] = (
    answered("restor_accuracy", ("corrupted_questions", "clean_questions"), "answer", goal="up"),
    accuracy("restor_accuracy_corrupted", "corrupted_questions", goal="up"),
    accuracy("restor_accuracy_clean", "clean_questions", goal="up"),
    answered("restor_wrong", ("corrupted_questions",), "corrupted", goal="oracle"),
    accuracy("retain_accuracy", "retain_questions", goal="up"),
    WORLD,
    option_logprob("logprob_true", "corrupted_questions", "answer", goal="up"),
    option_logprob("logprob_corrupted", "corrupted_questions", "corrupted", goal="oracle"),
    option_logprob("logprob_unrelated", "corrupted_questions", "unrelated", goal="oracle"),
    truth_ratio("forget_truth_ratio", "corrupted_questions", form="forget", right="answer", goal="oracle"),
    forget_quality("forget_quality", "corrupted_questions", right="answer"),
    *attacks("corrupted_statements", "untold_statements"),
    kl("kl_forget", "kl_forget"),
    kl("kl_retain", "kl_retain"),
    kl("kl_world", "kl_world"),
    kl_floors("kl_forget_floors", "kl_forget"),
    kl_floors("kl_retain_floors", "kl_retain"),
    kl_floors("kl_world_floors", "kl_world"),
    lm_eval_accuracy("lm_eval_world_choice", "world_choice"),
    collapsed("collapsed", "corrupted_said", utility=WORLD, floor=0.3),
)
HEADLINE = (
    "restor_accuracy_corrupted",
    "restor_wrong",
    "retain_accuracy",
    "world_accuracy",
    "mia_loss",
    "privleak",
    "kl_forget",
    "kl_world",
)
