"""MUSE-Books' real tier by itself: sizes, what is refused of a part, and when a model counts as collapsed."""

from __future__ import annotations

import pytest

from bench.core.contracts import TaskInputs
from bench.core.errors import Absent
from bench.core.types import Example, Responses
from bench.real.muse.suite import question_probes
from bench.real.muse.tier import EXCERPTS, RETAIN, collapsed_metric, cut_passage, with_solved
from tasks.muse_books import RealMuseBooks


def test_parameters_below_their_bounds_are_all_named() -> None:
    assert RealMuseBooks().problems() == []
    assert RealMuseBooks(chunk=8, oracles=0, stories=-1).problems() == [
        "muse-books.oracles must be at least 1, not 0.",
        "muse-books.chunk must be at least 16, not 8.",
        "muse-books.stories must be at least 0, not -1.",
    ]


def test_steps_cover_every_passage_in_each_epoch() -> None:
    assert RealMuseBooks(epochs=10, batch=32).schedule(33)[1].steps == 20  # 10 passes of 2 steps


def test_without_data_the_outline_is_of_the_benchmarks_own_size() -> None:
    """1,000,000, 200,000 and 490,000 tokens in passages of 2,048: 489, 98 and 240."""
    outline = RealMuseBooks().outline(TaskInputs("real"))
    assert (outline.forget, outline.retain) == (489, 98)
    assert outline.stages == {"target": 10 * 827, "oracle-0": 10 * 338, "oracle-1": 10 * 338}


def test_of_a_part_questions_are_absent_with_the_reason() -> None:
    whole = {metric.name: metric for metric in RealMuseBooks().metrics()}
    part = {metric.name: metric for metric in RealMuseBooks(most_tokens=300).metrics()}
    assert list(whole) == list(part)
    with pytest.raises(Absent) as error:
        part["forget_knowmem_ROUGE"].compute(Responses("x", {}), ())
    assert str(error.value) == EXCERPTS


def test_a_model_is_broken_below_the_floor_alone() -> None:
    """Of four tokens the last is the end, which does not count; two of three are hit."""
    rows = {"retain": {"a": {"answer": [{"logp": [-1.0] * 4, "hit": [1, 0, 1, 0], "eos": True}]}}}
    for floor, value in ((0.6, 0.0), (0.7, 1.0)):
        assert collapsed_metric("collapsed", RETAIN, floor).compute(Responses("x", rows), ()).value == value


def test_only_membership_rows_are_cut() -> None:
    member, other = Example("a", {"most": 2048, "answer": "x"}), Example("b", {"answer": "x"})
    assert cut_passage(member, 16).payload["most"] == 16 and cut_passage(member, 4096).payload["most"] == 2048
    assert cut_passage(other, 16) == other


def test_a_question_looks_solved_as_the_solved_ones_before_it() -> None:
    rows = [{"question": f"Who is {i}?", "answer": f"Number {i}."} for i in range(3)]
    asked, other = (question_probes("forget", rows, solved)[0].examples[2] for solved in (rows[:2], rows))
    assert with_solved(asked).references == {"solved": ("Question: Who is 2?\nAnswer: Number 2.\n\n",)}
    assert with_solved(other).references["solved"][0] in other.payload["prompt"]
    assert with_solved(asked).payload == asked.payload
