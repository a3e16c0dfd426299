"""Generated people and their facts, for the ``tofu`` and ``restor`` shapes.

*Residents* are known from pretraining, *authors* are taught later, *strangers* are never taught. All share first and
last names and the value words, so that hardly anybody is named by a single token. A fact is stated in two forms and asked in
three; the third question is held back for authors (the paraphrase).
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.core.files import read_toml
from bench.core.types import Example
from bench.lab.words import WordMaker, draw_full_names

WORDING = read_toml(Path(__file__).with_name("world.toml"))
ATTRIBUTES, STATEMENTS, QUESTIONS = WORDING["attributes"], WORDING["statements"], WORDING["questions"]
"""Fact -> suffix of its value words; the forms in which a fact is stated and asked."""
VALUES = 40
"""Values of each fact; the chance of guessing one is 1/40."""
WRONG_ANSWERS = 5
"""Wrong values drawn for each fact, as in TOFU's perturbed answers."""


@dataclass(frozen=True)
class Person:
    """A name, the true value of each fact, another value where somebody spread a falsehood, and one nobody ever told."""

    id: str
    name: str
    facts: Mapping[str, str]
    falsehoods: Mapping[str, str]
    untold: Mapping[str, str]
    """A second falsehood that no model is trained on: beside it, the first one's mark can be seen (membership)."""


@dataclass(frozen=True)
class World:
    """Everyone of a seed by group, the values of each fact, and every word that occurs."""

    groups: Mapping[str, tuple[Person, ...]]
    values: Mapping[str, tuple[str, ...]]
    vocabulary: tuple[str, ...]


def make_world(seed: int, groups: Mapping[str, int], facts: int = len(ATTRIBUTES)) -> World:
    """Make as many people in each group as asked, with the first ``facts`` attributes."""
    rng = random.Random(f"world/{seed}")
    maker = WordMaker(rng)
    attributes = list(ATTRIBUTES)[:facts]
    values = {a: tuple(maker.words(VALUES, ATTRIBUTES[a])) for a in attributes}
    first, last = maker.words(40, capital=True), maker.words(60, "n")
    names = draw_full_names(rng, first, last, len(first) * len(last))  # all, so that a group's size moves no other's
    made: dict[str, tuple[Person, ...]] = {}
    for group, count in groups.items():
        people, names = names[:count], names[count:]
        made[group] = tuple(make_person(rng, f"{group}-{i}", name, values) for i, name in enumerate(people))
    templates = {word for text in (*STATEMENTS, *QUESTIONS) for word in text.split() if "{" not in word}
    pools = [word for pool in values.values() for word in pool]
    vocabulary = tuple(sorted(templates | {"Q:", "A:", *attributes, *first, *last, *pools}))
    return World(made, values, vocabulary)


def make_person(rng: random.Random, id: str, name: str, values: Mapping[str, Sequence[str]]) -> Person:
    """One person; the true, the false and the untold value of a fact are three."""
    drawn = {a: rng.sample(list(pool), 3) for a, pool in values.items()}
    true, false, untold = ({a: values[i] for a, values in drawn.items()} for i in range(3))
    return Person(id, name, true, false, untold)


Telling = Literal["facts", "falsehoods", "untold"]


def fact_statements(people: Sequence[Person], tell: Telling = "facts") -> tuple[Example, ...]:
    """Each fact stated in both forms, with the person's true, false or untold values."""
    return tuple(
        Example(
            f"{who.id}-{a}-s{number}",
            {"prompt": "", "answer": form.format(a=a, n=who.name, v=value), "template": "text"},
            tags=("statement",),
        )
        for who in people
        for a, value in getattr(who, tell).items()
        for number, form in enumerate(STATEMENTS)
    )


def fact_questions(
    people: Sequence[Person], forms: Sequence[int], values: Mapping[str, Sequence[str]], template: str = "qa"
) -> tuple[Example, ...]:
    """Each fact asked in each form, with five wrong values, the falsehood and an unrelated word as references."""
    rows = []
    for who in people:
        for a, value in who.facts.items():
            rng = random.Random(f"{who.name}/{a}")  # the same wrong values in every form
            told = (value, who.falsehoods[a], who.untold[a])
            wrong = rng.sample([v for v in values[a] if v not in told], WRONG_ANSWERS)
            other = rng.choice(sorted(set(values) - {a}))
            unrelated = rng.choice(list(values[other]))
            for form in forms:
                payload = {"prompt": QUESTIONS[form].format(a=a, n=who.name), "answer": value, "template": template}
                references = {
                    "wrong": tuple(wrong),
                    "corrupted": (who.falsehoods[a],),
                    "unrelated": (unrelated,),
                    "choices": (value, *wrong[:3]),
                }
                rows.append(Example(f"{who.id}-{a}-q{form}", payload, references, ("question",)))
    return tuple(rows)


def fact_of(id: str) -> str:
    """The fact of a question's or a statement's id: ``author-3-birthplace-q1`` is about ``author-3-birthplace``."""
    return re.sub(r"-[qs]\d+$", "", id)


def attack_questions(people: Sequence[Person], tell: Telling = "facts") -> tuple[Example, ...]:
    """Each fact asked in the form that is held back, for attacks: with form 1 as ``paraphrased``, the fact as a
    ``statement``, and as the ``opening`` of an answer the statement up to its value.
    """
    rows = []
    for who in people:
        for a, value in getattr(who, tell).items():
            stated = STATEMENTS[0].format(a=a, n=who.name, v=value)
            references = {
                "accepted": (value,),
                "paraphrased": (QUESTIONS[1].format(a=a, n=who.name),),
                "statement": (stated,),
                "opening": (STATEMENTS[0].partition("{v}")[0].format(a=a, n=who.name).strip(),),
            }
            payload = {"prompt": QUESTIONS[2].format(a=a, n=who.name), "answer": value, "template": "qa"}
            rows.append(Example(f"{who.id}-{a}-q2", payload, references, ("question",)))
    return tuple(rows)
