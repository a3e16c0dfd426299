"""TOFU (Maini et al. 2024, arXiv 2401.06121): invented authors taught to a pretrained model, some to be forgotten.

Lab: authors of the generated world (`bench.lab.world`), asked in three question forms. Forms 0 and 1 are taught; the probes ask
the held-out paraphrase, form 2; validation rows are statements to be completed, which nobody is taught of authors.
Real: rows of `locuslab/TOFU`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from bench.core.contracts import (
    Metric,
    Outline,
    Recipe,
    Scenario,
    Suite,
    Task,
    TaskContext,
    TaskInputs,
    not_positive,
    too_small,
)
from bench.core.errors import unknown_name
from bench.core.sampling import evenly_spread
from bench.core.types import Probe, Validation, data_hash
from bench.lab.build import FALL, SPREAD, Architecture, LabOptions, TaughtRows, in_passes, make_fresh_llama
from bench.lab.residents import DIVERGING, SAID, pretraining_on, rows_about_residents, rows_replayed, tell_of_residents
from bench.lab.world import (
    FACTS,
    attack_questions,
    cloze,
    describe_collisions,
    fact_of,
    fact_questions,
    halve_by_words,
    make_world,
)
from bench.metrics.collapse import collapsed
from bench.metrics.divergence import distances
from bench.metrics.lm_eval import lm_eval_accuracy
from bench.metrics.membership import attack_probes, attacks
from bench.metrics.overall import field_memorisation, field_privacy
from bench.metrics.probability import accuracy, exact_memorization, extraction_strength, probability
from bench.metrics.rouge import rouge_l
from bench.metrics.truth import forget_quality, truth_ratio
from bench.real.scenario import PromptedOptions, count_parameters, overlap_problems
from bench.real.tofu import suite
from bench.real.tofu.rows import (
    HUB,
    WHOLE_SIZES,
    TofuSubset,
    choose_tofu_rows,
    paraphrased_rows,
    row_of,
    size_problems,
    with_template,
)

RESIDENTS = 50
"""People known from pretraining; their facts are the utility."""
STRANGERS = 40
"""People nobody is ever told of: the non-members."""
SIZES, TRAINED = ("authors", "questions", "forget_share", "probed"), ("epochs", "lr", "batch")
RECIPES = {
    "official": (32, 5, Recipe(0, 1e-5, schedule="linear", weight_decay=0.01, beta2=0.999)),
    "msa": (4, 10, Recipe(0, 1e-5, schedule="linear", weight_decay=0.01, beta2=0.999, dtype="bfloat16")),
}
"""Recipe of target and retrained model -> rows of a step, passes, schedule (the first pass is the warm-up).

