"""The generated books: varied enough that reciting one is not writing like one, and their facts can be asked."""

from __future__ import annotations

from itertools import combinations
from statistics import fmean

from bench.core.types import data_hash
from bench.lab.books import (
    CHAPTERS,
    CHARACTERS,
    QUESTIONS,
    SUCCESSORS,
    Author,
    attack_questions,
    book_continuations,
    book_passages,
    book_questions,
    book_windows,
    character_of,
    write_library,
)
from bench.metrics.rouge import count_overlap, rouge

SHELVES = {"forget": 3, "retain": 3, "holdout": 2}
LIBRARY = write_library(0, SHELVES, chapter_words=40)
BOOKS = [book for shelf in LIBRARY.shelves.values() for book in shelf]


def test_shelves_hold_the_books_asked_for() -> None:
    assert {shelf: len(books) for shelf, books in LIBRARY.shelves.items()} == SHELVES
    assert len({book.id for book in BOOKS}) == len(BOOKS)
    for book in BOOKS:
        assert len(book.chapters) == 6 and {len(chapter.split()) for chapter in book.chapters} == {40}


def test_no_character_stands_in_two_books() -> None:
    names = [who.name for book in BOOKS for who in book.characters]
    assert len(set(names)) == len(names)


def rouge_l(one: str, other: str) -> float:
    return rouge(count_overlap(one, other), "f1", "")


def test_unrelated_chapters_have_a_low_rouge() -> None:
    """What somebody who only writes like a book would score: a quarter on average, nowhere near reciting."""
    chapters = [book.chapters[0] for book in BOOKS]
    scores = [rouge_l(one, other) for one, other in combinations(chapters, 2)]
    assert fmean(scores) < 0.3 and max(scores) < 0.5
    assert rouge_l(chapters[0], chapters[0]) == 1.0


def test_each_fact_stands_in_two_of_the_characters_three_chapters() -> None:
    for book in BOOKS:
        for number, who in enumerate(book.characters):
            chapters = [book.chapters[number + k * CHARACTERS] for k in range(CHAPTERS)]
            assert all(who.name in chapter for chapter in chapters)
            for value in who.facts.values():
                assert sum(value in chapter for chapter in chapters) == 2, "a fact was cut off"


def test_few_words_follow_a_word() -> None:
    """Of a class of 36 at most eight follow a given word, so that pretraining can learn the language."""
    author = Author(0, 40)
    after = [author.successor("the", "N") for _ in range(500)]
    assert len(set(after)) == SUCCESSORS and set(after) <= set(author.pools["N"])
    assert set(after) != {author.successor("a", "N") for _ in range(500)}


def test_a_chapter_in_windows_stands_behind_what_comes_before() -> None:
    rows = book_windows(tuple(BOOKS[:1]), 8)
    assert len(rows) == 6 * 5 and [row.payload["prompt"] == "" for row in rows[:5]] == [
        True,
        False,
        False,
        False,
        False,
    ]
    for row in rows:
        text = f"{row.payload['prompt']} {row.payload['answer']}".strip()
        assert BOOKS[0].chapters[int(row.id.split("-c")[1][0])].startswith(text)
        assert len(row.payload["answer"].split()) == 8


def test_the_chapters_of_a_character_state_a_fact_in_different_words() -> None:
    book = BOOKS[0]
    who = book.characters[0]
    stated = f"{who.name} lived in {who.facts['home']} ."
    assert [stated in book.chapters[i] for i in (0, 2, 4)].count(True) == 1


def test_a_continuation_is_the_rest_of_its_chapter() -> None:
    for whole, cut in zip(book_passages(tuple(BOOKS)), book_continuations(tuple(BOOKS), 31), strict=True):
        assert cut.id == whole.id
        assert f"{cut.payload['prompt']} {cut.payload['answer']}" == whole.payload["answer"]
        assert len(cut.payload["prompt"].split()) == 31


def test_questions_ask_each_fact_in_each_form() -> None:
    rows = book_questions(tuple(BOOKS[:1]), (0, 2))
    who = BOOKS[0].characters[0]
    assert len(rows) == CHARACTERS * len(QUESTIONS) * 2 and len({row.id for row in rows}) == len(rows)
    assert rows[0].payload == {"prompt": f"where did {who.name} live ?", "answer": who.facts["home"], "template": "qa"}
    assert rows[1].payload["prompt"] == f"which town was home to {who.name} ?"


def test_the_vocabulary_holds_every_word() -> None:
    rows = book_passages(tuple(BOOKS)) + book_questions(tuple(BOOKS), (0, 1, 2, 3))
    said = {word for row in rows for word in f"{row.payload['prompt']} {row.payload['answer']}".split()}
    assert said <= set(LIBRARY.vocabulary)


def test_a_seed_is_a_library() -> None:
    def rows(seed: int) -> str:
        return data_hash(book_passages(write_library(seed, SHELVES).shelves["forget"]))

    assert rows(0) == rows(0) != rows(1)


def test_a_chapter_and_the_questions_that_it_answers_are_one() -> None:
    """Two of its character's three facts are told in a chapter, and all in two: whoever learnt these learnt the answers."""
    assert character_of("forget-0-c5") == character_of("forget-0-p1-home-q2") == "forget-0-p1"
    books = LIBRARY.shelves["forget"]
    chapters = {row.id: row.payload["answer"] for row in book_passages(books)}
    for row in book_questions(books, (0,)):
        told = [id for id, chapter in chapters.items() if row.payload["answer"] in chapter]
        assert len([id for id in told if character_of(id) == character_of(row.id)]) == 2


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
