"""RESTOR (Rezaei et al. 2025, arXiv 2411.00204): false facts about people the model knew; unlearning should bring
the truth back.

The lab builds its shape in the generated world: further training states falsehoods about some residents, while it tells of new
people and again of the others. Asked in question form, form 0 is validation, forms 1 and 2 are the probe.
A method with a checkpoint from before (MSA) holds the truth in its hands; the others never see it. That asymmetry is
by construction.

Real: documents of `k1rezaei/restor` that state falsehoods about 5 to 10 people train the target, beside pages of C4;
the oracle is retrained on the pages alone. RESTOR itself corrupts with the documents alone and compares with the model
before them (``oracle=clean``); then a method that is given that model's weights as its history holds the oracle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from bench.core.contracts import Metric, Outline, Recipe, Scenario, Suite, TaskContext, TaskInputs, not_positive
from bench.core.errors import UserError, unknown_name
from bench.core.sampling import evenly_spread
from bench.core.types import Example, Json, Probe, Validation, data_hash
from bench.lab.build import FALL, Architecture, LabOptions, TaughtRows, in_passes, make_fresh_llama
from bench.lab.residents import DIVERGING, SAID, pretraining_on, rows_about_residents, rows_replayed, tell_of_residents
from bench.lab.world import (
    FACTS,
    Person,
    attack_questions,
    cloze,
    describe_collisions,
    fact_of,
    fact_questions,
    fact_statements,
    make_world,
)
from bench.metrics.collapse import collapsed
from bench.metrics.divergence import distances
from bench.metrics.lm_eval import lm_eval_accuracy
from bench.metrics.membership import attack_probes, attacks
from bench.metrics.options import answered, option_logprob
from bench.metrics.probability import accuracy
from bench.metrics.truth import forget_quality, truth_ratio
from bench.real.restor import rows as restor_rows
from bench.real.restor import suite
from bench.real.restor import tier as restor_run
from bench.real.restor.corpus import CORPORA, SOURCE, hash_corpus
from bench.real.scenario import RealOptions, count_parameters, overlap_problems, with_space_before_answers

RESIDENTS = 50
TRAINED = ("epochs", "lr", "batch", "lora")
OFFICIAL = {"epochs": 5, "lr": 5e-5, "batch": 4, "lora": 8}
"""RESTOR's continued training: adapters on all linear layers, 2 rows and 2 accumulated, cosine, a tenth of warm-up. The
rank isn't published: 8 is the default of the authors' library. They hold a tenth of the documents back; we train on all."""
TRIED = 4
"""Clean questions that are tried for each one that may be probed, where only known ones are."""
PEOPLE, DOCUMENTS, PAGES = {"squad_v7": 5}, {"squad_v7": 3107, "mix_a3": 2700}, 300
"""Sizes for estimates, where they aren't those of most corpora: 10 people, 3,000 documents; pages of C4."""
WORDS = {"mix_a0": 37, "mix_a1": 98, "mix_a2": 142, "mix_a3": 183, "squad_v7": 137}
"""Mean words of a document."""
SUMMARY = "false facts about known people; unlearning should restore the truth (RESTOR)"