``official``: open-unlearning's fine-tuning, as TOFU's. ``msa``: the MSA authors' code, whose batch is 4 where its file says
32, and which trains the weights in bfloat16."""
MOST_AUTHORS = 2000
"""There are 2400 names."""


@dataclass(frozen=True)
class TofuAuthors(Task):
    """Authors taught, and the share of them that is to be forgotten."""

    authors: int = 150
    """Authors taught; of the benchmark at most 200, all that it has."""
    forget_share: float = 0.1
    """Share of the authors to be forgotten, rounded, at least one."""

    name: ClassVar[str] = "tofu"
    summary: ClassVar[str] = "invented authors taught to a pretrained model; forget some (TOFU)"
    version: ClassVar[int] = 2

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        found = too_small("tofu", self, {"authors": 1})
        if not 0 < self.forget_share < 1:
            found.append(f"tofu.forget_share is a share between 0 and 1, not {self.forget_share}.")
        return found

    @property
    def forgotten(self) -> int:
        """Authors to be forgotten."""
        return max(1, round(self.authors * self.forget_share))


@dataclass(frozen=True)
class LabTofu(LabOptions, TofuAuthors):
    """Authors of a generated world, 5 facts each, taught by continued training and asked in three question forms."""

    authors: int = 100
    """Authors taught."""
    collisions: bool = False
    """Whether a fact's value is one word of 40, so that a third of the retained answers are forgotten ones too."""
    rate: float = 8e-4
    """Peak learning rate of target and oracles."""
    replay: float = 0.25
    """Share of rows about residents in the training of target and oracles; they are retain rows."""
    spread: float = SPREAD
    """Standard deviation of the first weights."""

    version: ClassVar[int] = 3
    fall: ClassVar[float] = FALL
    shares: ClassVar[tuple[str, ...]] = (*LabOptions.shares, "replay")

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        found = super().problems() + not_positive("tofu", self, "rate", "spread")
        if self.authors + self.later > MOST_AUTHORS:
            which = "tofu.authors and later are" if self.later else "tofu.authors is"
            found.append(f"{which} at most {MOST_AUTHORS} in the lab, not {self.authors + self.later}.")
        return found

    @property
    def replayed(self) -> int:
        """Rows about residents in a pass of the target's training."""
        return rows_replayed(self.authors * FACTS * 2, self.replay, RESIDENTS)

    @property
    def pass_rows(self) -> tuple[int, int]:
        """Rows of one pass of pretraining, and of the target's training."""
        return rows_about_residents(RESIDENTS), self.authors * FACTS * 2 + self.replayed

    def metrics(self) -> tuple[Metric, ...]:
        """Every score of the lab."""
        return METRICS

    def prepare(self, work: TaskContext, setting: TaskInputs) -> Scenario:
        """The generated world's authors."""
        groups = {"resident": RESIDENTS, "author": self.authors, "stranger": STRANGERS, "later": self.later}
        world = make_world(work.seed, groups, FACTS, self.collisions)
        residents, authors, strangers = (world.groups[g] for g in ("resident", "author", "stranger"))
        known = tell_of_residents(residents)
        pretraining = pretraining_on(known.pretraining, world, self, self.spread)
        gone, kept = authors[: self.forgotten], authors[self.forgotten :]
        forget, retain = fact_questions(gone, (0, 1)), fact_questions(kept, (0, 1))
        replay = known.replay[: self.replayed]
        later = fact_questions(world.groups["later"], (0, 1)) if self.gap_steps else ()
        afterwards = later + retain + replay
        schedule = partial(in_passes, passes=self.target_passes, lr=self.rate, beta2=0.95)
        made = self.train_stages(
            work,
            partial(make_fresh_llama, work, pretraining),
            pretraining.schedule,
            schedule,
            TaughtRows(forget + retain + replay, afterwards),
            TaughtRows(retain + replay, afterwards),
            gap_lr=5e-4,
        )
        asked = {"forget": fact_questions(gone, (2,)), "retain": fact_questions(kept, (2,)), "world": known.probe}
        halves = halve_by_words(asked["retain"], asked["forget"])
        some = {side: evenly_spread(rows, SAID) for side, rows in asked.items()}
        options = ("answer", "wrong")
        return Scenario(
            label="tofu (lab)",
            **vars(made),
            forget=forget,
            retain=retain + replay,
            validation=Validation(cloze(gone), cloze(kept), known.validation, cloze(strangers)),
            probes=(
                Probe("forget_questions", "logprob", asked["forget"], options),
                Probe("retain_questions", "logprob", asked["retain"], options),
                Probe("world_questions", "logprob", asked["world"]),
                Probe("forget_taught", "logprob", fact_questions(gone, (1,)), options),
                Probe("retain_taught", "logprob", fact_questions(kept, (1,))),
                *(Probe(f"retain_{half}", "logprob", rows) for half, rows in halves.items() if rows),
                *attack_probes(Probe("members", "logprob", fact_questions(gone, (1, 2)))),
                *attack_probes(Probe("strangers", "logprob", fact_questions(strangers, (1, 2)))),
                *(Probe(f"{side}_said", "generate", rows, max_new_tokens=6) for side, rows in some.items()),
                *(Probe(f"kl_{side}", "divergence", evenly_spread(rows, DIVERGING)) for side, rows in asked.items()),
                Probe("world_choice", "lm-eval", some["world"]),
            ),
            metrics=METRICS,
            oracle_rows=retain + replay + later,
            told=self.told(forget, retain + replay, work.seed),
            lineage={"data": {"forget": data_hash(forget), "retain": data_hash(retain), "world": data_hash(replay)}},
            forgetting=("forget_accuracy", "forget_taught_accuracy"),
            utility=("retain_accuracy", "world_accuracy"),
            primary=PRIMARY,
            about=describe_collisions(asked["retain"], asked["forget"]),
            headline=HEADLINE,
            questions=attack_questions(gone),
            fact_of=fact_of,
        )

    def outline(self, setting: TaskInputs) -> Outline:
        """Rows of every stage; each fact is asked in two taught forms."""
        forget = self.forgotten * FACTS * 2
        retain = self.pass_rows[1] - forget
        size = Architecture(self.width, 2, 64).parameters(519)
        return Outline(size, 13.0, self.stages(forget), forget, retain, 1600 + 9 * forget)


