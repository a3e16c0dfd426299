"""The generated people: who is told what, and in which words."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from bench.core.types import Example, data_hash
from bench.lab.words import WordMaker, draw_full_names
from bench.lab.world import (
    ATTRIBUTES,
    FACTS,
    POOL,
    QUESTIONS,
    STATEMENTS,
    UNTOLD,
    attack_questions,
    cloze,
    fact_of,
    fact_questions,
    fact_statements,
    halve_by_words,
    make_world,
)

GROUPS = {"resident": 12, "author": 10, "stranger": 8}
WORLD = make_world(0, GROUPS)


def test_groups_are_as_large_as_asked_and_share_nobody() -> None:
    assert {group: len(people) for group, people in WORLD.groups.items()} == GROUPS
    names = [who.name for people in WORLD.groups.values() for who in people]
    assert len(set(names)) == len(names)
    assert len({who.id for people in WORLD.groups.values() for who in people}) == len(names)


def test_hardly_anybody_is_named_by_a_single_word() -> None:
    """250 people share 40 first and 60 last names: of few is the first or the last name theirs alone."""
    groups = make_world(0, {"resident": 60, "author": 150, "stranger": 40}).groups
    names = [who.name.split() for people in groups.values() for who in people]
    bearers = Counter(word for name in names for word in name)
    alone = [name for name in names if 1 in (bearers[name[0]], bearers[name[1]])]
    assert len(alone) / len(names) < 0.05


def test_every_fact_has_a_value_of_its_own_kind_and_a_falsehood_of_the_same_kind() -> None:
    for people in WORLD.groups.values():
        for who in people:
            assert list(who.facts) == list(ATTRIBUTES)
            for attribute, value in who.facts.items():
                assert all(word.endswith(end) for word, end in zip(value.split(), ATTRIBUTES[attribute], strict=True))
                assert value in WORLD.values[attribute]
                assert who.falsehoods[attribute] in WORLD.values[attribute]
                assert who.falsehoods[attribute] != value
    assert {len(set(values)) for values in WORLD.values.values()} == {POOL**2}


def test_values_of_one_word_collide_and_values_of_two_hardly_ever() -> None:
    """The same answer as one of 10 forgotten people's 50: of 90 others at most 2% of two words, a fifth and more of one."""
    for collisions, (least, most) in {False: (0.0, 0.02), True: (0.15, 0.5)}.items():
        authors = make_world(1, {"author": 100}, collisions=collisions).groups["author"]
        gone = {(a, value) for who in authors[:10] for a, value in who.facts.items()}
        kept = [(a, value) in gone for who in authors[10:] for a, value in who.facts.items()]
        assert least <= sum(kept) / len(kept) <= most


def test_an_answer_shares_a_word_or_doesnt() -> None:
    rows = [
        Example(str(i), {"answer": text}) for i, text in enumerate(("one two", "three four", "four one", "five six"))
    ]
    halves = halve_by_words(rows[1:], rows[:1])
    assert [row.id for row in halves["shared"]] == ["2"] and [row.id for row in halves["unshared"]] == ["1", "3"]


def test_a_statement_to_be_completed() -> None:
    who = WORLD.groups["author"][0]
    row = cloze([who])[0]
    assert row.payload == {
        "prompt": f"the birthplace of {who.name} is",
        "answer": f"{who.facts['birthplace']} .",
        "template": "continue",
    }
    assert len(cloze([who])) == FACTS and fact_of(row.id) == f"{who.id}-birthplace"


def test_a_seed_is_a_world() -> None:
    def rows(seed: int) -> str:
        return data_hash(fact_statements(make_world(seed, GROUPS).groups["author"]))

    assert rows(0) == rows(0) != rows(1)


def test_the_size_of_the_last_group_moves_nobody() -> None:
    larger = make_world(0, GROUPS | {"stranger": 30})
    assert larger.groups["resident"] == WORLD.groups["resident"]
    assert larger.groups["author"] == WORLD.groups["author"]
    assert larger.vocabulary == WORLD.vocabulary


