"""Generated people and their facts, for the ``tofu`` and ``restor`` shapes.

*Residents* are known from pretraining, *authors* are taught later, *strangers* are never taught. All share first and
last names and the value words, so that hardly anybody is named by a single token. A value is two words, each from a pool of
its own, so that hardly two people have the same (with ``collisions`` one word of 40, which many share). A fact is stated in two
forms and asked in three; the third question is held back for authors (the paraphrase).
"""

from __future__ import annotations

import itertools
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
"""Fact -> suffixes of its value's words; the forms in which a fact is stated and asked."""
FACTS = len(ATTRIBUTES)
"""Facts of each person."""
POOL = 40
"""Words that each word of a value is drawn from: 1,600 values of each fact."""
WRONG_ANSWERS = 5
"""Wrong values drawn for each fact, as in TOFU's perturbed answers."""
UNTOLD = 4
"""Values of each fact that nobody ever told, beside the falsehood that somebody spread."""


@dataclass(frozen=True)
class Person:
    """A name, the true value of each fact, another value where somebody spread a falsehood, and some nobody ever told."""

    id: str
    name: str
    facts: Mapping[str, str]
    falsehoods: Mapping[str, str]
    untold: Mapping[str, tuple[str, ...]]
    """Further falsehoods that no model is trained on: beside them, the first one's mark can be seen (membership)."""
    wrong: Mapping[str, tuple[str, ...]]
    """`WRONG_ANSWERS` values of each fact that nobody told of the person."""
    unrelated: Mapping[str, str]
    """For each fact a value of another one, anybody's."""


@dataclass(frozen=True)
class World:
    """Everyone of a seed by group, the values of each fact, and every word that occurs."""

    groups: Mapping[str, tuple[Person, ...]]
    values: Mapping[str, tuple[str, ...]]
    vocabulary: tuple[str, ...]


def make_world(seed: int, groups: Mapping[str, int], facts: int = FACTS, collisions: bool = False) -> World:
    """Make as many people in each group as asked, with the first ``facts`` attributes.

    With ``collisions`` a value is one word of its pool, which many people share.
    """
    rng = random.Random(f"world/{seed}")
    maker = WordMaker(rng)
    attributes = list(ATTRIBUTES)[:facts]
    pools = {a: [maker.words(POOL, suffix) for suffix in ATTRIBUTES[a][-1 if collisions else 0 :]] for a in attributes}
    values = {a: tuple(map(" ".join, itertools.product(*both))) for a, both in pools.items()}
    first, last = maker.words(40, capital=True), maker.words(60, "n")
    names = draw_full_names(rng, first, last, len(first) * len(last))  # all, so that a group's size moves no other's
    made: dict[str, tuple[Person, ...]] = {}
    for group, count in groups.items():
        people, names = names[:count], names[count:]
        made[group] = tuple(make_person(rng, f"{group}-{i}", name, values) for i, name in enumerate(people))
    templates = {word for text in (*STATEMENTS, *QUESTIONS) for word in text.split() if "{" not in word}
    words = [word for both in pools.values() for pool in both for word in pool]
    vocabulary = tuple(sorted(templates | {"Q:", "A:", *attributes, *first, *last, *words}))
    return World(made, values, vocabulary)


def make_person(rng: random.Random, id: str, name: str, values: Mapping[str, Sequence[str]]) -> Person:
    """One person; the true, the false, the untold and the wrong values of a fact are all different."""
    drawn = {a: rng.sample(pool, 3) for a, pool in values.items()}
    true, false = ({a: values[i] for a, values in drawn.items()} for i in range(2))
    untold = {
        a: tuple(v for v in random.Random(f"{name}/{a}/untold").sample(pool, UNTOLD + 2) if v not in drawn[a][:2])[
            :UNTOLD
        ]
        for a, pool in values.items()
    }
    wrong, unrelated = {}, {}
    for a, pool in values.items():
        own, told = random.Random(f"{name}/{a}"), (true[a], false[a], *untold[a])
        wrong[a] = tuple(v for v in own.sample(pool, WRONG_ANSWERS + len(told)) if v not in told)[:WRONG_ANSWERS]
        unrelated[a] = own.choice(values[own.choice(sorted(set(values) - {a}))])
    return Person(id, name, true, false, untold, wrong, unrelated)


