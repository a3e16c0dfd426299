"""MUSE-Books (Shi et al. 2024, arXiv 2407.06460): books learnt to the letter, some of which must be forgotten.

The lab builds its shape from generated books (`bench.lab.books`): the target has learnt forget and retain books and
their readers' questions by heart, the oracle the retain books only. One chapter of each book and the first question
form are validation rows and never probed; the third question form is never trained on for books. The real tier is
`bench.real.muse.tier`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from bench.assets.data_sets import is_as_fetched
from bench.core.contracts import Metric, Outline, Recipe, Scenario, Schedule, Stream, TaskContext, TaskInputs
from bench.core.types import Example, Probe, Validation, data_hash
from bench.engines.training.losses import descent
from bench.lab.books import (
    Book,
    attack_questions,
    book_continuations,
    book_passages,
    book_questions,
    character_of,
    write_library,
)
from bench.lab.build import Architecture, LabOptions, Pretraining, TaughtRows, make_fresh_llama
from bench.metrics.collapse import collapsed
from bench.metrics.divergence import distances
from bench.metrics.lm_eval import lm_eval_accuracy
from bench.metrics.membership import attack_probes, attacks
from bench.metrics.options import mean_loss
from bench.metrics.probability import accuracy, exact_memorization, extraction_strength, probability
from bench.metrics.rouge import rouge_l
from bench.real.muse.tier import RealBooksTask

CHAPTER_WORDS = 79
PROMPT_WORDS = 31
UNVERIFIED = "texts not verified against the hub"
FORMS = (0, 1)
"""Question forms taught for the books; the third is the probe, and is taught for the world."""


SUMMARY = "books learnt to the letter; forget some, with their question sets (MUSE-Books)"


@dataclass(frozen=True)
class LabMuseBooks(LabOptions):
    """Generated books of 6 chapters and 12 facts each, learnt by heart."""

    forget_books: int = 4
    """Books to be forgotten, of 6 chapters and 12 facts each."""
    retain_books: int = 9
    """Books learnt with them that must stay."""
    holdout_books: int = 8
    """Books of the same generator that no model ever sees: the non-members."""
    world_books: int = 10
    """Books known from pretraining, whose questions are the utility."""
    further_books: int = 40
    """Books that only give pretraining its language."""
    width: int = 128
    """Hidden size of the two-layer Llama."""
    history_steps: int = 280
    """Optimiser steps of pretraining."""
    target_steps: int = 210
    """Optimiser steps of the target; the oracle's are scaled by the number of books."""

    name: ClassVar[str] = "muse-books"
    summary: ClassVar[str] = SUMMARY
    sizes: ClassVar[tuple[str, ...]] = ("forget_books", "retain_books", "holdout_books", "world_books", "further_books")

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
        pretraining = Pretraining(
            Architecture(self.width, layers=2, positions=128),
            library.vocabulary,
            Schedule(
                (
                    Stream(book_passages(books["world"] + books["further"]), 8, descent()),
                    Stream(book_questions(books["world"], (0, 1, 2), "qa-full"), 40, descent()),
                ),
                Recipe(self.history_steps, 3e-3),
            ),
        )
        world = book_questions(books["world"], (0, 1, 2))
        forget, retain = (book_passages(books[s]) + book_questions(books[s], FORMS) for s in ("forget", "retain"))

        def schedule(rows: Sequence[Example]) -> Schedule:
            texts = tuple(row for row in rows if row.payload["template"] == "text")
            asked = tuple(row for row in rows if row.payload["template"] != "text") + world
            steps = max(1, round(self.target_steps * len(texts) / all_texts))
            # As many passes over the questions as the target makes, though the world's don't shrink with the books.
            batch = round(32 * self.target_steps / steps * len(asked) / all_asked)
            streams = (Stream(texts, 12, descent()), Stream(asked, batch, descent()))
            return Schedule(streams, Recipe(steps, 3e-3))

        all_texts = len(book_passages(books["forget"] + books["retain"]))
        all_asked = len(forget + retain + world) - all_texts
        later = book_passages(books["later"]) + book_questions(books["later"], FORMS) if self.gap_steps else ()
        made = self.train_stages(
            work,
            partial(make_fresh_llama, work, pretraining),
            pretraining.schedule,
            schedule,
            TaughtRows(forget + retain, later + retain + world),
            TaughtRows(retain, later + retain + world),
            gap_lr=1e-3,
        )
        return Scenario(
            label="muse-books (lab)",
            **vars(made),
            forget=forget,
            retain=retain + world,
            validation=Validation(
                forget=last_chapters(books["forget"]) + book_questions(books["forget"], (0,)),
                retain=last_chapters(books["retain"]) + book_questions(books["retain"], (0,)),
                utility=book_questions(books["world"], (0,)),
                unseen=last_chapters(books["holdout"]) + book_questions(books["holdout"], (0,)),
            ),
            probes=lab_books_probes(books),
            metrics=METRICS,
            oracle_rows=retain + world + later,
            told=self.told(forget, retain + world, work.seed),
            lineage={"data": {"forget": data_hash(forget), "retain": data_hash(retain), "world": data_hash(world)}},
            forgetting=("forget_knowmem_accuracy", "forget_verbmem_ROUGE"),
            utility=("retain_knowmem_accuracy", "world_accuracy"),
            headline=HEADLINE,
            questions=attack_questions(books["forget"]),
            fact_of=character_of,
        )

    def outline(self, setting: TaskInputs) -> Outline:
        """Rows of every stage; a chapter counts as four questions."""
        share = self.retain_books / (self.forget_books + self.retain_books)
        return Outline(
            Architecture(self.width, 2, 128).parameters(380),
            18.0,
            self.stages(8 * 4 + 40, 12 * 4 + 32, share),
            self.forget_books * (6 * 4 + 24),
            self.retain_books * (6 * 4 + 24),
            (self.forget_books + self.retain_books + self.holdout_books) * 60,
        )


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
    return tuple(row for row in rows if not row.id.endswith("-c5"))


