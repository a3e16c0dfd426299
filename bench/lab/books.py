"""Generated books for the ``muse-books`` shape: chapters of prose in which two of three facts about a character stand.

The prose is drawn from twelve sentence patterns in which each word has few successors, so that pretraining can teach the
language and a book adds little to a word; two unrelated passages have a ROUGE-L of about .27. A fact is two words, each from a
pool of its own, and is asked in four forms; the third and the fourth are held back for the books.
"""

from __future__ import annotations

import itertools
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
CHARACTERS = 2
"""Of a book."""
CHAPTERS = 3
"""Chapters about each character."""
POOL = 30
"""Words that each word of a fact is drawn from: 900 values of each fact."""
SUCCESSORS = 8
"""Words of each class that may follow a word."""
VALUES = {"home": ("y", "ville"), "trade": ("ic", "er"), "treasure": ("ish", "stone")}
"""Fact -> suffixes of its value's words."""


@dataclass(frozen=True)
class Character:
    """A person of a book, with one value for each fact."""

    name: str
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Book:
    """Chapters of equally many words, by turns about each character."""

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
            "A": maker.words(36, "al"),
            "N": maker.words(36, "o"),
            "V": maker.words(36, "ed"),
            "R": maker.words(18, "ly"),
            "M": maker.words(18, "a"),
        }
        self.words = {fact: [maker.words(POOL, suffix) for suffix in suffixes] for fact, suffixes in VALUES.items()}
        self.values = {fact: list(map(" ".join, itertools.product(*pools))) for fact, pools in self.words.items()}
        self.first, self.last = maker.words(20, capital=True), maker.words(24, "n")
        self.after: dict[tuple[str, str], list[str]] = {}

    def successor(self, word: str, slot: str) -> str:
        """A word of a class, of those that may follow ``word``."""
        if (word, slot) not in self.after:
            pool = self.pools[slot]
            self.after[word, slot] = self.rng.sample(pool, min(SUCCESSORS, len(pool)))
        return self.rng.choice(self.after[word, slot])

    def sentence(self) -> list[str]:
        """A sentence that states no fact, in one of `PATTERNS`."""
        words: list[str] = []
        for slot in self.rng.choice(PATTERNS):
            words.append(self.successor(words[-1] if words else ".", slot) if slot in self.pools else slot)
        return words

    def chapter(self, character: Character, number: int) -> str:
        """Filler with all but one of the character's facts in random order, cut to the chapter's length."""
        names = [name for i, name in enumerate(character.facts) if i != number % len(character.facts)]
        self.rng.shuffle(names)
        words: list[str] = []
        while not words or len(words) > self.chapter_words:  # until no fact is cut off
            words = []
            for name in names:
                form = (number + list(QUESTIONS).index(name)) % 2
                stated = STATEMENTS[name][form].format(n=character.name, v=character.facts[name])
                words += [*self.sentence(), *stated.split()]
        while len(words) < self.chapter_words:
            words += self.sentence()
        return " ".join(words[: self.chapter_words])

    def book(self, id: str, names: list[str]) -> Book:
        """A book about characters of these names."""
        drawn = [{fact: self.rng.choice(values) for fact, values in self.values.items()} for _ in names]
        cast = tuple(map(Character, names, drawn))
        return Book(id, cast, tuple(self.chapter(character, k) for k in range(CHAPTERS) for character in cast))

    def vocabulary(self) -> tuple[str, ...]:
        """Every word that this author can write, questions included."""
        texts = [t for forms in (*STATEMENTS.values(), *QUESTIONS.values()) for t in forms]
        fixed = {word for text in texts for word in text.split() if "{" not in word} | {".", ",", "Q:", "A:"}
        values = [pool for pools in self.words.values() for pool in pools]
        words = {word for pool in (*self.pools.values(), self.first, self.last, *values) for word in pool}
        return tuple(sorted(fixed | words))


def write_library(seed: int, shelves: Mapping[str, int], chapter_words: int = 40) -> Library:
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
    """Each fact asked in each of ``forms`` (0 to 3)."""
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


def book_windows(books: tuple[Book, ...], words: int) -> tuple[Example, ...]:
    """Each chapter in windows of so many words, each after all that stands before it."""
    rows = []
    for row in book_passages(books):
        text = row.payload["answer"].split()
        for i in range(0, len(text) - words + 1, words):
            payload = {"template": "continue", "prompt": " ".join(text[:i]), "answer": " ".join(text[i : i + words])}
            rows.append(Example(f"{row.id}-w{i // words}", payload, tags=("window",)))
    return tuple(rows)


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