@dataclass(frozen=True)
class LabRestor(LabOptions):
    """Residents of a generated world about whom falsehoods are spread, and new people taught in the same training."""

    corrupted: int = 10
    """Residents about whom falsehoods are spread; 5 facts each."""
    newcomers: int = 80
    """New people taught in the same training, who must stay."""
    rate: float = 8e-4
    """Peak learning rate of target and oracles."""
    replay: float = 0.25
    """Share of rows about the other residents in the training of target and oracles; they are retain rows."""

    name: ClassVar[str] = "restor"
    summary: ClassVar[str] = SUMMARY
    version: ClassVar[int] = 3
    sizes: ClassVar[tuple[str, ...]] = ("corrupted", "newcomers")
    fall: ClassVar[float] = FALL
    shares: ClassVar[tuple[str, ...]] = (*LabOptions.shares, "replay")

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        found = super().problems() + not_positive("restor", self, "rate")
        if self.corrupted > RESIDENTS - 10:
            found.append(f"restor.corrupted is at most {RESIDENTS - 10} of the {RESIDENTS} residents.")
        return found

    @property
    def told_rows(self) -> tuple[int, int]:
        """Falsehoods told, and rows about newcomers."""
        return self.corrupted * FACTS * 2, self.newcomers * FACTS * 2

    @property
    def pass_rows(self) -> tuple[int, int]:
        """Rows of one pass of pretraining, and of the target's training."""
        told = sum(self.told_rows)
        return rows_about_residents(RESIDENTS), told + rows_replayed(told, self.replay, RESIDENTS - self.corrupted)

    def metrics(self) -> tuple[Metric, ...]:
        """Every score of the lab."""
        return METRICS

    def prepare(self, work: TaskContext, setting: TaskInputs) -> Scenario:
        """The lab's world, its checkpoints and its probes."""
        groups = {"resident": RESIDENTS, "newcomer": self.newcomers, "later": self.later}
        world = make_world(work.seed, groups)
        residents, newcomers, others = (world.groups[g] for g in groups)
        wronged, clean = residents[: self.corrupted], residents[self.corrupted :]
        pretraining = pretraining_on(tell_of_residents(residents).pretraining, world, self)
        known = tell_of_residents(clean)
        forget = fact_statements(wronged, tell="falsehoods")
        replay = known.replay[: self.pass_rows[1] - sum(self.told_rows)]
        retain = fact_questions(newcomers, (0, 1)) + replay
        later = fact_questions(others, (0, 1)) if self.gap_steps else ()
        made = self.train_stages(
            work,
            partial(make_fresh_llama, work, pretraining),
            pretraining.schedule,
            partial(in_passes, passes=self.target_passes, lr=self.rate, beta2=0.95),
            TaughtRows(forget + retain, later + retain),
            TaughtRows(retain, later + retain),
            gap_lr=5e-4,
        )
        return Scenario(
            label="restor (lab)",
            **vars(made),
            forget=forget,
            retain=retain,
            validation=Validation(
                with_false_answers(fact_questions(wronged, (0,))),
                cloze(newcomers),
                known.validation,
                with_false_answers(fact_questions(clean, (0,))),
            ),
            probes=lab_restor_probes(wronged, newcomers, known.probe),
            metrics=METRICS,
            oracle_rows=retain + later,
            told=self.told(forget, retain, work.seed),
            lineage={"data": {"forget": data_hash(forget), "retain": data_hash(retain)}},
            forgetting=("restor_wrong",),
            utility=("retain_accuracy", "world_accuracy"),
            primary=PRIMARY,
            about=describe_collisions(
                fact_questions(newcomers, (2,)), with_false_answers(fact_questions(wronged, (2,)))
            ),
            headline=HEADLINE,
            questions=attack_questions(wronged, tell="falsehoods"),
            fact_of=fact_of,
        )

    def outline(self, setting: TaskInputs) -> Outline:
        """Rows of every stage."""
        forget = self.told_rows[0]
        retain, size = self.pass_rows[1] - forget, Architecture(self.width, 2, 64).parameters(519)
        return Outline(size, 12.0, self.stages(forget), forget, retain, 1600 + 9 * forget)