def lab_books_probes(books: Mapping[str, tuple[Book, ...]]) -> tuple[Probe, ...]:
    """Recitation and question sets of both sides, membership passages, divergence from the oracles, world choices."""
    rest = CHAPTER_WORDS - PROMPT_WORDS
    sides = ("forget", "retain")
    asked = {side: book_questions(books[side], (2,)) for side in (*sides, "world")}
    recited = {side: without_last_chapters(book_continuations(books[side], PROMPT_WORDS)) for side in sides}
    passages = {side: without_last_chapters(book_passages(books[side])) for side in (*sides, "holdout")}
    return (
        *(Probe(f"{side}_verbatim", "generate", recited[side], max_new_tokens=rest) for side in sides),
        *(Probe(f"{side}_said", "generate", asked[side], max_new_tokens=6) for side in sides),
        *(Probe(f"{side}_questions", "logprob", rows) for side, rows in asked.items()),
        Probe("forget_recited", "logprob", recited["forget"]),
        *attack_probes(Probe("forget_passages", "logprob", passages["forget"])),
        *attack_probes(Probe("holdout_passages", "logprob", passages["holdout"])),
        Probe("retain_passages", "logprob", passages["retain"]),
        *(Probe(f"kl_{side}", "divergence", rows) for side, rows in asked.items()),
        Probe("kl_verbatim", "divergence", recited["forget"]),
        Probe("world_choice", "lm-eval", as_multiple_choice(asked["world"])),
    )


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
    probability("forget_Q_A_Prob", "forget_questions", goal="oracle"),
    probability("retain_Q_A_Prob", "retain_questions", goal="up"),
    rouge_l("forget_knowmem_ROUGE", "forget_said", measure="f1", stemmer=False, goal="oracle"),
    rouge_l("retain_knowmem_ROUGE", "retain_said", measure="f1", stemmer=False, goal="up"),
    mean_loss("forget_passage_loss", "forget_passages", goal="oracle"),
    mean_loss("retain_passage_loss", "retain_passages", goal="down"),
    mean_loss("holdout_passage_loss", "holdout_passages", goal="oracle"),
    exact_memorization("exact_memorization", "forget_recited"),
    extraction_strength("extraction_strength", "forget_recited"),
    *attacks("forget_passages", "holdout_passages"),
    *distances("forget", "retain", "world", "verbatim"),
    lm_eval_accuracy("lm_eval_world_choice", "world_choice"),
    collapsed("collapsed", "forget_verbatim", utility=WORLD, floor=0.5),
)
HEADLINE = (
    "forget_verbmem_ROUGE",
    "retain_verbmem_ROUGE",
    "forget_knowmem_accuracy",
    "retain_knowmem_accuracy",
    "world_accuracy",
    "mia_min_k",
    "privleak",
    "kl_forget",
    "kl_verbatim",
)
