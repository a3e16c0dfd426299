"""Generated books for the ``muse-books`` shape: chapters of varied prose in which four facts about a character stand.

The prose is drawn from twelve sentence patterns with few fixed words, so that two unrelated passages have a ROUGE-L
of about .14 and reciting a book can be told from writing like one. A fact is asked in three forms; the third is held
back for the books (the probe) and taught for the world.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench.core.files import read_toml
from bench.core.types import Example
from bench.lab.words import WordMaker, draw_full_names

WORDING = read_toml(Path(__file__).with_name("books.toml"))
PATTERNS = [pattern.split() for pattern in WORDING["patterns"]]
STATEMENTS, QUESTIONS = WORDING["statements"], WORDING["questions"]
"""Fact -> forms in which it is stated, or asked."""
CHARACTERS = 3
"""Of a book."""


@dataclass(frozen=True)
class Character:
    """A person of a book, with one value for each fact."""

    name: str
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Book:
    """Chapters of exactly ``tokens`` words, two for each character."""

    id: str
    characters: tuple[Character, ...]
    chapters: tuple[str, ...]


@dataclass(frozen=True)
class Library:
    """All books of a seed, by what they are for, and every word that occurs."""

    shelves: Mapping[str, tuple[Book, ...]]
    vocabulary: tuple[str, ...]


class Author:
    """Writes books from one set of words."""

    def __init__(self, seed: int, chapter_words: int) -> None:
        self.rng = random.Random(f"books/{seed}")
        self.chapter_words = chapter_words
        maker = WordMaker(self.rng)
        self.pools = {
            **WORDING["fixed"],
            "A": maker.words(36, "y"),
            "N": maker.words(36, "o"),
            "V": maker.words(36, "ed"),
            "R": maker.words(18, "ly"),
            "M": maker.words(18, "a"),
        }
        stones, colours = maker.words(24, "stone"), maker.words(24, "ish")
        self.values = {
            "home": maker.words(24, "ville"),
            "trade": maker.words(24, "er"),
            "treasure": [f"{colour} {stone}" for colour in colours for stone in stones],
            "enemy": maker.words(24, "us"),
        }
        self.first, self.last = maker.words(20, capital=True), maker.words(24, "n")
        self.treasure_words = [*colours, *stones]

    def sentence(self) -> list[str]:
        """A sentence that states no fact, in one of `PATTERNS`."""
        return [self.rng.choice(self.pools[slot]) if slot in self.pools else slot for slot in self.rng.choice(PATTERNS)]

    def chapter(self, character: Character, number: int) -> str:
        """Filler with the character's facts in random order, cut to the chapter's length."""
        names = list(character.facts)
        self.rng.shuffle(names)
        words = self.sentence()
        for name in names:
            form = (number + list(QUESTIONS).index(name)) % 2
            words += STATEMENTS[name][form].format(n=character.name, v=character.facts[name]).split()
            words += self.sentence()
        while len(words) < self.chapter_words:
            words += self.sentence()
        return " ".join(words[: self.chapter_words])

    def book(self, id: str, names: list[str]) -> Book:
        """A book about characters of these names, two chapters each."""
        drawn = [{fact: self.rng.choice(values) for fact, values in self.values.items()} for _ in names]
        cast = tuple(map(Character, names, drawn))
        return Book(id, cast, tuple(self.chapter(character, k) for k in range(2) for character in cast))

    def vocabulary(self) -> tuple[str, ...]:
        """Every word that this author can write, questions included."""
        texts = [t for forms in (*STATEMENTS.values(), *QUESTIONS.values()) for t in forms]
        fixed = {word for text in texts for word in text.split() if "{" not in word} | {".", ",", "Q:", "A:"}
        pools = [word for pool in (*self.pools.values(), self.first, self.last, self.treasure_words) for word in pool]
        values = [word for fact in ("home", "trade", "enemy") for word in self.values[fact]]
        return tuple(sorted(fixed | set(pools) | set(values)))


def write_library(seed: int, shelves: Mapping[str, int], chapter_words: int = 79) -> Library:
    """Write as many books for each shelf as asked; no character stands in two books."""
    author = Author(seed, chapter_words)
    names = draw_full_names(author.rng, author.first, author.last, sum(shelves.values()) * CHARACTERS)
    made: dict[str, tuple[Book, ...]] = {}
    for shelf, count in shelves.items():
        books = []
        for i in range(count):
            cast, names = names[:CHARACTERS], names[CHARACTERS:]
            books.append(author.book(f"{shelf}-{i}", cast))
        made[shelf] = tuple(books)
    return Library(made, author.vocabulary())


def book_passages(books: tuple[Book, ...]) -> tuple[Example, ...]:
    """The chapters as rows to train on or to score whole."""
    return tuple(
        Example(f"{book.id}-c{k}", {"prompt": "", "answer": chapter, "template": "text"}, tags=("text",))
        for book in books
        for k, chapter in enumerate(book.chapters)
    )


def book_continuations(books: tuple[Book, ...], prompt_words: int) -> tuple[Example, ...]:
    """Each chapter cut into a prompt and the rest that a reciter would write."""
    rows = []
    for row in book_passages(books):
        words = row.payload["answer"].split()
        payload = {"template": "continue", "prompt": " ".join(words[:prompt_words])}
        rows.append(Example(row.id, payload | {"answer": " ".join(words[prompt_words:])}, tags=("verbatim",)))
    return tuple(rows)


def book_questions(books: tuple[Book, ...], forms: tuple[int, ...], template: str = "qa") -> tuple[Example, ...]:
    """Each fact asked in each of ``forms`` (0, 1, 2)."""
    return tuple(
        Example(
            f"{book.id}-p{p}-{fact}-q{form}",
            {"prompt": QUESTIONS[fact][form].format(n=who.name), "answer": who.facts[fact], "template": template},
            tags=("question",),
        )
        for book in books
        for p, who in enumerate(book.characters)
        for fact in QUESTIONS
        for form in forms
    )


def character_of(id: str) -> str:
    """The character of a chapter's or a question's id, whose chapters tell what the questions ask: ``forget-0-p1``."""
    if chapter := re.fullmatch(r"(.+)-c(\d+)", id):
        return f"{chapter[1]}-p{int(chapter[2]) % CHARACTERS}"
    return re.sub(r"-[a-z]+-q\d+$", "", id)


def attack_questions(books: tuple[Book, ...]) -> tuple[Example, ...]:
    """Each fact asked in the form that is held back, for attacks: with form 1 as ``paraphrased``, the fact as a
    ``statement``, and as the ``opening`` of an answer the statement up to its value.
    """
    rows = []
    for row, (who, fact) in zip(
        book_questions(books, (2,)),
        ((who, fact) for b in books for who in b.characters for fact in QUESTIONS),
        strict=True,
    ):
        form = STATEMENTS[fact][0]
        references = {
            "accepted": (who.facts[fact],),
            "paraphrased": (QUESTIONS[fact][1].format(n=who.name),),
            "statement": (form.format(n=who.name, v=who.facts[fact]),),
            "opening": (form.partition("{v}")[0].format(n=who.name).strip(),),
        }
        rows.append(replace(row, references=references))
    return tuple(rows)
