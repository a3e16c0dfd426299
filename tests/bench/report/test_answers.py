"""What has become of a question is read off the answers of target and oracle."""

from __future__ import annotations

from typing import Any

import pytest

from bench.core.record import Record
from bench.core.types import Responses
from bench.metrics.rouge import count_overlap
from bench.records.tables import build_sections
from bench.report.answers import MOST, build_answers, knows, loops, verdict_of
from tests.factories import record


def row(text: str, reference: str = "zosuy muviville") -> dict[str, Any]:
    """A row as the measuring leaves it."""
    return {"prompt": "where ?", "reference": reference, "text": text, "counts": count_overlap(text, reference)}


RIGHT, WRONG = row("zosuy muviville"), row("lemoy kifoville")


@pytest.mark.parametrize(
    ("method", "target", "oracle", "wanted"),
    [
        (WRONG, RIGHT, WRONG, "forgot"),
        (RIGHT, RIGHT, WRONG, "still"),
        (RIGHT, RIGHT, RIGHT, "kept"),
        (WRONG, RIGHT, RIGHT, "broke"),
        (RIGHT, WRONG, RIGHT, "gained"),
        (WRONG, WRONG, RIGHT, "never"),
        (row("a a a a a a a a"), RIGHT, WRONG, "broke"),
        (WRONG, None, RIGHT, ""),
    ],
)
def test_verdicts(method: Any, target: Any, oracle: Any, wanted: str) -> None:
    assert verdict_of(method, target, oracle, "forget_said") == wanted


def test_without_an_oracle_the_probe_says_what_should_go() -> None:
    assert verdict_of(WRONG, RIGHT, None, "forget_said") == "forgot"
    assert verdict_of(WRONG, RIGHT, None, "retain_said") == "broke"


def test_knowing_by_recall_worked_by_hand() -> None:
    four = "a b c d"
    assert knows(row("x a b c", four)), "3 of 4 words in order: .75"
    assert not knows(row("b a x", four)), "1 of 4 in order"
    assert knows({"text": "1912", "matches": [{"exact": 0, "lenient": 1}]}), "the task's own judgement comes first"
    assert not knows({"text": "a b c d", "counts": count_overlap(four, four), "matches": [{"exact": 0, "lenient": 0}]})
    assert knows({"text": "?!", "reference": "?!", "counts": {}}), "a reference without words is compared as it is"
    assert loops(row("so so so so so")) and not loops(row("so it is"))


def responses(texts: list[str]) -> Responses:
    return Responses("x", {"forget_said": {f"q{i}": row(text) for i, text in enumerate(texts)}})


def test_answers_stand_side_by_side_each_text_once() -> None:
    records = [record(method, seed) for method in ("target", "retrain", "npo") for seed in (0, 1)]
    (section,) = build_sections(records)
    said = {
        "target": responses(["zosuy muviville", "zosuy muviville"]),
        "retrain": responses(["lemoy kifoville", "zosuy muviville"]),
        "npo": responses(["lemoy kifoville", "<script>alert(1)</script>\x1b[2J"]),
    }

    def of(one: Record) -> Responses | None:
        return said[one.spec.method] if one.spec.seed == 1 else None

    answers = build_answers(section, of)
    assert answers is not None and answers["seed"] == 1, "the first seed that has any"
    assert answers["who"] == ["target", "retrain", "npo"]
    (probe,) = answers["probes"]
    texts = answers["texts"]
    assert len(set(texts)) == len(texts)
    assert [[texts[number] for number in question[3]] for question in probe["rows"]] == [
        ["zosuy muviville", "lemoy kifoville", "lemoy kifoville"],
        ["zosuy muviville", "zosuy muviville", "<script>alert(1)</script>\ufffd[2J"],
    ]
    assert [question[4] for question in probe["rows"]] == [["still", "forgot", "forgot"], ["kept", "kept", "broke"]]
    assert build_answers(section, lambda one: None) is None


def test_of_many_questions_some_are_shown_and_the_number_is_said() -> None:
    (section,) = build_sections([record("npo")])
    answers = build_answers(section, lambda one: responses(["x"] * (2 * MOST)))
    assert answers is not None
    assert len(answers["probes"][0]["rows"]) == MOST and answers["probes"][0]["asked"] == 2 * MOST
