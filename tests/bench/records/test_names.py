"""Names for people."""

from __future__ import annotations

import pytest

from bench.records.names import role_name, score_name
from tests.published import published_records


@pytest.mark.parametrize(
    ("score", "name"),
    [
        ("forget_accuracy", "accuracy, forget set"),
        ("forget_taught_accuracy", "accuracy, forget set, wording taught"),
        ("retain_knowmem_ROUGE", "ROUGE-L on questions, retain set"),
        ("wf_Q_A_Prob_normalised", "answer probability among choices, world facts"),
        ("kl_forget", "KL to the oracle, forget set"),
        ("kl_world_floors", "KL to the oracle, world facts, in floors"),
        ("restor_accuracy_clean_lenient_greedy", "truths told of others, lenient, greedy"),
        ("lm_eval_piqa_first100", "lm-eval: piqa first100"),
        ("somebodys_own_score", "somebodys_own_score"),
        ("odd\n<b>", "odd <b>"),
    ],
)
def test_scores(score: str, name: str) -> None:
    assert score_name(score) == name


def test_roles() -> None:
    assert role_name("kept") == "kept knowledge" and role_name("what_else") == "what else"


def test_every_published_score_has_a_name_and_no_two_the_same() -> None:
    scores = {name for record in published_records().records for name in record.scores}
    names = {score: score_name(score) for score in scores}
    assert [score for score, name in names.items() if "_" in name] == []
    assert len(set(names.values())) == len(scores) > 50
