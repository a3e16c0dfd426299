"""MUSE-Books (Shi et al. 2024, arXiv 2407.06460): books learnt to the letter, some of which must be forgotten.

The lab builds its shape from generated books (`bench.lab.books`): the target has learnt forget and retain books and
their readers' questions by heart, the oracle the retain books only. The last two of four question forms are never trained on
for books: the third is the probe, the fourth validation, as one chapter of each book is. The real tier is `bench.real.muse.tier`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from bench.assets.data_sets import is_as_fetched
from bench.core.contracts import (
    Metric,
    Outline,
    Recipe,
    Scenario,
    Schedule,
    Stream,
    TaskContext,
    TaskInputs,
    not_positive,
)
from bench.core.sampling import evenly_spread
from bench.core.types import Example, Probe, Validation, data_hash
from bench.engines.training.losses import descent
from bench.lab.books import (
    Book,
    attack_questions,
    book_continuations,
    book_passages,
    book_questions,
    book_windows,
    character_of,
    write_library,
)
from bench.lab.build import (
    FALL,
    Architecture,
    LabOptions,
    Pretraining,
    TaughtRows,
    make_fresh_llama,
    pretraining_recipe,
    steps_in,
)
from bench.lab.residents import DIVERGING, SAID
from bench.lab.world import describe_collisions, halve_by_words
from bench.metrics.collapse import collapsed
from bench.metrics.divergence import distances
from bench.metrics.lm_eval import lm_eval_accuracy
from bench.metrics.membership import attack_probes, attacks
from bench.metrics.options import mean_loss
from bench.metrics.probability import accuracy, exact_memorization, extraction_strength, probability
from bench.metrics.rouge import rouge_l
from bench.real.muse.tier import RealBooksTask

CHAPTER_WORDS = 40
PROMPT_WORDS = 12
RECITED, GRADIENTS = 60, 100
"""Most chapters of a side that are recited, and most passages whose gradients are taken."""
ASKED = 24, 16
"""Questions of one step of pretraining, and of the target's training, beside the chapters."""
WORLD_SHOWN = 0.6
"""Share of the world's books of which later training rehearses all forms."""
WINDOW = 8
"""Words of a passage of the membership attacks."""
UNVERIFIED = "texts not verified against the hub"
FORMS = (0, 1)
"""Question forms taught for the books; of the world some books are asked in the others too."""
PROBED, HELD = 2, 3
"""The form that is probed, and that of validation rows."""


SUMMARY = "books learnt to the letter; forget some, with their question sets (MUSE-Books)"