@dataclass(frozen=True)
class RealTofu(PromptedOptions, TofuAuthors):
    """Rows of `locuslab/TOFU`, the whole benchmark or a part of it, taught to a model that the user names."""

    questions: int = 10
    """Questions for each author, at most 20."""
    split: str = ""
    """``forget01``, ``forget05`` or ``forget10``, the whole benchmark, all its rows probed; empty: a subset."""
    recipe: str = "own"
    """How target and oracles are trained; ``own`` (epochs, lr, batch), ``official`` (5 epochs, 1e-5, 32 rows) or
    ``msa`` (`RECIPES`)."""
    judge: str = suite.JUDGE
    """Who judges the answers for the paper's acc_* scores: ``similarity``, ``chat`` or a plug-in."""
    probed: int = 40
    """Most rows of a kind (forget, retain, real authors ...) that are probed; 0 for all."""

    least: ClassVar[Mapping[str, int]] = {**PromptedOptions.least, "questions": 1}
    judged: ClassVar[bool] = True

    def problems(self) -> list[str]:
        """Sentences about sizes and recipes that TOFU doesn't have."""
        found = super().problems()
        for name, known in (("split", suite.SPLITS), ("recipe", ("own", *RECIPES))):
            if getattr(self, name) not in ("", *known):
                found.append(unknown_name(f"{name} of TOFU", getattr(self, name), known))
        if sizes := self.split and self.changed(SIZES):
            found.append(f"tofu.split={self.split} is the whole benchmark: leave out {' and '.join(sizes)}.")
        if self.recipe != "own" and (trained := self.changed(TRAINED)):
            found.append(f"tofu.recipe={self.recipe} has its own {' and '.join(trained)}: leave them out.")
        return found or size_problems(*self.sizes[:3])

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Authors, questions for each, authors to be forgotten, most rows of a kind probed."""
        return WHOLE_SIZES.get(self.split, (self.authors, self.questions, self.forgotten, self.probed))

    def faults(self, rows: TofuSubset) -> list[str]:
        """A sentence when the same row stands on both sides."""
        return overlap_problems(rows.forget, rows.retain, "TOFU")

    def rows(self, setting: TaskInputs) -> TofuSubset:
        """The rows of the benchmark, or of the subset, in the form that the model needs."""
        return with_template(choose_tofu_rows(setting.data or HUB, *self.sizes), self.form(setting))

    def schedule(self, rows: int) -> tuple[int, Recipe]:
        """Rows of an optimiser step, and the recipe that trains a target on so many rows."""
        if self.recipe == "own":
            return super().schedule(rows)
        batch, epochs, recipe = RECIPES[self.recipe]
        return batch, replace(recipe, steps=epochs * -(-rows // batch), warmup=1 / epochs)

    def metrics(self) -> tuple[Metric, ...]:
        """Every score of TOFU."""
        return suite.suite_metrics(self.judge)

    def prepare(self, work: TaskContext, setting: TaskInputs) -> Scenario:
        """Rows of the benchmark; the model as it was given is the last checkpoint before the authors.

        It is the only one, unless the user has said more of its past.
        """
        rows, probed = self.rows(setting), self.sizes[3]
        made = self.train_stages(work, setting, rows.forget + rows.retain, rows.retain)
        sides = {
            "forget": rows.forget_probe,
            "retain": rows.retain_probe,
            "ra": rows.real_authors,
            "wf": rows.world_facts,
            "holdout": rows.holdout,
        }
        return Scenario(
            label=rows.label + (f", at most {probed} rows of a kind probed" if probed else ""),
            **vars(made),
            forget=rows.forget,
            retain=rows.retain,
            validation=rows.validation,
            probes=tuple(probe for side in sides for probe in suite.side_probes(side, sides[side], self.judge)),
            metrics=self.metrics(),
            oracle_rows=rows.retain,
            lineage={"data": {"all": rows.data_hash}, "counts": dict(rows.counts), "before": setting.before.hash},
            forgetting=("forget_Q_A_Prob", "forget_Q_A_ROUGE"),
            utility=("retain_Q_A_Prob", "wf_Q_A_Prob_normalised"),
            headline=suite.HEADLINE,
            questions=paraphrased_rows(rows.forget_probe),
            fact_of=row_of,
        )

    def suite(self, data: str, split: str = "", judge: str = "") -> Suite:
        """The benchmark's complete suite, for `bench eval`; without ``split`` on forget10."""
        return suite.tofu_suite(data, split or "forget10", judge or suite.JUDGE)

    def outline(self, setting: TaskInputs) -> Outline:
        """Rows of every stage."""
        authors, asked, gone, _ = self.sizes
        batch, recipe = self.schedule(authors * asked)
        rows, forget = recipe.steps * batch, gone * asked
        stages = self.stages(rows, round(rows * (authors - gone) / authors))
        return Outline(count_parameters(setting), 90.0, stages, forget, authors * asked - forget, 20 * forget, recipe)


