"""Whether MSA's orderings carry over, on sections whose orders are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.core.types import Json
from bench.records.files import write_record
from bench.records.tables import build_sections
from bench.studies.claims import (
    HOLDS,
    JUDGES,
    NETWORKS,
    NOT,
    PART,
    UNKNOWN,
    UTILITY,
    Evidence,
    combine_verdicts,
    grade_claim,
    judge_carries_over,
    judge_claim,
    read_claims,
    read_evidence,
)
from tests.factories import GOALS, record

SCORES = {"kl_forget": (0.5, 2.0, 0.7), "utility": (0.8, 0.9, 0.7)}
"""Of msa, npo and task-arithmetic: nearer than both, and less useful than npo."""


def evidence(changed: Mapping[tuple[str, str, str], float]) -> Evidence:
    """Sections of all five tasks with `SCORES`, but for what is given by (task, score, method)."""
    records = []
    for task, utility in (UTILITY | NETWORKS).items():
        for place, method in enumerate(("msa", "npo", "task-arithmetic")):
            values = {
                {"utility": utility}.get(score, score): changed.get((task, score, method), by_method[place])
                for score, by_method in SCORES.items()
            }
            goals = {"kl_forget": "down", utility: "up"}
            records += [
                record(method, seed, {k: v + seed / 100 for k, v in values.items()}, task=task, goals=goals | GOALS)
                for seed in range(3)
            ]
    return Evidence({section.task: section for section in build_sections(records)}, {}, {})


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({}, HOLDS),
        ({("graph", "kl_forget", "npo"): 0.1}, PART),
        ({("graph", s, m): v for s, m, v in (("kl_forget", "npo", 0.1), ("kl_forget", "task-arithmetic", 0.1))}, PART),
        ({("digits", "kl_forget", "msa"): 3.0, ("graph", "utility", "msa"): 0.95}, NOT),
        ({("tofu", "kl_forget", "npo"): 0.1, ("graph", "kl_forget", "npo"): 0.1}, HOLDS),  # texts have no common order
    ],
)
def test_an_order_carries_over_when_both_networks_have_it(
    changed: dict[tuple[str, str, str], float], status: str
) -> None:
    found = judge_carries_over(evidence(changed))
    assert found.status == status
    assert found.number.count("MSA against") == 3 and "digits" in found.number and "graph" in found.number


def test_without_both_sections_it_is_not_measured() -> None:
    whole = evidence({})
    alone = Evidence({task: s for task, s in whole.sections.items() if task != "graph"}, {}, {})
    assert judge_carries_over(alone).status == UNKNOWN
    assert set(whole.texts) == set(UTILITY)


def test_every_claim_has_a_judge_and_nothing_else_has() -> None:
    claims = read_claims()
    assert list(claims) == list(JUDGES)
    assert all("{" not in claim.condition.format(near=0.1, kept=0.05) for claim in claims.values())


def test_several_verdicts_are_one_when_alike_and_else_in_part() -> None:
    assert [grade_claim(True, True), grade_claim(False, True), grade_claim(False, False)] == [HOLDS, PART, NOT]
    assert [combine_verdicts(found, "").status for found in ([HOLDS, HOLDS], [HOLDS, NOT], [NOT], [PART, PART])] == [
        HOLDS,
        PART,
        NOT,
        PART,
    ]
    assert combine_verdicts([], "").status == UNKNOWN


def test_records_that_cannot_be_read_are_named_with_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(record("msa", 0), tmp_path)
    read_evidence(tmp_path)
    assert capsys.readouterr().err == ""
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").mkdir()
    assert list(read_evidence(tmp_path).sections) == ["tofu"]
    assert capsys.readouterr().err.splitlines() == [
        "NOTE: left out: a.json: it is no JSON (line 1): delete it and run again.",
        "NOTE: left out: b.json: it is no file: delete it and run again.",
    ]


@pytest.mark.parametrize("results", [[{}], [{"estimates": 5}], [{"estimates": [{"name": "msa"}], "removals": []}]])
def test_a_claim_on_an_experiment_of_other_content_names_its_file(results: list[Json]) -> None:
    odd = Evidence({}, {}, {"sgd-influence": results, "another": []})
    with pytest.raises(
        UserError, match=r"^The claim 'sgd-influence' can't be read off lab-sgd-influence\.json \(\w+Error: "
    ):
        judge_claim("sgd-influence", odd)