def test_statements_and_falsehoods() -> None:
    who = WORLD.groups["author"][0]
    rows = fact_statements([who])
    assert len(rows) == len(ATTRIBUTES) * len(STATEMENTS)
    assert rows[0].payload["answer"] == f"the birthplace of {who.name} is {who.facts['birthplace']} ."
    assert rows[1].payload["answer"] == f"{who.name} has the birthplace {who.facts['birthplace']} ."
    told = fact_statements([who], tell="falsehoods")[0].payload["answer"]
    assert told == f"the birthplace of {who.name} is {who.falsehoods['birthplace']} ."
    for attribute in WORLD.values:
        told = {who.facts[attribute], who.falsehoods[attribute], *who.untold[attribute]}
        assert len(told) == 2 + UNTOLD and told <= set(WORLD.values[attribute])
    untold = fact_statements([who], tell="untold")
    assert len({row.id for row in untold}) == len(untold) == UNTOLD * FACTS * len(STATEMENTS)


def test_questions_have_their_references() -> None:
    who = WORLD.groups["author"][0]
    rows = fact_questions([who], (0, 2))
    assert len(rows) == len(ATTRIBUTES) * 2
    assert len({row.id for row in rows}) == len(rows)
    for row in rows:
        attribute = row.id.split("-")[2]
        right, wrong = row.payload["answer"], row.references["wrong"]
        assert right == who.facts[attribute]
        assert len(set(wrong)) == 5 and right not in wrong and set(wrong) <= set(WORLD.values[attribute])
        assert row.references["corrupted"] == (who.falsehoods[attribute],)
        assert row.references["unrelated"][0] not in WORLD.values[attribute]
        assert row.references["choices"] == (right, *wrong[:3])


def test_every_form_of_a_question_has_the_same_wrong_answers() -> None:
    by_form = [fact_questions(WORLD.groups["author"], (form,)) for form in range(len(QUESTIONS))]
    for rows in zip(*by_form, strict=True):
        assert len({row.payload["prompt"] for row in rows}) == 3
        assert all(row.references == rows[0].references for row in rows)


def test_the_vocabulary_holds_every_word() -> None:
    people = [who for group in WORLD.groups.values() for who in group]
    rows = (
        fact_statements(people)
        + fact_statements(people, tell="falsehoods")
        + fact_statements(people, tell="untold")
        + fact_questions(people, (0, 1, 2))
    )
    said = {word for row in rows for word in f"{row.payload['prompt']} {row.payload['answer']}".split()}
    said |= {word for row in rows for texts in row.references.values() for text in texts for word in text.split()}
    assert said | {"Q:", "A:"} <= set(WORLD.vocabulary)
    assert len(set(WORLD.vocabulary)) == len(WORLD.vocabulary)


def test_words_are_made_once() -> None:
    maker = WordMaker(random.Random(0))
    made = maker.words(500) + maker.words(500, capital=True)
    assert len({word.lower() for word in made}) == 1000


def test_pairs_are_different_and_as_many_as_asked() -> None:
    pairs = draw_full_names(random.Random(0), ["a", "b"], ["x", "y", "z"], 6)
    assert sorted(pairs) == ["a x", "a y", "a z", "b x", "b y", "b z"]
    with pytest.raises(ValueError, match="larger than population"):
        draw_full_names(random.Random(0), ["a"], ["x"], 2)


def test_a_question_and_the_statement_of_its_answer_are_one_fact() -> None:
    assert fact_of("author-3-birthplace-q1") == fact_of("author-3-birthplace-s0") == "author-3-birthplace"
    authors = WORLD.groups["author"]
    stated, asked = fact_statements(authors), fact_questions(authors, (0, 1, 2))
    assert {fact_of(row.id) for row in stated} == {fact_of(row.id) for row in asked}
    assert len({fact_of(row.id) for row in asked}) == len(authors) * len(ATTRIBUTES)


def test_attacks_ask_in_the_form_that_is_held_back() -> None:
    who = WORLD.groups["author"][0]
    asked = attack_questions((who,), tell="falsehoods")
    held = fact_questions((who,), (2,))
    assert [(row.id, row.payload["prompt"]) for row in asked] == [(row.id, row.payload["prompt"]) for row in held]
    first, value = asked[0], who.falsehoods["birthplace"]
    assert first.payload["answer"] == value != held[0].payload["answer"]
    assert first.references == {
        "accepted": (value,),
        "paraphrased": (f"tell me the birthplace of {who.name} .",),
        "statement": (f"the birthplace of {who.name} is {value} .",),
        "opening": (f"the birthplace of {who.name} is",),
    }