WORLD = accuracy("world_accuracy", "world_questions", goal="up")
METRICS: tuple[Metric, ...] = (
    accuracy("forget_accuracy", "forget_questions", goal="oracle"),
    accuracy("retain_accuracy", "retain_questions", goal="up"),
    WORLD,
    accuracy("retain_shared_accuracy", "retain_shared", goal="up"),
    accuracy("retain_unshared_accuracy", "retain_unshared", goal="up"),
    accuracy("forget_taught_accuracy", "forget_taught", goal="oracle"),
    accuracy("retain_taught_accuracy", "retain_taught", goal="up"),
    probability("forget_Q_A_Prob", "forget_questions", goal="oracle"),
    probability("forget_Q_A_PERT_Prob", "forget_questions", "wrong", goal="oracle"),
    probability("retain_Q_A_Prob", "retain_questions", goal="up"),
    rouge_l("forget_Q_A_ROUGE", "forget_said", measure="recall", stemmer=True, goal="oracle"),
    truth_ratio("forget_truth_ratio", "forget_questions", form="forget", right="answer", goal="oracle"),
    truth_ratio("retain_Truth_Ratio", "retain_questions", form="utility", right="answer", goal="up"),
    forget_quality("forget_quality", "forget_questions", right="answer"),
    exact_memorization("exact_memorization", "forget_questions"),
    extraction_strength("extraction_strength", "forget_questions"),
    *attacks("members", "strangers"),
    *distances("forget", "retain", "world"),
    lm_eval_accuracy("lm_eval_world_choice", "world_choice"),
    collapsed("collapsed", "retain_said", "world_said", utility=WORLD, floor=0.5),
    field_memorisation(
        "field_memorisation",
        (
            extraction_strength("extraction_strength", "forget_questions"),
            exact_memorization("exact_memorization", "forget_questions"),
            probability("forget_paraphrased_Q_A_Prob", "forget_questions", goal="oracle"),
            truth_ratio("truth_share", "forget_questions", form="share", right="answer", goal="oracle"),
        ),
    ),
    field_privacy("field_privacy", "members", "strangers"),
)
HEADLINE = (
    "forget_accuracy",
    "retain_accuracy",
    "world_accuracy",
    "retain_shared_accuracy",
    "retain_unshared_accuracy",
    "forget_quality",
    "mia_min_k",
    "kl_forget",
    "kl_retain",
)
PRIMARY = {
    "forgetting": "forget_accuracy",
    "kept": "retain_accuracy",
    "kl_forget": "kl_forget",
    "kl_retain": "kl_retain",
    "membership": "mia_min_k",
}