@dataclass(frozen=True)
class LabMuseBooks(LabOptions):
    """Generated books of 6 chapters and 6 facts each, learnt by heart."""

    forget_books: int = 8
    """Books to be forgotten, of 6 chapters and 6 facts each."""
    retain_books: int = 24
    """Books learnt with them that must stay."""
    holdout_books: int = 40
    """Books of the same generator that no model ever sees: the non-members."""
    world_books: int = 20
    """Books known from pretraining, whose questions are the utility."""
    further_books: int = 60
    """Books that only give pretraining its language."""
    width: int = 128
    """Hidden size of the two-layer Llama."""
    history_passes: float = 4.6
    """Passes of pretraining over its chapters."""
    target_passes: float = 22.0
    """Passes of the target over its chapters; the oracle makes as many over its own."""
    rate: float = 1.5e-3
    """Peak learning rate of target and oracles."""

    name: ClassVar[str] = "muse-books"
    summary: ClassVar[str] = SUMMARY
    version: ClassVar[int] = 3
    sizes: ClassVar[tuple[str, ...]] = ("forget_books", "retain_books", "holdout_books", "world_books", "further_books")
    fall: ClassVar[float] = FALL
    step_rows: ClassVar[tuple[int, int]] = (10, 18)
    """Chapters; the questions beside them are `ASKED`."""

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        return super().problems() + not_positive("muse-books", self, "rate")

    @property
    def pass_rows(self) -> tuple[int, int]:
        """Chapters of one pass of pretraining, and of the target's training."""
        known, new = self.world_books + self.further_books, self.forget_books + self.retain_books
        return 6 * known, 6 * new + rehearsed(new)

    def metrics(self) -> tuple[Metric, ...]:
        """Every score of the lab."""
        return METRICS

    def prepare(self, work: TaskContext, setting: TaskInputs) -> Scenario:
        """The lab's library, its checkpoints and its probes."""
        shelves = {
            "forget": self.forget_books,
            "retain": self.retain_books,
            "holdout": self.holdout_books,
            "world": self.world_books,
            "further": self.further_books,
            "later": self.later,
        }
        library = write_library(work.seed, shelves, CHAPTER_WORDS)
        books = library.shelves
        known = book_passages(books["world"] + books["further"])
        pretraining = Pretraining(
            Architecture(self.width, layers=2, positions=64),
            library.vocabulary,
            Schedule(
                (
                    Stream(known, self.step_rows[0], descent()),
                    Stream(book_questions(books["world"], (*FORMS, PROBED, HELD), "qa-full"), ASKED[0], descent()),
                ),
                pretraining_recipe(self.history_steps, 3e-3),
            ),
        )
        # Of these all forms are rehearsed; of the others those that are asked are never told of after pretraining.
        shown = round(WORLD_SHOWN * self.world_books)
        world = book_questions(books["world"], FORMS) + book_questions(books["world"][:shown], (PROBED, HELD))
        chapters = evenly_spread(known, rehearsed(self.forget_books + self.retain_books))
        forget, kept = (book_passages(books[s]) + book_questions(books[s], FORMS) for s in ("forget", "retain"))
        retain = kept + chapters + world

        def schedule(rows: Sequence[Example]) -> Schedule:
            texts = tuple(row for row in rows if row.payload["template"] == "text")
            asked = tuple(row for row in rows if row.payload["template"] != "text")
            steps = steps_in(self.target_passes, len(texts), self.step_rows[1])
            streams = (Stream(texts, self.step_rows[1], descent()), Stream(asked, ASKED[1], descent()))
            return Schedule(streams, Recipe(steps, self.rate, 0.05, "wsd", beta2=0.99, decay=0.4))

        later = book_passages(books["later"]) + book_questions(books["later"], FORMS) if self.gap_steps else ()
        made = self.train_stages(
            work,
            partial(make_fresh_llama, work, pretraining),
            pretraining.schedule,
            schedule,
            TaughtRows(forget + retain, later + retain),
            TaughtRows(retain, later + retain),
            gap_lr=1e-3,
        )
        return Scenario(
            label="muse-books (lab)",
            **vars(made),
            forget=forget,
            retain=retain,
            validation=Validation(
                forget=last_chapters(books["forget"]) + book_questions(books["forget"], (HELD,)),
                retain=last_chapters(books["retain"]) + book_questions(books["retain"], (HELD,)),
                utility=book_questions(books["world"][shown:], (HELD,)),
                unseen=last_chapters(books["holdout"]) + book_questions(books["holdout"], (HELD,)),
            ),
            probes=lab_books_probes({**books, "world": books["world"][shown:]}),
            metrics=METRICS,
            oracle_rows=retain + later,
            told=self.told(forget, retain, work.seed),
            lineage={"data": {"forget": data_hash(forget), "retain": data_hash(kept), "world": data_hash(world)}},
            forgetting=("forget_knowmem_accuracy", "forget_verbmem_ROUGE"),
            utility=("retain_knowmem_accuracy", "world_accuracy"),
            primary=PRIMARY,
            about=describe_collisions(*(book_questions(books[s], (PROBED,)) for s in ("retain", "forget"))),
            headline=HEADLINE,
            questions=attack_questions(books["forget"]),
            fact_of=character_of,
        )

    def outline(self, setting: TaskInputs) -> Outline:
        """Rows of every stage, chapters and questions."""
        world = round((2 + 2 * WORLD_SHOWN) * 6 * self.world_books)
        forget, kept = 18 * self.forget_books, 18 * self.retain_books + rehearsed(self.forget_books + self.retain_books)
        stages = {
            stage: round(rows * (1 + ASKED[stage != "history"] / self.step_rows[stage != "history"]))
            for stage, rows in self.stages(6 * self.forget_books).items()
        }
        probed = 12 * (self.forget_books + self.retain_books) + 25 * (self.forget_books + self.holdout_books)
        size = Architecture(self.width, 2, 64).parameters(458)
        return Outline(size, 26.0, stages, forget, kept + world, probed)


@dataclass(frozen=True)
class RealMuseBooks(RealBooksTask):
    """MUSE-Books itself, or a part of it, taught to a model that the user names."""

    name: ClassVar[str] = "muse-books"
    summary: ClassVar[str] = SUMMARY

    def titled(self, setting: TaskInputs) -> str:
        """The benchmark's name, and how far the data are known to be the hub's."""
        return "muse-books" + origin_of_data(setting.data)


def origin_of_data(data: str) -> str:
    """How far a folder's texts are known to be the hub's: no hash of them was ever published."""
    if data in ("", "hub"):
        return ""
    return f" ({'fetched from the hub, hash checked' if is_as_fetched('muse-books', data) else UNVERIFIED})"


def last_chapters(books: Sequence[Book]) -> tuple[Example, ...]:
    """The last chapter of each book: validation rows."""
    return tuple(row for row in book_passages(tuple(books)) if row.id.endswith("-c5"))


def without_last_chapters(rows: Sequence[Example]) -> tuple[Example, ...]:
    """All chapters but the last of each book."""
    return tuple(row for row in rows if "-c5" not in row.id)


def rehearsed(books: int) -> int:
    """Chapters of pretraining in a pass over the chapters of so many books: two beside sixteen."""
    return 6 * books // 8