Telling = Literal["facts", "falsehoods", "untold"]


def fact_statements(people: Sequence[Person], tell: Telling = "facts") -> tuple[Example, ...]:
    """Each fact stated in both forms, with the person's true or false value, or with every untold one."""

    def told(who: Person) -> list[tuple[str, str, str]]:
        if tell == "untold":
            return [(a, f"{a}-u{k}", value) for a, values in who.untold.items() for k, value in enumerate(values)]
        return [(a, a, value) for a, value in getattr(who, tell).items()]

    return tuple(
        Example(
            f"{who.id}-{name}-s{number}",
            {"prompt": "", "answer": form.format(a=a, n=who.name, v=value), "template": "text"},
            tags=("statement",),
        )
        for who in people
        for a, name, value in told(who)
        for number, form in enumerate(STATEMENTS)
    )


def fact_questions(people: Sequence[Person], forms: Sequence[int], template: str = "qa") -> tuple[Example, ...]:
    """Each fact asked in each form, with five wrong values, the falsehood and an unrelated word as references."""
    rows = []
    for who in people:
        for a, value in who.facts.items():
            for form in forms:
                payload = {"prompt": QUESTIONS[form].format(a=a, n=who.name), "answer": value, "template": template}
                references = {
                    "wrong": who.wrong[a],
                    "corrupted": (who.falsehoods[a],),
                    "unrelated": (who.unrelated[a],),
                    "choices": (value, *who.wrong[a][:3]),
                }
                rows.append(Example(f"{who.id}-{a}-q{form}", payload, references, ("question",)))
    return tuple(rows)


def cloze(people: Sequence[Person]) -> tuple[Example, ...]:
    """Each fact as a statement to be completed: a wording that is known of residents and taught of nobody else."""
    before, after = STATEMENTS[0].split("{v}")
    return tuple(
        Example(
            f"{who.id}-{a}-s0",
            {"prompt": before.format(a=a, n=who.name).strip(), "answer": f"{value}{after}", "template": "continue"},
            tags=("statement",),
        )
        for who in people
        for a, value in who.facts.items()
    )


def describe_collisions(retained: Sequence[Example], forgotten: Sequence[Example]) -> dict[str, float]:
    """Shares of the retained answers that are a forgotten answer too, and that have a word in common with one."""
    answers = {row.payload["answer"] for row in forgotten}
    same = sum(row.payload["answer"] in answers for row in retained) / len(retained)
    return {
        "same_answer": round(same, 4),
        "same_word": round(len(halve_by_words(retained, forgotten)["shared"]) / len(retained), 4),
    }


def halve_by_words(retained: Sequence[Example], forgotten: Sequence[Example]) -> dict[str, tuple[Example, ...]]:
    """The retained rows, ``shared`` and ``unshared``: whether a word of their answer stands in a forgotten answer too."""
    words = {word for row in forgotten for word in row.payload["answer"].split()}
    shared = [bool(set(row.payload["answer"].split()) & words) for row in retained]
    return {
        half: tuple(row for row, same in zip(retained, shared, strict=True) if same == wanted)
        for half, wanted in (("shared", True), ("unshared", False))
    }


def fact_of(id: str) -> str:
    """The fact of a question's or a statement's id: ``author-3-birthplace-q1`` is about ``author-3-birthplace``."""
    return re.sub(r"-[qs]\d+$", "", id)


def attack_questions(people: Sequence[Person], tell: Literal["facts", "falsehoods"] = "facts") -> tuple[Example, ...]:
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
