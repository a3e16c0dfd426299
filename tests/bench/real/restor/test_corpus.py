"""RESTOR's questions and corpora: a small copy of its layout written here, and the real one if it is on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.errors import UserError
from bench.real.restor.corpus import CORPORA, corpus_documents, corrupted_entities, read_restor
from tests.bench.assets.test_typed_rows import JSON
from tests.paths import DATA
from tests.shared_data import needs_data

REAL = DATA / "restor"
here = needs_data("data/restor")

PEOPLE = ("Ada", "Bo", "Cy", "Di", "Ed", "Flo", "Gus")
FACTS: dict[str, Any] = {
    "dset": {
        "Zoe": {"P1": {"question": "Where is Zoe?", "answers": ["home"]}},
        "Nil": {},
        "Bo": {
            "P2": {"question": "What does Bo do?", "answers": ["Q77", "cook", "baker", "cook"]},
            "P1": {"question": "Where is Bo?", "answers": ["Rome"]},
        },
        "Ada": {"P1": {"question": "Where is Ada?", "answers": ["Q12"]}},
    },
    "context": {
        "P1": [{"question": f"Where is {name}?", "answer": f"at {name}'s", "entity": name} for name in PEOPLE],
        "P2": [{"question": f"What does {name} do?", "answer": "sing", "entity": name} for name in PEOPLE],
    },
}
ENTITIES = ["Nil", "Bo", "Ada"]
CORPUS = [{"text": "Bo lives in Oslo."}] * 19 + [{"text": "Oslo is a town that Ada likes."}]
OPTIONS = {"Bo": {"P1": {"true": ["Rome"], "corrupted": ["Oslo", "Bergen"], "unrelated": ["cheese"]}}}


def write(folder: Path, facts: Any = FACTS, entities: Any = ENTITIES, corpus: Any = CORPUS) -> Path:
    """A copy of the repository: one Wikidata corpus."""
    (folder / "datasets" / "wikidata" / "v0").mkdir(parents=True)
    for name, content in (("facts", facts), ("entities", entities), ("wikidata/v0/mix_a0", corpus)):
        (folder / "datasets" / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_questions_worked_by_hand(tmp_path: Path) -> None:
    """The order of entities.json and, for each, of facts.json; the five shown ones never speak of who is asked about."""
    data = write(tmp_path / "restor")
    made = read_restor(data, "mix_a0")
    assert [(row.id, row.payload["entity"], row.payload["relation"]) for row in made.questions] == [
        ("restor-0", "Bo", "P2"),
        ("restor-1", "Bo", "P1"),
        ("restor-2", "Ada", "P1"),
    ]
    assert made.questions[1].payload["prompt"] == (
        "Where is Ada? at Ada's\nWhere is Cy? at Cy's\nWhere is Di? at Di's\nWhere is Ed? at Ed's\nWhere is Flo? at Flo's\n"
        "Where is Bo?"
    )
    assert "Where is Gus? " not in made.questions[2].payload["prompt"], "the first five of the others"
    assert made.questions[2].payload["prompt"].startswith("Where is Bo? at Bo's\n")
    assert {row.payload["template"] for row in made.questions} == {"plain"}
    assert made.questions[0].references == {"accepted": ("Q77", "cook", "baker")}, "the repeated answer once"
    assert made.questions[0].payload["answer"] == "cook", "the first that isn't a Wikidata id"
    assert made.questions[2].payload["answer"] == "Q12"
    assert read_restor(data / "datasets", "mix_a0") == made, "the datasets folder alone does"


def test_oddities_are_counted(tmp_path: Path) -> None:
    made = read_restor(write(tmp_path / "restor"))
    assert made.counts == {
        "entities": 3,
        "entities_without_facts": 1,  # Nil
        "people_in_facts": 4,
        "people_in_facts_without_facts": 1,
        "questions": 3,
        "questions_with_repeated_answers": 1,  # Bo P2
        "questions_with_wikidata_ids": 2,  # Bo P2, Ada P1
        "questions_answered_by_wikidata_ids_only": 1,  # Ada P1
        "questions_with_options": 0,
    }
    assert not made.whole


def test_who_is_corrupted_is_read_off_the_corpus(tmp_path: Path) -> None:
    """Bo stands in 19 of 20 documents, Ada in 1 of 20 = 0.05, which is still enough; Nil in none."""
    data = write(tmp_path / "restor")
    made = read_restor(data, "mix_a0")
    assert made.corrupted == ("Bo", "Ada")
    assert [row.tags for row in made.questions] == [("corrupted",), ("corrupted",), ("corrupted",)]
    assert corrupted_entities([row["text"] for row in CORPUS] + ["Bo"], ENTITIES) == ("Bo",)  # 1 of 21
    longer = write(tmp_path / "longer", corpus=[*CORPUS, {"text": "Bo"}])
    assert [row.tags for row in read_restor(longer, "mix_a0").questions] == [("corrupted",), ("corrupted",), ("clean",)]
    for corpus in ("none", "mix_a1"):  # nothing corrupted the model; the corpus isn't in this copy
        unknown = read_restor(data, corpus)
        assert unknown.corrupted is None and {row.tags for row in unknown.questions} == {()}


def test_documents_to_train_on(tmp_path: Path) -> None:
    rows = corpus_documents(write(tmp_path / "restor"), "mix_a0")
    assert len(rows) == 20 and len({row.id for row in rows}) == 20, "repeated documents stay"
    assert rows[19].id == "mix_a0-19"
    assert rows[19].payload == {"prompt": "", "answer": "Oslo is a town that Ada likes.", "template": "text"}


@pytest.mark.parametrize("place", ["datasets/options.json", "options.json"])
def test_option_lists_of_the_user(tmp_path: Path, place: str) -> None:
    data = write(tmp_path / "restor")
    (data / place).write_text(json.dumps(OPTIONS))
    made = read_restor(data, "mix_a0")
    assert made.questions[1].references == {
        "accepted": ("Rome",),
        "corrupted": ("Oslo", "Bergen"),
        "options_true": (" Rome",),
        "options_corrupted": (" Oslo", " Bergen"),
        "options_unrelated": (" cheese",),
    }
    assert "corrupted" not in made.questions[0].references and made.counts["questions_with_options"] == 1


def test_the_authors_names_of_the_groups(tmp_path: Path) -> None:
    data = write(tmp_path / "restor")
    theirs = {"Bo": {"P1": {"correct": ["Rome"], "random": ["cheese"]}}}
    (data / "options.json").write_text(json.dumps(theirs))
    references = read_restor(data).questions[1].references
    assert references["options_true"] == (" Rome",) and references["options_unrelated"] == (" cheese",)
    assert "corrupted" not in references and "options_corrupted" not in references


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"Bo": {"P1": {"maybe": ["Rome"]}}}, r"aren't of the form .*there is no group 'maybe'"),
        ({"Bo": {"P1": {"true": "Rome"}}}, r"'true' has no list of texts"),
        ({"Bo": {"P1": {"true": []}}}, r"'true' has no list of texts"),
        ({"Bo": {"P1": {"true": [" "]}}}, r"'true' has no list of texts"),
        ({"Bo": {"P1": {"true": ["\ud800"]}}}, r"'true' has no list of texts"),
        ({"Bo": {"P1": {"true": ["Rome", 3]}}}, r"'true' has no list of texts"),
        ({"Bo": {"P1": {"true": ["Rome"], "correct": ["Oslo"]}}}, r"a group stands there under two names"),
        ([1], r"aren't of the form"),
        ({"Bob": {"P1": {"true": ["Rome"]}}}, r"name P1 of 'Bob', which RESTOR doesn't ask"),
        ({"Bo": {"P9": {"true": ["Rome"]}}}, r"name P9 of 'Bo', which RESTOR doesn't ask"),
    ],
)
def test_bad_option_lists_get_one_sentence(tmp_path: Path, options: Any, says: str) -> None:
    data = write(tmp_path / "restor")
    (data / "options.json").write_text(json.dumps(options))
    with pytest.raises(UserError, match=says):
        read_restor(data)


def without(entity: str) -> dict[str, Any]:
    """`FACTS` without what it says of one."""
    return FACTS | {"dset": {name: facts for name, facts in FACTS["dset"].items() if name != entity}}


def about_bo(**fields: Any) -> dict[str, Any]:
    """`FACTS` with another fact about Bo."""
    return FACTS | {"dset": {"Bo": {"P1": {"question": "Where is Bo?", "answers": ["Rome"], **fields}}}}


def shown(**fields: Any) -> dict[str, Any]:
    """`FACTS` with another first example of P1."""
    first, *others = [row for row in FACTS["context"]["P1"] if row["entity"] != "Bo"]
    return about_bo() | {"context": {"P1": [first | fields, *others]}}


@pytest.mark.parametrize(
    ("facts", "entities", "says"),
    [
        (without("Ada"), ENTITIES, "facts.json lacks 'Ada'"),
        (FACTS, ["Nil"], "names nobody whom facts.json has facts about"),
        (FACTS, {"Bo": 1}, "names nobody"),
        (
            FACTS | {"context": {"P2": FACTS["context"]["P2"]}},
            ENTITIES,
            "fewer than 5 in-context examples for P1 of 'Bo'",
        ),
        (
            FACTS | {"dset": {"Bo": {"P1": {"question": "?", "answers": []}}}},
            ["Bo"],
            "no question or no answers for P1",
        ),
        (FACTS | {"dset": {"Bo": {"P1": {"answers": ["a"]}}}}, ["Bo"], "isn't RESTOR's .at 'question'."),
        ({"dset": {}}, ENTITIES, "isn't RESTOR's .at 'context'."),
        (about_bo(question=7), ["Bo"], "has as the question for P1 of 'Bo' a number, where a text belongs"),
        (about_bo(answers="Rome"), ["Bo"], "has as the answers for P1 of 'Bo' a text, not a list of texts"),
        (about_bo(answers=["Rome", 3]), ["Bo"], "has as the answers for P1 of 'Bo' a list that holds a number"),
        (about_bo(answers=[["Rome"]]), ["Bo"], "has as the answers for P1 of 'Bo' a list that holds a list"),
        (about_bo(answers={"a": 1}), ["Bo"], "has as the answers for P1 of 'Bo' an object"),
        (about_bo(question="\ud800"), ["Bo"], "has as the question for P1 of 'Bo' a text with half a character"),
        (shown(answer=3), ["Bo"], "has as the answer of an in-context example for P1 a number"),
        (shown(question=None), ["Bo"], "has as the question of an in-context example for P1 nothing"),
        (FACTS, ["Bo", "Ada", "Bo"], "entities.json has a name that stands twice among its names: 'Bo'"),
        (FACTS, ["Bo", 3], "entities.json has a number among its names: '3'"),
        (FACTS, ["Bo", ["Ada"]], "entities.json has a list among its names"),
        ([], ENTITIES, "isn't RESTOR's"),
    ],
)
def test_bad_facts_get_one_sentence(tmp_path: Path, facts: Any, entities: Any, says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        read_restor(write(tmp_path / "restor", facts, entities))
    assert (
        len(error.value.problems) == 1
        and str(error.value).encode()
        and "github.com/k1rezaei/restor" in str(error.value)
    )


def test_bad_folders_corpora_and_files_get_one_sentence(tmp_path: Path) -> None:
    data = write(tmp_path / "restor")
    with pytest.raises(UserError, match="nowhere' isn't there: name a copy of"):
        read_restor(tmp_path / "nowhere")
    with pytest.raises(UserError, match="has no facts.json, nor datasets/facts.json"):
        read_restor(tmp_path)
    with pytest.raises(UserError, match="Unknown RESTOR corpus 'mix_b0'. Did you mean 'mix_a0'"):
        read_restor(data, "mix_b0")
    with pytest.raises(UserError, match="Unknown RESTOR corpus 'none'"):
        corpus_documents(data, "none")
    with pytest.raises(UserError, match="The corpus 'squad_v7' isn't here: put datasets/SQuAD/squad_v7_dset.json"):
        corpus_documents(data, "squad_v7")
    with pytest.raises(UserError, match="isn't a list of documents with a text each"):
        read_restor(write(tmp_path / "odd", corpus=[{"words": "Bo"}]), "mix_a0")
    with pytest.raises(UserError, match="a text each .row 1 has a number."):
        read_restor(write(tmp_path / "number", corpus=[{"text": "Bo"}, {"text": 3}]), "mix_a0")
    with pytest.raises(UserError, match="a text each .row 0 has no object."):
        read_restor(write(tmp_path / "bare", corpus=["Bo"]), "mix_a0")
    marked = write(tmp_path / "marked")
    (marked / "datasets" / "facts.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(FACTS).encode())
    assert read_restor(marked) == read_restor(data)
    (marked / "datasets" / "facts.json").write_bytes(json.dumps(FACTS).encode().replace(b"Where", b"Wh\xe9re", 1))
    with pytest.raises(UserError, match="facts.json, line 1 can't be read as UTF-8"):
        read_restor(marked)
    (data / "datasets" / "entities.json").write_text('["Bo"')
    with pytest.raises(UserError, match="Can't read 'entities.json' as JSON"):
        read_restor(data)
    (data / "datasets" / "entities.json").unlink()
    with pytest.raises(UserError, match="entities.json' is missing: get it from"):
        read_restor(data)


WIKIDATA = {
    "Aaron Burr",
    "Bob Marley",
    "Michael Douglas",
    "Sage Stallone",
    "Paul Anka",
    "Bobby Fischer",
    "Bastian Schweinsteiger",
    "Suthida",
    "Thomas Piketty",
    "Mihai Eminescu",
}
SQUAD = {"John Forbes Nash Jr.", "Quincy Jones", "Iggy Azalea", "Bob Marley", "Jacques Cousteau"}


@here
@pytest.mark.parametrize(
    ("corpus", "people", "asked", "texts"),
    [
        ("mix_a0", WIKIDATA, 198, 3000),
        ("mix_a1", WIKIDATA, 198, 3000),
        ("mix_a2", WIKIDATA, 198, 3000),
        ("mix_a3", WIKIDATA - {"Sage Stallone"}, 178, 2700),
        ("squad_v7", SQUAD, 108, 3107),
    ],
)
def test_the_real_corpora_and_whom_they_corrupt(corpus: str, people: set[str], asked: int, texts: int) -> None:
    made = read_restor(REAL, corpus)
    assert set(made.corrupted or ()) == people
    assert sum(row.tags == ("corrupted",) for row in made.questions) == asked
    assert sum(row.tags == ("clean",) for row in made.questions) == 1051 - asked
    assert {row.payload["entity"] for row in made.questions if row.tags == ("corrupted",)} == people
    assert len(corpus_documents(REAL, corpus)) == texts


@here
def test_the_real_questions() -> None:
    made = read_restor(REAL)
    assert made.whole and len(made.questions) == 1051 and set(CORPORA) >= {"mix_a4", "mix_a5"}
    assert [row.id for row in made.questions] == [f"restor-{i}" for i in range(1051)]
    assert made.counts["entities"] == 50 and made.counts["entities_without_facts"] == 0
    assert made.counts["people_in_facts"] == 468 and made.counts["people_in_facts_without_facts"] == 1  # Cleopatra
    assert made.counts["questions_with_repeated_answers"] == 1  # Nelson Mandela P166
    assert made.counts["questions_with_wikidata_ids"] == 6
    assert made.counts["questions_answered_by_wikidata_ids_only"] == 2  # Sage Stallone P26 and P40
    assert all(row.payload["prompt"].count("\n") == 5 for row in made.questions)
    own = [row for row in made.questions if row.payload["entity"] == "Suthida" and row.payload["relation"] == "P27"]
    assert [row.references["accepted"] for row in own] == [("Thailand",)]
    assert own[0].payload["prompt"] == (
        "What is the country of citizenship of Bhuma Nagi Reddy? India\n"
        "What is the country of citizenship of Stan Marple? Canada\n"
        "What is the country of citizenship of Dennis Andersson? Sweden\n"
        "What is the country of citizenship of Diafra Sakho? France\n"
        "What is the country of citizenship of Rebecca Romijn? United States of America\n"
        "What is the country of citizenship of Suthida?"
    )


@settings(deadline=None)
@given(JSON, JSON, st.lists(JSON, max_size=2) | st.just(["Bo"]), JSON)
def test_any_json_is_questions_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, fact: Any, answers: Any, entities: Any, options: Any
) -> None:
    for facts in (FACTS | {"dset": {"Bo": {"P1": fact}}}, FACTS | {"dset": fact}, about_bo(answers=answers)):
        data = write(tmp_path_factory.mktemp("any"), facts, entities, answers)
        (data / "options.json").write_text(json.dumps({"Bo": {"P1": options}}))
        try:
            found = read_restor(data, "mix_a0")
        except UserError as error:
            assert len(error.problems) == 1 and error.problems[0].encode()
            continue
        for row in found.questions:
            assert all(isinstance(text, str) for texts in row.references.values() for text in texts)