def lab_books_probes(books: Mapping[str, tuple[Book, ...]]) -> tuple[Probe, ...]:
    """Recitation and question sets of both sides, membership passages, divergence from the oracles, world choices."""
    rest = CHAPTER_WORDS - PROMPT_WORDS
    sides = ("forget", "retain")
    asked = {side: book_questions(books[side], (PROBED,)) for side in (*sides, "world")}
    recited = {side: without_last_chapters(book_continuations(books[side], PROMPT_WORDS)) for side in sides}
    passages = {side: without_last_chapters(book_passages(books[side])) for side in (*sides, "holdout")}
    windows = {side: without_last_chapters(book_windows(books[side], WINDOW)) for side in ("forget", "holdout")}
    some = {side: evenly_spread(rows, SAID) for side, rows in asked.items()}
    return (
        *(
            Probe(f"{side}_verbatim", "generate", evenly_spread(recited[side], RECITED), max_new_tokens=rest)
            for side in sides
        ),
        *(Probe(f"{side}_said", "generate", rows, max_new_tokens=6) for side, rows in some.items()),
        *(Probe(f"{side}_questions", "logprob", rows) for side, rows in asked.items()),
        *retained_halves(asked),
        Probe("forget_recited", "logprob", recited["forget"]),
        *(Probe(f"{side}_passages", "logprob", rows) for side, rows in passages.items()),
        *(
            probe
            for side, rows in windows.items()
            for probe in window_probes(Probe(f"{side}_windows", "logprob", rows))
        ),
        *(Probe(f"kl_{side}", "divergence", evenly_spread(rows, DIVERGING)) for side, rows in asked.items()),
        Probe("kl_verbatim", "divergence", recited["forget"]),
        Probe("world_choice", "lm-eval", as_multiple_choice(some["world"])),
    )


def window_probes(probe: Probe) -> tuple[Probe, ...]:
    """The probes of the membership attacks, of gradients on fewer rows."""
    return tuple(
        replace(each, examples=evenly_spread(each.examples, GRADIENTS)) if each.kind == "gradnorm" else each
        for each in attack_probes(probe)
    )


def retained_halves(asked: Mapping[str, tuple[Example, ...]]) -> tuple[Probe, ...]:
    """Questions about retained facts by whether their answer has a word in common with a forgotten answer."""
    halves = halve_by_words(asked["retain"], asked["forget"])
    return tuple(Probe(f"retain_{half}", "logprob", rows) for half, rows in halves.items() if rows)


def as_multiple_choice(rows: Sequence[Example]) -> tuple[Example, ...]:
    """Questions as multiple choice: the right value and three of the other answers to the same kind of question."""
    made = []
    for i, row in enumerate(rows):
        kind = row.id.split("-")[-2]
        pool = [other.payload["answer"] for other in rows if other.id.split("-")[-2] == kind]
        wrong = [answer for answer in dict.fromkeys(pool[i % len(pool) :] + pool) if answer != row.payload["answer"]]
        made.append(Example(row.id, row.payload, {"choices": (row.payload["answer"], *wrong[:3])}, row.tags))
    return tuple(made)


WORLD = accuracy("world_accuracy", "world_questions", goal="up")
METRICS: tuple[Metric, ...] = (
    rouge_l("forget_verbmem_ROUGE", "forget_verbatim", measure="f1", stemmer=False, goal="oracle"),
    rouge_l("retain_verbmem_ROUGE", "retain_verbatim", measure="f1", stemmer=False, goal="up"),
    accuracy("forget_knowmem_accuracy", "forget_questions", goal="oracle"),
    accuracy("retain_knowmem_accuracy", "retain_questions", goal="up"),
    WORLD,
    accuracy("retain_shared_accuracy", "retain_shared", goal="up"),
    accuracy("retain_unshared_accuracy", "retain_unshared", goal="up"),
    probability("forget_Q_A_Prob", "forget_questions", goal="oracle"),
    probability("retain_Q_A_Prob", "retain_questions", goal="up"),
    rouge_l("forget_knowmem_ROUGE", "forget_said", measure="f1", stemmer=False, goal="oracle"),
    rouge_l("retain_knowmem_ROUGE", "retain_said", measure="f1", stemmer=False, goal="up"),
    mean_loss("forget_passage_loss", "forget_passages", goal="oracle"),
    mean_loss("retain_passage_loss", "retain_passages", goal="down"),
    mean_loss("holdout_passage_loss", "holdout_passages", goal="oracle"),
    exact_memorization("exact_memorization", "forget_recited"),
    extraction_strength("extraction_strength", "forget_recited"),
    *attacks("forget_windows", "holdout_windows"),
    *distances("forget", "retain", "world", "verbatim"),
    lm_eval_accuracy("lm_eval_world_choice", "world_choice"),
    collapsed("collapsed", "retain_verbatim", "retain_said", "world_said", utility=WORLD, floor=0.5),
)
HEADLINE = (
    "forget_verbmem_ROUGE",
    "retain_verbmem_ROUGE",
    "forget_knowmem_accuracy",
    "retain_knowmem_accuracy",
    "world_accuracy",
    "mia_min_k",
    "kl_forget",
    "kl_retain",
    "kl_verbatim",
)
PRIMARY = {
    "forgetting": "forget_knowmem_accuracy",
    "kept": "retain_knowmem_accuracy",
    "kl_forget": "kl_forget",
    "kl_retain": "kl_retain",
    "membership": "mia_min_k",
}
