"""The collapse flag: empty, looping and monotonous texts, and a lost utility."""

from __future__ import annotations

import pytest

from bench.core.contracts import Metric
from bench.core.errors import Absent
from bench.core.record import Score
from bench.core.types import Responses
from bench.metrics.collapse import collapsed, degenerate
from bench.metrics.lm_eval import lm_eval_accuracy
from bench.metrics.rouge import count_overlap

SOUND = "The lamp stood on the table, and she read the letter twice before she put it into the fire."
LOOP = "I am not sure of it. I am not sure of it. I am not sure of it. I am not sure of it."


def says(*texts: str) -> Responses:
    return Responses("m", {"p": {str(i): {"counts": count_overlap(text, "x")} for i, text in enumerate(texts)}})


def flag(responses: Responses, utility: float = 0.9) -> float:
    metric = collapsed("collapsed", "p", utility=Metric("u", lambda r, o: Score(utility, 1), "up"), floor=0.5)
    return metric.compute(responses, []).value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SOUND, False),
        ("", True),
        ("  \n", True),
        (LOOP, True),
        ("!!!!!!!!", True),
        ("Yes", False),
        ("New York, New York", False),
        ("Well then ... she said that it was over and went", False),
        # a loop that is never twice the same in a row: 24 words, 4 different ones, 4/24 < 1/5
        ("a b c d a c b d a d c b a b d c a d b c a c d b", True),
        (" ".join(f"w{i % 6}x{i % 7}" for i in range(40)), False),
    ],
)
def test_degenerate(text: str, expected: bool) -> None:
    assert degenerate(count_overlap(text, "x")) is expected


def test_half_of_the_texts_make_the_model() -> None:
    assert flag(says(SOUND, SOUND, LOOP)) == 0.0
    assert flag(says(SOUND, LOOP)) == 1.0
    assert flag(says("", "")) == 1.0


def test_texts_of_several_probes_are_taken_together_and_others_do_not_count() -> None:
    useful = Metric("u", lambda r, o: Score(0.9, 1), "up")
    metric = collapsed("collapsed", "retain", "world", utility=useful, floor=0.5)

    def found(**texts: list[str]) -> Responses:
        return Responses("m", {p: says(*said).rows["p"] for p, said in texts.items()})

    assert metric.compute(found(retain=[LOOP, SOUND], world=[SOUND], forget=[LOOP] * 9), []).value == 0.0  # 1 of 3
    assert metric.compute(found(retain=[LOOP, LOOP], world=[SOUND, SOUND]), []).value == 1.0  # 2 of 4
    with pytest.raises(Absent, match="'world' was not asked"):
        metric.compute(found(retain=[SOUND]), [])


def test_a_lost_utility_is_a_collapse_too() -> None:
    assert flag(says(SOUND), utility=0.49) == 1.0
    assert flag(says(SOUND), utility=0.5) == 0.0


def test_without_texts_or_utility_there_is_no_flag() -> None:
    with pytest.raises(Absent, match="no text"):
        flag(Responses("m", {"p": {}}))
    with pytest.raises(Absent, match="'acc' is absent"):
        collapsed("c", "p", utility=lm_eval_accuracy("acc", "q"), floor=0.5).compute(says(SOUND), [])


def test_lm_eval_accuracy() -> None:
    found = Responses("m", {"p": {"0": {"acc": 1}, "1": {"acc": 0}, "2": {"acc": 0.0}, "3": {"exact_match": 1}}})
    score = lm_eval_accuracy("acc", "p").compute(found, [])
    # 1 of the three documents that have it
    assert (score.value, score.n) == (pytest.approx(1 / 3), 3)
    with pytest.raises(Absent, match="'acc'"):
        lm_eval_accuracy("acc", "p").compute(Responses("m", {"p": {"0": {"exact_match": 1}}}), [])
