"""ROUGE-L from counts equals rouge-score on real sentences, and the loop counter on worked ones."""

from __future__ import annotations

import json

import pytest
from rouge_score.rouge_scorer import RougeScorer

from bench.core.types import Responses
from bench.metrics.rouge import count_overlap, longest_loop, rouge_l
from tests.shared_data import shared

PAIRS = (
    ("The author was born in Taipei, Taiwan on 05/11/1991.", "The author in question is Jaime Vasquez, born in 1958."),
    ("Her father is a paramedic.", "Her father was a paramedic and her mother an optometrist."),
    ("He's writing books; he wrote several books about writers' writings", "He writes a book about a writer."),
    ("Élodie naïvely asked: über-cool?", "Elodie naively asked, is it uber cool?"),
    ("the the the the", "the cat the dog"),
    ("running", "runs"),
    ("", "something was expected"),
    ("...", "something was expected"),
    ("Paris", "Paris"),
)


def responses(pairs: list[tuple[str, str]]) -> Responses:
    return Responses("hash", {"p": {str(i): {"counts": count_overlap(*pair)} for i, pair in enumerate(pairs)}})


@pytest.mark.parametrize("stemmer", [True, False])
@pytest.mark.parametrize("pair", PAIRS)
def test_equals_rouge_score(pair: tuple[str, str], stemmer: bool) -> None:
    theirs = RougeScorer(["rougeL"], use_stemmer=stemmer).score(target=pair[1], prediction=pair[0])["rougeL"]
    for measure, expected in (("recall", theirs.recall), ("f1", theirs.fmeasure)):
        metric = rouge_l("x", "p", measure=measure, stemmer=stemmer, goal="up")  # type: ignore[arg-type]
        assert metric.compute(responses([pair]), []).value == pytest.approx(expected, rel=1e-11)


def test_counts_by_hand() -> None:
    # in order both have "the", "sat", "on", "mat"; "cats" and "cat" meet only as stems
    assert count_overlap("The cats sat on mat!", "the cat sat on the mat") == {
        "lcs": 4,
        "n_ref": 6,
        "n_hyp": 5,
        "lcs_stem": 5,
        "n_ref_stem": 6,
        "n_hyp_stem": 5,
        "words": 6,
        "distinct": 6,
        "looped": 0,
    }


def test_mean_over_rows_and_rows_without_a_reference() -> None:
    found = responses([("a b", "a b c d"), ("x", "a"), ("anything", "...")])
    score = rouge_l("x", "p", measure="recall", stemmer=False, goal="up").compute(found, [])
    # 2/4 and 0/1; a reference without a word has nothing to recall
    assert score.value == pytest.approx(0.25)
    assert score.n == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("new york new york", 0),  # twice is not a loop
        ("no no no", 3),
        ("well no no no then", 3),
        ("a b a b a b a", 7),  # period 2, and the loop is cut off in the middle
        ("x y z x y z x y", 0),  # the third time is not complete
        ("a b c d e f", 0),
        ("", 0),
    ],
)
def test_looped(words: str, expected: int) -> None:
    assert longest_loop(words.split()) == expected


def test_a_row_of_dots_is_a_loop() -> None:
    counts = count_overlap("......", "an answer")
    assert (counts["words"], counts["distinct"], counts["looped"]) == (6, 1, 6)


def test_tofu_log_gives_its_own_rouge_again() -> None:
    logs = shared("data/tofu/reference_eval_logs")
    log = json.loads((logs / "llama2-7b_retain90_wd0.01_eval_log_aggregated.json").read_text())["eval_log_forget.json"]
    keys = sorted(log["generated_text"])[::10]
    pairs = [(log["generated_text"][key][1], log["generated_text"][key][2]) for key in keys]
    score = rouge_l("x", "p", measure="recall", stemmer=True, goal="oracle").compute(responses(pairs), [])
    assert score.value == pytest.approx(sum(log["rougeL_recall"][key] for key in keys) / len(keys), rel=1e-10)
