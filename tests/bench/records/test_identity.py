"""What may stand in one table, and which records are one row."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from bench.core.record import Record
from bench.records.tables import build_sections
from tests.factories import lineage, record


def _refused(made: Sequence[Record]) -> str:
    (section,) = build_sections(made)
    assert section.rows == ()
    return " ".join(section.statements)


def test_seeds_that_share_a_target_are_refused() -> None:
    made = [record("npo", seed, lineage=lineage("npo", 0, "tofu")) for seed in (0, 1)]
    assert "seeds 0 and 1 have the same target" in _refused(made)


def test_one_seed_with_two_targets_is_refused() -> None:
    made = [record("npo", 0), record("msa", 0, lineage={"target": "another one altogether"})]
    assert "seed 0 start from different targets" in _refused(made)


def test_records_without_a_target_are_refused() -> None:
    assert "name no target" in _refused([record("npo", 0, lineage={})])


def test_the_same_run_by_two_versions_is_refused() -> None:
    made = [record("npo", 0, versions={"npo": 1}), record("npo", 0, versions={"npo": 2})]
    assert "the same run by different versions" in _refused(made)


def test_rows_of_two_histories_are_two_rows_and_the_target_is_one() -> None:
    pasts = [{"history": letter * 16} for letter in "ab"]
    made = [record(method, 0, hashes=past) for past in pasts for method in ("target", "msa")]
    made = [dataclasses.replace(r, facts={**r.facts, "history_used": r.spec.method == "msa"}) for r in made]
    (section,) = build_sections(made)
    assert [row.name for row in section.rows] == ["target", "msa (history=aaaaaaaa)", "msa (history=bbbbbbbb)"]
    assert not section.statements


def test_of_a_run_asked_twice_the_fuller_record_stands() -> None:
    whole, part = record("npo", 0), record("npo", 0, {"forget_accuracy": 0.5}, kinds=("logprob",))
    (section,) = build_sections([part, whole])
    assert section.rows[0].records == (whole,)
    other = dataclasses.replace(part, lineage={**part.lineage, "result": "another"})
    (section,) = build_sections([other, whole])
    assert section.rows == () and "delete the older" in section.statements[0]