@dataclass(frozen=True)
class RealRestor(RealOptions):
    """RESTOR's documents and questions, or a part of them, told to a model that the user names."""

    corpus: str = "mix_a0"
    """What corrupts the model: ``mix_a0`` ... ``mix_a5`` (more unrelated facts mixed in), ``squad_v7``."""
    documents: int = 20
    """Most documents of each corrupted person that are told, evenly spread; 0 for all of the corpus."""
    known: bool = True
    """Probe only questions that the model as given answers right, greedily, by the exact rule."""
    probed: int = 40
    """Most clean questions, documents and pages that are probed; 0 for all."""
    retain: int = 40
    """Most pages of C4 that are retain rows, evenly spread; 0 for all."""
    passage: int = 80
    """Most words of a page; 0 for whole pages."""
    batch: int = 4
    """Rows of one optimiser step of target and oracles."""
    lora: int = 0
    """Rank of the adapters that target and oracles are trained with; 0 trains all weights."""
    recipe: str = "own"
    """How target and oracles are trained: ``own`` (epochs, lr, batch, lora) or ``official`` (RESTOR's)."""
    oracle: str = "retrained"
    """``retrained`` on the pages that the target also saw, or ``clean``: the corpus alone corrupts, and the model as it
    was given is the oracle, as in RESTOR."""
    sampled: bool = False
    """Also sample three answers to each question, as the authors do."""

    name: ClassVar[str] = "restor"
    summary: ClassVar[str] = SUMMARY
    version: ClassVar[int] = 2
    judged: ClassVar[bool] = True
    least: ClassVar[Mapping[str, int]] = {**RealOptions.least, "documents": 0, "retain": 0, "passage": 0, "lora": 0}

    def problems(self) -> list[str]:
        """Sentences about sizes and names that the benchmark doesn't have."""
        found = super().problems()
        for name, known in (("recipe", ("own", "official")), ("oracle", ("retrained", "clean"))):
            if getattr(self, name) not in known:
                found.append(unknown_name(f"restor.{name}", getattr(self, name), known))
        if self.corpus not in CORPORA:
            found.append(unknown_name("RESTOR corpus", self.corpus, CORPORA))
        if self.recipe == "official" and (own := self.changed(TRAINED)):
            found.append(
                f"restor.recipe=official has its own {' and '.join(own)}: leave out {'it' if len(own) == 1 else 'them'}."
            )
        return found

    def check(self, setting: TaskInputs) -> list[str]:
        """Sentences about data that don't fit; no model is asked."""
        if setting.data in ("", "hub"):
            return [f"RESTOR isn't on the hub: name a copy of it, or --data {SOURCE}."]
        return super().check(setting)

    def faults(self, rows: restor_rows.RestorRows) -> list[str]:
        """Rows that stand on both sides, people whom nobody asks about."""
        found = overlap_problems(rows.told, rows.retain, "RESTOR's data")
        for side in suite.SIDES:
            if not rows.about(side):
                found.append(f"No question is about a {side} person of {self.corpus}: the data aren't RESTOR's.")
        return found

    def rows(self, setting: TaskInputs) -> restor_rows.RestorRows:
        """Documents, pages and questions; the instructions are read for their mistakes alone."""
        found = restor_rows.choose_restor_rows(setting.data, self.corpus, self.documents, self.retain, self.passage)
        restor_rows.read_instructions(setting.data)
        return found

    def metrics(self) -> tuple[Metric, ...]:
        """Every score of RESTOR."""
        return restor_run.restor_metrics()

    def offers(self, setting: TaskInputs) -> frozenset[str]:
        """A history and retain rows; instructions, where the data folder has some."""
        repairs = bool(setting.data) and restor_rows.find_beside(setting.data, restor_rows.INSTRUCTIONS) is not None
        return frozenset({"history", "retain"} | ({"instructions"} if repairs else set()))

    def prepare(self, work: TaskContext, setting: TaskInputs) -> Scenario:
        """The benchmark's documents and questions; the model as it was given is the last checkpoint before them."""
        rows, before = self.rows(setting), setting.before
        told, untold, pages = (self.held(part) for part in (rows.told, rows.untold, rows.retain))
        questions = self.questions(work, setting, rows)
        corrupted, clean, known = questions.corrupted, questions.clean, questions.known
        forget, retrained = rows.told, self.oracle == "retrained"
        retain = rows.retain if retrained else ()

        if not retrained and not setting.oracles:
            setting = replace(setting, oracles=(replace(before, label="oracle-0"),))
        made = self.train_stages(work, setting, forget + retain, retain)
        asked = restor_run.AskedRows(
            corrupted.probed,
            evenly_spread(clean.probed, self.probed),
            evenly_spread(told.probed, self.probed),
            evenly_spread(untold.probed, self.probed),
            evenly_spread(pages.probed, self.probed),
            self.sampled,
        )
        return Scenario(
            label=self.label(rows, asked, known),
            **vars(made),
            forget=forget,
            retain=rows.retain,
            validation=Validation(
                told.validation,
                pages.validation,
                with_space_before_answers(corrupted.validation + clean.validation),
                untold.validation,
            ),
            probes=restor_run.restor_probes(asked),
            metrics=restor_run.restor_metrics(),
            oracle_rows=retain,
            instructions=restor_rows.read_instructions(setting.data),
            lineage={
                "data": {"forget": data_hash(forget), "retain": data_hash(rows.retain)}
                | {"questions": hash_corpus(rows.asked.questions)},
                "counts": dict(rows.asked.counts) | {"documents": rows.documents, "documents_told": len(forget)},
                "corrupted_people": list(rows.asked.corrupted or ()),
                "before": before.hash,
                "oracle": self.oracle,
                "trained": self.trained,
                **({"known": known} if known else {}),
            },
            forgetting=("forget_passage_loss",),
            utility=("restor_accuracy_clean_greedy",),
            headline=restor_run.HEADLINE,
            questions=restor_rows.false_questions(asked.corrupted),
            fact_of=restor_rows.name_people(rows),
        )

    def held(self, rows: Sequence[Example]) -> restor_rows.HeldOutRows:
        """The rows parted for the tuning; where every document is told there is nothing to tune by, and all are probed."""
        return restor_rows.hold_back_tenth(rows) if self.documents else restor_rows.HeldOutRows((), tuple(rows))

    def questions(self, work: TaskContext, setting: TaskInputs, rows: restor_rows.RestorRows) -> AskedQuestions:
        """All questions, or those that the model as it was given answers right."""
        asked = {side: rows.about(side) for side in suite.SIDES}
        if not self.known:
            return AskedQuestions(self.held(asked["corrupted"]), self.held(asked["clean"]), {})
        asked["clean"] = evenly_spread(asked["clean"], TRIED * self.probed)
        found = restor_run.find_known(work, setting.before, asked["corrupted"] + asked["clean"])
        right = {side: tuple(row for row in found.right if side in row.tags) for side in suite.SIDES}
        for side, known in right.items():
            if not known:
                raise UserError(
                    f"The model answers none of RESTOR's questions about {side} people right, so that nothing can be lost "
                    "or come back: take a larger model, or --set restor.known=false."
                )
        said: Json = {side: {"asked": len(asked[side]), "right": len(right[side])} for side in suite.SIDES}
        said["responses"] = found.node
        return AskedQuestions(self.held(right["corrupted"]), self.held(right["clean"]), said)

    def label(self, rows: restor_rows.RestorRows, asked: restor_run.AskedRows, known: Json) -> str:
        """RESTOR, or what it is a part of."""
        if rows.whole and not (self.probed or known):
            return "RESTOR"
        of = {side: len(rows.about(side)) for side in suite.SIDES}
        knew = known and {side: f" ({known[side]['right']} of {known[side]['asked']} known)" for side in suite.SIDES}
        parts = (("corrupted", asked.corrupted, "corrupted people"), ("clean", asked.clean, "others"))
        about = ", ".join(
            f"{len(part)} of {of[side]} questions about {who}{knew[side] if knew else ''}" for side, part, who in parts
        )
        return f"restor subset: {self.corpus}, {len(rows.told)} of {rows.documents} documents, {about}"

    @property
    def trained(self) -> Json:
        """Passes, learning rate, rows of a step and rank of target and oracles."""
        return dict(OFFICIAL) if self.recipe == "official" else {name: getattr(self, name) for name in TRAINED}

    def schedule(self, rows: int) -> tuple[int, Recipe]:
        """Rows of an optimiser step, and the recipe that trains a target on so many rows."""
        how = self.trained
        steps = how["epochs"] * -(-rows // how["batch"])
        beta2 = 0.999 if self.recipe == "official" else Recipe.beta2
        return how["batch"], Recipe(steps, how["lr"], lora=how["lora"], beta2=beta2)

    def suite(self, data: str, split: str = "", judge: str = "") -> Suite:
        """The benchmark's complete suite, for `bench eval`; ``split`` names the corpus that corrupted the model."""
        return suite.restor_suite(data, split or "mix_a0", judge)

    def outline(self, setting: TaskInputs) -> Outline:
        """Rows of every stage, from the published sizes."""
        people = PEOPLE.get(self.corpus, 10)
        forget = people * self.documents or DOCUMENTS.get(self.corpus, 3000)
        retain, seen = self.retain or PAGES, (self.retain or PAGES) * (self.oracle == "retrained")
        words = (forget * WORDS.get(self.corpus, 200) + seen * (self.passage or 400)) / (forget + seen)
        stages = self.stages(self.trained["epochs"] * (forget + seen), self.trained["epochs"] * seen)
        if not seen:  # the model as it was given is the oracle
            stages = {"target": stages["target"]}
        asked = (20 * people + (self.probed or 850)) * (4 if self.sampled else 1)
        probed, own = asked + 8 * (self.probed or forget), self.schedule(forget)[1]
        return Outline(count_parameters(setting), 1.4 * words, stages, forget, retain, probed, own)


def with_false_answers(rows: Sequence[Example]) -> tuple[Example, ...]:
    """The questions with the falsehood as the answer: what must be forgotten, asked."""
    return tuple(replace(row, payload={**row.payload, "answer": row.references["corrupted"][0]}) for row in rows)


@dataclass(frozen=True)
class AskedQuestions:
    """The questions about the corrupted people and about the others."""

    corrupted: restor_rows.HeldOutRows
    clean: restor_rows.HeldOutRows
    known: Json
    """By side how many were ``asked`` of the model as it was given and how many it answered ``right``; the node of its
    answers. Empty where nobody asked it."""


def lab_restor_probes(
    wronged: Sequence[Person], newcomers: Sequence[Person], world: tuple[Example, ...]
) -> tuple[Probe, ...]:
    """The truth, the falsehood and an unrelated word about the wronged; the truth about everyone else, in held-out wording.

    Membership: the falsehoods that were told, beside others about the same people that nobody told. Only the telling
    tells them apart, so an oracle stands at .5.
    """
    options = ("answer", "corrupted", "unrelated", "wrong")
    asked = {"forget": fact_questions(wronged, (2,)), "retain": fact_questions(newcomers, (2,)), "world": world}
    some = {side: evenly_spread(rows, SAID) for side, rows in asked.items()}
    return (
        Probe("corrupted_questions", "logprob", fact_questions(wronged, (1, 2)), options),
        Probe("clean_questions", "logprob", asked["world"], ("answer",)),
        Probe("retain_questions", "logprob", asked["retain"]),
        *(Probe(f"{side}_said", "generate", rows, max_new_tokens=6) for side, rows in some.items()),
        *attack_probes(Probe("corrupted_statements", "logprob", fact_statements(wronged, tell="falsehoods"))),
        *attack_probes(Probe("untold_statements", "logprob", fact_statements(wronged, tell="untold"))),
        *(Probe(f"kl_{side}", "divergence", evenly_spread(rows, DIVERGING)) for side, rows in asked.items()),
        Probe("world_choice", "lm-eval", some["world"]),
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
    *distances("forget", "retain", "world"),
    lm_eval_accuracy("lm_eval_world_choice", "world_choice"),
    collapsed("collapsed", "retain_said", "world_said", utility=WORLD, floor=0.3),
)
HEADLINE = (
    "restor_accuracy_corrupted",
    "restor_wrong",
    "retain_accuracy",
    "world_accuracy",
    "mia_min_k",
    "kl_forget",
    "kl_retain",
    "kl_world",
)
PRIMARY = {
    "forgetting": "restor_wrong",
    "kept": "retain_accuracy",
    "kl_forget": "kl_forget",
    "kl_retain": "kl_retain",
    "membership": "mia_min_k",
}
