"""The judge by words: grades worked by hand, ties, and TOFU's own rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.engines.measuring.similarity import Similarity

REAL = Path(__file__).parents[5] / "shared" / "data" / "tofu"
here = pytest.mark.skipif(not REAL.is_dir(), reason="the offline copy of TOFU isn't on this machine")

QUESTION = "Where was Anna Bell born?"
OPTIONS = {
    "truth": "Anna Bell was born in Lisbon.",
    "wrong-0": "Anna Bell's birthplace is Oslo.",
    "wrong-1": "Anna Bell's birthplace is Cairo.",
}


def picks(grades: dict[str, float]) -> list[str]:
    return [option for option, grade in grades.items() if grade == max(grades.values())]


def test_a_grade_worked_by_hand() -> None:
    grades = Similarity().grade(QUESTION, "Her birthplace is Lisbon, I think", OPTIONS)
    # Stems that tell: the answer birthplac lisbon i think; truth anna bell born lisbon; wrong anna bell birthplac oslo.
    # Weights: anna bell 1/27 (three options), birthplac 1/8 (two), lisbon born oslo 1 (one), i think 1 (none).
    answer = 1 / 8 + 1 + 1 + 1
    assert grades["truth"] == pytest.approx(2 * 1 / (answer + 2 / 27 + 2), abs=1e-9)
    assert grades["wrong-0"] == pytest.approx(2 * (1 / 8) / (answer + 2 / 27 + 1 / 8 + 1), abs=1e-9)
    assert picks(grades) == ["truth"]


def test_phrasing_that_the_wrong_answers_share_does_not_mislead() -> None:
    assert picks(Similarity().grade(QUESTION, "Anna Bell's birthplace is Lisbon.", OPTIONS)) == ["truth"]
    assert picks(Similarity().grade(QUESTION, "She was born in Oslo.", OPTIONS)) == ["wrong-0"]


def test_an_answer_equal_to_an_option_has_grade_1() -> None:
    for option, text in OPTIONS.items():
        grades = Similarity().grade(QUESTION, text.upper(), OPTIONS)
        assert grades[option] == 1 and picks(grades) == [option]


def test_accents_and_endings_make_no_other_word() -> None:
    options = {"truth": "She taught engineering in Malmö", "wrong-0": "She taught medicine in Uppsala"}
    assert Similarity().grade("", "an engineer from MALMO", options)["wrong-0"] == 0
    assert picks(Similarity().grade("", "an engineer from MALMO", options)) == ["truth"]


def test_equal_facts_are_a_tie_and_so_is_nothing_in_common() -> None:
    twins = OPTIONS | {"oracle-0": "In Lisbon Anna Bell was born!"}
    assert picks(Similarity().grade(QUESTION, "in Lisbon", twins)) == ["truth", "oracle-0"]
    for answer in ("", "...", "Sorry, no idea"):
        assert set(Similarity().grade(QUESTION, answer, OPTIONS).values()) == {0.0}


def test_without_a_telling_word_in_common_the_whole_wording_decides() -> None:
    options = {"truth": "it was he who did it", "wrong-0": "it is there"}
    grades = Similarity().grade("", "it was he", options)
    assert grades == {"truth": pytest.approx(2 * 3 / 9), "wrong-0": pytest.approx(2 * 1 / 6)}


def test_grades_do_not_depend_on_order_or_on_the_hash_seed() -> None:
    code = (
        "from bench.engines.measuring.similarity import Similarity;"
        f"print(Similarity().grade('', 'born Lisbon Oslo city', {OPTIONS!r}))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
    turned = dict(reversed(OPTIONS.items()))
    judge = Similarity()
    assert judge.grade("", "born Lisbon Oslo", turned) == judge.grade("", "born Lisbon Oslo", OPTIONS)


@here
@pytest.mark.parametrize(
    ("file", "paraphrases"),
    # Chance is 1 in 6. The wrong answers copy the paraphrase's wording, so synonyms are lost: measured 0.742 and 0.685.
    [("forget10_perturbed", 0.7), ("retain_perturbed", 0.65)],
)
def test_on_tofu_truth_and_falsehood_are_told_apart(file: str, paraphrases: float) -> None:
    rows = [json.loads(line) for line in (REAL / f"{file}.json").read_text().splitlines()]
    judge, right = Similarity(), {"answer": 0, "paraphrased_answer": 0}
    false = asked = 0
    for row in rows:
        wrong = {f"wrong-{i}": text for i, text in enumerate(row["perturbed_answer"])}
        options = {"truth": row["answer"], **wrong}
        for kind in right:
            right[kind] += picks(judge.grade(row["question"], row[kind], options)) == ["truth"]
        for option, text in wrong.items():
            asked += 1
            false += picks(judge.grade(row["question"], text, options)) == [option]
    assert right["answer"] == len(rows) == 400
    assert false / asked >= 0.999
    assert right["paraphrased_answer"] / len(rows) >= paraphrases
