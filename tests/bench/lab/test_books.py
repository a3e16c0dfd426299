"""The generated books: varied enough that reciting one is not writing like one, and their facts can be asked."""

from __future__ import annotations

from itertools import combinations
from statistics import fmean

from bench.core.types import data_hash
from bench.lab.books import (
    QUESTIONS,
    attack_questions,
    book_continuations,
    book_passages,
    book_questions,
    character_of,
    write_library,
)
from bench.metrics.rouge import count_overlap, rouge

SHELVES = {"forget": 3, "retain": 3, "holdout": 2}
LIBRARY = write_library(0, SHELVES, chapter_words=79)
BOOKS = [book for shelf in LIBRARY.shelves.values() for book in shelf]


def test_shelves_hold_the_books_asked_for() -> None:
    assert {shelf: len(books) for shelf, books in LIBRARY.shelves.items()} == SHELVES
    assert len({book.id for book in BOOKS}) == len(BOOKS)
    for book in BOOKS:
        assert len(book.chapters) == 6 and {len(chapter.split()) for chapter in book.chapters} == {79}


def test_no_character_stands_in_two_books() -> None:
    names = [who.name for book in BOOKS for who in book.characters]
    assert len(set(names)) == len(names)


def rouge_l(one: str, other: str) -> float:
    return rouge(count_overlap(one, other), "f1", "")


def test_unrelated_chapters_have_a_low_rouge() -> None:
    """What somebody who only writes like a book would score: .14 on average, nowhere near reciting."""
    chapters = [book.chapters[0] for book in BOOKS]
    scores = [rouge_l(one, other) for one, other in combinations(chapters, 2)]
    assert fmean(scores) < 0.2 and max(scores) < 0.3
    assert rouge_l(chapters[0], chapters[0]) == 1.0


def test_each_fact_stands_in_the_characters_chapters() -> None:
    for book in BOOKS:
        for number, who in enumerate(book.characters):
            for chapter in (book.chapters[number], book.chapters[number + 3]):
                assert who.name in chapter
                stated = [value for value in who.facts.values() if value in chapter]
                assert len(stated) == 4, "a fact was cut off"


def test_the_two_chapters_of_a_character_state_a_fact_in_different_words() -> None:
    book = BOOKS[0]
    who = book.characters[0]
    stated = f"{who.name} lived in {who.facts['home']} ."
    assert [stated in book.chapters[i] for i in (0, 3)].count(True) == 1


def test_a_continuation_is_the_rest_of_its_chapter() -> None:
    for whole, cut in zip(book_passages(tuple(BOOKS)), book_continuations(tuple(BOOKS), 31), strict=True):
        assert cut.id == whole.id
        assert f"{cut.payload['prompt']} {cut.payload['answer']}" == whole.payload["answer"]
        assert len(cut.payload["prompt"].split()) == 31


def test_questions_ask_each_fact_in_each_form() -> None:
    rows = book_questions(tuple(BOOKS[:1]), (0, 2))
    who = BOOKS[0].characters[0]
    assert len(rows) == 3 * len(QUESTIONS) * 2 and len({row.id for row in rows}) == len(rows)
    assert rows[0].payload == {"prompt": f"where did {who.name} live ?", "answer": who.facts["home"], "template": "qa"}
    assert rows[1].payload["prompt"] == f"which town was home to {who.name} ?"


def test_the_vocabulary_holds_every_word() -> None:
    rows = book_passages(tuple(BOOKS)) + book_questions(tuple(BOOKS), (0, 1, 2))
    said = {word for row in rows for word in f"{row.payload['prompt']} {row.payload['answer']}".split()}
    assert said <= set(LIBRARY.vocabulary)


def test_a_seed_is_a_library() -> None:
    def rows(seed: int) -> str:
        return data_hash(book_passages(write_library(seed, SHELVES).shelves["forget"]))

    assert rows(0) == rows(0) != rows(1)


def test_a_chapter_and_the_questions_that_it_answers_are_one() -> None:
    """A chapter tells all four facts of its character, so that whoever learnt it learnt their answers."""
    assert character_of("forget-0-c4") == character_of("forget-0-p1-home-q2") == "forget-0-p1"
    books = LIBRARY.shelves["forget"]
    chapters = {row.id: row.payload["answer"] for row in book_passages(books)}
    for row in book_questions(books, (0,)):
        for id, chapter in chapters.items():
            assert character_of(id) != character_of(row.id) or row.payload["answer"] in chapter


def test_attacks_ask_in_the_form_that_is_held_back() -> None:
    books = LIBRARY.shelves["forget"]
    asked = attack_questions(books)
    assert [(row.id, row.payload) for row in asked] == [(row.id, row.payload) for row in book_questions(books, (2,))]
    who, third = books[0].characters[0], asked[2]
    value = who.facts["treasure"]
    assert third.references == {
        "accepted": (value,),
        "paraphrased": (f"what was the treasure of {who.name} ?",),
        "statement": (f"{who.name} guarded the {value} .",),
        "opening": (f"{who.name} guarded the",),
    }
