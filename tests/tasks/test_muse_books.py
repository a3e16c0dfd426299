"""The muse-books shape: books on shelves that share nothing, chapters and question forms held back."""

from __future__ import annotations

from collections import Counter

import pytest

from bench.conformance import LAB, Trace, prepare_traced
from bench.core.types import Example
from bench.metrics.rouge import count_overlap, rouge
from tasks.muse_books import CHAPTER_WORDS, PROMPT_WORDS, LabMuseBooks, as_multiple_choice


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """Everything is built, from one step of training each."""
    small = LabMuseBooks(
        forget_books=2,
        retain_books=3,
        holdout_books=2,
        world_books=4,
        further_books=2,
        width=16,
        history_passes=0.01,
        target_passes=0.01,
    )
    trace = prepare_traced(small, LAB, tmp_path_factory.mktemp("books"))
    trace.scenario.target()
    for oracle in trace.scenario.oracles:
        oracle()
    return trace


def probe(trace: Trace, name: str) -> tuple[Example, ...]:
    return next(probe.examples for probe in trace.scenario.probes if probe.name == name)


def trained(trace: Trace) -> list[Example]:
    return [row for rows in trace.work.trained.values() for row in rows]


def test_a_book_is_six_chapters_and_six_facts_in_two_forms(trace: Trace) -> None:
    kinds = Counter(row.payload["template"] for row in trace.scenario.forget)
    assert kinds == {"text": 2 * 6, "qa": 2 * 6 * 2}
    assert len(probe(trace, "forget_questions")) == 2 * 6


def test_what_is_asked_is_never_taught_of_the_books_nor_again_of_the_world(trace: Trace) -> None:
    taught = {row.payload["prompt"] for row in trained(trace)}
    held = trace.scenario.validation
    kept = {row.payload["prompt"] for row in trace.scenario.retain}
    for rows in (probe(trace, "forget_questions"), probe(trace, "retain_questions"), held.forget, held.retain):
        asked = {row.payload["prompt"] for row in rows if row.payload["template"] == "qa"}
        assert asked and not asked & taught
    for rows in (probe(trace, "world_questions"), held.utility):
        asked = {row.payload["prompt"] for row in rows}
        assert asked <= taught and not asked & kept, "known from pretraining alone"


def test_membership_is_asked_of_short_passages_in_their_places(trace: Trace) -> None:
    """Five chapters of each book in five windows of eight words."""
    assert [len(probe(trace, f"{side}_windows")) for side in ("forget", "holdout")] == [2 * 25, 2 * 25]
    assert len(next(p for p in trace.scenario.probes if p.kind == "gradnorm").examples) == 50


def test_the_oracle_reads_retain_books_and_nobody_reads_the_holdout(trace: Trace) -> None:
    def chapters(rows: list[Example]) -> set[str]:
        return {row.id for row in rows if row.payload["template"] == "text"}

    read = trace.work.trained
    rehearsed = {id for id in chapters(read["oracle-0"]) if id.startswith(("world", "further"))}
    assert len(rehearsed) == 3, "two chapters of pretraining beside sixteen new ones"
    assert (
        chapters(read["oracle-0"])
        == chapters(read["oracle-1"])
        == {f"retain-{b}-c{c}" for b in range(3) for c in range(6)} | rehearsed
    )
    assert chapters(read["target"]) == chapters(read["oracle-0"]) | {
        f"forget-{b}-c{c}" for b in range(2) for c in range(6)
    }
    texts = {row.payload["answer"] for row in trained(trace)}
    assert not texts & {row.payload["answer"] for row in probe(trace, "holdout_passages")}


def test_the_last_chapter_of_each_book_is_held_for_validation(trace: Trace) -> None:
    held = {row.id for row in trace.scenario.validation.forget if row.payload["template"] == "text"}
    assert held == {"forget-0-c5", "forget-1-c5"}
    assert {row.id for row in probe(trace, "forget_verbatim")} == {
        f"forget-{b}-c{c}" for b in range(2) for c in range(5)
    }


def test_a_recital_is_as_long_as_what_is_missing(trace: Trace) -> None:
    rest = CHAPTER_WORDS - PROMPT_WORDS
    for name in ("forget_verbatim", "retain_verbatim"):
        asked = next(probe for probe in trace.scenario.probes if probe.name == name)
        assert asked.max_new_tokens == rest
        assert {len(row.payload["answer"].split()) for row in asked.examples} == {rest}


def test_two_unrelated_continuations_have_a_low_rouge(trace: Trace) -> None:
    """What the oracle could score by chance; the target must recite at .9 and the oracle stay below .3."""
    rows = probe(trace, "forget_verbatim") + probe(trace, "retain_verbatim")
    scores = [
        rouge(count_overlap(one.payload["answer"], other.payload["answer"]), "f1", "")
        for one, other in zip(rows, rows[7:], strict=False)
    ]
    assert len(scores) > 10 and sum(scores) / len(scores) < 0.3 and max(scores) < 0.5


def test_choices_are_of_the_same_kind_and_hold_the_right_one_once() -> None:
    rows = [
        Example(f"world-0-p{i}-{kind}-q2", {"prompt": "", "answer": f"{kind}{i}", "template": "qa"})
        for i in range(5)
        for kind in ("home", "trade")
    ]
    for row in as_multiple_choice(rows):
        offered = row.references["choices"]
        assert offered[0] == row.payload["answer"] and len(set(offered)) == 4
        assert {text[:-1] for text in offered} == {row.payload["answer"][:-1]}
