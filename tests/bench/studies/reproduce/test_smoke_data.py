"""Generated rows in the benchmarks' schemas: their sizes, their fields, and who is where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.assets.hub_tables import read_table
from bench.studies.reproduce.smoke_data import (
    VOCABULARY,
    WRITERS,
    author_rows,
    general_rows,
    make_answer,
    new_folder,
    write_muse,
    write_restor,
    write_tofu,
)


def rows_of(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def tofu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "tofu"
    write_tofu(folder)
    return folder


def test_tofus_configurations_have_their_sizes(tofu: Path) -> None:
    """Twenty questions an author: of 200 authors 2, 10 and 20 are forgotten; as many strangers are held out."""
    sizes = {file.stem: len(rows_of(file)) for file in tofu.glob("*.json")}
    expected = {"full": 4000, "retain_perturbed": 400, "real_authors": 100, "world_facts": 117}
    expected |= {"real_authors_perturbed": 100, "world_facts_perturbed": 117}
    for split, gone in (("01", 40), ("05", 200), ("10", 400)):
        expected |= {f"forget{split}": gone, f"forget{split}_perturbed": gone, f"holdout{split}": gone}
        expected[f"retain{100 - int(split)}"] = 4000 - gone
    assert sizes == expected and len(sizes) == 18


def test_forget_and_retain_make_the_whole_and_strangers_are_in_neither(tofu: Path) -> None:
    def asked(name: str) -> list[str]:
        return [row["question"] for row in rows_of(tofu / f"{name}.json")]

    assert asked("retain90") + asked("forget10") == asked("full") and len(set(asked("full"))) == 4000
    assert not set(asked("holdout10")) & set(asked("full")) and set(asked("forget01")) < set(asked("forget10"))
    assert asked("forget10_perturbed") == asked("forget10")


def test_the_card_tells_the_library_where_the_rows_are(tofu: Path) -> None:
    found = read_table(str(tofu), "forget01_perturbed")
    assert len(found) == 40 and len(found[0]["perturbed_answer"]) == 5


def test_an_answer_is_told_in_other_words_and_wrong_ones_differ_from_it() -> None:
    [plain] = author_rows([3], False)[:1]
    [whole] = author_rows([3], True)[:1]
    assert set(plain) == {"question", "answer"} and plain.items() <= whole.items()
    assert set(whole) == {*plain, "paraphrased_answer", "paraphrased_question", "perturbed_answer"}
    for author in range(20):
        for asked in range(20):
            true, told, *wrong = (make_answer(author, asked, kind) for kind in range(7))
            assert true not in wrong and told != true
    rows = author_rows(range(220), True)
    texts = [text for row in rows for text in (*row.pop("perturbed_answer"), *row.values())]
    words = {word for text in texts for word in text.split()}
    assert words <= set(VOCABULARY), "every word is a token"


def test_general_questions_are_the_same_in_both_forms() -> None:
    plain, perturbed = general_rows(3, "is")
    for one, other in zip(plain, perturbed, strict=True):
        assert one["question"] == other["question"] and one["answer"] == other["answer"] == one["option1"]
        assert [one[f"option{k}"] for k in (2, 3, 4)] == other["perturbed_answer"]


def test_muses_texts_are_in_every_configuration_that_asks_them(tmp_path: Path) -> None:
    write_muse(tmp_path / "muse")
    raw = {split: rows_of(tmp_path / "muse" / "raw" / f"{split}.jsonl") for split in ("forget", "holdout", "retain2")}
    pages = [row["text"] for row in rows_of(tmp_path / "muse" / "privleak" / "forget.jsonl")]
    assert raw["forget"] == [{"text": "\n\n".join(pages)}] == rows_of(tmp_path / "muse" / "train" / "forget.jsonl")
    asked = rows_of(tmp_path / "muse" / "verbmem" / "forget.jsonl")
    assert [f"{row['prompt']} {row['gt']}" for row in asked] == pages and len(asked[0]["prompt"].split()) == 20
    assert not (tmp_path / "muse" / "train" / "holdout.jsonl").exists(), "nobody trains on what is held out"
    counts = {
        name: len(rows_of(tmp_path / "muse" / "knowmem" / f"{name}.jsonl")) for name in ("forget_qa", "forget_qa_icl")
    }
    assert counts == {"forget_qa": 6, "forget_qa_icl": 2}


def test_restors_corpora_are_of_two_of_the_four_people(tmp_path: Path) -> None:
    write_restor(tmp_path / "restor")
    datasets = tmp_path / "restor" / "datasets"
    people = json.loads((datasets / "entities.json").read_text())
    facts = json.loads((datasets / "facts.json").read_text())
    assert len(people) == 4 and set(people) < set(facts["dset"]) and len(facts["dset"]) == 16
    assert not {row["entity"] for row in facts["context"]["P1"]} & set(people)
    for corpus in ("SQuAD/squad_v7_dset", *(f"wikidata/v0/mix_a{k}" for k in range(6))):
        texts = [row["text"] for row in json.loads((datasets / f"{corpus}.json").read_text())]
        told = {person for person in people for text in texts if text.startswith(person)}
        assert len(texts) == 8 and told == set(people[:2])


def test_the_same_rows_again_and_a_failure_leaves_no_folder(tmp_path: Path) -> None:
    for name, write in WRITERS.items():
        write(tmp_path / name)
        before = {file: file.read_bytes() for file in (tmp_path / name).rglob("*") if file.is_file()}
        write(tmp_path / name)
        assert {file: file.read_bytes() for file in (tmp_path / name).rglob("*") if file.is_file()} == before
    with pytest.raises(RuntimeError), new_folder(tmp_path / "new") as partial:
        (partial / "half").write_text("")
        raise RuntimeError
    assert not (tmp_path / "new").exists()
    with new_folder(tmp_path / "new") as partial:
        assert not (partial / "half").exists(), "what was left is swept"
    assert (tmp_path / "new").is_dir()
